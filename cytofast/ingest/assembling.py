"""From the compartments of one image to its cells: the join, its audit, and one row a cell.

Readers of every format of CellProfiler give :class:`Part` objects; what becomes of a row is decided here alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.errors import DataError
from cytofast.ingest.joining import DuplicateObjectError, Objects, Rows, join_objects
from cytofast.ingest.plan import Plan, Site
from cytofast.schema import BATCH, IMAGE_NUMBER, OBJECT_NUMBER, PLATE, SITE, TABLE_NUMBER, WELL

Row = dict[str, Any]

_SLAB = 256
"""Columns that are looked at together."""


@dataclass(frozen=True)
class Part:
    """What was read of one compartment in one image, but for its features."""

    path: Path
    objects: Objects
    whole: str
    """What the compartment is called for a reader: ``.../Cells.csv``, or a table of a database."""
    pair: Callable[[int, int], str]
    """Where two rows stand, for an error message."""
    size: int
    digest: str
    missing: int = 0
    empty: bool = False
    """Whether not only this image but the whole file has no row."""
    notes: tuple[str, ...] = field(default=())


def join_site(plan: Plan, site: Site, parts: Mapping[str, Part]) -> tuple[dict[str, Rows], list[Row]]:
    """Join the compartments of an image: which rows of each make up its cells, and the rows of the audit."""
    _require_complete(site, parts)
    cells, aside = _joined(plan, parts) if parts else ({}, {})
    rows: list[Row] = []
    for name, part in parts.items():
        joined = int(np.count_nonzero(cells[name] >= 0))
        read = len(part.objects.numbers)
        later = [f"{aside[name]:,} rows of an object or parent that came before, set aside"] if name in aside else []
        notes = [*_counted(plan, name, read, site), *part.notes, *later, *_contradicting(plan, name, parts, cells)]
        rows.append(
            _row(plan, site, part.path, name)
            | {"rows_read": read, "rows_joined": joined, "orphans": read - joined, "columns_missing": part.missing}
            | {"bytes": part.size, "digest": part.digest, "note": "; ".join(notes) or None}
        )
    rows.insert(0, _image_row(plan, site, len(next(iter(cells.values()), ()))))
    return cells, rows


def join_sites(
    plan: Plan,
    sites: Sequence[Site],
    parts: Sequence[Mapping[str, Part]],
    places: Sequence[Mapping[str, Rows]],
    features: Mapping[str, pl.DataFrame],
    schema: pl.Schema,
) -> tuple[pl.DataFrame | None, list[Row]]:
    """Make the cells of some images that were read together, and the rows of the audit.

    Parameters
    ----------
    parts
        The compartments of each image; none where it has no objects.
    places
        Which rows of ``features`` are the image's, by compartment.
    features
        Of each compartment in ``float32``, all images, under the names that they have in the table of cells.
    """
    rows: list[Row] = []
    found: list[tuple[Site, Rows]] = []
    cells: dict[str, list[Rows]] = {name: [] for name in features}
    infinite = {name: _infinite(frame) for name, frame in features.items()}
    for site, read, place in zip(sites, parts, places, strict=True):
        of_site = {name: _told_of(part, infinite.get(name), place[name]) for name, part in read.items()}
        joined, told = join_site(plan, site, of_site)
        rows += told
        numbers = joined.get(plan.links.primary, ())
        if len(numbers):
            found.append((site, of_site[plan.links.primary].objects.numbers[numbers]))
            for name, at in joined.items():
                cells[name].append(_at(place[name], at))
    if not found:
        return None, rows
    return _assembled(plan, found, features, {name: np.concatenate(at) for name, at in cells.items()}, schema), rows


def in_single(frame: pl.DataFrame, features: list[str]) -> pl.DataFrame:
    """Some columns in ``float32``, each in one piece."""
    # Column by column: as expressions, planning thousands of them costs more than the work.
    columns = [column.cast(pl.Float32) for column in frame[:, features].rechunk().get_columns()]
    return pl.DataFrame(columns[:1]).hstack(columns[1:])


def _infinite(features: pl.DataFrame) -> NDArray[np.int64] | None:
    """How many values of each row are infinite; ``None`` where none is."""
    counts: NDArray[np.int64] | None = None
    # Many columns at once: asking each of thousands takes as long as reading them.
    for first in range(0, features.width, _SLAB):
        there = np.isinf(features[:, first : first + _SLAB].to_numpy())
        if there.any():
            counts = np.zeros(features.height, dtype=np.int64) if counts is None else counts
            counts += np.count_nonzero(there, axis=1)
    return counts


def _told_of(part: Part, infinite: NDArray[np.int64] | None, rows: Rows) -> Part:
    """A part with a note of its infinite values, where it has some."""
    count = 0 if infinite is None else int(infinite[rows].sum())
    if not count:
        return part
    return replace(part, notes=(*part.notes, f"{count:,} values are infinite, or too large for float32"))


def _at(place: Rows, rows: Rows) -> Rows:
    """Rows of an image as rows of the frame that it lies in; -1 stays -1."""
    return np.where(rows >= 0, place[np.maximum(rows, 0)], -1) if len(place) else rows


def _assembled(
    plan: Plan,
    sites: Sequence[tuple[Site, Rows]],
    features: Mapping[str, pl.DataFrame],
    cells: Mapping[str, Rows],
    schema: pl.Schema,
) -> pl.DataFrame:
    """Put keys and features side by side; ``cells`` are rows of each frame, all images after one another."""
    columns = _key_columns(plan, sites, schema)
    for name in plan.export.compartments:
        columns += _taken(features[name], cells[name])
    whole = pl.DataFrame(columns[:1]).hstack(columns[1:])
    if whole.columns == schema.names():
        return whole
    present = set(whole.columns)
    none = pl.Series([None], dtype=pl.Float32).new_from_index(0, whole.height)
    lacking = [none.alias(name) for name in plan.features if name not in present]
    return whole.hstack(lacking)[schema.names()]


def _counted(plan: Plan, name: str, height: int, site: Site) -> list[str]:
    counted = site.image.counts.get(name)
    if counted is not None and counted != height:
        if plan.export.choice.strict and counted > height:
            raise DataError(
                f"{site.folder.images_at} counts {counted:,} {name} in image {site.image.number}, but there are {height:,}. "
                "Hint: was the export interrupted? Without strict this is only noted in the audit."
            )
        return [f"{site.folder.images_are} counts another number of {name}"]
    return []


def _require_complete(site: Site, parts: Mapping[str, Part]) -> None:
    """Refuse a file with a header alone, unless there is nothing for it to hold."""
    for name, part in parts.items():
        if not part.empty:
            continue
        counted = site.image.counts.get(name)
        others = [other for other in parts.values() if len(other.objects.numbers)]
        if counted:
            raise DataError(
                f"{part.whole}: a header and no rows, but {site.folder.images_at} counts {counted:,} {name}. "
                f"Hint: the export was interrupted; run it again for this site."
            )
        if others and counted is None:
            raise DataError(
                f"{part.whole}: a header and no rows, but {Path(others[0].whole).name} has "
                f"{len(others[0].objects.numbers):,}. Hint: the export was interrupted; run it again for this site."
            )


def _joined(plan: Plan, parts: Mapping[str, Part]) -> tuple[dict[str, Rows], dict[str, int]]:
    try:
        return join_objects(
            {name: part.objects for name, part in parts.items()}, plan.links, plan.export.choice.duplicates
        )
    except DuplicateObjectError as error:
        part = parts[error.compartment]
        raise DataError(
            f"{part.pair(*error.rows)}: both have {error.column} {error.value} in one image, "
            f"so a cell would be counted twice. Hint: was the file appended to itself, or exported twice? "
            "To keep the first row and count the others, ingest with duplicates='first' (--duplicates first)."
        ) from error


def _contradicting(plan: Plan, name: str, parts: Mapping[str, Part], cells: Mapping[str, Rows]) -> Iterator[str]:
    """Say how many cells have a parent column that names another object than the cell was joined from."""
    for link in plan.links.told_again:
        if link.child != name or link.parent not in parts[name].objects.parents:
            continue
        said = parts[name].objects.parents[link.parent][cells[name]]
        wrong = int(np.count_nonzero(said != parts[link.parent].objects.numbers[cells[link.parent]]))
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
        "file": site.folder.label(path),
        "compartment": compartment,
    }


def _image_row(plan: Plan, site: Site, n_cells: int) -> Row:
    assert site.folder.image is not None  # noqa: S101  (discovery refuses folders without Image.csv)
    file = plan.image_files[site.folder]
    notes = []
    if not site.folder.objects:
        counted = ", ".join(f"{count:,} {name}" for name, count in site.image.counts.items() if count)
        notes.append("no files of objects" + (f", but {site.folder.images_are} counts {counted}" if counted else ""))
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


def _key_columns(plan: Plan, sites: Sequence[tuple[Site, Rows]], schema: pl.Schema) -> list[pl.Series]:
    counts = [len(numbers) for _, numbers in sites]
    height = sum(counts)
    of_plate = [
        pl.Series(name, [value], dtype=pl.String)
        for name, value in ((BATCH, plan.export.batch), (PLATE, plan.export.plate))
    ]
    text = schema[SITE] == pl.String
    of_image: dict[str, list[Any]] = {
        WELL: [site.well for site, _ in sites],
        SITE: [site.site if site.site is None or text else int(site.site) for site, _ in sites],
        TABLE_NUMBER: [site.table for site, _ in sites],
        IMAGE_NUMBER: [site.image.number for site, _ in sites],
    }
    at = np.repeat(np.arange(len(sites)), counts)
    return [
        *(column.new_from_index(0, height) for column in of_plate),
        *(pl.Series(name, values, dtype=schema[name]).gather(at) for name, values in of_image.items()),
        pl.Series(OBJECT_NUMBER, np.concatenate([numbers for _, numbers in sites])),
    ]


def _taken(frame: pl.DataFrame, rows: Rows) -> list[pl.Series]:
    """Rows of a frame by position; -1 gives nulls. Nothing is copied where every row is taken in its place."""
    if not frame.width or (len(rows) == frame.height and np.array_equal(rows, np.arange(frame.height))):
        return frame.get_columns()
    if (rows >= 0).all():
        return frame[rows].get_columns()
    if not frame.height:
        return frame.clear(len(rows)).get_columns()
    absent = pl.Series(rows < 0)
    return [column.set(absent, None) for column in frame[np.maximum(rows, 0)].get_columns()]
