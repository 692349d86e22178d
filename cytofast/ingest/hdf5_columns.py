"""Columns of tables in HDF5, as AnnData's specification writes them: text, categories, numbers with and without gaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cytofast.errors import DataError, SchemaError
from cytofast.ingest.decoding import decoded

DAMAGE = (
    OSError,
    KeyError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    MemoryError,
    OverflowError,
)
"""What a damaged file raises: one thing stands where another should, or a size is beyond measure."""
_INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)


def text_of(values: Any) -> list[str]:
    """Text of a dataset, whatever it was written as: bytes are UTF-8 or, failing that, Latin-1."""
    return [decoded(value) if isinstance(value, bytes) else str(value) for value in np.asarray(values).ravel().tolist()]


def write_column(h5py: Any, group: Any, column: pl.Series, path: Path) -> None:
    """Write a column of ``obs``.

    Raises
    ------
    SchemaError
        AnnData has no type for it.
    """
    name, dtype = column.name, column.dtype
    if "/" in name:
        raise SchemaError(f"{path}: column {name!r} holds a slash, which HDF5 takes for a folder. Hint: rename it.")
    if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        _write_text(h5py, group, column.cast(pl.String))
    elif dtype.is_float():
        _write_values(group, name, column.fill_null(float("nan")).to_numpy())
    elif dtype in _INTEGERS or dtype == pl.Boolean:
        kind, empty = ("nullable-boolean", False) if dtype == pl.Boolean else ("nullable-integer", 0)
        if column.null_count():
            inner = group.create_group(name)
            inner.attrs["encoding-type"], inner.attrs["encoding-version"] = kind, "0.1.0"
            _write_values(inner, "values", column.fill_null(empty).to_numpy())
            _write_values(inner, "mask", column.is_null().to_numpy())
        else:
            _write_values(group, name, column.to_numpy())
    else:
        raise SchemaError(
            f"{path}: column {name!r} holds {dtype}, which AnnData cannot. Hint: cast it to text, or drop it."
        )


def _write_values(group: Any, name: str, values: Any) -> None:
    dataset = group.create_dataset(name, data=values)
    dataset.attrs["encoding-type"], dataset.attrs["encoding-version"] = "array", "0.2.0"


def write_text(h5py: Any, group: Any, name: str, values: list[str]) -> None:
    """Write text that has no gaps."""
    dataset = group.create_dataset(name, (len(values),), dtype=h5py.string_dtype())
    if values:
        dataset[:] = values
    dataset.attrs["encoding-type"], dataset.attrs["encoding-version"] = "string-array", "0.2.0"


def _write_text(h5py: Any, group: Any, column: pl.Series) -> None:
    """Text with gaps is written as categories: older versions of AnnData know no other way."""
    if not column.null_count():
        write_text(h5py, group, column.name, column.to_list())
        return
    categories = column.drop_nulls().unique().sort()
    codes = {value: code for code, value in enumerate(categories)}
    kind = np.int8 if len(codes) < 128 else np.int32
    inner = group.create_group(column.name)
    inner.attrs["encoding-type"], inner.attrs["encoding-version"] = "categorical", "0.2.0"
    inner.attrs["ordered"] = False
    write_text(h5py, inner, "categories", categories.to_list())
    _write_values(inner, "codes", np.array([-1 if value is None else codes[value] for value in column], dtype=kind))


def read_column(node: Any, name: str, path: Path) -> pl.Series:
    """Read a column of ``obs`` or ``var``; what has gaps becomes null.

    Raises
    ------
    DataError
        Its encoding is not known.
    """
    kind = str(node.attrs.get("encoding-type", "array"))
    if not hasattr(node, "keys"):
        return _values(node[()], name) if node.ndim == 1 else _refuse(name, f"{node.ndim} dimensions", path)
    if kind == "categorical" and {"codes", "categories"} <= set(node.keys()):
        categories = read_column(node["categories"], name, path)
        codes = np.asarray(node["codes"][()], dtype=np.int64)
        if len(codes) and (codes.max() >= len(categories) or codes.min() < -1):
            raise DataError(
                f"{path}: column {name!r} has codes outside of its {len(categories):,} categories; it is damaged."
            )
        return categories.gather(pl.Series(codes).replace(-1, None).cast(pl.UInt32)).alias(name)
    if kind.startswith("nullable-") and {"values", "mask"} <= set(node.keys()):
        values = read_column(node["values"], name, path)
        return values.set(pl.Series(np.asarray(node["mask"][()], dtype=bool)), None)
    return _refuse(name, f"the encoding {kind!r}", path)


def _refuse(name: str, what: str, path: Path) -> pl.Series:
    raise DataError(
        f"{path}: column {name!r} has {what}, which cannot be a column of a table. Hint: drop it and save again."
    )


def _values(values: Any, name: str) -> pl.Series:
    array = np.asarray(values)
    if array.dtype.kind in "OSU":
        return pl.Series(name, text_of(array), dtype=pl.String)
    if array.dtype.kind == "f":
        wide = array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
        return pl.Series(name, wide, nan_to_null=True)
    return pl.Series(name, array)
