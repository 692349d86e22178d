"""``Image.csv``: which images an export holds, and of which plate, well and site they are."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl

from cytofast.errors import DataError, SchemaError
from cytofast.ingest.csv_text import digest, is_number, read_bytes, read_text_columns, require_text_columns
from cytofast.ingest.file_state import FileState, state_of
from cytofast.schema import normalize_wells

PLATE_COLUMNS = ("Metadata_Plate", "Image_Metadata_Plate", "Metadata_Barcode")
WELL_COLUMNS = ("Metadata_Well", "Image_Metadata_Well")
SITE_COLUMNS = ("Metadata_Site", "Image_Metadata_Site")
BATCH_COLUMNS = ("Metadata_Batch", "Image_Metadata_Batch")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_KEPT = 1 << 16
"""Files that are asked for several times: at discovery, for the plan, and again for each plate that they tell of."""

Texts = Mapping[str, Sequence[str | None]]
"""Columns by their names."""


@dataclass(frozen=True)
class Image:
    """One row of ``Image.csv``; ``None`` where it does not say."""

    number: int
    table: int | None
    batch: str | None
    plate: str | None
    well: str | None
    site: str | None
    counts: Mapping[str, int]
    """How many objects CellProfiler counted, by name of the object."""


@dataclass(frozen=True)
class ImageFile:
    """What an ``Image.csv`` says, and its content's digest."""

    images: tuple[Image, ...]
    digest: str
    size: int
    has_table: bool


def read_images(path: Path, compartments: tuple[str, ...]) -> ImageFile:
    """Read the columns of ``Image.csv`` that name images.

    Raises
    ------
    DataError
        The file is damaged, has no row, an image stands twice, or a well's name is none.
    """
    return _read_images(path, compartments, state_of(path))


@lru_cache(maxsize=_KEPT)
def _read_images(path: Path, compartments: tuple[str, ...], _state: FileState) -> ImageFile:
    data = read_bytes(path)
    header, table = read_text_columns(path, data, image_columns(compartments))
    require_text_columns(header, ["ImageNumber"], path)
    images = images_of(table, compartments, str(path))
    return ImageFile(images, digest(data), len(data), "TableNumber" in table)


def image_columns(compartments: tuple[str, ...]) -> list[str]:
    """The columns that name images."""
    counts = [f"Count_{name}" for name in compartments]
    named = [*PLATE_COLUMNS, *WELL_COLUMNS, *SITE_COLUMNS, *BATCH_COLUMNS]
    return ["ImageNumber", "TableNumber", *named, *counts]


def images_of(table: Texts, compartments: tuple[str, ...], where: str) -> tuple[Image, ...]:
    """Images from columns of text, some of :func:`image_columns`."""
    height = len(next(iter(table.values()), ()))
    if not height:
        raise DataError(
            f"{where}: a header and no rows, so nobody knows the image's plate and well. "
            f"Hint: export this site again, or take its folder out of the source."
        )
    wells = _wells(_first(table, WELL_COLUMNS, height), where)
    numbers = _integers(table, "ImageNumber", where)
    tables = _tables(table, where)
    if len(set(zip(tables, numbers, strict=True))) < len(numbers):
        repeated = next(number for number in numbers if numbers.count(number) > 1)
        raise DataError(
            f"{where}: ImageNumber {repeated} stands more than once. Hint: two exports were put into one file; "
            f"keep them in folders of their own."
        )
    found = {name: _counts(table, f"Count_{name}") for name in compartments if f"Count_{name}" in table}
    images = zip(
        numbers,
        tables,
        _first(table, BATCH_COLUMNS, height),
        _first(table, PLATE_COLUMNS, height),
        wells,
        [_plain_number(site) for site in _first(table, SITE_COLUMNS, height)],
        [_row_of(found, row) for row in range(height)],
        strict=True,
    )
    return tuple(Image(*image) for image in images)


def _first(table: Texts, names: tuple[str, ...], height: int) -> Sequence[str | None]:
    """Take the first of some columns that is there; empty text is missing."""
    for name in names:
        if name in table:
            return [(text or "").strip() or None for text in table[name]]
    return [None] * height


def _wells(names: Sequence[str | None], where: str) -> Sequence[str | None]:
    # A call for each of a hundred thousand files would cost more than reading them.
    try:
        return [None if name is None else _well(name) for name in names]
    except SchemaError as error:
        raise DataError(f"{where}: {error}") from error


@lru_cache(maxsize=_KEPT)
def _well(name: str) -> str:
    return str(normalize_wells(pl.Series("Metadata_Well", [name])).item())


def _plain_number(text: str | None) -> str | None:
    """``1``, ``01`` and ``1.0`` are one site."""
    if text is None:
        return None
    whole = text.removesuffix(".0")
    return str(int(whole)) if is_number(whole) else text


def _integers(table: Texts, column: str, where: str) -> list[int]:
    found: list[int] = []
    for row, text in enumerate(table[column]):
        plain = (text or "").strip().removesuffix(".0")
        if not is_number(plain.removeprefix("-")):
            raise DataError(
                f"{where}, row {row + 1:,} after the header, column {column!r}: {(text or '')[:40]!r} is no whole number"
            )
        found.append(int(plain))
    return found


def _tables(table: Texts, where: str) -> Sequence[int | None]:
    """Numbers of exports; cytominer-database may write them as digests."""
    if "TableNumber" not in table:
        return [None] * len(table["ImageNumber"])
    digests = [text for text in table["TableNumber"] if text is not None and _DIGEST.fullmatch(text)]
    if len(digests) < len(table["TableNumber"]):
        return _integers(table, "TableNumber", where)
    return [table_number(text) for text in digests]


def table_number(text: str) -> int:
    """A number for the export of this name: itself if it is one, else of its digest.

    >>> table_number("42"), table_number("88ac13033d9baf49fda78c3458bef89e") == table_number("42")
    (42, False)
    """
    plain = text.strip().removesuffix(".0")
    if is_number(plain):
        return int(plain)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _row_of(counts: Mapping[str, list[int | None]], row: int) -> dict[str, int]:
    return {name: count for name, counted in counts.items() if (count := counted[row]) is not None}


def _counts(table: Texts, column: str) -> list[int | None]:
    return [_count(text) for text in table[column]]


def _count(text: str | None) -> int | None:
    """A count, also if it is written as 3.0; one that is none says nothing."""
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return round(number) if math.isfinite(number) else None
