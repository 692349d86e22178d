"""Counts, means and squared deviations of contiguous groups, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]


def grouped_counts(columns: Floats, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """``int64[n_groups, n_features]``: values that are not NaN."""
    out = np.zeros((len(bounds) - 1, columns.shape[0]), dtype=np.int64)
    for group in range(len(bounds) - 1):
        part = columns[:, bounds[group] : bounds[group + 1]]
        out[group] = part.shape[1] - np.isnan(part).sum(axis=1)
    return out


def grouped_moments(columns: Floats, bounds: NDArray[np.int64]) -> tuple[NDArray[np.int64], Doubles, Doubles]:
    """Count, mean and M2 (sum of squared deviations from the mean) of each group and feature, NaN skipped.

    Two passes over a group in float64: the deviations are taken from the mean itself, so nothing cancels.
    """
    shape = (len(bounds) - 1, columns.shape[0])
    counts = np.zeros(shape, dtype=np.int64)
    means, squares = np.full(shape, np.nan), np.full(shape, np.nan)
    for group in range(shape[0]):
        part = columns[:, bounds[group] : bounds[group + 1]].astype(np.float64)
        missing = np.isnan(part)
        counts[group] = part.shape[1] - missing.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            part[missing] = 0.0
            means[group] = part.sum(axis=1) / counts[group]
            part -= means[group][:, None]
            part[missing] = 0.0
            # The mean's own rounding error, corrected: without it a constant feature gets a tiny spread.
            drift = part.sum(axis=1)
            means[group] += drift / counts[group]
            squares[group] = np.einsum("ij,ij->i", part, part) - drift * drift / counts[group]
        squares[group] = np.where(counts[group] > 0, np.maximum(squares[group], 0.0), np.nan)
    return counts, means, squares
