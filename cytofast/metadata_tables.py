"""Tables about wells and samples, as people keep them: platemaps, compound lists, plate lists."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path

import polars as pl

from cytofast.errors import DataError, SchemaError, listed
from cytofast.schema import MISSING_TEXT, PLATE, WELL, is_metadata

PLATE_NAMES = (
    "Metadata_Plate",
    "Metadata_Assay_Plate_Barcode",
    "Metadata_plate",
    "Metadata_Plate_Barcode",
    "Metadata_Barcode",
    "Metadata_barcode",
)
WELL_NAMES = (
    "Metadata_Well",
    "Metadata_well_position",
    "Metadata_Well_Position",
    "Metadata_well",
    "Metadata_WellPosition",
)


def prefixed(table: pl.DataFrame) -> pl.DataFrame:
    """Every column with the prefix ``Metadata_``.

    >>> prefixed(pl.DataFrame({"well_position": ["A01"], "Metadata_Plate": ["P"]})).columns
    ['Metadata_well_position', 'Metadata_Plate']
    """
    renamed = {name: name if is_metadata(name) else f"Metadata_{name}" for name in table.columns}
    twice = [name for name in renamed if not is_metadata(name) and renamed[name] in renamed]
    if twice:
        raise SchemaError(
            f"column {listed(twice)} and {listed(renamed[name] for name in twice)} would both be called "
            f"{listed(renamed[name] for name in twice)}. Hint: rename or delete one of them."
        )
    return table.rename(renamed)


def name_plates_and_wells(table: pl.DataFrame, where: str) -> pl.DataFrame:
    """Rename what stands for the plate and the well (``Assay_Plate_Barcode``, ``well_position``) to the usual names."""
    renamed = {}
    for usual, names in ((PLATE, PLATE_NAMES), (WELL, WELL_NAMES)):
        present = [name for name in names if name in table.columns]
        if len(present) > 1 and usual not in present:
            raise SchemaError(f"{where}: {listed(present)} could all be {usual}. Hint: rename one of them to {usual}.")
        if present and usual not in present:
            renamed[present[0]] = usual
    return table.rename(renamed)


def read_metadata_table(path: str | Path) -> pl.DataFrame:
    """Read a table of metadata: csv, tsv, txt (``.gz`` too) or parquet; every column text and prefixed with ``Metadata_``.

    The separator is the one of tab, comma and semicolon that the header has most of. ``NA`` and an empty field are null.
    Blank lines are skipped.

    Raises
    ------
    DataError
        The file is missing, empty, damaged, not UTF-8, names a column twice, or has rows of unequal length.
    SchemaError
        Two columns would have one name with the prefix.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: {'a folder, not a table' if file.is_dir() else 'no such file'}.")
    if file.suffix == ".parquet":
        try:
            table = pl.read_parquet(file)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{file}: not a readable Parquet file ({error})") from error
        return _prefixed_from(table, file)
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error
    table = _table(_text(content, file), file)
    if table.height == 0:
        raise DataError(f"{file}: the table has a header but no rows.")
    return _prefixed_from(table, file)


def _prefixed_from(table: pl.DataFrame, file: Path) -> pl.DataFrame:
    try:
        return prefixed(table)
    except SchemaError as error:
        raise SchemaError(f"{file}: {error}") from error


def _text(content: bytes, file: Path) -> str:
    """Decode strictly: a byte that is guessed at would end up in a column's name or a compound's."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}, line {line:,}: not UTF-8 text (byte 0x{content[error.start]:02x}). Hint: save the file as UTF-8; "
            f"Excel calls it 'CSV UTF-8'."
        ) from error
    if "\0" in text:
        raise DataError(f"{file}: holds NUL bytes. Hint: save the file as UTF-8 text; is it UTF-16, or damaged?")
    return text


def _table(text: str, file: Path) -> pl.DataFrame:
    """Take the lines apart; blank ones are nobody's.

    Polars fills short lines with nulls, so that a table cut off in the middle of a line would pass.
    """
    first = text.split("\n", 1)[0]
    if not first.strip():
        raise DataError(f"{file}: {'the file is empty' if not text.strip() else 'line 1, the header, is blank'}.")
    separator = max("\t,;", key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    try:
        for fields in lines:
            if not fields or (len(fields) == 1 and not fields[0].strip()):
                continue
            if rows and len(fields) != len(rows[0]):
                raise DataError(
                    f"{file}, line {lines.line_num}: {len(fields)} fields, but the header has {len(rows[0])}. "
                    "Hint: was the file cut off, or does a value hold the separator without quotes?"
                )
            rows.append(fields)
    except csv.Error as error:
        raise DataError(f"{file}, line {lines.line_num}: {error}. Hint: is a quote left open?") from error
    names = rows[0]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(f"{file}, line 1: column {listed(twice)} stands more than once. Hint: rename or delete one.")
    values = [[None if value in MISSING_TEXT else value for value in column] for column in zip(*rows[1:], strict=True)]
    return pl.DataFrame(
        dict(zip(names, values or [[]] * len(names), strict=True)), schema=dict.fromkeys(names, pl.String)
    )
