"""Frames and matrices that share their memory, so that thousands of columns cross without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Matrix = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table of float32 features, in columns: metadata, then features.

    A frame of thousands of features costs more to put together and to take apart than the work on a few thousand rows.

    Attributes
    ----------
    metadata
        What is no feature.
    values
        ``float32[n_features, n_rows]``; missing is NaN.
    features
        Names of the lines of ``values``.
    """

    metadata: pl.DataFrame
    values: NDArray[np.float32]
    features: list[str]

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.values.shape[1])

    def __getitem__(self, rows: slice) -> Chunk:
        """Some of the rows, in the same memory."""
        return Chunk(self.metadata[rows], self.values[:, rows], self.features)

    @property
    def schema(self) -> pl.Schema:
        """Of all columns."""
        return pl.Schema({**self.metadata.schema, **dict.fromkeys(self.features, pl.Float32())})

    def frame(self) -> pl.DataFrame:
        """The same as a frame; its features share the memory of ``values``."""
        return self.metadata.hstack(sharing_frame(np.ascontiguousarray(self.values), self.features))


def sharing_frame(columns: Matrix, names: Sequence[str]) -> pl.DataFrame:
    """A frame of the rows of ``columns[n_columns, n_rows]`` (C order), in the same memory; NaN stays NaN.

    The frame keeps the memory alive. Whoever writes to the matrix afterwards writes to the frame.
    """
    rows = columns.shape[1]
    # Slices of one series: thousands of columns taken over one by one cost several times as much.
    values = pl.Series(columns.reshape(-1))
    return pl.DataFrame([values.slice(i * rows, rows).alias(name) for i, name in enumerate(names)])


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
