"""What all tasks have in common: their columns, their null, and the wells of one condition made ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import group_rows, predicate_columns, reference_mask, require_rows, to_matrix
from cytofast.errors import DataError, RecipeError, listed
from cytofast.retrieval.profiles import Policy, metric_code, rows_shown, whole_number
from cytofast.schema import BATCH, PLATE, WELL, Features, as_columns, is_metadata, require_columns, resolve_features
from cytofast.steps.consensus import Consensus

Null = Literal["labels", "ranks", "copairs", "cpjump1"]
Flags = NDArray[np.bool_]

RETRIEVED = (
    "mean_average_precision",
    "mean_normalized_average_precision",
    "p_value",
    "p_method",
    "q_value",
    "n_profiles",
    "n_candidates",
    "retrieved",
    "doubtful",
)
"""What every answer by average precision has, after ``name`` and what tells more of it."""


def _names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


_KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "str": (lambda v: isinstance(v, str), "text"),
    "str | None": (lambda v: v is None or isinstance(v, str), "text"),
    "bool": (lambda v: isinstance(v, bool), "true or false"),
    "float": (lambda v: isinstance(v, int | float) and not isinstance(v, bool), "a number"),
    "Sequence[str]": (lambda v: isinstance(v, str) or _names(v), "a column or a list of columns"),
    "str | Sequence[str]": (lambda v: isinstance(v, str) or _names(v), "a column or a list of columns"),
    "Features": (lambda v: v is None or isinstance(v, str) or _names(v), "a prefix or a list of columns"),
    "Null": (lambda v: isinstance(v, str), "text"),
}
"""What fields may hold, by the type that they are given."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The fields that every task has.

    Parameters
    ----------
    name
        What the task is called in tables.
    perturbation
        Column that replicates share. A well without it is empty and takes no part, unless it is a control.
    controls
        SQL predicate for the negative controls.
    block
        Column of plates: controls are looked for on the plate of a replicate.
    features
        As everywhere: ``None`` for CellProfiler features, a prefix, or a list. A feature that is missing from a whole plate
        of a condition is left out there (plates are joined by the features that all of them have).
    on_invalid
        Wells with missing or infinite features: ``"error"`` names them, ``"drop"`` leaves them out and counts them.
    null, null_size, seed
        As in :func:`cytofast.mean_average_precision`; ``"cpjump1"`` is what the CPJUMP1 paper did.
    threshold
        Retrieved means ``q_value < threshold``.
    tie
        As in :class:`cytofast.Retrieval`.
    about
        Columns that say more of a perturbation in the result; those that a table lacks are skipped.
    only
        SQL predicate over the condition columns: to which conditions :func:`cytofast.run_conditions` puts the question.
    """

    name: str = "task"
    perturbation: str = "Metadata_broad_sample"
    controls: str = "Metadata_control_type = 'negcon'"
    block: str = PLATE
    features: Features = None
    on_invalid: Policy = "error"
    null: Null = "labels"
    null_size: int = 100_000
    seed: int = 0
    threshold: float = 0.05
    tie: Literal["average", "optimistic"] = "average"
    about: Sequence[str] = ()
    only: str | None = None

    def __post_init__(self) -> None:
        """Make lists immutable and check what can be checked without a table."""
        where = type(self).__name__
        for field in fields(self):
            kinds = _KINDS.get(str(field.type))
            value = getattr(self, field.name)
            if kinds is not None and not kinds[0](value):
                raise RecipeError(f"{where}: {field.name}= must be {kinds[1]}, not {value!r}")
            if field.name == "metric":
                metric_code(value)
        for key in ("null_size", "seed"):
            object.__setattr__(self, key, whole_number(key, getattr(self, key), 0, where))
        if self.features is not None and not isinstance(self.features, str):
            object.__setattr__(self, "features", tuple(self.features))
        object.__setattr__(self, "about", tuple(as_columns(self.about)))
        for key, known in (
            ("null", ("labels", "ranks", "copairs", "cpjump1")),
            ("tie", ("average", "optimistic")),
            ("on_invalid", ("error", "drop")),
        ):
            if getattr(self, key) not in known:
                raise RecipeError(f"{where}: {RecipeError.unknown(key, getattr(self, key), known)}")
        if not self.name:
            raise RecipeError(f"{where}: name= is empty")
        if self.null_size < 1 or self.seed < 0 or not 0 < self.threshold <= 1:
            raise RecipeError(
                f"{where}: null_size must be at least 1, seed not negative and threshold in (0, 1], "
                f"not {self.null_size}, {self.seed} and {self.threshold}"
            )

    def parameters(self) -> dict[str, Any]:
        """Every field, for a digest or a recipe."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def columns(self) -> list[str]:
        """Metadata columns that the task must find."""
        return list(dict.fromkeys([self.perturbation, self.block, *predicate_columns(self.controls)]))

    def also(self) -> list[str]:
        """Columns that the task looks at where they exist."""
        return list(self.about)


@dataclass(frozen=True)
class Wells:
    """The wells of one condition that take part.

    Attributes
    ----------
    table
        Metadata and features, whole.
    controls
        Which rows are negative controls.
    plates
        ``plate``, ``n_wells``, ``n_controls``, ``n_empty``, ``n_invalid``.
    notes
        What was left out, in words.
    """

    table: pl.DataFrame
    features: list[str]
    controls: Flags
    plates: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def treated(self) -> pl.DataFrame:
        """The wells that are no controls."""
        return self.table.filter(pl.Series(~self.controls))


def wells_of(task: Task, profiles: pl.DataFrame, where: str) -> Wells:
    """The wells of one condition that a task can use, and what was left out.

    Raises
    ------
    DataError
        Wells have missing features and ``on_invalid`` is ``"error"``, rows stand in the table twice, or nothing is left.
    """
    require_columns(profiles.schema, task.columns(), where)
    require_rows(profiles, where)
    features = resolve_features(profiles.schema, task.features, where)
    metadata = {*task.columns(), *task.also()}
    chosen = set(features) - metadata
    metadata = {name for name in profiles.columns if name not in chosen and (is_metadata(name) or name in metadata)}
    table = profiles.select(name for name in profiles.columns if name in chosen or name in metadata)
    mask = reference_mask(table, task.controls, f"{where}: controls")
    controls: Flags = np.zeros(table.height, dtype=np.bool_) if mask is None else mask
    empty = table[task.perturbation].is_null().to_numpy() & ~controls
    codes, plates = group_rows(table, [task.block])
    finite = np.isfinite(to_matrix(table, features))
    shared, absent = _shared_features(finite, codes)
    notes = []
    if absent:
        left = [features[i] for i in absent]
        features = [features[i] for i in shared]
        notes.append(f"{len(left):,} features that some plates lack ({listed(left, 3)})")
    invalid = ~finite[:, shared].all(axis=1) & ~empty
    if invalid.any():
        if task.on_invalid == "error":
            bad = np.flatnonzero(invalid)
            raise DataError(
                f"{where}: {bad.size:,} of {table.height:,} wells have missing or infinite features: {rows_shown(table, bad)}. "
                'Hint: select or impute features first, or leave such wells out with on_invalid="drop".'
            )
        notes.append(f"{invalid.sum():,} wells with missing or infinite features")
    if empty.any():
        notes.append(f"{empty.sum():,} wells without {task.perturbation}")
    keep = ~empty & ~invalid
    if not keep[~controls].any():
        raise DataError(
            f"{where}: no well with {task.perturbation} and complete features is left. Hint: is the platemap annotated?"
        )
    kept = table.filter(pl.Series(keep)).select([*(n for n in table.columns if n in metadata), *features])
    notes += _repeated(kept, [n for n in (BATCH, task.block, WELL) if n in kept.columns], features, where)
    size = plates.height
    report = plates.select(pl.col(task.block).cast(pl.String).alias("plate")).with_columns(
        pl.Series(name, np.bincount(codes[flags], minlength=size).astype(np.int64))
        for name, flags in (
            ("n_wells", np.ones(table.height, dtype=np.bool_)),
            ("n_controls", controls & keep),
            ("n_empty", empty),
            ("n_invalid", invalid),
        )
    )
    return Wells(kept, features, controls[keep], report, tuple(notes))


def _repeated(table: pl.DataFrame, place: list[str], features: list[str], where: str) -> list[str]:
    """Refuse rows that stand in the table twice, and count wells that have several profiles (of two models, say)."""
    if WELL not in place:
        return []
    several = table.select(place).is_duplicated()
    if not several.any():
        return []
    wells = table.filter(several)
    rows = wells.select(*place, *features)
    copies = rows.height - rows.n_unique()
    if copies:
        twice = rows.filter(rows.is_duplicated()).unique(place, keep="first", maintain_order=True)
        raise DataError(
            f"{where}: {copies:,} rows stand in the table more than once, so that wells are replicates of themselves: "
            f"{rows_shown(twice, np.arange(twice.height))}. Hint: was a table joined to itself, or read twice?"
        )
    return [f"{wells.select(place).n_unique():,} wells have several profiles, which are taken for replicates"]


def _shared_features(finite: Flags, codes: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Features that every plate has, and the others. A plate that has none at all is no reason to leave out features."""
    present = np.stack([finite[codes == plate].any(axis=0) for plate in range(int(codes.max()) + 1)])
    present = present[present.any(axis=1)]
    everywhere: Flags = np.logical_and.reduce(present, axis=0)
    if not everywhere.any():
        everywhere = np.ones_like(everywhere)
    return np.flatnonzero(everywhere).tolist(), np.flatnonzero(~everywhere).tolist()


def median_profiles(table: pl.DataFrame, by: str, features: list[str]) -> pl.DataFrame:
    """One profile a perturbation, gene or label: the median of its wells."""
    return Consensus(by, method="median", features=features)(table)


def described(table: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """What columns say of each row, as one text; null where they say nothing."""
    present = [name for name in columns if name in table.columns]
    if not present:
        return pl.Series("about", [None] * table.height, dtype=pl.String)
    texts = [
        pl.col(name).list.join("|") if isinstance(table.schema[name], pl.List) else pl.col(name) for name in present
    ]
    said = pl.concat_str([text.cast(pl.String) for text in texts], separator=" - ", ignore_nulls=True)
    return table.select(said.replace("", None).alias("about"))["about"]
