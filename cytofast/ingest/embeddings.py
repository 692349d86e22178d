"""Embeddings of any model: a matrix in ``.npy``, or a table in Parquet or CSV, whose features are called anything."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl

from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.ingest.endings import kind_of
from cytofast.ingest.lazily import lazy_rows
from cytofast.ingest.npz import DAMAGE
from cytofast.metadata_tables import name_plates_and_wells, prefixed
from cytofast.schema import is_metadata


def read_embeddings(
    path: str | Path, *, metadata: str | Path | None = None, features: str | None = None, prefix: str = "Embedding"
) -> pl.LazyFrame:
    """Read a table of embeddings as profiles.

    Features keep their names where those begin with a letter; columns called by numbers, the columns of a ``.npy`` matrix and
    the items of a column of lists are called ``Embedding_0``, ``Embedding_1`` and so on. Every other column becomes metadata.

    Parameters
    ----------
    path
        ``.npy`` (rows x features), ``.parquet``, ``.csv``, ``.tsv`` (``.gz`` too).
    metadata
        A table with one row for each row of the matrix, in the same order.
    features
        How the names of features begin, such as ``"emb_"``. By default every column of numbers that is not metadata.
    prefix
        What unnamed features are called.

    Raises
    ------
    DataError
        The file is damaged or holds pickled objects, or the metadata have another number of rows.
    SchemaError
        No feature is found, or one holds text.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "wells.npy"
    >>> np.save(file, np.arange(4, dtype=np.float32).reshape(2, 2))
    >>> read_embeddings(file).collect().columns
    ['Embedding_0', 'Embedding_1']
    """
    file = Path(path)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", prefix) or prefix == "Metadata":
        raise RecipeError(f"prefix={prefix!r} cannot name features; use letters and digits, as in 'Embedding'")
    table = _matrix(file, prefix) if kind_of(file) == "npy" else _table(file, features, prefix)
    if metadata is None:
        return table
    from cytofast.ingest.profiles import read_profiles

    described = read_profiles(metadata).collect()
    rows = table.select(pl.len()).collect().item()
    if described.height != rows:
        raise DataError(
            f"{metadata}: {described.height:,} rows, but {file} has {rows:,}. Hint: are they of one export?"
        )
    described = prefixed(described)
    clash = [name for name in table.collect_schema() if name in described.columns]
    if clash:
        raise SchemaError(f"{metadata} and {file} both have the columns {listed(clash)}. Hint: drop them from one.")
    return pl.concat([described.lazy(), table], how="horizontal")


def _matrix(path: Path, prefix: str) -> pl.LazyFrame:
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        what = str(error).strip()
        if "pickle" in what.lower() or "object" in what.lower():
            what = "it holds pickled objects, which are never loaded"
        raise DataError(
            f"{path}: not a readable matrix ({what}). Hint: save it again as an array of numbers."
        ) from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or not matrix.size:
        raise DataError(
            f"{path}: {matrix.dtype} of the shape {matrix.shape}, but numbers, rows x features, are needed."
        )
    kind = np.float32 if matrix.dtype.kind == "f" and matrix.dtype.itemsize <= 4 else np.float64
    names = [f"{prefix}_{i}" for i in range(matrix.shape[1])]
    schema = pl.Schema(dict.fromkeys(names, pl.Float32() if kind == np.float32 else pl.Float64()))

    def rows(low: int, high: int) -> pl.DataFrame:
        return pl.from_numpy(np.array(matrix[low:high], dtype=kind), schema=names).fill_nan(None)

    return lazy_rows(schema, matrix.shape[0], rows)


def _table(path: Path, features: str | None, prefix: str) -> pl.LazyFrame:
    from cytofast.ingest.profiles import read_profiles

    table = _unpacked(read_profiles(path), path, prefix)
    schema = table.collect_schema()
    if features is None:
        found = [name for name, dtype in schema.items() if dtype.is_numeric() and not is_metadata(name)]
    else:
        found = [name for name in schema if name.startswith(features)]
        text = [name for name in found if not schema[name].is_numeric()]
        if text:
            raise SchemaError(f"{path}: features {listed(text)} hold {schema[text[0]]}, not numbers.")
    if not found:
        raise SchemaError(
            f"{path}: no feature found; the columns are {listed(schema.names(), 8)}. Hint: give features='...'."
        )
    others = pl.DataFrame(schema={name: schema[name] for name in schema if name not in set(found)})
    usual = name_plates_and_wells(prefixed(others), str(path)).columns
    names = {
        **{name: name if name[:1].isalpha() else f"{prefix}_{name.lstrip('_')}" for name in found},
        **dict(zip(others.columns, usual, strict=True)),
    }
    if len(set(names.values())) < len(names):
        twice = [name for name, new in names.items() if list(names.values()).count(new) > 1]
        raise SchemaError(f"{path}: columns {listed(twice)} would have one name. Hint: rename one.")
    wide = {n: pl.Float64() for n in found if schema[n] not in (pl.Float32, pl.Float64)}
    return table.cast(wide).rename(names) if wide else table.rename(names)  # type: ignore[arg-type]


def _unpacked(table: pl.LazyFrame, path: Path, prefix: str) -> pl.LazyFrame:
    """A column of lists, as models write their output, as one column an item."""
    schema = table.collect_schema()
    packed = [
        name for name, dtype in schema.items() if isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_numeric()
    ]
    if not packed:
        return table
    if len(packed) > 1:
        raise SchemaError(f"{path}: {listed(packed)} all hold lists. Hint: drop all but the one that is the embedding.")
    column = table.select(packed).collect()[packed[0]]
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    lengths = column.list.len()
    if column.null_count() or lengths.n_unique() != 1:
        raise DataError(f"{path}, column {packed[0]!r}: its lists differ in length, or some are missing.")
    items = column.list.to_struct(fields=[f"{prefix}_{i}" for i in range(lengths[0])]).struct.unnest()
    return pl.concat([table.drop(packed), items.lazy()], how="horizontal")
