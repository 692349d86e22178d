"""Tukey's median polish of many tables of one shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled

Doubles = NDArray[np.float64]


@compiled
def _median(values: Doubles, n: int) -> float:
    """The median of the first ``n`` values, which are sorted in place; NaN of none."""
    if n == 0:
        return np.nan
    for k in range(1, n):
        value = values[k]
        j = k
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value
    middle: float = 0.5 * (values[(n - 1) // 2] + values[n // 2])
    return middle


@compiled
def _median_of_effects(effects: Doubles, room: Doubles) -> float:
    n = 0
    for k in range(len(effects)):
        if not np.isnan(effects[k]):
            room[n] = effects[k]
            n += 1
    return _median(room, n)


@compiled
def _take_rows(z: Doubles, effects: Doubles, room: Doubles) -> None:
    """Take the median of each row from it and add it to the row's effect."""
    for i in range(z.shape[0]):
        middle = _median_of_effects(z[i], room)
        if not np.isnan(middle):
            effects[i] = middle if np.isnan(effects[i]) else effects[i] + middle
            for j in range(z.shape[1]):
                z[i, j] -= middle


@compiled
def _take_middle(effects: Doubles, room: Doubles) -> float:
    """Take the median of effects from them and return it."""
    middle = _median_of_effects(effects, room)
    if np.isnan(middle):
        return 0.0
    for k in range(len(effects)):
        effects[k] -= middle
    return middle


@compiled
def _polish(
    tables: Doubles, iterations: int, tolerance: float, overall: Doubles, rows: Doubles, columns: Doubles
) -> None:
    room = np.empty(max(tables.shape[1], tables.shape[2]))
    for t in range(tables.shape[0]):
        z = tables[t]
        before = 0.0
        for _ in range(iterations):
            _take_rows(z, rows[t], room)
            overall[t] += _take_middle(columns[t], room)
            _take_rows(z.T, columns[t], room)
            overall[t] += _take_middle(rows[t], room)
            total = np.nansum(np.abs(z))
            if total == 0.0 or abs(total - before) < tolerance * total:
                break
            before = total


def median_polish(tables: Doubles, iterations: int, tolerance: float) -> tuple[Doubles, Doubles, Doubles]:
    """Polish ``tables[k, n_rows, n_columns]`` in place, NaN skipped: what is left there are residuals.

    Returns
    -------
    float64[k], float64[k, n_rows], float64[k, n_columns]
        Overall value, row effects and column effects; NaN where a row or column has no value.
    """
    k, n_rows, n_columns = tables.shape
    overall = np.zeros(k)
    rows, columns = np.full((k, n_rows), np.nan), np.full((k, n_columns), np.nan)
    _polish(tables, iterations, tolerance, overall, rows, columns)
    return overall, rows, columns
