"""The cells of a plate, image by image: parsed side by side, given out in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cytofast import resources
from cytofast.errors import DataError
from cytofast.ingest.ahead import in_order
from cytofast.ingest.assembling import Part, Row, assemble, join_site
from cytofast.ingest.audit import Audit
from cytofast.ingest.cellprofiler import CsvPlan
from cytofast.ingest.csv_text import Header, Layout, Lines, digest, parse_lines, read_bytes, whole_numbers
from cytofast.ingest.joining import Objects
from cytofast.ingest.line_index import LineIndex, index_lines
from cytofast.ingest.plan import Site

_WHOLE_FILE = 64 << 20
"""Files of one image are read whole up to this size; larger ones are scanned first, whatever they claim to hold."""
_COPIES = 6
"""The bytes of an image, its parsed columns in float64, and what the parser and the join need besides."""

TABLE = "TableNumber"
Layouts = Mapping[tuple[str, int], Layout]


def read_sites(plan: CsvPlan, audit: Audit) -> Iterator[pl.DataFrame]:
    """Yield the cells in the order of the plan, one site after the other."""
    threads = max(1, resources.current().threads)
    indexed = dict.fromkeys(
        path for site in plan.sites for _, path in site.folder.objects if not _read_whole(site, path)
    )
    schema = plan.schema
    headers = {
        (name, id(plan.headers[path])): (name, plan.headers[path])
        for folder in plan.export.folders
        for name, path in folder.objects
    }
    wanted = set(plan.features)
    layouts = {
        key: _layout(name, header, wanted, plan.links.parents_of(name)) for key, (name, header) in headers.items()
    }
    with ThreadPoolExecutor(threads) as pool:
        indexes = dict(zip(indexed, pool.map(index_lines, indexed), strict=True))
        for site in plan.sites:
            _check_index(plan, site, indexes)
        largest = max((_bytes_of(site, indexes) for site in plan.sites), default=0)
        workers = max(1, min(threads, resources.current().working_bytes // max(1, _COPIES * largest)))
        jobs = (partial(_read_site, plan, site, indexes, layouts, schema) for site in plan.sites)
        for frame, rows in in_order(jobs, pool, workers):
            audit.add(rows)
            if frame is not None:
                yield frame


def _read_whole(site: Site, path: Path) -> bool:
    return site.alone and path.stat().st_size <= _WHOLE_FILE


def _bytes_of(site: Site, indexes: Mapping[Path, LineIndex]) -> int:
    key = (site.image.table, site.image.number)
    return sum(
        indexes[path].bytes_of(key) if path in indexes else path.stat().st_size for _, path in site.folder.objects
    )


def _check_index(plan: CsvPlan, site: Site, indexes: Mapping[Path, LineIndex]) -> None:
    """Every row of a scanned file must be of an image that ``Image.csv`` knows."""
    for _, path in site.folder.objects:
        if path in indexes and site.folder.image is not None:
            known = {(image.table, image.number) for image in plan.image_files[site.folder].images}
            for key, runs in indexes[path].runs.items():
                if key not in known:
                    raise _stray_image(path, runs[0].line, key[1])


def _stray_image(path: Path, line: int, number: int) -> DataError:
    return DataError(
        f"{path}, line {line:,}: ImageNumber {number} is not in the Image.csv beside it. "
        f"Hint: the files are of different exports; copy the folder again."
    )


def _read_site(
    plan: CsvPlan, site: Site, indexes: Mapping[Path, LineIndex], layouts: Layouts, schema: pl.Schema
) -> tuple[pl.DataFrame | None, list[Row]]:
    parts: dict[str, Part] = {}
    frames: dict[str, pl.DataFrame] = {}
    for name, path in site.folder.objects:
        header = plan.headers[path]
        index = indexes.get(path)
        if index is None:
            data = read_bytes(path)
            lines = Lines(path, data[header.size :])
            size, content, in_file = len(data), digest(data), None
        else:
            lines = index.read((site.image.table, site.image.number))
            size, content, in_file = index.size, index.digest, index.rows
        frame = frames[name] = parse_lines(lines, layouts[name, id(header)])
        objects = _keys(frame, name, lines, site, plan)
        parts[name] = Part(
            path,
            objects,
            str(path),
            partial(_pair, lines),
            size,
            content,
            missing=plan.missing[path],
            empty=(frame.height if in_file is None else in_file) == 0,
            notes=(f"{len(header.text_columns)} text columns left out",) if header.text_columns else (),
        )
    cells, rows = join_site(plan, site, parts)
    primary = plan.links.primary
    if not len(cells.get(primary, ())):
        return None, rows
    numbers = parts[primary].objects.numbers[cells[primary]]
    return assemble(plan, [(site, numbers)], frames, cells, schema), rows


def _pair(lines: Lines, first: int, second: int) -> str:
    return f"{lines.path}, lines {lines.line(first):,} and {lines.line(second):,}"


def _layout(name: str, header: Header, wanted: set[str], parents: Sequence[str]) -> Layout:
    """Say what columns are called in the table of cells, and how they are read; what is in neither is left out."""
    # All as float64: Polars reads one float32 in a thousand with a wrong last bit, float64 exactly. Keys may be written
    # as 3.0, and float64 holds every whole number that CellProfiler counts to.
    keys = {f"Parent_{parent}" for parent in parents}
    read = [column for column in header.features if f"{name}_{column}" in wanted or column in keys]
    types: dict[str, Any] = dict.fromkeys([*read, "ImageNumber", "ObjectNumber"], pl.Float64)
    if TABLE in header.position:
        types[TABLE] = pl.Int64
    return Layout(header, {column: f"{name}_{column}" for column in header.features}, types)


def _keys(frame: pl.DataFrame, name: str, lines: Lines, site: Site, plan: CsvPlan) -> Objects:
    """Take the keys out of a parsed compartment, after making sure that every row is of this image."""
    images = whole_numbers(frame.drop_in_place("ImageNumber"), lines, "ImageNumber")
    stray = images != site.image.number
    if site.image.table is not None:
        stray |= (frame.drop_in_place(TABLE) != site.image.table).fill_null(value=True).to_numpy()
    if stray.any():
        row = int(np.argmax(stray))
        raise _stray_image(lines.path, lines.line(row), int(images[row]))
    parents = {}
    for parent in plan.links.parents_of(name):
        column = f"Parent_{parent}"
        if f"{name}_{column}" in frame.columns:
            # No parent is written as 0, or left empty.
            parents[parent] = whole_numbers(frame[f"{name}_{column}"].fill_null(0), lines, column)
    return Objects(whole_numbers(frame.drop_in_place("ObjectNumber"), lines, "ObjectNumber"), parents)
