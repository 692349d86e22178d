"""Writing profiles: whole or not at all, and the same bytes for the same profiles."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import polars as pl

from cytofast.blocks import require_polars, row_chunks
from cytofast.durable import appear, make_folder
from cytofast.errors import RecipeError, SchemaError, StoreError, listed
from cytofast.ingest.endings import WRITTEN, kind_of, separator_of
from cytofast.ingest.quoting import misread, quoted, quoted_name
from cytofast.parquet import ProfileWriter
from cytofast.schema import PLATE, WELL, is_metadata

_BLOCK = 1 << 20
_FLOAT_FORMAT = re.compile(r"%[-+ 0#]*[0-9]*(\.[0-9]+)?[eEfFgG]")


def write_profiles(profiles: pl.DataFrame | pl.LazyFrame, path: str | Path, *, float_format: str | None = None) -> int:
    """Write profiles, and give back how many rows they had; the file appears when it is complete.

    A lazy frame is written piece by piece, never collected. The same profiles make the same bytes: gzip files carry no
    time. Missing features are null in Parquet, empty in CSV, and NaN in GCT and AnnData files. In CSV a column of text whose
    values all look like numbers is written in quotes, by which :func:`read_profiles` tells it from numbers.

    Parameters
    ----------
    profiles
        Any table.
    path
        Where to; the name's ending (``.parquet``, ``.csv``, ``.csv.gz``, ``.tsv``, ``.gct``, ``.h5ad``, ...) says what to
        write. GCT is version 1.3, for Morpheus; ``.h5ad`` is AnnData's format and needs the extra ``anndata``.
    float_format
        For features in CSV, TSV and GCT, such as ``"%.5g"``. ``None`` writes as many digits as the same number needs.

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
    kind = kind_of(file)
    if kind not in WRITTEN:
        raise RecipeError(f"{file}: {kind} files are read, not written. Hint: write .parquet, .csv.gz, .gct or .h5ad.")
    if file.is_dir():
        raise StoreError(f"{file}: a folder. Hint: give a file name.")
    if float_format is not None:
        if kind in {"parquet", "h5ad"}:
            what = {"parquet": "Parquet", "h5ad": "AnnData"}[kind]
            raise RecipeError(f"{file}: {what} holds numbers, not text; float_format={float_format!r} is for CSV")
        if not _FLOAT_FORMAT.fullmatch(float_format):
            raise RecipeError(
                f"float_format={float_format!r} is no format of numbers; write for example '%.5g' or '%.3f'"
            )
    if kind == "text":
        return _write_text(profiles, file, cast("str", separator_of(file)), float_format)
    if kind == "gct":
        return _write_gct(profiles, file, float_format)
    if kind == "h5ad":
        from cytofast.ingest.anndata_files import write_anndata

        return write_anndata(profiles, file)
    return _write_parquet(profiles, file)


def _write_parquet(profiles: pl.DataFrame | pl.LazyFrame, path: Path) -> int:
    schema = profiles.collect_schema()
    wide = [n for n, dtype in schema.items() if dtype in (pl.Int128, pl.UInt128, pl.Object)]
    if wide:
        raise SchemaError(
            f"{path}: {listed(wide)} hold {schema[wide[0]]}, which Parquet cannot. "
            "Hint: cast them, for example to text."
        )
    with ProfileWriter(path) as writer:
        for frame in frames_of(profiles):
            writer.write(frame)
    return writer.rows


def frames_of(profiles: pl.DataFrame | pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield the rows, at least one frame even where there are none."""
    empty = True
    for frame in row_chunks(profiles):
        empty = False
        yield frame
    if empty:
        yield pl.DataFrame(schema=profiles.collect_schema())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path to write to; what is there afterwards gets its name when it is complete and on disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        make_folder(path.parent)
        yield temporary
        appear(temporary, path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}). What was there before is unchanged. "
            f"Hint: is the disk full, or is writing not allowed?"
        ) from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)


@contextmanager
def _writing_text(path: Path) -> Iterator[IO[bytes]]:
    """Give what bytes are written to, packed if the name ends in ``.gz``."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                yield cast("IO[bytes]", packed)
        else:
            yield file


class _Blocks:
    """Hand bytes on in blocks of one size, so that what the compressor makes of them does not depend on how they come."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._waiting = bytearray()

    def write(self, text: bytes) -> None:
        """Take some bytes."""
        self._waiting += text
        whole = len(self._waiting) // _BLOCK * _BLOCK
        for begin in range(0, whole, _BLOCK):
            self._target.write(self._waiting[begin : begin + _BLOCK])
        del self._waiting[:whole]

    def finish(self) -> None:
        """Hand on what is left."""
        self._target.write(self._waiting)


def _write_gct(profiles: pl.DataFrame | pl.LazyFrame, path: Path, float_format: str | None) -> int:
    from cytofast.ingest.gct_writing import gct_lines

    with _writing_text(path) as target:
        blocks = _Blocks(target)
        for line in gct_lines(profiles, path, float_format):
            blocks.write(line.encode())
        blocks.finish()
    return int(profiles.lazy().select(pl.len()).collect().item())


def _write_text(profiles: pl.DataFrame | pl.LazyFrame, path: Path, separator: str, float_format: str | None) -> int:
    schema = profiles.collect_schema()
    other = [n for n, d in schema.items() if d.is_nested() or d in (pl.Duration, pl.Binary, pl.Object)]
    if other:
        what = "lists" if schema[other[0]].is_nested() else schema[other[0]]
        raise SchemaError(f"{path}: {listed(other)} hold {what}, which CSV cannot. Hint: write Parquet, or cast them.")
    always = _to_quote(profiles)
    rows = 0
    with _writing_text(path) as target:
        blocks = _Blocks(target)
        blocks.write((separator.join(quoted_name(name, separator) for name in schema) + "\n").encode())
        for frame in frames_of(profiles):
            text = io.BytesIO()
            written = _as_written(frame, separator, float_format, always)
            written.write_csv(text, separator=separator, include_header=False, quote_style="never")
            blocks.write(text.getvalue())
            rows += frame.height
        blocks.finish()
    return rows


def _to_quote(profiles: pl.DataFrame | pl.LazyFrame) -> set[str]:
    """Columns of text that would be read as numbers; plates and wells are always read as text."""
    schema = profiles.collect_schema()
    names = {n for n, d in schema.items() if d in (pl.String, pl.Categorical, pl.Enum)} - {PLATE, WELL}
    seen: set[str] = set()
    if not names:
        return names
    for frame in row_chunks(profiles.select(sorted(names))):
        for name in sorted(names):
            column = frame[name].cast(pl.String).drop_nulls()
            if len(column):
                seen.add(name)
                if not misread(column):
                    names.discard(name)
        if not names:
            break
    return names & seen


def _as_written(frame: pl.DataFrame, separator: str, float_format: str | None, always: set[str]) -> pl.DataFrame:
    columns = []
    for name, dtype in frame.schema.items():
        column = frame[name]
        if dtype.is_float():
            column = column.fill_nan(None)
            if float_format is not None and not is_metadata(name):
                shown = [None if value is None else float_format % value for value in column.to_list()]
                column = pl.Series(name, shown, dtype=pl.String)
            columns.append(column)
        elif dtype in (pl.String, pl.Categorical, pl.Enum):
            columns.append(quoted(column.cast(pl.String), separator, always=name in always))
    return frame.with_columns(columns)
