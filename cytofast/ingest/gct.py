"""GCT, the text format of gene expression (#1.2 and #1.3): features are its rows, samples its columns."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.ingest.csv_text import is_number, read_bytes
from cytofast.ingest.decoding import decoded
from cytofast.schema import MISSING_TEXT, PLATE, WELL, is_metadata

CMAP_MISSING = "-666"
"""What the Connectivity Map writes into metadata for "missing"."""
SAMPLE_ID = "Metadata_id"
"""The ids of samples, where they say more than a number."""
_MISSING = frozenset({*MISSING_TEXT, CMAP_MISSING, "#N/A", "NULL", "-nan", "-NaN"})
_VERSIONS = {"#1.2": 2, "#1.3": 4}


@dataclass(frozen=True)
class Annotated:
    """A matrix as GCT and GCTX hold it, turned: one row a sample.

    Attributes
    ----------
    values
        One row a sample, one column a feature, called by its id.
    samples
        One row a sample: ``id`` and its metadata, all text.
    features
        One row a feature: ``id`` and its metadata, all text.
    """

    path: Path
    values: pl.DataFrame
    samples: pl.DataFrame
    features: pl.DataFrame

    def profiles(self, names: str = "id") -> pl.DataFrame:
        """Metadata with their types, then features called by a column of their metadata."""
        metadata = sample_metadata(self.samples, self.path)
        called = feature_names(self.features, names, self.path)
        return metadata.hstack(self.values.rename(dict(zip(self.values.columns, called, strict=True))))


def read_gct(path: str | Path, *, names: str = "id") -> pl.DataFrame:
    r"""Read a GCT file (#1.2 or #1.3, ``.gz`` too) as profiles: one row a sample.

    Column metadata become ``Metadata_...``; ids of samples ``Metadata_id``, unless they only count (``SAMPLE_0`` and so
    on, as pycytominer writes). Text is UTF-8 or, failing that, Latin-1. In metadata ``-666``, ``NA`` and the like are
    missing.

    Parameters
    ----------
    path
        The file.
    names
        The row metadata that names the features, such as ``"pr_gene_symbol"``; by default the ids of the rows.

    Raises
    ------
    DataError
        The file is damaged, or has other numbers of rows or columns than its second line says; the message names the line.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "two.gct"
    >>> text = "#1.3\n1\t2\t0\t1\nid\ts1\ts2\npert_id\tBRD-1\tBRD-2\n200814_at\t0.5\t-1\n"
    >>> _ = file.write_text(text)
    >>> read_gct(file).row(0)
    ('s1', 'BRD-1', 0.5)
    """
    return parse_gct(Path(path)).profiles(names)


def gct_features(path: str | Path) -> pl.DataFrame:
    """The row metadata of a GCT file: one row a feature, ``id`` first, all text."""
    return parse_gct(Path(path)).features


def parse_gct(path: Path) -> Annotated:
    """Take a file apart; every line is counted and every line's fields are."""
    lines = _lines(path)
    version, counts = _head(lines, path)
    n_rows, n_columns, n_row_fields, n_column_fields = counts
    width = 1 + n_row_fields + n_columns
    declared = 3 + n_column_fields + n_rows
    header = _fields(lines, 2, width, path, "its second line promises")
    if len(lines) != declared:
        what = "ends early, at" if len(lines) < declared else "goes on after the last row, at"
        raise DataError(
            f"{path}, line {min(len(lines), declared) + (len(lines) > declared):,}: the file {what} {len(lines):,} lines, "
            f"but its second line promises {n_rows:,} rows and {n_column_fields:,} of column metadata, so {declared:,} "
            "lines. Hint: was it cut off or edited? Copy or export it again."
        )
    samples = {"id": header[1 + n_row_fields :]}
    for number in range(3, 3 + n_column_fields):
        name, *fields = _fields(lines, number, width, path, "the header has")
        if name in samples:
            raise DataError(f"{path}, line {number + 1:,}: column metadata {name!r} stand a second time.")
        samples[name] = fields[n_row_fields:]
    names = [unquoted(name) for name in header[1 : 1 + n_row_fields]]
    if version == "#1.2":
        names = ["Description"]
    features, values = _rows(lines, 3 + n_column_fields, names, samples["id"], path)
    return Annotated(path, values, _as_text(samples), features)


def _lines(path: Path) -> list[str]:
    data = read_bytes(path)
    if path.name.lower().endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: the gzip file is damaged or cut off ({error}). Hint: copy it again.") from error
    if not data:
        raise DataError(f"{path}: the file is empty (0 bytes).")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise DataError(f"{path}, line {line:,}: holds NUL bytes, so the file is damaged. Hint: copy it again.")
    lines = decoded(data).removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if lines[-1]:
        raise DataError(
            f"{path}, line {len(lines):,}: the last line has no end, so its last number may be cut short. Hint: copy or export "
            "the file again; if it is whole, add an end of line."
        )
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _head(lines: list[str], path: Path) -> tuple[str, tuple[int, int, int, int]]:
    version = lines[0].strip() if lines else ""
    if version not in _VERSIONS:
        raise DataError(f"{path}, line 1: {version[:40]!r} instead of #1.2 or #1.3, so this is no GCT file.")
    if len(lines) < 3:
        raise DataError(f"{path}, line {len(lines)}: the file ends here, without a header. Hint: copy it again.")
    fields = lines[1].rstrip("\t").split("\t")
    wanted = _VERSIONS[version]
    if len(fields) != wanted or not all(is_number(field.strip()) for field in fields):
        raise DataError(f"{path}, line 2: {lines[1][:60]!r}, but version {version} has {wanted} whole numbers here.")
    counts = [int(field) for field in fields]
    rows, columns, row_fields, column_fields = counts if wanted == 4 else [*counts, 1, 0]
    if not rows or not columns:
        raise DataError(f"{path}, line 2: {rows:,} rows and {columns:,} columns, so there is no value in this file.")
    return version, (rows, columns, row_fields, column_fields)


def _fields(lines: list[str], number: int, width: int, path: Path, why: str) -> list[str]:
    fields = lines[number].split("\t")
    if len(fields) != width:
        raise _ragged(path, number, len(fields), width, why)
    return [unquoted(field) for field in fields]


def _ragged(path: Path, number: int, found: int, width: int, why: str) -> DataError:
    return DataError(
        f"{path}, line {number + 1:,}: {found:,} fields, but {why} {width:,}. Hint: is the file cut off, or does a field "
        "hold a tab?"
    )


def unquoted(field: str) -> str:
    """A field without the quotes that writers of tables put around it."""
    quoted = len(field) >= 2 and field[0] == field[-1] == '"'
    return field[1:-1].replace('""', '"') if quoted else field


def _rows(
    lines: list[str], first: int, names: Sequence[str], samples: Sequence[str], path: Path
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Row metadata, and the values turned."""
    own, numbers = [], []
    width = 1 + len(names) + len(samples)
    for number in range(first, len(lines)):
        if lines[number].count("\t") + 1 != width:
            raise _ragged(path, number, lines[number].count("\t") + 1, width, "the header has")
        *fields, rest = lines[number].split("\t", 1 + len(names))
        own.append([unquoted(field) for field in fields])
        numbers.append(rest)
    keys = ["id", *names]
    twice = [name for name in keys if keys.count(name) > 1]
    if twice:
        raise DataError(f"{path}, line 3: row metadata {listed(dict.fromkeys(twice))} stand more than once.")
    features = _as_text(dict(zip(keys, map(list, zip(*own, strict=True)), strict=True)))
    _require_distinct(features["id"], first + 1, path)
    return features, _turned(numbers, len(samples), features["id"], first, path)


def _turned(numbers: list[str], n_samples: int, ids: pl.Series, first: int, path: Path) -> pl.DataFrame:
    columns = [f"{i}" for i in range(n_samples)]
    text = ("\n".join(numbers) + "\n").encode()
    options = {
        "separator": "\t",
        "has_header": False,
        "quote_char": None,
        "null_values": sorted(_MISSING - {CMAP_MISSING}),
    }
    try:
        table = pl.read_csv(text, schema=dict.fromkeys(columns, pl.Float64), **options)  # type: ignore[arg-type]
    except pl.exceptions.PolarsError as error:
        table = pl.read_csv(text, schema=dict.fromkeys(columns, pl.String), **options)  # type: ignore[arg-type]
        for column in columns:
            wrong = table[column].is_not_null() & table[column].cast(pl.Float64, strict=False).is_null()
            if wrong.any():
                row = int(wrong.arg_max() or 0)
                raise DataError(
                    f"{path}, line {first + row + 1:,}, sample {int(column) + 1:,}: {table[column][row]!r} is not a number. "
                    "Hint: does the second line tell the right number of row metadata?"
                ) from error
        raise DataError(f"{path}: not a readable table ({error}).") from error
    matrix = table.fill_nan(None).to_numpy(order="c")
    return pl.DataFrame({name: pl.Series(matrix[i], nan_to_null=True) for i, name in enumerate(ids)})


def _require_distinct(ids: pl.Series, first: int, path: Path) -> None:
    if ids.null_count():
        raise DataError(f"{path}, line {first + int(ids.is_null().arg_max() or 0):,}: a row without an id.")
    if ids.n_unique() < len(ids):
        row = int((~ids.is_first_distinct()).arg_max() or 0)
        raise DataError(
            f"{path}, line {first + row:,}: the id {ids[row]!r} stands more than once, so two features would have one name."
        )


def _as_text(columns: dict[str, list[str]]) -> pl.DataFrame:
    missing = {name: [None if value in _MISSING else value for value in values] for name, values in columns.items()}
    missing["id"] = [None if value in {"", CMAP_MISSING} else value for value in columns["id"]]
    return pl.DataFrame(missing, schema=dict.fromkeys(columns, pl.String))


def sample_metadata(samples: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Metadata of samples, prefixed and typed; ids that only count are left out."""
    counted = samples["id"].equals(pl.Series([f"SAMPLE_{i}" for i in range(samples.height)], dtype=pl.String))
    chosen = samples.drop("id") if counted else samples
    renamed = {name: name if is_metadata(name) else f"Metadata_{name}" for name in chosen.columns}
    if len(set(renamed.values())) < len(renamed):
        twice = [name for name in renamed if not is_metadata(name) and renamed[name] in renamed]
        raise SchemaError(f"{path}: metadata {listed(twice)} are there with and without the prefix Metadata_.")
    return typed(chosen.rename(renamed))


def typed(text: pl.DataFrame) -> pl.DataFrame:
    """Columns of text with the types that all of their rows have; plates, wells, ids and ``0042`` stay text."""
    if not text.width or not text.height:
        return text
    guessed = pl.read_csv(text.write_csv().encode(), infer_schema_length=None)
    guessed.columns = text.columns  # Polars leaves doubled quotes in them
    kept = [name for name in text.columns if name in {PLATE, WELL, SAMPLE_ID} or _loses(text[name], guessed[name])]
    return guessed.with_columns(text.select(kept))


def _loses(text: pl.Series, guessed: pl.Series) -> bool:
    """Whether a whole number would not be written as it was: it is a name then, as ``0042`` is."""
    if not guessed.dtype.is_integer():
        return False
    return guessed.dtype == pl.Int128 or not text.equals(guessed.cast(pl.String))


def feature_names(features: pl.DataFrame, names: str, path: Path) -> list[str]:
    """What features are called: a column of their metadata, which must tell them apart."""
    if names not in features.columns:
        raise RecipeError(f"{path}: {RecipeError.unknown('row metadata', names, features.columns)}")
    column = features[names]
    if column.null_count() or column.n_unique() < len(column):
        twice = column.filter(column.is_duplicated()).drop_nulls().unique(maintain_order=True).to_list()
        what = f"{listed(twice)} stand more than once" if twice else f"{column.null_count():,} are missing"
        raise DataError(
            f"{path}: row metadata {names!r} cannot name the features: {what}. Hint: leave names= out; the ids always can."
        )
    wrong = [name for name in column if is_metadata(name)]
    if wrong:
        raise DataError(f"{path}: features {listed(wrong)} are called like metadata (Metadata_...).")
    return column.to_list()
