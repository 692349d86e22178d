"""Exact medians, median absolute deviations and quantiles of contiguous groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled, over_ranges
from cytofast.kernels.selection import Bits, median, scratch

Floats = NDArray[Any]
Doubles = NDArray[np.float64]


@compiled
def _medians(
    columns: Floats,
    bits: Bits,
    bounds: NDArray[np.int64],
    packed: Floats,
    sample: Floats,
    found: Floats,
    found_bits: Bits,
    ends: Bits,
    first: int,
    last: int,
    out: Doubles,
) -> None:
    for feature in range(first, last):
        for group in range(bounds.size - 1):
            low, high = bounds[group], bounds[group + 1]
            # A slice counts from 0, as the compiler needs it for vectors.
            values, their_bits = columns[feature, low:high], bits[feature, low:high]
            out[group, feature] = median(values, their_bits, packed, sample, found, found_bits, ends)


@compiled
def _deviations(
    columns: Floats,
    bounds: NDArray[np.int64],
    centres: Doubles,
    distances: Doubles,
    bits: Bits,
    packed: Doubles,
    sample: Doubles,
    found: Doubles,
    found_bits: Bits,
    ends: Bits,
    first: int,
    last: int,
    out: Doubles,
) -> None:
    for feature in range(first, last):
        for group in range(bounds.size - 1):
            low, high = bounds[group], bounds[group + 1]
            centre = centres[group, feature]
            values = columns[feature, low:high]
            for row in range(values.size):
                distances[row] = abs(np.float64(values[row]) - centre)
            here, their_bits = distances[: high - low], bits[: high - low]
            out[group, feature] = median(here, their_bits, packed, sample, found, found_bits, ends)


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
    widest = int(np.diff(bounds).max(initial=0))

    def work(first: int, last: int) -> None:
        room = scratch(widest, columns.dtype)
        _medians(columns, columns.view(room[-1].dtype), bounds, *room, first, last, out)

    over_ranges(work, columns.shape[0], threads)
    return out


def grouped_deviations(columns: Floats, bounds: NDArray[np.int64], centres: Doubles, threads: int = 1) -> Doubles:
    """Median absolute deviations from ``centres[n_groups, n_features]``, computed in float64, NaN skipped, not scaled."""
    columns = np.ascontiguousarray(columns)
    out = np.full((len(bounds) - 1, columns.shape[0]), np.nan)
    widest = int(np.diff(bounds).max(initial=0))

    def work(first: int, last: int) -> None:
        distances, room = np.empty(widest), scratch(widest, np.dtype(np.float64))
        _deviations(columns, bounds, centres, distances, distances.view(np.int64), *room, first, last, out)

    over_ranges(work, columns.shape[0], threads)
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
