"""What predictions and mechanisms were found, as tidy tables in a folder: to draw, to report and to compare later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl

from cytofast.errors import StoreError, listed
from cytofast.modalities.maps import contribution_map, score_map
from cytofast.modalities.mechanism_result import MechanismResult
from cytofast.modalities.result import CrossModalResult
from cytofast.schema import parse_features
from cytofast.store.partition import read_frame, write_frame

Kind = Literal["prediction", "classification", "clustering"]

TABLES: dict[str, tuple[str, ...]] = {
    "prediction": (
        "percent",
        "targets",
        "scores",
        "null",
        "map",
        "contributions",
        "strongest",
        "associations",
        "notes",
    ),
    "classification": ("summary", "classes", "comparisons", "predictions", "notes"),
    "clustering": ("clusters", "notes"),
}
"""The tables of each kind; those of which there is nothing to say are empty."""
_ABOUT = "about.parquet"
_FEW = 100
_UNFINISHED = "unfinished"
_STRONGEST = 5


@dataclass(frozen=True)
class ModalityTables:
    """One analysis of two modalities.

    Attributes
    ----------
    kind
        ``"prediction"``, ``"classification"`` or ``"clustering"``.
    about
        What was asked, by name: ``source, target, model``, say.
    tables
        By their names; ``TABLES`` has the list.
    """

    kind: Kind
    about: dict[str, str]
    tables: dict[str, pl.DataFrame]

    def __repr__(self) -> str:
        return f"ModalityTables({self.kind}: {', '.join(f'{key} {value}' for key, value in self.about.items())})"

    def write(self, folder: str | Path) -> None:
        """Write every table into a folder, in place of an analysis that was there before."""
        folder = Path(folder)
        require_place(folder)
        # What the folder holds is said at the end: until then nobody takes old tables and new ones for one analysis.
        _write_about(folder, {"kind": _UNFINISHED})
        for name in {name for names in TABLES.values() for name in names} - self.tables.keys():
            (folder / f"{name}.parquet").unlink(missing_ok=True)
        for name, table in self.tables.items():
            write_frame(folder / f"{name}.parquet", table)
        _write_about(folder, {"kind": self.kind, **self.about})


def _write_about(folder: Path, about: dict[str, str]) -> None:
    write_frame(folder / _ABOUT, pl.DataFrame({"name": list(about), "value": list(about.values())}))


def require_place(folder: Path) -> None:
    """Refuse a folder that holds something else than an analysis of modalities.

    Raises
    ------
    StoreError
        It is a file, or a folder with other files.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not has_tables(folder))):
        raise StoreError(f"{folder}: holds something else than results of modalities. Hint: give a new folder.")


def read_tables(folder: str | Path) -> ModalityTables:
    """Read what ``cytofast crossmodal`` or ``cytofast mechanism`` has written: ``STORE/modalities/NAME``, say.

    Raises
    ------
    StoreError
        The folder has no finished analysis, or a file is damaged.
    """
    folder = Path(folder)
    hint = "Hint: run `cytofast crossmodal` or `cytofast mechanism` again."
    if not has_tables(folder):
        raise StoreError(f"{folder}: no finished analysis of modalities here. {hint}")
    found = read_frame(folder / _ABOUT)
    if found.columns != ["name", "value"]:
        raise StoreError(f"{folder / _ABOUT}: not written by cytofast. {hint}")
    about = {str(name): str(value) for name, value in found.rows()}
    kind = about.pop("kind", "")
    for known in get_args(Kind):
        if known == kind:
            missing = [name for name in TABLES[kind] if not (folder / f"{name}.parquet").is_file()]
            if missing:
                raise StoreError(f"{folder}: tables are missing: {listed(missing)}. {hint}")
            return ModalityTables(known, about, {name: read_frame(folder / f"{name}.parquet") for name in TABLES[kind]})
    if kind == _UNFINISHED:
        raise StoreError(f"{folder}: writing this analysis was interrupted. {hint}")
    raise StoreError(f"{folder}: holds an analysis of an unknown kind, {kind!r}. {hint}")


def has_tables(folder: Path) -> bool:
    """Whether a folder holds an analysis of modalities."""
    return (folder / _ABOUT).is_file()


def prediction_tables(
    result: CrossModalResult, associations: pl.DataFrame | None = None, seed: int = 0
) -> ModalityTables:
    """The tables of a prediction; maps where features have names as CellProfiler gives them.

    ``strongest`` has the features with the largest coefficients of each predictable target, ``associations`` what
    :func:`cytofast.associate` found of gene sets.
    """
    summary = result.summary()
    hits = summary.filter(pl.col("predictable").fill_null(value=False)).sort("median_r2", descending=True)
    linear = result.coefficients.shape[2] > 0
    places, strongest = pl.DataFrame(), []
    if _named(result.targets):
        places = score_map(result)
    contributions = pl.DataFrame()
    if linear and hits.height:
        if _named(result.features):
            contributions = contribution_map(result)
        strongest = [
            result.explain(target, _STRONGEST, "target").select(pl.lit(target).alias("target"), pl.all())
            for target in hits["target"]
        ]
    return ModalityTables(
        "prediction",
        {"source": result.source, "target": result.target, "model": result.model, "compat": result.compat or "none"},
        {
            "percent": result.percent_predictable(seed=seed),
            "targets": summary,
            "scores": result.scores,
            "null": result.null_scores,
            "map": places,
            "contributions": contributions,
            "strongest": pl.concat(strongest) if strongest else pl.DataFrame(),
            "associations": pl.DataFrame() if associations is None else associations,
            "notes": _notes((*result.notes, *few_draws(result.null_scores["median_r2"]))),
        },
    )


def classification_tables(result: MechanismResult) -> ModalityTables:
    """The tables of a classification of mechanisms."""
    return ModalityTables(
        "classification",
        {"first": result.spaces[0], "second": result.spaces[1], "label": result.label},
        {
            "summary": result.summary(),
            "classes": result.per_class(),
            "comparisons": result.compare(),
            "predictions": result.predictions,
            "notes": _counted(result.classes.notes),
        },
    )


def clustering_tables(clusters: pl.DataFrame, label: str, notes: pl.DataFrame) -> ModalityTables:
    """The tables of a clustering, as :meth:`cytofast.Mechanism.cluster` gives it; notes are those of its labels."""
    spaces = clusters["space"].unique(maintain_order=True).to_list()
    about = {"first": spaces[0], "second": spaces[1], "label": label}
    return ModalityTables("clustering", about, {"clusters": clusters, "notes": _counted(notes)})


def few_draws(null: pl.Series) -> tuple[str, ...]:
    """What must be known of a threshold that rests on few shuffled scores."""
    n = null.drop_nulls().len()
    if n >= _FEW:
        return ()
    return (
        f"chance is known from {n:,} shuffled scores: their 99th percentile, and so the threshold, is little more than the "
        "largest of them. Hint: more null_rounds",
    )


def _named(names: list[str]) -> bool:
    """Whether any name tells a feature group."""
    return parse_features(names)["group"].is_not_null().any()


def _notes(texts: tuple[str, ...]) -> pl.DataFrame:
    return pl.DataFrame({"note": np.array(texts, dtype=object).tolist()}, schema={"note": pl.String})


def _counted(notes: pl.DataFrame) -> pl.DataFrame:
    return _notes(tuple(f"{note}: {n:,} rows" for note, n in notes.rows()))
