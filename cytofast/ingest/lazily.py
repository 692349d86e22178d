"""Tables that are read some rows at a time, as lazy frames: what a query does not need is not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import polars as pl
from polars.io.plugins import register_io_source

from cytofast import resources
from cytofast.errors import RecipeError

_COPIES = 6
"""A chunk is held as it lies in the file, as a frame, and as the query changes it."""
_MOST_BYTES = 64 << 20

Read = Callable[[int, int], pl.DataFrame]
"""Gives the rows from one number up to another, all columns."""


def lazy_rows(schema: pl.Schema, rows: int, read: Read) -> pl.LazyFrame:
    """A lazy frame over ``rows`` rows that ``read(low, high)`` gives."""
    step = chunk_rows(schema)

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        end = rows if limit is None else min(rows, limit)
        for low in range(0, max(end, 1), step):
            frame = read(low, min(low + step, end))
            if columns is not None:
                frame = frame.select(columns)
            yield frame if predicate is None else frame.filter(predicate)

    return register_io_source(source, schema=schema)


def lazy_parts(schema: pl.Schema, parts: Sequence[Callable[[], pl.DataFrame]]) -> pl.LazyFrame:
    """A lazy frame over tables that come one after the other, each read when its turn comes."""

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        left = limit
        for part in parts:
            frame = part()
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            if columns is not None:
                frame = frame.select(columns)
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    return register_io_source(source, schema=schema)


def chunk_rows(schema: pl.Schema) -> int:
    """Rows to read at once: what fits several times into the memory budget, and no more than is useful."""
    width = sum(4 if dtype == pl.Float32 else 8 for dtype in schema.dtypes())
    most = min(_MOST_BYTES, resources.current().working_bytes // _COPIES)
    return max(256, most // max(1, width))


def h5py_module(what: str, extra: str) -> ModuleType:
    """The package that reads HDF5, or a :class:`RecipeError` that says how to get it."""
    if find_spec("h5py") is None:
        raise RecipeError(f"{what} needs the package h5py. Hint: pip install 'cytofast[{extra}]'.")
    return import_module("h5py")
