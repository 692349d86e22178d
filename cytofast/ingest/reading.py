"""The cells of a plate, some images at a time: parsed side by side, given out in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cytofast import resources
from cytofast.errors import DataError
from cytofast.ingest.ahead import in_order
from cytofast.ingest.assembling import Part, Row, in_single, join_sites
from cytofast.ingest.audit import Audit
from cytofast.ingest.cellprofiler import CsvPlan
from cytofast.ingest.csv_text import Header, Layout, Lines, digest, parse_together, read_after, whole_numbers
from cytofast.ingest.file_state import state_of
from cytofast.ingest.joining import Objects, Rows
from cytofast.ingest.line_index import LineIndex, index_lines
from cytofast.ingest.plan import Site

_WHOLE_FILE = 64 << 20
"""Files of one image are read whole up to this size; larger ones are scanned first, whatever they claim to hold."""
_COPIES = 4
"""The bytes of some images (those of one compartment twice), its columns in float64, and those of all in float32: numbers
of one digit make the last two three times the bytes."""
_AT_ONCE = 32 << 20
"""Bytes of text to read at once at most: more makes nothing faster."""
_SITES_AT_ONCE = 64
"""Images to read at once at most, so that progress is seen where they are small."""

TABLE = "TableNumber"


@dataclass(frozen=True)
class Columns:
    """How the files of a compartment with one header are read, and which features are wanted of them."""

    layout: Layout
    keys: list[str]
    features: list[str]


@dataclass(frozen=True)
class Reading:
    """What is the same for all images of a plate."""

    plan: CsvPlan
    schema: pl.Schema
    indexes: Mapping[Path, LineIndex]
    columns: Mapping[tuple[str, int], Columns]


def read_sites(plan: CsvPlan, audit: Audit) -> Iterator[pl.DataFrame]:
    """Yield the cells in the order of the plan, some sites after the other."""
    threads = max(1, resources.current().threads)
    indexed = dict.fromkeys(
        path for site in plan.sites for _, path in site.folder.objects if not _read_whole(site, path)
    )
    headers = {
        (name, id(plan.headers[path])): (name, plan.headers[path])
        for folder in plan.export.folders
        for name, path in folder.objects
    }
    wanted = set(plan.features)
    columns = {
        key: _columns(name, header, wanted, plan.links.parents_of(name)) for key, (name, header) in headers.items()
    }
    with ThreadPoolExecutor(threads) as pool:
        indexes = dict(zip(indexed, pool.map(index_lines, indexed), strict=True))
        reading = Reading(plan, plan.schema, indexes, columns)
        for site in plan.sites:
            _check_index(plan, site, indexes)
        working = resources.current().working_bytes
        sizes = [_bytes_of(site, indexes) for site in plan.sites]
        most = min(_AT_ONCE, working // (_COPIES * (threads + 1)))
        workers = max(1, min(threads, working // max(1, _COPIES * max(sizes, default=0))))
        jobs = (partial(_read_sites, reading, sites) for sites in _batches(plan, sizes, most))
        for frame, rows in in_order(jobs, pool, workers):
            audit.add(rows)
            if frame is not None:
                yield frame


def _batches(plan: CsvPlan, sizes: Sequence[int], most: int) -> Iterator[list[Site]]:
    """Neighbouring sites whose files have the same headers, together as many bytes as may be read at once, or one site."""
    waiting: list[Site] = []
    held, same = 0, None
    for site, size in zip(plan.sites, sizes, strict=True):
        kind = [id(plan.headers[path]) for _, path in site.folder.objects] or None
        if waiting and (held + size > most or len(waiting) == _SITES_AT_ONCE or (kind and same and kind != same)):
            yield waiting
            waiting, held, same = [], 0, None
        waiting.append(site)
        held += size
        same = same or kind
    if waiting:
        yield waiting


def _read_whole(site: Site, path: Path) -> bool:
    return site.alone and state_of(path).size <= _WHOLE_FILE


def _bytes_of(site: Site, indexes: Mapping[Path, LineIndex]) -> int:
    key = (site.image.table, site.image.number)
    return sum(
        indexes[path].bytes_of(key) if path in indexes else state_of(path).size for _, path in site.folder.objects
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


def _read_sites(reading: Reading, sites: Sequence[Site]) -> tuple[pl.DataFrame | None, list[Row]]:
    try:
        return _read_together(reading, sites)
    except DataError:
        if len(sites) == 1:
            raise
    # Of several faults the first in the order of the plan is told, however many images are read at once.
    each = [_read_together(reading, [site]) for site in sites]
    frames = [frame for frame, _ in each if frame is not None]
    return pl.concat(frames) if frames else None, [row for _, rows in each for row in rows]


def _read_together(reading: Reading, sites: Sequence[Site]) -> tuple[pl.DataFrame | None, list[Row]]:
    parts: list[dict[str, Part]] = [{} for _ in sites]
    places: list[dict[str, Rows]] = [{} for _ in sites]
    features: dict[str, pl.DataFrame] = {}
    numbers = [number for number, site in enumerate(sites) if site.folder.objects]
    for position, (name, _) in enumerate(sites[numbers[0]].folder.objects if numbers else ()):
        files = [_File(reading, sites[number], sites[number].folder.objects[position][1]) for number in numbers]
        columns = reading.columns[name, id(reading.plan.headers[files[0].path])]
        frame, counts = parse_together((file.read() for file in files), columns.layout)
        keys = frame[columns.keys]
        features[name] = in_single(frame, columns.features)
        del frame
        starts = accumulate(counts, initial=0)
        for number, file, start, count in zip(numbers, files, starts, counts, strict=False):
            parts[number][name] = file.part(
                _objects(keys.slice(start, count), name, file.lines, file.site, reading.plan)
            )
            places[number][name] = np.arange(start, start + count)
    return join_sites(reading.plan, sites, parts, places, features, reading.schema)


class _File:
    """The lines of one image in one file, and what is known of the file."""

    def __init__(self, reading: Reading, site: Site, path: Path) -> None:
        self.site, self.path = site, path
        self._header, self._missing = reading.plan.headers[path], reading.plan.missing[path]
        self._index = reading.indexes.get(path)
        self._size, self._digest = (0, "") if self._index is None else (self._index.size, self._index.digest)
        self.lines = Lines(path, b"")
        """Where they stand, without their text."""

    def read(self) -> Lines:
        """The lines with their text."""
        if self._index is not None:
            lines = self._index.read((self.site.image.table, self.site.image.number))
        else:
            first, rest = read_after(self.path, self._header.size)
            self._size, self._digest = len(first) + len(rest), digest(first, rest)
            lines = Lines(self.path, rest)
        self.lines = replace(lines, data=b"")
        return lines

    def part(self, objects: Objects) -> Part:
        """What was read, but for the features."""
        columns = len(self._header.text_columns)
        return Part(
            self.path,
            objects,
            str(self.path),
            partial(_pair, self.lines),
            self._size,
            self._digest,
            missing=self._missing,
            empty=(len(objects.numbers) if self._index is None else self._index.rows) == 0,
            notes=(f"{columns} text columns left out",) if columns else (),
        )


def _pair(lines: Lines, first: int, second: int) -> str:
    return f"{lines.path}, lines {lines.line(first):,} and {lines.line(second):,}"


def _columns(name: str, header: Header, wanted: set[str], parents: Sequence[str]) -> Columns:
    """Say what columns are called in the table of cells, and how they are read; what is in neither is left out."""
    # All as float64: Polars reads one float32 in a thousand with a wrong last bit, float64 exactly. Keys may be written
    # as 3.0, and float64 holds every whole number that CellProfiler counts to.
    named = {column: f"{name}_{column}" for column in header.features}
    of_parents = [f"Parent_{parent}" for parent in parents if f"Parent_{parent}" in named]
    features = [column for column in header.features if named[column] in wanted]
    own = ["ImageNumber", "ObjectNumber"]
    types: dict[str, Any] = dict.fromkeys([*features, *of_parents, *own], pl.Float64)
    if TABLE in header.position:
        types[TABLE] = pl.Int64
        own.append(TABLE)
    keys = [*own, *(named[column] for column in of_parents)]
    return Columns(Layout(header, named, types), keys, [named[column] for column in features])


def _objects(keys: pl.DataFrame, name: str, lines: Lines, site: Site, plan: CsvPlan) -> Objects:
    """The keys of a compartment in an image, after making sure that every row is of this image."""
    images = whole_numbers(keys["ImageNumber"], lines, "ImageNumber")
    stray = images != site.image.number
    if site.image.table is not None:
        stray |= (keys[TABLE] != site.image.table).fill_null(value=True).to_numpy()
    if stray.any():
        row = int(np.argmax(stray))
        raise _stray_image(lines.path, lines.line(row), int(images[row]))
    parents = {}
    for parent in plan.links.parents_of(name):
        column = f"Parent_{parent}"
        if f"{name}_{column}" in keys.columns:
            # No parent is written as 0, or left empty.
            parents[parent] = whole_numbers(keys[f"{name}_{column}"].fill_null(0), lines, column)
    return Objects(whole_numbers(keys["ObjectNumber"], lines, "ObjectNumber"), parents)
