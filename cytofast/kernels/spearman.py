"""Rank correlations of columns with gaps: each pair is ranked anew on the rows that both have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled, over_ranges

Doubles = NDArray[np.float64]
_WIDTH = 32


@compiled
def _rank_shared(
    values: NDArray[np.float32], order: NDArray[np.int64], other: NDArray[np.float32], out: Doubles
) -> int:
    """Ranks of ``values`` on the rows where ``other`` is there too, 0 elsewhere, centred; returns how many rows."""
    n = len(values)
    count = 0
    start = 0
    while start < n and not np.isnan(values[order[start]]):
        stop = start
        shared = 0
        while stop < n and values[order[stop]] == values[order[start]]:
            if not np.isnan(other[order[stop]]):
                shared += 1
            stop += 1
        rank = count + 0.5 * (shared + 1)
        for k in range(start, stop):
            out[order[k]] = 0.0 if np.isnan(other[order[k]]) else rank
        count += shared
        start = stop
    for k in range(start, n):
        out[order[k]] = 0.0
    return count


@compiled
def _correlate_pair(
    x_ranks: NDArray[np.float32],
    x_order: NDArray[np.int64],
    y_ranks: NDArray[np.float32],
    y_order: NDArray[np.int64],
    room: Doubles,
) -> float:
    x, y = room[0], room[1]
    count = _rank_shared(x_ranks, x_order, y_ranks, x)
    _rank_shared(y_ranks, y_order, x_ranks, y)
    middle = 0.5 * (count + 1)
    xx, yy, xy = 0.0, 0.0, 0.0
    for k in range(len(x)):
        # Rows that are not shared hold 0, which no rank is.
        if x[k] != 0.0:
            a, b = x[k] - middle, y[k] - middle
            xx += a * a
            yy += b * b
            xy += a * b
    if count < 2 or xx == 0.0 or yy == 0.0:
        return np.nan
    r: float = xy / np.sqrt(xx * yy)
    return min(1.0, max(-1.0, r))


@compiled
def _correlate_block(
    ranks: NDArray[np.float32],
    gappy: NDArray[np.int64],
    gappy_orders: NDArray[np.int64],
    first: int,
    orders: NDArray[np.int64],
    r: Doubles,
) -> None:
    room = np.empty((2, ranks.shape[1]))
    for k in range(len(orders)):
        other = first + k
        for g in range(len(gappy)):
            column = gappy[g]
            value = 1.0
            if other != column:
                value = _correlate_pair(ranks[column], gappy_orders[g], ranks[other], orders[k], room)
            r[column, other] = value
            r[other, column] = value


def gappy_rank_correlations(ranks: NDArray[np.float32], gappy: NDArray[np.int64], r: Doubles, threads: int = 1) -> None:
    """Fill rows and columns ``gappy`` of ``r[f, f]``.

    ``ranks[f, n]`` are ranks within each column, NaN where a value is missing. A column is sorted once; the ranks on
    the rows of a pair are then counted along that order.
    """
    gappy_orders = np.argsort(ranks[gappy], axis=1)

    def work(first: int, last: int) -> None:
        for start in range(first, last, _WIDTH):
            block = np.asarray(ranks[start : min(start + _WIDTH, last)])
            _correlate_block(ranks, gappy, gappy_orders, start, np.argsort(block, axis=1), r)

    over_ranges(work, len(r), threads)
