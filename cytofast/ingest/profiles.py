"""Profiles in files: Parquet, CSV and TSV, plain or gzipped, read with their types and written whole or not at all."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import polars as pl

from cytofast.blocks import require_polars, row_chunks
from cytofast.errors import DataError, RecipeError, SchemaError, StoreError, listed
from cytofast.ingest.csv_text import Lines, check_lines, parse_header, read_bytes
from cytofast.parquet import ProfileWriter
from cytofast.schema import LEVELS, MISSING_TEXT, PLATE, WELL, is_metadata, require_columns

_SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t", ".txt": "\t", ".txt.gz": "\t"}
_FEATURE = re.compile(r"(?!Metadata_|Image_)([A-Z][A-Za-z0-9]*)_.+", re.DOTALL)
_COMPARTMENTS = {"Cells", "Cytoplasm", "Nuclei"}
_BLOCK = 1 << 20
_FLOAT_FORMAT = re.compile(r"%[-+ 0#]*[0-9]*(\.[0-9]+)?[eEfFgG]")


def _separator(path: Path) -> str | None:
    """Tell how fields are separated; ``None`` is Parquet."""
    name = path.name.lower()
    if name.endswith((".parquet", ".pq")):
        return None
    for ending, separator in _SEPARATORS.items():
        if name.endswith(ending):
            return separator
    raise RecipeError(f"{path}: what kind of file? Hint: the name must end in .parquet, {', '.join(_SEPARATORS)}.")


def read_profiles(path: str | Path, *, level: str | None = None) -> pl.LazyFrame:
    """Read a table of profiles, of any level, as a lazy frame.

    Parquet is read only as far as the query needs. CSV and TSV (``.gz`` too) are read at once: plates and wells stay
    text (``1086293911`` is a name), other metadata gets the type that all of its rows have, features become numbers,
    and what stands for "missing" (``NA``, ``nan``, nothing) becomes null.

    Parameters
    ----------
    path
        The file; its name's ending says what it is.
    level
        Check that the table has the keys of this level: cells, wells, profiles.

    Raises
    ------
    DataError
        The file is missing, empty, damaged or cut off, has a header alone, or text in a feature column.

    Examples
    --------
    >>> import tempfile
    >>> wells = pl.DataFrame({"Metadata_Plate": ["0042"], "Metadata_Well": ["A01"], "Cells_AreaShape_Area": [1.5]})
    >>> file = Path(tempfile.mkdtemp()) / "wells.csv.gz"
    >>> write_profiles(wells, file)
    1
    >>> read_profiles(file).collect().row(0)
    ('0042', 'A01', 1.5)
    """
    file = Path(path)
    if file.is_dir():
        raise DataError(f"{file}: a folder, not a table. Hint: give one file, or open a store with open_store.")
    if not file.is_file():
        raise DataError(f"{file}: no such file.")
    separator = _separator(file)
    if file.stat().st_size == 0:
        raise DataError(f"{file}: the file is empty (0 bytes). Hint: whatever made it was interrupted; make it again.")
    profiles = _scan(file) if separator is None else _read_text(file, separator).lazy()
    if level is not None:
        if level not in LEVELS:
            raise RecipeError.unknown("level", level, LEVELS)
        require_columns(profiles.collect_schema(), LEVELS[level], str(file))
    return profiles


def _scan(path: Path) -> pl.LazyFrame:
    try:
        profiles = pl.scan_parquet(path, hive_partitioning=False)
        rows = profiles.select(pl.len()).collect().item()
        profiles.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{path}: not a readable Parquet file ({_first_line(error)}). Hint: was it copied whole?"
        ) from error
    if rows == 0:
        raise DataError(f"{path}: the table has columns but no rows.")
    return profiles


def _read_text(path: Path, separator: str) -> pl.DataFrame:
    data = read_bytes(path)
    if path.name.lower().endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path}: the gzip file is damaged or cut off ({error}). Hint: copy or make it again."
            ) from error
    first = data[: data.find(b"\n") + 1 or len(data)]
    header = parse_header(first, path, separator)
    _require_separator(first, separator, path)
    lines = Lines(path, data[header.size :])
    if not lines.data.strip():
        raise DataError(f"{path}: a header but no rows.")
    check_lines(lines, len(header.names), separator)
    names = [name for name in (PLATE, WELL) if name in header.position]
    table = _parse(data, separator, names, path)
    # Whole numbers beyond 64 bits are names, as barcodes are; Parquet cannot hold integers so wide.
    wide = [n for n, dtype in table.schema.items() if dtype == pl.Int128 and not _FEATURE.fullmatch(n)]
    if wide:
        table = _parse(data, separator, [*names, *wide], path)
    return _with_numbers(table, lines)


def _parse(data: bytes, separator: str, text: list[str], path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(
            data,
            separator=separator,
            null_values=list(MISSING_TEXT),
            infer_schema_length=None,
            schema_overrides=dict.fromkeys(text, pl.String),
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: not a readable table ({_first_line(error)}).") from error


def _require_separator(header: bytes, separator: str, path: Path) -> None:
    """A file whose fields are separated by something else than its name says would be a table of one odd column."""
    names = {",": "commas", "\t": "tabs", ";": "semicolons"}
    most = max([separator, *names], key=lambda mark: header.count(mark.encode()))
    if most != separator:
        raise DataError(
            f"{path}, line 1: separated by {names[most]}, but a file of this name by {names[separator]}. Hint: "
            + ("save it again with commas." if most == ";" else f"call it {'.tsv' if most == chr(9) else '.csv'}.")
        )


def _with_numbers(table: pl.DataFrame, lines: Lines) -> pl.DataFrame:
    """Make features floats; text in one is an error, unless nothing that is named alike is a number."""
    groups = {name: match[1] for name in table.columns if (match := _FEATURE.fullmatch(name))}
    numeric = _COMPARTMENTS | {group for name, group in groups.items() if table.schema[name].is_numeric()}
    changed = []
    for name, group in groups.items():
        column = table[name]
        if group not in numeric or column.dtype.is_float():
            continue
        numbers = column.cast(pl.Float64, strict=False)
        wrong = column.is_not_null() & numbers.is_null()
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise DataError(
                f"{lines.at(row)}, column {name!r}: {column[row]!r} is not a number. "
                f"Hint: features must be numbers; text belongs into a column Metadata_..."
            )
        changed.append(numbers)
    return table.with_columns(changed) if changed else table


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def write_profiles(profiles: pl.DataFrame | pl.LazyFrame, path: str | Path, *, float_format: str | None = None) -> int:
    """Write profiles, and give back how many rows they had; the file appears when it is complete.

    A lazy frame is written piece by piece, never collected. The same profiles make the same bytes: gzip files carry no
    time. Missing features are null in Parquet and empty in CSV.

    Parameters
    ----------
    profiles
        Any table.
    path
        Where to; the name's ending (``.parquet``, ``.csv``, ``.csv.gz``, ``.tsv``, ...) says what to write.
    float_format
        For CSV and TSV, such as ``"%.5g"``. ``None`` writes as many digits as are needed to read the same number.

    Raises
    ------
    StoreError
        The file cannot be written; what was there before stays.
    RecipeError
        The name's ending is not known, or ``float_format`` is not of the form ``"%.5g"``.
    SchemaError
        A column is of a type that the file cannot hold, or this is no frame of Polars.
    """
    file = Path(path)
    require_polars(profiles, "write_profiles")
    separator = _separator(file)
    if file.is_dir():
        raise StoreError(f"{file}: a folder. Hint: give a file name.")
    if separator is not None:
        return _write_text(profiles, file, separator, float_format)
    if float_format is not None:
        raise RecipeError(f"{file}: Parquet holds numbers, not text; float_format={float_format!r} is for CSV")
    wide = [n for n, dtype in profiles.collect_schema().items() if dtype in (pl.Int128, pl.UInt128, pl.Object)]
    if wide:
        raise SchemaError(
            f"{file}: {listed(wide)} hold {profiles.collect_schema()[wide[0]]}, which Parquet cannot. "
            "Hint: cast them, for example to text."
        )
    with ProfileWriter(file) as writer:
        for frame in _frames(profiles):
            writer.write(frame)
    return writer.rows


def _frames(profiles: pl.DataFrame | pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield the rows, at least one frame even where there are none."""
    empty = True
    for frame in row_chunks(profiles):
        empty = False
        yield frame
    if empty:
        yield pl.DataFrame(schema=profiles.collect_schema())


def _write_text(profiles: pl.DataFrame | pl.LazyFrame, path: Path, separator: str, float_format: str | None) -> int:
    if float_format is not None and not _FLOAT_FORMAT.fullmatch(float_format):
        raise RecipeError(f"float_format={float_format!r} is no format of numbers; write for example '%.5g' or '%.3f'")
    schema = profiles.collect_schema()
    other = [n for n, d in schema.items() if d.is_nested() or d in (pl.Duration, pl.Binary, pl.Object)]
    if other:
        what = "lists" if schema[other[0]].is_nested() else schema[other[0]]
        raise SchemaError(f"{path}: {listed(other)} hold {what}, which CSV cannot. Hint: write Parquet, or cast them.")
    temporary = path.with_name(f".{path.name}.tmp")
    rows = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with temporary.open("wb") as file:
            if path.name.lower().endswith(".gz"):
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                    rows = _write_rows(profiles, cast("IO[bytes]", packed), separator, float_format)
            else:
                rows = _write_rows(profiles, file, separator, float_format)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _cannot_write(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: cannot be written ({error.strerror or error}). What was there before is unchanged. "
        f"Hint: is the disk full, or is writing not allowed?"
    )


def _write_rows(
    profiles: pl.DataFrame | pl.LazyFrame, target: IO[bytes], separator: str, float_format: str | None
) -> int:
    rows = 0
    # Blocks of one size, so that what the compressor makes of them does not depend on how the rows arrive.
    waiting = bytearray()
    for frame in _frames(profiles):
        text = io.BytesIO()
        _as_written(frame, float_format).write_csv(text, separator=separator, include_header=not rows)
        waiting += text.getvalue()
        rows += frame.height
        while len(waiting) >= _BLOCK:
            target.write(waiting[:_BLOCK])
            del waiting[:_BLOCK]
    target.write(waiting)
    return rows


def _as_written(frame: pl.DataFrame, float_format: str | None) -> pl.DataFrame:
    columns = []
    for name, dtype in frame.schema.items():
        if dtype.is_float():
            column = frame[name].fill_nan(None)
            if float_format is not None and not is_metadata(name):
                shown = [None if value is None else float_format % value for value in column.to_list()]
                column = pl.Series(name, shown, dtype=pl.String)
            columns.append(column)
    return frame.with_columns(columns)
