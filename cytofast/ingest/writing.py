"""Writing profiles: whole or not at all, and the same bytes for the same profiles."""

from __future__ import annotations

import gzip
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import polars as pl

from cytofast.blocks import require_polars, row_chunks
from cytofast.errors import RecipeError, SchemaError, StoreError, listed
from cytofast.ingest.endings import separator_of
from cytofast.parquet import ProfileWriter
from cytofast.schema import is_metadata

_BLOCK = 1 << 20
_FLOAT_FORMAT = re.compile(r"%[-+ 0#]*[0-9]*(\.[0-9]+)?[eEfFgG]")


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
    separator = separator_of(file)
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
