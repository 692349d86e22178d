"""The profile store: a directory of partitions, one a level and plate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from cytofast.durable import flush_folder
from cytofast.errors import SchemaError, StoreError, listed
from cytofast.ingest.audit import summarize
from cytofast.ingest.choice import EVERYTHING, Choice
from cytofast.ingest.failures import Failures
from cytofast.parquet import ProfileWriter
from cytofast.schema import BATCH, PLATE, WELL, is_metadata
from cytofast.sharing import Chunk
from cytofast.store import asking, ingesting
from cytofast.store.beginning import begin, is_store
from cytofast.store.description import describe
from cytofast.store.layout import PlateName, checked_level, encoded
from cytofast.store.locking import locked
from cytofast.store.manifest import NAME, Manifest, schema_digest
from cytofast.store.partition import (
    Partition,
    read_frame,
    remove_unfinished,
    tidy,
    together,
    write_frame,
    write_text,
)

Progress = Callable[[str, float, int], None]
"""Called with what is being done, how many plates are finished (with fractions), and how many there are."""


def _quiet(what: str, done: float, total: int) -> None:
    """Report nothing."""


class ProfileStore:
    """Cells, wells and profiles of many plates; made by :func:`open_store`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        levels = ", ".join(f"{name}: {level['rows']:,} rows" for name, level in self.describe()["levels"].items())
        return f"ProfileStore({str(self.path)!r}: {levels or 'empty'})"

    # --- reading ---------------------------------------------------------------------------------------------------

    def levels(self) -> list[str]:
        """Names of the levels that have at least one finished partition, each after the one it was made from."""
        names = [folder.name.removeprefix("level=") for folder in self.path.glob("level=*") if folder.is_dir()]
        first = {name: found[0].manifest for name in names if (found := self.partitions(name))}

        def depth(name: str, seen: tuple[str, ...] = ()) -> int:
            """Steps away from the cells."""
            sources = {key.split("/", 1)[0] for key in first[name].inputs if "/" in key} & set(first)
            return 1 + max((depth(source, (*seen, name)) for source in sources - {*seen, name}), default=-1)

        return sorted(first, key=lambda name: (depth(name), name))

    def partitions(self, level: str) -> list[Partition]:
        """The finished partitions of a level, sorted by batch and plate."""
        found = []
        for folder in sorted((self.path / f"level={checked_level(level)}").glob("batch=*/plate=*")):
            manifest = Manifest.read(folder)
            if manifest is not None:
                found.append(Partition(folder, manifest))
        return sorted(found, key=lambda partition: partition.name)

    def partition(self, level: str, name: PlateName) -> Partition | None:
        """One partition, or ``None`` where it is not there."""
        folder = self._folder(level, name)
        manifest = Manifest.read(folder)
        return None if manifest is None else Partition(folder, manifest)

    def scan(
        self, level: str, plates: Sequence[str] | str | None = None, columns: Sequence[str] | None = None
    ) -> pl.LazyFrame:
        """Profiles of a level as a lazy query, sorted by batch and plate.

        Plates whose features differ are joined by name, with nulls where a plate lacks a feature. Cells come with the
        platemap that was given at ingest, joined by plate and well, if there is one.

        Parameters
        ----------
        level
            ``"cells"``, ``"wells"``, ``"profiles"``, or a level that a recipe saved.
        plates
            Only these barcodes; ``None`` is every plate.
        columns
            Only these columns, in this order.

        Raises
        ------
        StoreError
            The level or a plate is not in the store.
        SchemaError
            A column is not in the level.
        """
        partitions = self.partitions(level)
        if not partitions:
            present = self.levels()
            hint = f"it has {listed(present)}" if present else "it is empty; ingest a CellProfiler folder first"
            raise StoreError(f"{self.path}: no level {level!r} in this store. Hint: {hint}.")
        if plates is not None:
            wanted = [plates] if isinstance(plates, str) else list(plates)
            absent = sorted(set(wanted) - {p.name.plate for p in partitions})
            if absent:
                raise StoreError(
                    f"{self.path}: no plate {listed(absent)} at level {level!r}. "
                    f"Hint: it has {listed(sorted({p.name.plate for p in partitions}))}."
                )
            partitions = [p for p in partitions if p.name.plate in wanted]
        lazy = together(partitions)
        own = lazy.collect_schema().names()
        if level == "cells" and (columns is None or not set(columns) <= set(own)):
            lazy = self._annotated(lazy, [p.name for p in partitions], own)
        if columns is not None:
            names = lazy.collect_schema().names()
            missing = [name for name in columns if name not in names]
            if missing:
                raise SchemaError.missing_columns(missing, names, f"{self.path}: level {level!r}")
            lazy = lazy.select(columns)
        return lazy

    def annotations(self, names: Iterable[PlateName] | None = None) -> pl.DataFrame | None:
        """The platemaps given at ingest, one row a batch, plate and well; ``None`` where there is none."""
        folder = self.path / "annotations"
        paths = (
            sorted(folder.glob("batch=*/plate=*.parquet"))
            if names is None
            else [self._annotation_path(name) for name in names]
        )
        present = [read_frame(path) for path in paths if path.is_file()]
        return pl.concat(present, how="diagonal_relaxed") if present else None

    def _annotated(self, lazy: pl.LazyFrame, names: list[PlateName], own: list[str]) -> pl.LazyFrame:
        table = self.annotations(names)
        if table is None:
            return lazy
        keys = [BATCH, PLATE, WELL]
        table = table.select([*keys, *(name for name in table.columns if name not in own)])
        joined = lazy.join(table.lazy(), on=keys, how="left", nulls_equal=True, maintain_order="left")
        metadata = [name for name in own if name.startswith("Metadata_")]
        return joined.select(
            [
                *metadata,
                *(name for name in table.columns if name not in keys),
                *(name for name in own if name not in metadata),
            ]
        )

    def describe(self) -> dict[str, Any]:
        """What is in the store, as numbers.

        ``{"format_version", "levels": {name: {"rows", "features", "plates", "outdated"}}, "annotated_plates"}``, where
        ``outdated`` counts partitions whose source was made anew since; running their recipe again mends them.
        """
        return describe(self)

    def audit(self) -> pl.DataFrame:
        """What ingest read, joined and set aside: one row an export folder and compartment."""
        paths = sorted((self.path / "audits").rglob("batch=*/plate=*.parquet"))
        if not paths:
            raise StoreError(f"{self.path}: nothing was ingested yet, so there is no audit")
        return pl.concat([read_frame(path) for path in paths], how="diagonal_relaxed")

    def audit_summary(self) -> pl.DataFrame | None:
        """The audit, one row a plate and compartment; ``None`` where nothing was ingested."""
        return summarize(self.audit()) if (self.path / "audits").is_dir() else None

    def fits(self, level: str) -> dict[str, pl.DataFrame]:
        """What each step on the way to ``level`` learned, all plates together: step name -> tidy frame."""
        found: dict[str, list[pl.DataFrame]] = {}
        # Only what the manifests name: a level that another recipe makes anew leaves fits behind until all plates are done.
        paths = {path: None for partition in self.partitions(level) for path in partition.manifest.fits}
        for path in sorted(paths):
            found.setdefault(Path(path).stem, []).append(read_frame(self.path / path))
        steps = [name.split("-", 1)[1] for name in found]
        # A step that occurs once is called by its name, one that occurs again by its number and name.
        return {
            step if steps.count(step) == 1 else numbered: pl.concat(frames, how="diagonal_relaxed")
            for step, (numbered, frames) in zip(steps, found.items(), strict=True)
        }

    # --- asking in SQL ---------------------------------------------------------------------------------------------

    sql = asking.sql
    ask = asking.ask
    questions = asking.questions
    join = asking.join
    catalog = asking.catalog

    # --- writing ---------------------------------------------------------------------------------------------------

    def writing(self) -> AbstractContextManager[None]:
        """Hold the store for writing; the lock goes with the process, so a killed one leaves none behind."""
        return locked(self.path)

    def _folder(self, level: str, name: PlateName) -> Path:
        return self.path / f"level={checked_level(level)}" / name.path

    def _annotation_path(self, name: PlateName) -> Path:
        return self.path / "annotations" / name.path.with_name(name.path.name + ".parquet")

    def audit_path(self, name: PlateName, level: str = "cells") -> Path:
        """Where the audit of a plate lies."""
        folder = self.path / "audits" if level == "cells" else self.path / "audits" / f"level={checked_level(level)}"
        return folder / name.path.with_name(name.path.name + ".parquet")

    def ingest(
        self,
        source: str | Path,
        platemap: str | Path | None = None,
        *,
        external: str | Path | None = None,
        batch: str | None = None,
        plate: str | None = None,
        compartments: Sequence[str] | None = None,
        choice: Choice = EVERYTHING,
        level: str | None = None,
        replace: bool = False,
        keep_going: bool = False,
        progress: Progress = _quiet,
    ) -> pl.DataFrame:
        """Read CellProfiler's CSV exports and SQLite files, or tables of profiles, in one pass, inside the memory budget.

        Plates that are there already, made of the same files, are left alone. Platemaps may be given later or again:
        cells are not read twice for that.

        Parameters
        ----------
        source
            A folder at any level of the Cell Painting Gallery's layout, or a folder with ``Image.csv``, ``Cells.csv``, ...;
            a SQLite file of CellProfiler, or a folder of them; a table of cells, wells or profiles (Parquet, CSV, ...), or
            a folder of tables.
        platemap
            A platemap file, a table of plates and wells, or a folder with ``barcode_platemap.csv``.
        external
            More metadata, joined to the platemap by the column that both have.
        batch, plate, compartments
            Names, where neither files nor folders tell them; objects to join, by default Cells, Cytoplasm and Nuclei.
        choice
            Plates, wells, sites and columns to read, how many cells of each well, and what becomes of duplicates.
        level
            Of tables: the level that they become. ``None``: cells where rows name objects, else as the file's name says.
        replace
            Replace a plate also where images with cells, features, or cells of a sample that the store has of it would be
            lost.
        keep_going
            Finish the other plates where a file or plate is at fault; one error that lists all faults is raised at the end.

        Returns
        -------
        polars.DataFrame
            One row a plate and compartment: rows read, joined, left over, and notes. The whole audit is :meth:`audit`.

        Raises
        ------
        DataError
            A file is missing, damaged, or contradicts another, or ``source`` has only a part of a plate that the store has
            whole; nothing of that plate is written.
        """
        failures = Failures(keep_going)
        found = ingesting.find(
            source,
            platemap=platemap,
            external=external,
            batch=batch,
            plate=plate,
            compartments=compartments,
            choice=choice,
            level=level,
            failures=failures,
        )
        summary = ingesting.ingest(self, found, replace=replace, progress=progress, failures=failures)
        if error := failures.told(summary["plate"].n_unique()):
            raise error
        return summary

    def write_partition(
        self,
        level: str,
        name: PlateName,
        token: str | None,
        frames: Iterable[pl.DataFrame | Chunk],
        describe: Callable[[], Manifest],
        before: Callable[[], None] | None = None,
    ) -> Partition:
        """Write a partition whole: data first, manifest last, each under its own name only when complete.

        Parameters
        ----------
        token
            Tells the content from other content; part of the file's name. ``None``: the manifest's key, where the
            content is known at the end only.
        describe
            Called after the last row. Its ``file``, ``rows``, ``features`` and ``schema`` are filled in here.
        before
            Called when the data are on disk under their name, before the manifest is.
        """
        folder = self._folder(level, name)
        remove_unfinished(folder)
        with ProfileWriter(folder / f"{level}-{(token or 'unnamed')[:12]}.parquet") as writer:
            for frame in frames:
                writer.write(frame)
                del frame  # before the next is made
            described = describe()
            # Never the name of the old data unless the content is the same: a kill before the new manifest must leave a
            # pair that belongs together.
            writer.path = data = folder / f"{level}-{(token or described.key)[:12]}.parquet"
        if writer.schema is None:
            raise StoreError(f"{folder}: nothing to write for plate {name}")
        if before is not None:
            before()
        features = sum(1 for column in writer.schema if not is_metadata(column))
        manifest = replace(
            described, file=data.name, rows=writer.rows, features=features, schema=schema_digest(writer.schema)
        )
        write_text(folder / NAME, manifest.to_json())
        written = Partition(folder, manifest)
        tidy(written)
        return written

    def write_audit(self, name: PlateName, table: pl.DataFrame, level: str = "cells") -> None:
        """Keep the audit of a plate."""
        write_frame(self.audit_path(name, level), table)

    def remove_partition(self, partition: Partition) -> None:
        """Take a partition away: its manifest first, so that no reader finds half of it."""
        folder = partition.path.parent
        (folder / NAME).unlink(missing_ok=True)
        flush_folder(folder)
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()

    def write_annotation(self, name: PlateName, table: pl.DataFrame) -> None:
        """Keep the platemap of a plate."""
        write_frame(self._annotation_path(name), table)

    def fit_path(self, level: str, name: PlateName | None, number: int, step: str) -> str:
        """Where the fit of a level's step lies, from the store's root; without a name, that of all plates together."""
        folder = Path("fits") / f"level={checked_level(level)}" / (name.path if name else "")
        return (folder / f"{number}-{encoded(step)}.parquet").as_posix()

    def write_fit(self, level: str, name: PlateName | None, number: int, step: str, fit: pl.DataFrame) -> str:
        """Keep what a step learned; gives the path from the store's root."""
        path = self.fit_path(level, name, number, step)
        write_frame(self.path / path, fit)
        return path


def open_store(path: str | Path, create: bool = False) -> ProfileStore:
    """Open a profile store.

    Parameters
    ----------
    path
        The store's directory.
    create
        Make an empty store if there is nothing at ``path``.

    Raises
    ------
    StoreError
        There is no store, the path is a file or a folder of something else, or a newer cytofast wrote it.

    Examples
    --------
    >>> import tempfile
    >>> store = open_store(tempfile.mkdtemp() + "/store", create=True)
    >>> store.describe()["levels"]
    {}
    """
    root = Path(path)
    if not is_store(root):
        if not create:
            reason = "does not exist" if not root.exists() else "is not a profile store (it has no store.json)"
            raise StoreError(f"{root} {reason}. Hint: make one with `cytofast ingest SOURCE --store {root}`.")
        begin(root)
    return ProfileStore(root)
