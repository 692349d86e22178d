"""Profiles in files: Parquet, CSV and TSV, plain or gzipped, read with their types and written whole or not at all."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import polars as pl

from cytofast.errors import DataError, RecipeError
from cytofast.ingest.csv_text import Header, Lines, check_lines, parse_header, read_bytes, require_rows
from cytofast.ingest.decoding import decoded
from cytofast.ingest.endings import kind_of, separator_of
from cytofast.ingest.quoting import written_in_quotes
from cytofast.ingest.readable import DAMAGE, readable
from cytofast.ingest.writing import write_profiles
from cytofast.schema import LEVELS, MISSING_TEXT, PLATE, WELL, require_columns

__all__ = ["read_profiles", "write_profiles"]

_FEATURE = re.compile(r"(?!Metadata_|Image_)([A-Z][A-Za-z0-9]*)_.+", re.DOTALL)
_GZIP = b"\x1f\x8b"
_ENCODINGS = ("utf-8", "latin-1", "either")
_COMPARTMENTS = {"Cells", "Cytoplasm", "Nuclei"}


def read_profiles(path: str | Path, *, level: str | None = None, encoding: str = "utf-8") -> pl.LazyFrame:
    """Read a table of profiles, of any level, as a lazy frame.

    Parquet is read only as far as the query needs. CSV and TSV (``.gz`` too) are read at once: plates and wells stay
    text (``1086293911`` is a name), and so do metadata that are written in quotes, other metadata gets the type that all of
    its rows have, features become numbers, and what stands for "missing" (``NA``, ``nan``, nothing) becomes null. GCT, GCTX,
    AnnData (``.h5ad``) and DeepProfiler's ``.npz`` are read too: see :func:`read_gct`, :func:`read_gctx`,
    :func:`read_anndata`, :func:`read_deepprofiler`.

    Parameters
    ----------
    path
        The file; its name's ending says what it is.
    level
        Check that the table has the keys of this level: cells, wells, profiles.
    encoding
        Of CSV and TSV: ``"utf-8"``, ``"latin-1"``, or ``"either"``, which is Latin-1 for what is not UTF-8.

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
    if encoding not in _ENCODINGS:
        raise RecipeError.unknown("encoding", encoding, _ENCODINGS)
    if file.is_dir():
        raise DataError(f"{file}: a folder, not a table. Hint: give one file, or open a store with open_store.")
    if not file.is_file():
        raise DataError(f"{file}: no such file.")
    kind = kind_of(file)
    if file.stat().st_size == 0:
        raise DataError(f"{file}: the file is empty (0 bytes). Hint: whatever made it was interrupted; make it again.")
    profiles = _read(file, kind, encoding)
    if level is not None:
        if level not in LEVELS:
            raise RecipeError.unknown("level", level, LEVELS)
        require_columns(profiles.collect_schema(), LEVELS[level], str(file))
    return profiles


def _read(path: Path, kind: str, encoding: str) -> pl.LazyFrame:
    """Each kind of file by its own reader, loaded when it is needed."""
    if kind == "parquet":
        return _scan(path)
    if kind == "gct":
        from cytofast.ingest.gct import read_gct

        return read_gct(path).lazy()
    if kind == "gctx":
        from cytofast.ingest.gctx import read_gctx

        return read_gctx(path)
    if kind == "h5ad":
        from cytofast.ingest.anndata_files import read_anndata

        return read_anndata(path)
    if kind == "npz":
        from cytofast.ingest.deepprofiler import read_deepprofiler

        return read_deepprofiler(path)
    if kind == "npy":
        from cytofast.ingest.embeddings import read_embeddings

        return read_embeddings(path)
    return _read_text(path, separator_of(path) or ",", encoding).lazy()


def _scan(path: Path) -> pl.LazyFrame:
    try:
        # A name such as P[1].parquet is no pattern.
        profiles = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        rows = profiles.select(pl.len()).collect().item()
        profiles.collect_schema()
    except DAMAGE as error:
        raise DataError(
            f"{path}: not a readable Parquet file ({_first_line(error)}). Hint: was it copied whole?"
        ) from error
    if rows == 0:
        raise DataError(f"{path}: the table has columns but no rows.")
    return profiles


def _read_text(path: Path, separator: str, encoding: str) -> pl.DataFrame:
    data = read_bytes(path)
    packed = path.name.lower().endswith(".gz")
    if packed and data and not data.startswith(_GZIP):
        raise DataError(
            f"{path}: damaged, or not packed with gzip as its name says. Hint: take .gz off its name if it is text."
        )
    if not packed and data.startswith(_GZIP):
        raise DataError(f"{path}: packed with gzip, and its name does not say so. Hint: put .gz behind its name.")
    if packed:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path}: the gzip file is damaged or cut off ({error}). Hint: copy or make it again."
            ) from error
    if encoding != "utf-8":
        data = (decoded(data) if encoding == "either" else data.decode(encoding)).encode()
    first = data[: data.find(b"\n") + 1 or len(data)]
    header = parse_header(first, path, separator)
    _require_separator(first, separator, path)
    lines = Lines(path, data[header.size :])
    if not lines.data.strip():
        raise DataError(f"{path}: a header but no rows.")
    rows = check_lines(lines, len(header.names), separator)
    names = [name for name in (PLATE, WELL) if name in header.position]
    try:
        table = _parse(data, separator, header, names, path)
    except DataError:
        if data.isascii():
            raise
        names += _beyond_ascii(data, separator, header, path)
        table = _parse(data, separator, header, names, path)
    # Whole numbers beyond 64 bits are names, as barcodes are; Parquet cannot hold integers so wide.
    wide = [n for n, dtype in table.schema.items() if dtype == pl.Int128 and not _FEATURE.fullmatch(n)]
    wide += _text_by_its_quotes(table, header, lines.data, separator)
    if wide:
        table = _parse(data, separator, header, [*names, *wide], path)
    require_rows(table.height, rows, path)
    return _with_numbers(table, lines)


def _beyond_ascii(data: bytes, separator: str, header: Header, path: Path) -> list[str]:
    """Columns with characters beyond ASCII: Polars takes digits of other scripts for numbers, and then cannot read them."""
    with readable(path):
        text = pl.read_csv(data, separator=separator, infer_schema=False)
    found = [column.str.contains(r"[^\x00-\x7F]").any() for column in text.get_columns()]
    return [name for name, any_there in zip(header.names, found, strict=True) if any_there]


def _text_by_its_quotes(table: pl.DataFrame, header: Header, data: bytes, separator: str) -> list[str]:
    """Metadata that look like numbers but stand in quotes, unless everything does."""
    schema = table.schema  # made anew at each access: slow for thousands of columns
    doubtful = [n for n, d in schema.items() if d not in (pl.String, pl.Int128) and not _FEATURE.fullmatch(n)]
    numbers = [n for n in schema if n not in doubtful and schema[n].is_numeric()][:1]
    found = written_in_quotes(data, [header.position[name] for name in [*doubtful, *numbers]], separator)
    if any(header.position[name] in found for name in numbers) or len(found) == table.width:
        return []
    return [name for name in doubtful if header.position[name] in found]


def _parse(data: bytes, separator: str, header: Header, text: list[str], path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(
            data,
            separator=separator,
            null_values=list(MISSING_TEXT),
            infer_schema_length=None,
            # Of its own, Polars leaves doubled quotes in the names of some columns.
            new_columns=list(header.names),
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
    schema = table.schema
    numeric = _COMPARTMENTS | {group for name, group in groups.items() if schema[name].is_numeric()}
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


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
