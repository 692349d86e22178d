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
    return table.rename({name: name if is_metadata(name) else f"Metadata_{name}" for name in table.columns})


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

    Raises
    ------
    DataError
        The file is missing, empty, damaged, or has rows of unequal length.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: {'a folder, not a table' if file.is_dir() else 'no such file'}.")
    if file.suffix == ".parquet":
        try:
            return prefixed(pl.read_parquet(file))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{file}: not a readable Parquet file ({error})") from error
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error
    header = content.split(b"\n", 1)[0]
    if not header.strip():
        raise DataError(f"{file}: the file is empty.")
    separator = max(b"\t,;", key=lambda mark: header.count(bytes([mark])))
    _require_whole_lines(content, chr(separator), file)
    try:
        table = pl.read_csv(content, separator=chr(separator), infer_schema=False, null_values=list(MISSING_TEXT))
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not a readable table: {str(error).splitlines()[0]}.") from error
    if table.height == 0:
        raise DataError(f"{file}: the table has a header but no rows.")
    return prefixed(table)


def _require_whole_lines(content: bytes, separator: str, file: Path) -> None:
    """Raise a :class:`DataError` at the first line with another number of fields than the header.

    Polars fills short lines with nulls, so that a table cut off in the middle of a line would pass.
    """
    lines = csv.reader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""), delimiter=separator)
    expected = 0
    for fields in lines:
        expected = expected or len(fields)
        if fields and len(fields) != expected:
            raise DataError(
                f"{file}, line {lines.line_num}: {len(fields)} fields, but the header has {expected}. "
                "Hint: was the file cut off, or does a value hold the separator without quotes?"
            )
