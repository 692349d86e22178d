"""The cells of a plate, image by image: parsed side by side, given out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cytofast import resources
from cytofast.errors import DataError
from cytofast.ingest.audit import Audit
from cytofast.ingest.cellprofiler import Plan, Site
from cytofast.ingest.csv_text import Header, Layout, Lines, digest, parse_lines, read_bytes, whole_numbers
from cytofast.ingest.joining import DuplicateObjectError, Objects, Rows, join_objects
from cytofast.ingest.line_index import LineIndex, index_lines
from cytofast.schema import BATCH, IMAGE_NUMBER, OBJECT_NUMBER, PLATE, SITE, TABLE_NUMBER, WELL

_WHOLE_FILE = 64 << 20
"""Files of one image are read whole up to this size; larger ones are scanned first, whatever they claim to hold."""
_COPIES = 6
"""The bytes of an image, its parsed columns in float64, and what the parser and the join need besides."""
_BATCH_BYTES = 32 << 20
"""Cells are given out in frames of about this size in float64, less where the memory budget is small."""

TABLE = "TableNumber"

Row = dict[str, Any]


def read_plate(plan: Plan, audit: Audit) -> Iterator[pl.DataFrame]:
    """Yield the cells in the order of the plan, as frames of some sites each."""
    # Numbers become float32 once for several sites: with thousands of columns the calls would cost more than the work.
    at_once = max(1, min(_BATCH_BYTES, resources.current().working_bytes // 16))
    waiting: list[pl.DataFrame] = []
    held = 0
    for frame in _read_sites(plan, audit):
        waiting.append(frame)
        held += 8 * frame.height * frame.width
        if held >= at_once:
            yield _single(waiting)
            waiting, held = [], 0
    if waiting:
        yield _single(waiting)


def _single(frames: list[pl.DataFrame]) -> pl.DataFrame:
    whole = pl.concat(frames) if len(frames) > 1 else frames[0]
    columns = [column.cast(pl.Float32) if column.dtype == pl.Float64 else column for column in whole.get_columns()]
    return pl.DataFrame(columns[:1]).hstack(columns[1:])


def _read_sites(plan: Plan, audit: Audit) -> Iterator[pl.DataFrame]:
    threads = max(1, resources.current().threads)
    indexed = dict.fromkeys(
        path for site in plan.sites for _, path in site.folder.objects if not _read_whole(site, path)
    )
    schema = plan.schema
    with ThreadPoolExecutor(threads) as pool:
        indexes = dict(zip(indexed, pool.map(index_lines, indexed), strict=True))
        for site in plan.sites:
            _check_index(plan, site, indexes)
        largest = max((_bytes_of(site, indexes) for site in plan.sites), default=0)
        workers = max(1, min(threads, resources.current().working_bytes // max(1, _COPIES * largest)))
        waiting: deque[Future[tuple[pl.DataFrame | None, list[Row]]]] = deque()
        coming = iter(plan.sites)
        try:
            while True:
                # One more than can run, so that no worker waits for the frame before it to be taken.
                while len(waiting) < workers + (workers > 1) and (ahead := next(coming, None)) is not None:
                    waiting.append(pool.submit(_read_site, plan, ahead, indexes, schema))
                if not waiting:
                    return
                frame, rows = waiting.popleft().result()
                audit.add(rows)
                if frame is not None:
                    yield frame
        finally:
            for future in waiting:
                future.cancel()


def _read_whole(site: Site, path: Path) -> bool:
    return site.alone and path.stat().st_size <= _WHOLE_FILE


def _bytes_of(site: Site, indexes: Mapping[Path, LineIndex]) -> int:
    key = (site.image.table, site.image.number)
    return sum(
        indexes[path].bytes_of(key) if path in indexes else path.stat().st_size for _, path in site.folder.objects
    )


def _check_index(plan: Plan, site: Site, indexes: Mapping[Path, LineIndex]) -> None:
    """Every row of a scanned file must be of an image that ``Image.csv`` knows."""
    for _, path in site.folder.objects:
        if path in indexes and site.folder.image is not None:
            known = {(image.table, image.number) for image in plan.image_files[site.folder.image].images}
            for key, runs in indexes[path].runs.items():
                if key not in known:
                    raise _stray_image(path, runs[0].line, key[1])


def _stray_image(path: Path, line: int, number: int) -> DataError:
    return DataError(
        f"{path}, line {line:,}: ImageNumber {number} is not in the Image.csv beside it. "
        f"Hint: the files are of different exports; copy the folder again."
    )


def _read_site(
    plan: Plan, site: Site, indexes: Mapping[Path, LineIndex], schema: pl.Schema
) -> tuple[pl.DataFrame | None, list[Row]]:
    frames: dict[str, pl.DataFrame] = {}
    objects: dict[str, Objects] = {}
    lines: dict[str, Lines] = {}
    rows: list[Row] = []
    empty: list[str] = []
    for name, path in site.folder.objects:
        header = plan.headers[path]
        index = indexes.get(path)
        if index is None:
            data = read_bytes(path)
            lines[name] = Lines(path, data[header.size :])
            size, content, in_file = len(data), digest(data), None
        else:
            lines[name] = index.read((site.image.table, site.image.number))
            size, content, in_file = index.size, index.digest, index.rows
        frame = parse_lines(lines[name], _layout(name, header))
        objects[name], frames[name] = _keys(frame, name, lines[name], site, plan), frame
        if (frame.height if in_file is None else in_file) == 0:
            empty.append(name)
        notes = _notes(name, header, frame.height, site)
        rows.append(_row(plan, site, path, name) | {"rows_read": frame.height, "bytes": size, "digest": content})
        rows[-1] |= {"columns_missing": plan.missing[path], "note": "; ".join(notes) or None}
    _require_complete(site, objects, empty)
    cells = _joined(plan, objects, lines) if objects else {}
    n_cells = len(next(iter(cells.values()), ()))
    for row in rows:
        joined = int(np.count_nonzero(cells[row["compartment"]] >= 0))
        row |= {"rows_joined": joined, "orphans": row["rows_read"] - joined}
        contradicting = _contradicting(plan, row["compartment"], frames, objects, cells)
        row["note"] = "; ".join(filter(None, [row["note"], *contradicting])) or None
    rows.insert(0, _image_row(plan, site, n_cells))
    if not n_cells:
        return None, rows
    numbers = objects[plan.links.primary].numbers[cells[plan.links.primary]]
    keys = _key_columns(plan, site, numbers, schema)
    return _assemble(plan, keys, frames, cells, schema), rows


@lru_cache(maxsize=64)
def _layout(name: str, header: Header) -> Layout:
    """Say what columns are called in the table of cells, and how they are read; what is in neither is left out."""
    # All as float64: Polars reads one float32 in a thousand with a wrong last bit, float64 exactly. Keys may be written
    # as 3.0, and float64 holds every whole number that CellProfiler counts to.
    types: dict[str, Any] = dict.fromkeys([*header.features, "ImageNumber", "ObjectNumber"], pl.Float64)
    if TABLE in header.position:
        types[TABLE] = pl.Int64
    return Layout(header, {column: f"{name}_{column}" for column in header.features}, types)


def _keys(frame: pl.DataFrame, name: str, lines: Lines, site: Site, plan: Plan) -> Objects:
    """Take the keys out of a parsed compartment, after making sure that every row is of this image."""
    images = whole_numbers(frame.drop_in_place("ImageNumber"), lines, "ImageNumber")
    stray = images != site.image.number
    if site.image.table is not None:
        stray |= (frame.drop_in_place(TABLE) != site.image.table).fill_null(value=True).to_numpy()
    if stray.any():
        row = int(np.argmax(stray))
        raise _stray_image(lines.path, lines.line(row), int(images[row]))
    parents = {}
    for column in plan.links.columns.get(name, []):
        # No parent is written as 0, or left empty.
        numbers = frame[f"{name}_{column}"].fill_null(0)
        parents[column.removeprefix("Parent_")] = whole_numbers(numbers, lines, column)
    return Objects(whole_numbers(frame.drop_in_place("ObjectNumber"), lines, "ObjectNumber"), parents)


def _notes(name: str, header: Header, height: int, site: Site) -> list[str]:
    notes = []
    counted = site.image.counts.get(name)
    if counted is not None and counted != height:
        notes.append(f"Image.csv counts another number of {name}")
    if header.text_columns:
        notes.append(f"{len(header.text_columns)} text columns left out")
    return notes


def _require_complete(site: Site, objects: Mapping[str, Objects], empty: list[str]) -> None:
    """Refuse a file with a header alone, unless there is nothing for it to hold."""
    paths = dict(site.folder.objects)
    for name in empty:
        counted = site.image.counts.get(name)
        others = [other for other, table in objects.items() if len(table.numbers)]
        if counted:
            raise DataError(
                f"{paths[name]}: a header and no rows, but {site.folder.image} counts {counted:,} {name}. "
                f"Hint: the export was interrupted; run it again for this site."
            )
        if others and counted is None:
            raise DataError(
                f"{paths[name]}: a header and no rows, but {paths[others[0]].name} has "
                f"{len(objects[others[0]].numbers):,}. Hint: the export was interrupted; run it again for this site."
            )


def _joined(plan: Plan, objects: Mapping[str, Objects], lines: Mapping[str, Lines]) -> dict[str, Rows]:
    try:
        return join_objects(objects, plan.links)
    except DuplicateObjectError as error:
        first, second = (lines[error.compartment].line(row) for row in error.rows)
        path = lines[error.compartment].path
        raise DataError(
            f"{path}, lines {first:,} and {second:,}: both have {error.column} {error.value} in one image, "
            f"so a cell would be counted twice. Hint: was the file appended to itself, or exported twice?"
        ) from error


def _contradicting(
    plan: Plan, name: str, frames: Mapping[str, pl.DataFrame], objects: Mapping[str, Objects], cells: Mapping[str, Rows]
) -> Iterator[str]:
    """Say how many cells have a parent column that names another object than the cell was joined from."""
    for link in plan.links.told_again:
        column = f"{name}_Parent_{link.parent}"
        if link.child != name or column not in frames[name].columns:
            continue
        said = frames[name][column].fill_null(0).to_numpy()[cells[name]]
        wrong = int(np.count_nonzero(said != objects[link.parent].numbers[cells[link.parent]]))
        if wrong:
            others = [used.child for used in plan.links.up if used.parent == link.parent]
            yield f"{wrong:,} cells: Parent_{link.parent} contradicts that of {others[0]}, which was used"


def _row(plan: Plan, site: Site, path: Path, compartment: str) -> Row:
    return {
        "batch": plan.export.batch,
        "plate": plan.export.plate,
        "well": site.well,
        "site": site.site,
        "table_number": site.table,
        "image_number": site.image.number,
        "file": f"{site.folder.name}/{path.name}",
        "compartment": compartment,
    }


def _image_row(plan: Plan, site: Site, n_cells: int) -> Row:
    assert site.folder.image is not None  # noqa: S101  (discovery refuses folders without Image.csv)
    file = plan.image_files[site.folder.image]
    notes = []
    if not site.folder.objects:
        counted = ", ".join(f"{count:,} {name}" for name, count in site.image.counts.items() if count)
        notes.append("no files of objects" + (f", but Image.csv counts {counted}" if counted else ""))
    elif not n_cells:
        notes.append("no cells")
    if site.well is None:
        notes.append("well not named")
    if site.image.plate is None:
        notes.append(f"plate named by {plan.export.named_by}")
    return _row(plan, site, site.folder.image, "Image") | {
        "rows_read": 1,
        "rows_joined": int(n_cells > 0),
        "orphans": int(n_cells == 0),
        "columns_missing": 0,
        "bytes": file.size,
        "digest": file.digest,
        "note": "; ".join(notes) or None,
    }


def _key_columns(plan: Plan, site: Site, numbers: Rows, schema: pl.Schema) -> list[pl.Series]:
    place: Any = site.site if site.site is None or schema[SITE] == pl.String else int(site.site)
    keys = {
        BATCH: plan.export.batch,
        PLATE: plan.export.plate,
        WELL: site.well,
        SITE: place,
        TABLE_NUMBER: site.table,
        IMAGE_NUMBER: site.image.number,
    }
    constant = [pl.Series(name, [value], dtype=schema[name]) for name, value in keys.items()]
    return [*(column.new_from_index(0, len(numbers)) for column in constant), pl.Series(OBJECT_NUMBER, numbers)]


def _assemble(
    plan: Plan,
    keys: list[pl.Series],
    frames: Mapping[str, pl.DataFrame],
    cells: Mapping[str, Rows],
    schema: pl.Schema,
) -> pl.DataFrame:
    columns = list(keys)
    for name in plan.export.compartments:
        columns += _taken(frames[name], cells[name]).get_columns()
    whole = pl.DataFrame(columns[:1]).hstack(columns[1:])
    if whole.columns == schema.names():
        return whole
    present = set(whole.columns)
    lacking = [
        pl.Series(name, [None], dtype=pl.Float64).new_from_index(0, whole.height)
        for name in plan.features
        if name not in present
    ]
    return whole.hstack(lacking).select(schema.names())


def _taken(frame: pl.DataFrame, rows: Rows) -> pl.DataFrame:
    """Rows of a frame by position; -1 gives nulls. Nothing is copied where every row is taken in its place."""
    if len(rows) == frame.height and np.array_equal(rows, np.arange(frame.height)):
        return frame
    if (rows >= 0).all():
        return frame[rows]
    if not frame.height:
        return frame.clear(len(rows))
    absent = pl.Series(rows < 0)
    return frame[np.maximum(rows, 0)].with_columns(
        [column.set(absent, None) for column in frame[np.maximum(rows, 0)].get_columns()]
    )
