"""Exact medians, median absolute deviations and quantiles of contiguous groups.

The selection is numpy's partition, which is vectorised (AVX-512, AVX2, NEON) and releases the GIL. One order statistic is
selected and the lower middle is the maximum of what lies before it: asking partition for both is several times slower.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
_SLAB_BYTES = 4 << 20
"""Columns of a group are taken a few megabytes at a time, so that the copy that partition works on stays in cache."""


def _medians_of_rows(values: Floats) -> Doubles:
    """``float64[k]`` medians along the last axis of ``[k, n]``, NaN skipped; NaN where nothing is left. Destroys ``values``."""
    n: int = values.shape[1]
    if n == 0:
        return np.full(values.shape[0], np.nan)
    # One NaN makes the sum NaN; so do opposite infinities, which only cost a closer look.
    with np.errstate(invalid="ignore", over="ignore"):
        suspicious = np.flatnonzero(np.isnan(values.sum(axis=1)))
    whole: dict[int, float] = {}
    for row in suspicious:
        missing = np.isnan(values[row])
        if missing.any():
            whole[int(row)] = float(_medians_of_rows(values[row][~missing][None, :])[0])
    middle = n // 2
    values.partition(middle, axis=1)
    medians: Doubles = values[:, middle].astype(np.float64)
    if n % 2 == 0:
        lower = values[:, :middle].max(axis=1).astype(np.float64)
        with np.errstate(invalid="ignore"):
            # Equal infinities stay themselves; opposite ones have no middle.
            medians = np.where(lower == medians, lower, (lower + medians) / 2)
    for index, median in whole.items():
        medians[index] = median
    return medians


def _over_slabs(
    columns: Floats, bounds: NDArray[np.int64], out: Doubles, centres: Doubles | None, threads: int
) -> None:
    n_features = columns.shape[0]

    def work(first: int, last: int) -> None:
        for group in range(len(bounds) - 1):
            low, high = int(bounds[group]), int(bounds[group + 1])
            step = max(1, _SLAB_BYTES // (8 * max(1, high - low)))
            for start in range(first, last, step):
                stop = min(start + step, last)
                part = columns[start:stop, low:high]
                if centres is None:
                    values = np.array(part, order="C")
                else:
                    with np.errstate(invalid="ignore", over="ignore"):
                        values = part.astype(np.float64) - centres[group, start:stop, None]
                    np.abs(values, out=values)
                out[group, start:stop] = _medians_of_rows(values)

    workers = max(1, min(threads, n_features))
    if workers == 1:
        work(0, n_features)
        return
    edges = np.linspace(0, n_features, workers + 1).astype(int)
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, int(a), int(b)) for a, b in pairwise(edges)]:
            done.result()


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
    out = np.full((len(bounds) - 1, columns.shape[0]), np.nan)
    _over_slabs(columns, bounds, out, None, threads)
    return out


def grouped_deviations(columns: Floats, bounds: NDArray[np.int64], centres: Doubles, threads: int = 1) -> Doubles:
    """Median absolute deviations from ``centres[n_groups, n_features]``, computed in float64, NaN skipped, not scaled."""
    out = np.full((len(bounds) - 1, columns.shape[0]), np.nan)
    _over_slabs(columns, bounds, out, centres, threads)
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
