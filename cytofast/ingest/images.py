"""``Image.csv``: which images an export holds, and of which plate, well and site they are."""

from __future__ import annotations

import hashlib
import math
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
_DIGEST = r"^[0-9a-f]{32}$"


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


@lru_cache(maxsize=4096)
def _read_images(path: Path, compartments: tuple[str, ...], _state: FileState) -> ImageFile:
    data = read_bytes(path)
    header, table = read_text_columns(path, data, image_columns(compartments))
    require_text_columns(header, ["ImageNumber"], path)
    images = images_of(table, compartments, str(path))
    return ImageFile(images, digest(data), len(data), "TableNumber" in table.columns)


def image_columns(compartments: tuple[str, ...]) -> list[str]:
    """The columns that name images."""
    counts = [f"Count_{name}" for name in compartments]
    named = [*PLATE_COLUMNS, *WELL_COLUMNS, *SITE_COLUMNS, *BATCH_COLUMNS]
    return ["ImageNumber", "TableNumber", *named, *counts]


def images_of(table: pl.DataFrame, compartments: tuple[str, ...], where: str) -> tuple[Image, ...]:
    """Images from a table of text with some of :func:`image_columns`."""
    if not table.height:
        raise DataError(
            f"{where}: a header and no rows, so nobody knows the image's plate and well. "
            f"Hint: export this site again, or take its folder out of the source."
        )
    well = _first(table, WELL_COLUMNS)
    try:
        wells = normalize_wells(well.alias("Metadata_Well")).to_list()
    except SchemaError as error:
        raise DataError(f"{where}: {error}") from error
    numbers = _integers(table, "ImageNumber", where)
    tables = _tables(table, where)
    if len(set(zip(tables, numbers, strict=True))) < len(numbers):
        repeated = next(number for number in numbers if numbers.count(number) > 1)
        raise DataError(
            f"{where}: ImageNumber {repeated} stands more than once. Hint: two exports were put into one file; "
            f"keep them in folders of their own."
        )
    found = {name: _counts(table, f"Count_{name}") for name in compartments if f"Count_{name}" in table.columns}
    images = zip(
        numbers,
        tables,
        _first(table, BATCH_COLUMNS).to_list(),
        _first(table, PLATE_COLUMNS).to_list(),
        wells,
        [_plain_number(site) for site in _first(table, SITE_COLUMNS).to_list()],
        [_row_of(found, row) for row in range(table.height)],
        strict=True,
    )
    return tuple(Image(*image) for image in images)


def _first(table: pl.DataFrame, names: tuple[str, ...]) -> pl.Series:
    """Take the first of some columns that is there; empty text is missing."""
    for name in names:
        if name in table.columns:
            stripped = table[name].str.strip_chars()
            return stripped.set(stripped == "", None)
    return pl.Series(names[0], [None] * table.height, dtype=pl.String)


def _plain_number(text: str | None) -> str | None:
    """``1``, ``01`` and ``1.0`` are one site."""
    if text is None:
        return None
    whole = text.removesuffix(".0")
    return str(int(whole)) if is_number(whole) else text


def _integers(table: pl.DataFrame, column: str, where: str) -> list[int]:
    found: list[int] = []
    for row, text in enumerate(table[column].to_list()):
        plain = (text or "").strip().removesuffix(".0")
        if not is_number(plain.removeprefix("-")):
            raise DataError(
                f"{where}, row {row + 1:,} after the header, column {column!r}: {(text or '')[:40]!r} is no whole number"
            )
        found.append(int(plain))
    return found


def _tables(table: pl.DataFrame, where: str) -> Sequence[int | None]:
    """Numbers of exports; cytominer-database may write them as digests."""
    if "TableNumber" not in table.columns:
        return [None] * table.height
    hexadecimal = table["TableNumber"].str.contains(_DIGEST).fill_null(value=False)
    if not hexadecimal.all():
        return _integers(table, "TableNumber", where)
    return [table_number(text) for text in table["TableNumber"].to_list()]


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


def _counts(table: pl.DataFrame, column: str) -> list[int | None]:
    numbers = table[column].cast(pl.Float64, strict=False)
    return [round(number) if number is not None and math.isfinite(number) else None for number in numbers.to_list()]
