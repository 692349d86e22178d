"""One partition of a store, and how files get there: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.durable import appear, make_folder
from cytofast.errors import StoreError
from cytofast.parquet import ProfileWriter
from cytofast.schema import is_metadata
from cytofast.sharing import Chunk, sharing_frame
from cytofast.store.layout import PlateName
from cytofast.store.manifest import Manifest

if TYPE_CHECKING:
    from cytofast.plain_pages import PlainReader, Rows

_MARK = b"PAR1"
_AGAIN = "ingest this plate again, or run the recipe that makes it again"


Values = NDArray[np.float32] | pl.DataFrame
"""Some features of some rows: a matrix ``[n_features, n_rows]``, or a frame where the file is not laid out for it."""


class Partition:
    """One plate at one level: a Parquet file and its manifest.

    The lazy frame and the reader are made once, until they are let go, so that the footer (tens of megabytes for thousands
    of features) is parsed once by each.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.path = folder / manifest.file
        self.name = PlateName(manifest.batch, manifest.plate)
        self._lazy: pl.LazyFrame | None = None
        self._reader: PlainReader | None = None

    def lazy(self) -> pl.LazyFrame:
        """The profiles, as a lazy query."""
        if self._lazy is None:
            self.require_whole()
            lazy = pl.scan_parquet(self.path, hive_partitioning=False, glob=False)
            try:
                lazy.collect_schema()
            except (pl.exceptions.PolarsError, OSError) as error:
                raise StoreError(f"{self.path}: not a readable Parquet file. Hint: {_AGAIN}.") from error
            self._lazy = lazy
        return self._lazy

    @property
    def schema(self) -> pl.Schema:
        """All columns."""
        return self.lazy().collect_schema() if self.reader.schema is None else self.reader.schema

    def metadata(self, names: Sequence[str]) -> pl.DataFrame:
        """Some columns, of which at most a few are features."""
        known = self.reader.metadata
        if known is None or not set(names) <= set(known.columns):
            return self.lazy().select(names).collect()
        return known.select(names)

    @property
    def whole(self) -> bool:
        """Whether the file is there and has both its ends; a file that was cut off has lost its footer."""
        try:
            with self.path.open("rb") as handle:
                begin = handle.read(len(_MARK))
                handle.seek(-len(_MARK), os.SEEK_END)
                return begin == handle.read() == _MARK
        except OSError:
            # Not there, not readable, or shorter than its mark.
            return False

    def require_whole(self) -> None:
        """Raise a :class:`StoreError` if the file is missing or cut off."""
        if not self.whole:
            what = "the file is damaged or cut off" if self.path.is_file() else "the file is missing"
            raise StoreError(f"{self.path}: {what}. Hint: {_AGAIN}.")

    @property
    def reader(self) -> PlainReader:
        """Reads features as they lie in the file."""
        if self._reader is None:
            # Its kernels bring a compiler: 60 MB and half a second that ingest and SQL have no use for.
            from cytofast.plain_pages import PlainReader

            self.require_whole()
            self._reader = PlainReader(self.path)
            if self._reader.rows != self.manifest.rows:
                raise StoreError(
                    f"{self.path}: {self._reader.rows:,} rows, but its manifest says {self.manifest.rows:,}. "
                    "Hint: the file was changed or damaged; make this plate again."
                )
        return self._reader

    def forget(self) -> None:
        """Give back what is held of the file; whoever holds the plates of a store holds their metadata otherwise."""
        self._lazy = self._reader = None

    def _read(self, columns: Sequence[str], rows: Rows, into: NDArray[np.float32]) -> Values:
        """Runs of rows of some features; missing is NaN or null.

        A matrix may lie in the memory given: it is good until something else is read into it.
        """
        if self.reader.reads(columns):
            return self.reader.read(columns, rows, into)
        lazy = self.lazy().select(columns)
        return pl.concat([lazy.slice(first, end - first) for first, end in rows]).collect()

    def read_ahead(self, parts: Sequence[tuple[Sequence[str], Rows]], turns: int = 2) -> Iterator[Values]:
        """Parts, each some features of runs of rows, the next being read while the one given out is worked on.

        A part is a matrix ``float32[n_features, n_rows]``, missing as NaN, or a frame where the file is not laid out for it.
        Two pieces of memory take turns, so a part is good until the next is asked for: whoever walks keeps only what was made
        anew (an aggregate, a fit). Of three, it is good until the next but one is asked for.
        """
        size = max((len(columns) * sum(end - first for first, end in rows) for columns, rows in parts), default=0)
        memory = [np.empty(size, dtype=np.float32) for _ in parts[:turns]]
        with ThreadPoolExecutor(1) as reader:
            coming = [reader.submit(self._read, *part, memory[0]) for part in parts[:1]]
            for number in range(len(parts)):
                values = coming.pop().result()
                following = parts[number + 1 : number + 2]
                coming = [reader.submit(self._read, *part, memory[(number + 1) % turns]) for part in following]
                yield values

    def chunks(self, rows: int) -> Iterator[pl.DataFrame | Chunk]:
        """The rows in order, so many at a time; where the file is not laid out for it, not across row groups.

        A chunk may be changed in place, and is good until the next but one is asked for.
        """
        names = self.schema.names()
        metadata = self.metadata([name for name in names if is_metadata(name)])
        features = [name for name in names if not is_metadata(name)]
        groups = [(0, self.reader.rows)] if self.reader.reads(features) else pairwise(self.reader.bounds)
        starts = [start for begin, end in groups for start in range(begin, end, rows)]
        parts = [(features, [run]) for run in pairwise([*starts, self.reader.rows])]
        for (_, [(low, high)]), values in zip(parts, self.read_ahead(parts, 3), strict=True):
            if isinstance(values, pl.DataFrame):
                yield metadata[low:high].hstack(values)[names]
            elif names == [*metadata.columns, *features]:
                yield Chunk(metadata[low:high], values, features)
            else:
                yield metadata[low:high].hstack(sharing_frame(values, features))[names]


def together(partitions: Sequence[Partition]) -> pl.LazyFrame:
    """The profiles of several plates, one after the other; a column that a plate lacks is null there."""
    for partition in partitions:
        partition.require_whole()
    if len({partition.manifest.schema for partition in partitions}) == 1:
        # One query, not one a plate: each would hold its footer, megabytes for thousands of features.
        return pl.scan_parquet([partition.path for partition in partitions], hive_partitioning=False, glob=False)
    return pl.concat([partition.lazy() for partition in partitions], how="diagonal_relaxed")


def remove_unfinished(folder: Path) -> None:
    """Take away what a killed writer left; the caller holds the store's lock."""
    for stale in folder.glob(".*.tmp"):
        stale.unlink()


def tidy(partition: Partition) -> None:
    """Take away what is no part of a finished partition: what it replaced, and what a killed writer left."""
    folder = partition.path.parent
    remove_unfinished(folder)
    for stale in folder.glob("*.parquet"):
        if stale.name != partition.path.name:
            stale.unlink()


def read_frame(path: Path) -> pl.DataFrame:
    """A small table of a store, or a :class:`StoreError` where it is damaged."""
    try:
        return pl.read_parquet(path, hive_partitioning=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise StoreError(
            f"{path}: not a readable Parquet file. Hint: ingest this plate again; that mends it."
        ) from error


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """A small table as Parquet, whole or not at all."""
    if path.parent.is_dir():
        remove_unfinished(path.parent)
    with ProfileWriter(path) as writer:
        writer.write(frame)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all, on disk when this returns."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        make_folder(path.parent)
        temporary.write_text(text, encoding="utf-8")
        appear(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from error
