"""What a store holds at one moment: the manifests as they are when a query begins, and what they point to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from cytofast.errors import StoreError
from cytofast.schema import BATCH, PLATE, WELL, is_metadata, parse_features
from cytofast.store.layout import ALL
from cytofast.store.partition import Partition

if TYPE_CHECKING:
    from cytofast.store.profile_store import ProfileStore

USUAL = ("cells", "wells", "profiles", "consensus")
KEYS = (BATCH, PLATE, WELL)
_STEP_COLUMNS = {"feature", "status"}
"""A fit that has one of these is a report that SQL can ask; others are matrices."""


@lru_cache(maxsize=256)
def _parsed(names: tuple[str, ...]) -> pl.DataFrame:
    return parse_features(names)


@lru_cache(maxsize=1024)
def _columns_of(schema: str, path: str) -> dict[str, pl.DataType]:
    """Columns of a file; ``schema`` is the digest that its manifest keeps of them, so the answer never changes."""
    del schema
    return dict(pl.scan_parquet(path, glob=False, hive_partitioning=False).collect_schema())


def _stamp(path: Path) -> tuple[int, int] | None:
    """Tells a file from one that replaces it under the same name; ``None`` where there is none."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns


@dataclass(frozen=True)
class FitFile:
    """What one step learned, of one plate or of all."""

    path: Path
    level: str
    batch: str | None
    plate: str | None
    number: int
    step: str


class Snapshot:
    """A store as its manifests describe it now; files that come later are not in it."""

    def __init__(self, store: ProfileStore) -> None:
        self.store = store
        names = [folder.name.removeprefix("level=") for folder in store.path.glob("level=*") if folder.is_dir()]
        ordered = sorted(names, key=lambda name: (USUAL.index(name) if name in USUAL else len(USUAL), name))
        self.levels: dict[str, list[Partition]] = {name: store.partitions(name) for name in ordered}
        self.levels = {name: found for name, found in self.levels.items() if found}
        # Data files have their content in their names; these do not.
        self._stamps: dict[Path, tuple[int, int] | None] = {}

    def files(self) -> list[Path]:
        """Every data file that the manifests name."""
        return [partition.path for partitions in self.levels.values() for partition in partitions]

    def changed(self) -> bool:
        """Whether a writer has replaced or removed a file of this snapshot since it was looked at."""
        seen = dict.fromkeys(self.files()) | self._stamps
        return any(_stamp(path) is None or (before and before != _stamp(path)) for path, before in seen.items())

    def uniform(self, level: str) -> bool:
        """Whether all partitions of a level have the same columns."""
        return len({partition.manifest.schema for partition in self.levels[level]}) == 1

    def columns(self, level: str) -> dict[str, pl.DataType]:
        """Columns of a level, plates together, in the order of their first appearance; text wins over numbers."""
        together: dict[str, pl.DataType] = {}
        for columns in self.schemas(level).values():
            for name, dtype in columns.items():
                known = together.setdefault(name, dtype)
                if known.is_numeric() and not dtype.is_numeric():
                    together[name] = dtype
        return together

    def schemas(self, level: str) -> dict[str, dict[str, pl.DataType]]:
        """Columns by the digest that the manifests keep of them; one file of each kind is looked at."""
        found: dict[str, dict[str, pl.DataType]] = {}
        for partition in self.levels[level]:
            digest = partition.manifest.schema
            if digest not in found:
                try:
                    found[digest] = _columns_of(digest, str(partition.path))
                except (OSError, pl.exceptions.ComputeError) as error:
                    raise StoreError(f"{partition.path}: cannot be read ({error})") from error
        return found

    def numbers(self, level: str) -> list[str]:
        """The features of a level: its numbers that are not metadata."""
        return [name for name, dtype in self.columns(level).items() if dtype.is_numeric() and not is_metadata(name)]

    # --- tables ----------------------------------------------------------------------------------------------------

    def partition_table(self) -> pl.DataFrame:
        """One row a partition: where it is, what it holds, how it came about."""
        rows = [
            {
                "level": level,
                "batch": None if p.name.batch == ALL and p.name.plate == ALL else p.name.batch,
                "plate": None if p.name.batch == ALL and p.name.plate == ALL else p.name.plate,
                "file": p.path.relative_to(self.store.path).as_posix(),
                "rows": p.manifest.rows,
                "features": p.manifest.features,
                "schema": p.manifest.schema,
                "key": p.manifest.key,
                "steps": [str(step.get("step")) for step in p.manifest.steps],
                "parameters": json.dumps(p.manifest.steps, sort_keys=True),
                "inputs": json.dumps(p.manifest.inputs, sort_keys=True),
                "cytofast": p.manifest.versions.get("cytofast"),
            }
            for level, partitions in self.levels.items()
            for p in partitions
        ]
        text = dict.fromkeys(
            ["level", "batch", "plate", "file", "schema", "key", "parameters", "inputs", "cytofast"], pl.String
        )
        return pl.DataFrame(
            rows,
            schema_overrides=text,
            schema=None if rows else {**text, "rows": pl.Int64, "features": pl.Int64, "steps": pl.List(pl.String)},
        )

    def column_table(self) -> pl.DataFrame:
        """One row a schema and column, features taken apart by their grammar."""
        schemas = {digest: columns for level in self.levels for digest, columns in self.schemas(level).items()}
        rows = [
            (digest, position, name, str(dtype), dtype.is_numeric() and not is_metadata(name))
            for digest, columns in schemas.items()
            for position, (name, dtype) in enumerate(columns.items(), 1)
        ]
        table = pl.DataFrame(
            rows,
            orient="row",
            schema={
                "schema": pl.String,
                "position": pl.Int64,
                "name": pl.String,
                "type": pl.String,
                "is_feature": pl.Boolean,
            },
        )
        names = table.filter(table["is_feature"])["name"].unique(maintain_order=True)
        return table.join(_parsed(tuple(names)), left_on="name", right_on="feature", how="left")

    @cached_property
    def annotations(self) -> pl.DataFrame:
        """The platemaps; without any, a table with the key columns and no row."""
        table = self.store.annotations()
        keys = pl.DataFrame(schema=dict.fromkeys(KEYS, pl.String))
        return keys if table is None else pl.concat([keys, table], how="diagonal_relaxed")

    @cached_property
    def cell_annotations(self) -> pl.DataFrame:
        """What the platemaps add to cells: what the cells' own files do not have."""
        own = set(self.columns("cells")) if "cells" in self.levels else set()
        names = [p.name for p in self.levels.get("cells", [])]
        table = self.store.annotations(names) if names else None
        if table is None:
            return pl.DataFrame(schema=dict.fromkeys(KEYS, pl.String))
        return table.select([*KEYS, *(name for name in table.columns if name not in own and name not in KEYS)])

    @cached_property
    def audit_files(self) -> list[Path]:
        """The audits of the plates whose cells are in this snapshot."""
        paths = [self.store.audit_path(p.name) for p in self.levels.get("cells", [])]
        found = {path: stamp for path in paths if (stamp := _stamp(path))}
        self._stamps.update(found)
        return list(found)

    @cached_property
    def fit_files(self) -> list[FitFile]:
        """The reports that the manifests name: fits with a row a feature or a status, not matrices."""
        found: dict[str, FitFile] = {}
        for level, partitions in self.levels.items():
            for p in partitions:
                for text in p.manifest.fits:
                    number, _, step = Path(text).stem.partition("-")
                    own = "plate=" in text and p.name.batch != ALL
                    batch, plate = (p.name.batch, p.name.plate) if own else (None, None)
                    found.setdefault(text, FitFile(self.store.path / text, level, batch, plate, int(number or 0), step))
        reports = _reports(found.values())
        self._stamps.update({fit.path: _stamp(fit.path) for fit in reports})
        return reports


def _reports(fits: Iterable[FitFile]) -> list[FitFile]:
    kinds: dict[tuple[str, int, str], bool] = {}
    chosen: list[FitFile] = []
    for fit in fits:
        kind = (fit.level, fit.number, fit.step)
        if not fit.path.is_file():
            continue
        if kind not in kinds:
            kinds[kind] = bool(_STEP_COLUMNS & set(_columns_of(str(_stamp(fit.path)), str(fit.path))))
        if kinds[kind]:
            chosen.append(fit)
    return chosen


def fit_table(fits: Sequence[FitFile], root: Path) -> pl.DataFrame:
    """One row a fit's file."""
    return pl.DataFrame(
        [(f.path.relative_to(root).as_posix(), f.level, f.batch, f.plate, f.number, f.step) for f in fits],
        orient="row",
        schema={
            "file": pl.String,
            "level": pl.String,
            "batch": pl.String,
            "plate": pl.String,
            "number": pl.Int64,
            "step": pl.String,
        },
    )
