"""Exact medians, median absolute deviations and quantiles of contiguous groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled, over_ranges
from cytofast.kernels.selection import LARGEST_SAMPLE, median

Floats = NDArray[Any]
Doubles = NDArray[np.float64]


@compiled
def _widest(bounds: NDArray[np.int64]) -> int:
    widest = 1
    for group in range(bounds.size - 1):
        widest = max(widest, bounds[group + 1] - bounds[group])
    return widest


@compiled
def _medians(
    columns: Floats,
    bits: NDArray[Any],
    ends: NDArray[Any],
    bounds: NDArray[np.int64],
    first: int,
    last: int,
    out: Doubles,
) -> None:
    widest = _widest(bounds)
    packed = np.empty(widest + 1, columns.dtype)
    sample = np.empty(LARGEST_SAMPLE, columns.dtype)
    found = np.empty(2, columns.dtype)
    for feature in range(first, last):
        for group in range(bounds.size - 1):
            low, high = bounds[group], bounds[group + 1]
            out[group, feature] = median(
                columns[feature, low:high],
                bits[feature, low:high],
                packed,
                sample,
                found,
                ends,
            )


@compiled
def _deviations(
    columns: Floats, bounds: NDArray[np.int64], centres: Doubles, first: int, last: int, out: Doubles
) -> None:
    widest = _widest(bounds)
    distances = np.empty(widest, np.float64)
    bits = distances.view(np.int64)
    packed = np.empty(widest + 1, np.float64)
    sample = np.empty(LARGEST_SAMPLE, np.float64)
    found = np.empty(2, np.float64)
    ends = np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max])
    for feature in range(first, last):
        for group in range(bounds.size - 1):
            low, high = bounds[group], bounds[group + 1]
            centre = centres[group, feature]
            # A slice counts from 0, as the compiler needs it for vectors.
            values = columns[feature, low:high]
            for row in range(values.size):
                distances[row] = abs(np.float64(values[row]) - centre)
            size = high - low
            out[group, feature] = median(distances[:size], bits[:size], packed, sample, found, ends)


def grouped_medians(columns: Floats, bounds: NDArray[np.int64], threads: int = 1) -> Doubles:
    """Medians of groups of neighbouring values, NaN skipped.

    Parameters
    ----------
    columns
        ``float[n_features, n_rows]``, C order.
    bounds
        ``int64[n_groups + 1]``: group ``g`` is ``columns[:, bounds[g]:bounds[g + 1]]``.
    threads
        Features are shared among so many threads.

    Returns
    -------
    float64[n_groups, n_features]
        NaN where a group has no value. Of an even number, the mean of both middles in float64.
    """
    columns = np.ascontiguousarray(columns)
    out = np.full((len(bounds) - 1, columns.shape[0]), np.nan)
    whole = np.int32 if columns.dtype == np.float32 else np.int64
    bits = columns.view(whole)
    ends = np.array([np.iinfo(whole).min, np.iinfo(whole).max], dtype=whole)
    over_ranges(lambda first, last: _medians(columns, bits, ends, bounds, first, last, out), columns.shape[0], threads)
    return out


def grouped_deviations(columns: Floats, bounds: NDArray[np.int64], centres: Doubles, threads: int = 1) -> Doubles:
    """Median absolute deviations from ``centres[n_groups, n_features]``, computed in float64, NaN skipped, not scaled."""
    columns = np.ascontiguousarray(columns)
    out = np.full((len(bounds) - 1, columns.shape[0]), np.nan)
    over_ranges(lambda first, last: _deviations(columns, bounds, centres, first, last, out), columns.shape[0], threads)
    return out


def grouped_quantiles(columns: Floats, bounds: NDArray[np.int64], probabilities: Doubles) -> Doubles:
    """``float64[n_probabilities, n_groups, n_features]``: linear interpolation between order statistics, NaN skipped.

    Hyndman and Fan's type 7, numpy's default.
    """
    out = np.full((len(probabilities), len(bounds) - 1, columns.shape[0]), np.nan)
    for group in range(len(bounds) - 1):
        for feature in range(columns.shape[0]):
            values = columns[feature, bounds[group] : bounds[group + 1]].astype(np.float64)
            values = values[~np.isnan(values)]
            if values.size:
                out[:, group, feature] = np.quantile(values, probabilities)
    return out
