"""Frames and matrices that share their memory, so that thousands of columns cross without a copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

Matrix = NDArray[np.float32] | NDArray[np.float64]


def sharing_frame(columns: Matrix, names: Sequence[str]) -> pl.DataFrame:
    """A frame of the rows of ``columns[n_columns, n_rows]`` (C order), in the same memory; NaN stays NaN.

    The frame keeps the memory alive. Whoever writes to the matrix afterwards writes to the frame.
    """
    kind = pa.float32() if columns.dtype == np.float32 else pa.float64()
    count, rows = columns.shape
    if not rows:
        return pl.DataFrame({name: columns[i] for i, name in enumerate(names)})
    memory = pa.py_buffer(columns)
    size = columns.itemsize * rows
    arrays = [
        pa.Array.from_buffers(kind, rows, [None, memory.slice(i * size, size)], null_count=0) for i in range(count)
    ]
    # As one struct: taking thousands of columns over one by one costs three times as much.
    batch = pa.RecordBatch.from_arrays(arrays, names=list(names))
    return pl.Series(batch.to_struct_array()).struct.unnest()


def shared_columns(frame: pl.DataFrame, names: Sequence[str]) -> Matrix | None:
    """``[n_columns, n_rows]`` view of float columns that lie one after the other in memory; ``None`` if they do not.

    The view lives no longer than the frame.
    """
    columns = [frame[name] for name in names]
    if frame.height < 2 or not columns or columns[0].dtype not in {pl.Float32, pl.Float64}:
        return None
    dtype = columns[0].dtype
    if not all(column.dtype == dtype and column.n_chunks() == 1 and not column.null_count() for column in columns):
        return None
    views = [column.to_numpy(allow_copy=False) for column in columns]
    step = frame.height * views[0].itemsize
    begin = views[0].__array_interface__["data"][0]
    if any(view.__array_interface__["data"][0] != begin + i * step for i, view in enumerate(views)):
        return None
    shape, strides = (len(views), frame.height), (step, views[0].itemsize)
    return np.lib.stride_tricks.as_strided(views[0], shape, strides, writeable=False)
