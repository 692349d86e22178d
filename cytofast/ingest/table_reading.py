"""The rows of a plate from tables, in the order of their keys, inside the memory budget however the tables are ordered."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import row_chunks
from cytofast.errors import DataError, ProfileWarning, RecipeError, SchemaError, listed
from cytofast.ingest.audit import Audit
from cytofast.ingest.cellprofiler import columns_differ
from cytofast.ingest.csv_text import digest_of_file
from cytofast.ingest.file_state import FileState, require_unchanged
from cytofast.ingest.readable import readable
from cytofast.ingest.sampling import sample_wells
from cytofast.ingest.tables import KEYS, TableFile, TableSource, columns_of
from cytofast.schema import BATCH, OBJECT_NUMBER, PLATE, SITE, WELL

_COPIES = 6
_PLACE = "place in the plate"
_FILE, _ROW = "file", "row"


@dataclass(frozen=True)
class TablePlan:
    """What reading a plate from tables will give.

    Attributes
    ----------
    order
        One row a row that is kept, in order: keys, ``file`` and ``row``.
    schema
        Columns and their types.
    audit
        What becomes of the rows, by file and well.
    """

    source: TableSource
    order: pl.DataFrame
    schema: pl.Schema
    audit: pl.DataFrame

    @property
    def parts(self) -> int:
        """How many wells there are."""
        return self.audit.height

    @property
    def says(self) -> str:
        """The same in words."""
        return f"{self.audit['rows_read'].sum():,} rows"

    def names(self) -> Iterator[tuple[str | None, str | None, str, int]]:
        """Well and file of all rows that are kept."""
        for well, file, kept in self.audit.select("well", "file", "rows_joined").rows():
            if kept:
                yield well, None, file, 0

    def cells(self, audit: Audit) -> Iterator[pl.DataFrame]:
        """Yield the rows, in order; the audit is complete after the last."""
        frames = self._frames()
        choice = self.source.choice
        yield from sample_wells(frames, choice, audit) if choice.cells_per_well else frames
        audit.add(self.audit.rows(named=True))

    def _frames(self) -> Iterator[pl.DataFrame]:
        places = self._places()
        flat = np.concatenate([place[place >= 0] for place in places])
        width = 4 * len(self.schema)
        room = resources.current().working_bytes // _COPIES
        if bool((np.diff(flat) > 0).all()):
            for frame in self._as_they_lie(places):
                yield frame.drop(_PLACE)
        elif len(flat) * width * 2 <= room:
            held = pl.concat(list(self._as_they_lie(places))).sort(_PLACE).drop(_PLACE)
            yield from held.iter_slices(max(1, room // (8 * width)))
        else:
            yield from self._sorted_outside(places, max(256, room // (2 * width)))

    def _places(self) -> list[NDArray[np.int64]]:
        """For each file and row, where it comes in the plate; -1 where it is not wanted."""
        places = [np.full(file.keys.height, -1) for file in self.source.files]
        files, rows = self.order[_FILE].to_numpy(), self.order[_ROW].to_numpy()
        for number, place in enumerate(places):
            mine = np.flatnonzero(files == number)
            place[rows[mine]] = mine
        return places

    def _as_they_lie(self, places: Sequence[NDArray[np.int64]]) -> Iterator[pl.DataFrame]:
        """Wanted rows in the order of the files, with their places."""
        for file, place in zip(self.source.files, places, strict=True):
            wanted = np.flatnonzero(place >= 0)
            if not len(wanted):
                continue
            low, high = int(wanted[0]), int(wanted[-1]) + 1
            columns = self._columns(file)
            lazy = file.open().slice(low, high - low).select(list(columns.values()))
            at = low
            for chunk in _chunks(lazy, file.path, high - low):
                there = place[at : at + chunk.height]
                kept = np.flatnonzero(there >= 0)
                frame = chunk if len(kept) == chunk.height else chunk[kept]
                yield self._shaped(
                    frame.rename({own: name for name, own in columns.items()}), file, at + kept, there[kept]
                )
                at += chunk.height
            require_unchanged(file.path, file.state)

    def _columns(self, file: TableFile) -> dict[str, str]:
        """Name here -> name in the file, of everything but keys."""
        own = file.open().collect_schema()
        return {name: name for name in self.schema if name not in KEYS and name in own}

    def _shaped(
        self, frame: pl.DataFrame, file: TableFile, rows: NDArray[np.int64], places: NDArray[np.int64]
    ) -> pl.DataFrame:
        keys = file.keys[rows]
        made: list[pl.Series] = []
        # Asking a frame for the names of its columns makes thousands of them anew.
        present = set(frame.columns)
        for name, dtype in self.schema.items():
            if name in KEYS:
                column = keys[name]
            elif name in present:
                column = frame[name]
            else:
                column = pl.Series(name, [None], dtype=dtype).new_from_index(0, frame.height)
            made.append(column if column.dtype == dtype else _narrowed(column, dtype, file.path))
        return pl.DataFrame([*made, pl.Series(_PLACE, places)])

    def _sorted_outside(self, places: Sequence[NDArray[np.int64]], most: int) -> Iterator[pl.DataFrame]:
        """Put rows aside on disk by where they come, ``most`` to a pile; then each pile is sorted and given out."""
        piles: dict[int, pa.RecordBatchFileWriter] = {}
        with tempfile.TemporaryDirectory(prefix="cytofast-", dir=resources.current().scratch) as scratch:
            try:
                for frame in self._as_they_lie(places):
                    pile = frame[_PLACE] // most
                    for number in pile.unique().to_list():
                        table = frame.filter(pile == number).to_arrow(compat_level=pl.CompatLevel.oldest())
                        if number not in piles:
                            piles[number] = pa.ipc.new_file(f"{scratch}/{number}.arrow", table.schema)
                        piles[number].write_table(table)
            except OSError as error:
                raise DataError(f"{scratch}: cannot be written ({error.strerror or error}).") from error
            finally:
                for writer in piles.values():
                    writer.close()
            for number in sorted(piles):
                whole = pl.read_ipc(f"{scratch}/{number}.arrow")
                yield whole.sort(_PLACE).drop(_PLACE)


def _narrowed(column: pl.Series, dtype: pl.DataType, path: Path) -> pl.Series:
    made = column.cast(dtype)
    if dtype == pl.Float32 and column.dtype == pl.Float64:
        beyond = int((made.is_infinite() & column.is_finite()).sum())
        if beyond:
            warnings.warn(
                f"{path}, column {column.name!r}: {beyond:,} values are too large for float32 (3.4e38) and become infinite.",
                ProfileWarning,
                stacklevel=2,
            )
    return made


def plan_table(source: TableSource) -> TablePlan:
    """Look at the keys of every row of a plate.

    Raises
    ------
    DataError
        A row's keys stand twice, or a well that is asked for is not there.
    SchemaError
        Columns differ and ``strict`` was asked for, or a column is text in one file and numbers in another.
    """
    if source.choice.cells_per_well and source.level != "cells":
        raise RecipeError(f"cells_per_well: plate {source.plate!r} holds {source.level}, and not cells")
    schema, missing, left_out = _schema(source)
    parts = []
    for number, file in enumerate(source.files):
        rows = np.flatnonzero(((file.keys[BATCH] == source.batch) & (file.keys[PLATE] == source.plate)).to_numpy())
        keys = file.keys[rows]
        if file.keys.schema[SITE] != schema.get(SITE, file.keys.schema[SITE]):
            keys = keys.with_columns(keys[SITE].cast(pl.String))
        parts.append(
            keys.with_columns(pl.Series(_FILE, np.full(len(rows), number)), pl.Series(_ROW, rows.astype(np.int64)))
        )
    every = pl.concat(parts, how="vertical_relaxed")
    choice = source.choice
    where = f"plate {source.plate!r}"
    choice.require_places(every.select(WELL, SITE).unique(maintain_order=True).rows(), where)
    chosen = pl.Series([choice.holds(*place) for place in every.select(WELL, SITE).rows()], dtype=pl.Boolean)
    wanted = every.filter(chosen)
    identity = [name for name in KEYS if name not in (BATCH, PLATE)] if source.level == "cells" else [WELL]
    kept = wanted.unique(identity, keep="first", maintain_order=True)
    if kept.height < wanted.height and choice.duplicates == "refuse":
        raise _twice(source, wanted, identity)
    order = kept.sort(identity, nulls_last=True, maintain_order=True)
    return TablePlan(source, order, schema, _audit(source, every, order, missing, left_out))


def _twice(source: TableSource, wanted: pl.DataFrame, identity: list[str]) -> DataError:
    doubled = wanted.filter(wanted.select(identity).is_duplicated()).sort(identity, maintain_order=True)
    first, second = doubled.head(2).rows(named=True)
    named = ", ".join(f"{name.removeprefix('Metadata_')} {first[name]}" for name in identity if first[name] is not None)
    at = " and ".join(f"{source.files[row[_FILE]].path} row {row[_ROW] + 1:,}" for row in (first, second))
    return DataError(
        f"{doubled.height:,} rows have keys that stand more than once, the first {named}: {at}. Hint: was a table appended "
        "to itself, or are two files of one plate there? To keep the first row, ingest with duplicates='first' "
        "(--duplicates first)."
    )


def _schema(source: TableSource) -> tuple[pl.Schema, Mapping[str, int], Mapping[str, list[str]]]:
    """All columns of all files: keys, metadata, features. A column that is missing somewhere is null there, and counted."""
    numbers = pl.Float32() if source.level == "cells" else None
    metadata: dict[str, pl.DataType] = {}
    features: dict[str, pl.DataType] = {}
    own: dict[str, list[str]] = {}
    left_out: dict[str, list[str]] = {}
    for file in source.files:
        described, measured, left_out[file.label] = columns_of(file)
        types = file.open().collect_schema()
        own[file.label] = measured
        first = source.files[0]
        if source.choice.strict and set(measured) != set(own[first.label]):
            raise columns_differ(file.path, measured, first.path, own[first.label])
        for name in described:
            same = metadata.get(name, types[name]) in (types[name], pl.Null())
            metadata[name] = types[name] if same else pl.String()
        for name in measured:
            wide = types[name] if types[name].is_float() else pl.Float64()
            features[name] = numbers or (wide if features.get(name, wide) == wide else pl.Float64())
    if _PLACE in {*features, *metadata}:
        raise SchemaError(
            f"plate {source.plate!r}: a column is called {_PLACE!r}, which is used here. Hint: rename it."
        )
    both = [name for name in features if name in metadata]
    if both:
        raise SchemaError(
            f"plate {source.plate!r}: {listed(both)} hold numbers in one file and text in another. Hint: which is right?"
        )
    if not features:
        raise SchemaError(
            f"plate {source.plate!r}: {source.files[0].path} has no features, only keys and metadata. Hint: what was in each "
            "well is given with platemap (--platemap), beside a table of features."
        )
    chosen = source.choice.of_features(list(features), f"plate {source.plate!r}")
    sites = {file.keys.schema[SITE] for file in source.files}
    place = pl.Int64() if sites == {pl.Int64()} else pl.String()
    known: dict[str, pl.DataType] = {BATCH: pl.String(), PLATE: pl.String(), WELL: pl.String()}
    if source.level == "cells":
        known |= {SITE: place, **dict.fromkeys(KEYS[KEYS.index(SITE) + 1 :], pl.Int64())}
    else:
        told = {name for file in source.files for name in KEYS if file.keys[name].null_count() < file.keys.height}
        known |= {SITE: place} if SITE in told else {}
        known |= {name: pl.Int64() for name in KEYS[KEYS.index(SITE) + 1 :] if name in told and name != OBJECT_NUMBER}
    missing = {label: len(set(features) - set(names)) for label, names in own.items()}
    others = {name: dtype for name, dtype in metadata.items() if name not in known}
    return pl.Schema({**known, **others, **{name: features[name] for name in chosen}}), missing, left_out


def _audit(
    source: TableSource,
    every: pl.DataFrame,
    order: pl.DataFrame,
    missing: Mapping[str, int],
    left_out: Mapping[str, list[str]],
) -> pl.DataFrame:
    read = {(file, well): count for file, well, count in every.group_by(_FILE, WELL).len().rows()}
    kept = {(file, well): count for file, well, count in order.group_by(_FILE, WELL).len().rows()}
    rows = []
    for (number, well), count in sorted(read.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        file = source.files[number]
        joined = kept.get((number, well), 0)
        notes = [*file.notes]
        if left_out[file.label]:
            notes.append(f"{len(left_out[file.label])} columns that only count rows left out")
        if joined < count:
            notes.append("rows not asked for, or with keys that came before, set aside")
        rows.append(
            {
                "batch": source.batch,
                "plate": source.plate,
                "well": well,
                "file": file.label,
                "compartment": "Table",
                "rows_read": count,
                "rows_joined": joined,
                "orphans": count - joined,
                "columns_missing": missing[file.label],
                "bytes": file.state.size,
                "digest": _digest(file.path, file.state),
                "note": "; ".join(notes) or None,
            }
        )
    return pl.DataFrame(rows)


@lru_cache(maxsize=4096)
def _digest(path: Path, state: FileState) -> str:
    # A file with many plates is read once for it.
    found = digest_of_file(path)
    require_unchanged(path, state)
    return found


def _chunks(lazy: pl.LazyFrame, path: Path, rows: int) -> Iterator[pl.DataFrame]:
    """Some rows at a time, all of them: of a damaged file a reader may give fewer, or more, without a word."""
    read = 0
    with readable(path):
        for chunk in row_chunks(lazy):
            read += chunk.height
            if read > rows:
                break
            yield chunk
    if read != rows:
        raise DataError(
            f"{path}: {rows:,} rows have keys, but other columns have {read:,}. Hint: copy or make it again."
        )
