"""The cells of SQLite files: where each image's rows lie, found in one scan of the keys, then images read a few at a time.

Tables need no index and no order: rows are asked for by their place in the file, which SQLite finds at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.errors import DataError
from cytofast.ingest.ahead import in_order
from cytofast.ingest.assembling import Part, Row, in_single, join_sites
from cytofast.ingest.audit import Audit
from cytofast.ingest.csv_text import NAN_TEXT, digest_of_file
from cytofast.ingest.discovery import ExportFolder
from cytofast.ingest.file_state import require_unchanged
from cytofast.ingest.images import table_number
from cytofast.ingest.joining import Objects, Rows
from cytofast.ingest.plan import Site
from cytofast.ingest.sqlite_file import NO_NUMBER, ROWID, Database
from cytofast.ingest.sqlite_plan import DatabasePlan
from cytofast.ingest.sqlite_shape import ObjectTable, Shape

_COPIES = 6
"""Values as SQLite gives them, as float64, joined, and in the frame that is given out; with what the driver grows into."""
_AT_ONCE = 32 << 20
"""Bytes of float64 to read at once at most: more makes nothing faster."""

Key = tuple[int | None, int]
"""``(TableNumber or None, ImageNumber)``."""


@dataclass(frozen=True)
class Run:
    """Neighbouring rows of one image: from row number ``low`` to ``high``, ``rows`` of them."""

    low: int
    high: int
    rows: int


@dataclass(frozen=True)
class TableIndex:
    """Where the rows of each image lie in a table."""

    runs: Mapping[Key, tuple[Run, ...]]
    rows: int

    def count(self, key: Key) -> int:
        """Rows of an image."""
        return sum(run.rows for run in self.runs.get(key, ()))


Index = Mapping[tuple[ExportFolder, str], TableIndex]


def read_databases(plan: DatabasePlan, audit: Audit) -> Iterator[pl.DataFrame]:
    """Yield the cells in the order of the plan, one site after the other."""
    threads = max(1, resources.current().threads)
    width = 8 * max(sum(len(table.features) for table in shape.objects.values()) for shape in plan.shapes.values())
    at_once = min(_AT_ONCE, resources.current().working_bytes // (_COPIES * (threads + 2)))
    most = max(1, at_once // max(1, width))
    stop = threading.Event()
    with ExitStack() as stack:
        # The last to be left: when nobody reads any more.
        connections = stack.enter_context(_Connections())
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        beside = stack.enter_context(ThreadPoolExecutor(1))
        # The first to be left: whoever still hashes then need not go on.
        stack.callback(stop.set)
        digests = {
            folder: beside.submit(digest_of_file, shape.path, stop.is_set) for folder, shape in plan.shapes.items()
        }
        looks = [beside.submit(_require_sound, connections, shape, stop) for shape in plan.shapes.values()]
        index = _index(plan, connections)
        schema = plan.schema
        jobs = (partial(_read_sites, plan, connections, sites, index, schema) for sites in _batches(plan, index, most))
        for frame, rows in in_order(jobs, pool, threads):
            audit.add(rows)
            if frame is not None:
                yield frame
        found = {folder.name: future.result() for folder, future in digests.items()}
        for look in looks:
            look.result()
    for shape in plan.shapes.values():
        require_unchanged(shape.path, shape.state)
    for row in audit.rows:
        if row.get("file") in found:
            row["digest"] = found[row["file"]]


def _require_sound(connections: _Connections, shape: Shape, stop: threading.Event) -> None:
    """Have SQLite look at its pages: of a damaged table it gives fewer rows, or some twice, without a word."""
    for table in dict.fromkeys(table.table for table in shape.objects.values()):
        said = None if stop.is_set() else connections.to(shape.path).damage(table)
        if said is not None:
            raise DataError(
                f"{shape.path}, table {table}: SQLite says that it is malformed ({said}). Hint: copy it again, or recover it "
                "with the sqlite3 command (.recover)."
            )


class _Connections:
    """A connection to each file for each thread."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, Path], Database] = {}

    def __enter__(self) -> _Connections:
        return self

    def __exit__(self, *_: object) -> None:
        for database in self._open.values():
            database.close()

    def to(self, path: Path) -> Database:
        """The connection of this thread."""
        key = (threading.get_ident(), path)
        if key not in self._open:
            self._open[key] = Database(path)
        return self._open[key]


# --- where the rows lie ----------------------------------------------------------------------------------------------


def _index(plan: DatabasePlan, connections: _Connections) -> Index:
    """Scan the keys of every table once. Every row must be of an image that the table of images knows."""
    found: dict[tuple[ExportFolder, str], TableIndex] = {}
    for folder, shape in plan.shapes.items():
        known = {(image.table, image.number) for image in shape.images}
        for table in shape.objects.values():
            if (folder, table.table) in found:
                continue
            index = found[folder, table.table] = _table_index(connections.to(shape.path), table)
            stray = next((key for key in index.runs if key not in known), None)
            if stray is not None:
                raise DataError(
                    f"{shape.path}, table {table.table}, row {index.runs[stray][0].low:,}: ImageNumber {stray[1]} is not "
                    f"in table {shape.image_table}. Hint: the tables are of different exports; export them again."
                )
    return found


def _table_index(database: Database, table: ObjectTable) -> TableIndex:
    runs: dict[Key, list[Run]] = {}
    last: tuple[Key, Run] | None = None
    rows = 0
    numbers: dict[str | None, int | None] = {None: None}
    for frame in database.keys(table.table, table.image, table.of_table):
        holes = frame["image"].is_null() | (frame["number"].is_null() if table.of_table else pl.Series([False]))
        if holes.any():
            row = frame[ROWID][int(holes.arg_max() or 0)]
            raise DataError(
                f"{database.path}, table {table.table}, row {row:,}: its ImageNumber or TableNumber is missing or no whole "
                "number. Hint: the file is damaged; export it again."
            )
        rowids, images = frame[ROWID].to_numpy(), frame["image"].to_numpy()
        starts = np.flatnonzero(
            frame.select(pl.struct("image", "number").rle_id()).to_series().diff().fill_null(1).to_numpy()
        )
        stops = np.append(starts[1:], frame.height) - 1
        texts = frame["number"].gather(starts).to_list()
        for start, stop, text in zip(starts.tolist(), stops.tolist(), texts, strict=True):
            if text not in numbers:
                numbers[text] = table_number(str(text))
            key = (numbers[text], int(images[start]))
            run = Run(int(rowids[start]), int(rowids[stop]), stop - start + 1)
            if last is not None and last[0] == key:
                last = (key, Run(last[1].low, run.high, last[1].rows + run.rows))
                continue
            if last is not None:
                runs.setdefault(last[0], []).append(last[1])
            last = (key, run)
        rows += frame.height
    if last is not None:
        runs.setdefault(last[0], []).append(last[1])
    return TableIndex({key: tuple(found) for key, found in runs.items()}, rows)


def _batches(plan: DatabasePlan, index: Index, most: int) -> Iterator[list[Site]]:
    """Neighbouring sites of one file, together as many rows as may be read at once, or one site that has more."""
    waiting: list[Site] = []
    held = 0
    for site in plan.sites:
        key = (site.image.table, site.image.number)
        tables = {table.table for table in plan.shapes[site.folder].objects.values()}
        rows = max(index[site.folder, table].count(key) for table in tables)
        if waiting and (held + rows > most or waiting[0].folder is not site.folder):
            yield waiting
            waiting, held = [], 0
        waiting.append(site)
        held += rows
    if waiting:
        yield waiting


# --- reading ---------------------------------------------------------------------------------------------------------


def _read_sites(
    plan: DatabasePlan, connections: _Connections, sites: Sequence[Site], index: Index, schema: pl.Schema
) -> tuple[pl.DataFrame | None, list[Row]]:
    folder = sites[0].folder
    shape = plan.shapes[folder]
    read = {
        name: _Compartment.read(plan, connections.to(shape.path), shape, table, sites, index[folder, table.table])
        for name, table in shape.objects.items()
    }
    parts = [
        {name: compartment.part(number, plan.missing[folder.name, name]) for name, compartment in read.items()}
        for number in range(len(sites))
    ]
    places = [{name: compartment.places[number] for name, compartment in read.items()} for number in range(len(sites))]
    return join_sites(plan, sites, parts, places, {name: part.features for name, part in read.items()}, schema)


@dataclass(frozen=True)
class _Compartment:
    """One compartment of some images: its features, its keys, and which rows are whose."""

    shape: Shape
    table: ObjectTable
    empty: bool
    rowids: Rows
    numbers: Rows
    parents: Mapping[str, Rows]
    features: pl.DataFrame
    places: Sequence[Rows]
    """For each image, its rows."""

    @classmethod
    def read(
        cls,
        plan: DatabasePlan,
        database: Database,
        shape: Shape,
        table: ObjectTable,
        sites: Sequence[Site],
        index: TableIndex,
    ) -> _Compartment:
        runs = [index.runs.get((site.image.table, site.image.number), ()) for site in sites]
        rows = _rows(plan, database, table, [run for of_site in runs for run in of_site])
        rowids = rows[ROWID].to_numpy()
        numbers = rows["key number"]
        there = rows["key present"].to_numpy() if table.present is not None else np.ones(len(rowids), dtype=bool)
        counted = sum(run.rows for of_site in runs for run in of_site)
        if len(rowids) != counted:
            raise DataError(
                f"{shape.path}, table {table.table}: {counted:,} rows were counted and {len(rowids):,} read. Hint: the "
                "file is damaged; 'PRAGMA integrity_check' of the sqlite3 command tells what."
            )
        wrong = (numbers.is_null() | (numbers == NO_NUMBER)).to_numpy() & there
        _require_number(wrong, shape, table, rowids, table.number)
        for parent, column in table.parents.items():
            # No parent is written as 0, or left empty.
            _require_number(
                (rows[f"key {parent}"] == NO_NUMBER).fill_null(False).to_numpy(), shape, table, rowids, column
            )
        places = []
        for of_site in runs:
            within = [
                np.arange(np.searchsorted(rowids, run.low), np.searchsorted(rowids, run.high, side="right"))
                for run in of_site
            ]
            mine = np.concatenate(within) if within else np.empty(0, dtype=np.int64)
            places.append(mine[there[mine]])
        parents = {parent: rows[f"key {parent}"].fill_null(0).to_numpy() for parent in table.parents}
        features = in_single(rows, [name for name in rows.columns if name != ROWID and not name.startswith("key ")])
        return cls(shape, table, index.rows == 0, rowids, numbers.fill_null(0).to_numpy(), parents, features, places)

    def part(self, number: int, missing: int) -> Part:
        """One image of them."""
        mine = self.places[number]
        where = f"{self.shape.path}, table {self.table.table}"
        columns = self.table.text_columns
        return Part(
            self.shape.path,
            Objects(self.numbers[mine], {parent: named[mine] for parent, named in self.parents.items()}),
            where,
            partial(_pair, where, self.rowids[mine]),
            self.shape.size,
            "",
            missing=missing,
            empty=self.empty,
            notes=(f"{columns} text columns left out",) if columns else (),
        )


def _require_number(wrong: NDArray[np.bool_], shape: Shape, table: ObjectTable, rowids: Rows, column: str) -> None:
    if wrong.any():
        raise DataError(
            f"{shape.path}, table {table.table}, row {rowids[int(np.argmax(wrong))]:,}, column {column!r}: is missing or no "
            "whole number, but every object needs one."
        )


def _pair(where: str, rowids: Rows, first: int, second: int) -> str:
    return f"{where}, rows {rowids[first]:,} and {rowids[second]:,}"


def _rows(plan: DatabasePlan, database: Database, table: ObjectTable, runs: Sequence[Run]) -> pl.DataFrame:
    """Keys (``key ...``) and wanted features, in float64, of some images."""
    chosen = set(plan.features)
    wanted = {feature: column for feature, column in table.features.items() if feature in chosen}
    keys = {"key number": table.number, **{f"key {parent}": column for parent, column in table.parents.items()}}
    columns = list(wanted.values())
    if table.present is not None and table.present not in columns:
        columns.append(table.present)
    ranges = _ranges(runs)
    if ranges:
        read = database.rows(table.table, columns, keys, ranges, sum(run.rows for run in runs))
    else:
        read = pl.DataFrame(schema={ROWID: pl.Int64, **dict.fromkeys([*keys, *columns], pl.Float64)})
    made = [read[ROWID].cast(pl.Int64), *(read[key].cast(pl.Int64) for key in keys)]
    if table.present is not None:
        made.append(read[table.present].is_not_null().alias("key present"))
    for feature, column in wanted.items():
        values = read[column]
        if not values.dtype.is_numeric():
            values = _numbers(database, table, column, ranges, len(read))
        made.append((values if values.dtype == pl.Float64 else values.cast(pl.Float64)).alias(feature))
    return pl.DataFrame(made)


def _ranges(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """Runs in the order of the file, neighbours joined."""
    joined: list[tuple[int, int]] = []
    for run in sorted(runs, key=lambda run: run.low):
        if joined and joined[-1][1] + 1 == run.low:
            joined[-1] = (joined[-1][0], run.high)
        else:
            joined.append((run.low, run.high))
    return joined


def _numbers(
    database: Database, table: ObjectTable, column: str, ranges: Sequence[tuple[int, int]], rows: int
) -> pl.Series:
    """A column with text in it: numbers as they are, text where it says "missing" or is a number."""
    rowids, numbers, written = database.mixed(table.table, column, ranges, rows)
    missing = written.is_in([*NAN_TEXT, ""])
    read = written.set(missing, None).cast(pl.Float64, strict=False)
    wrong = written.is_not_null() & ~missing & read.is_null()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(
            f"{database.path}, table {table.table}, row {rowids[row]:,}, column {column!r}: {written[row]!r} is not a "
            "number. Hint: features must be numbers, empty or nan; was the file changed by another program?"
        )
    return numbers.zip_with(numbers.is_not_null(), read)
