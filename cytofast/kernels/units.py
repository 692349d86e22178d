"""Columns centred and scaled to length 1, so that products of columns are correlations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled

Floats = NDArray[np.floating]


@compiled
def unit_columns(columns: Floats, out: Floats) -> bool:
    """Write ``columns[f, n]``, each centred to length 1 in double precision, to ``out[f, n]``; 0 without spread.

    Returns whether all values are finite; if not, ``out`` is unfinished. Four sums side by side keep the processor
    busy, and the deviations' own mean corrects the rounding of the first.
    """
    n = columns.shape[1]
    whole = n - n % 4
    for row in range(columns.shape[0]):
        x = columns[row]
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        for k in range(0, whole, 4):
            a += np.float64(x[k])
            b += np.float64(x[k + 1])
            c += np.float64(x[k + 2])
            d += np.float64(x[k + 3])
        for k in range(whole, n):
            a += np.float64(x[k])
        mean = (a + b + c + d) / n
        if not np.isfinite(mean):
            return False
        first, second = 0.0, 0.0
        drift, squares = 0.0, 0.0
        for k in range(0, n - n % 2, 2):
            low, high = np.float64(x[k]) - mean, np.float64(x[k + 1]) - mean
            drift += low
            first += low * low
            squares += high
            second += high * high
        if n % 2:
            low = np.float64(x[n - 1]) - mean
            drift += low
            first += low * low
        drift = (drift + squares) / n
        spread = first + second - n * drift * drift
        mean += drift
        noise = 8.0 * 2.220446049250313e-16 * abs(mean)
        scale = 0.0
        if spread > n * noise * noise:
            scale = 1.0 / np.sqrt(spread)
        for k in range(n):
            out[row, k] = (np.float64(x[k]) - mean) * scale
    return True
