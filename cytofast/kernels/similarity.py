"""Similarities of query rows and reference rows, tile by tile.

The last bits of a matrix product depend on where in it a row stands, on the tile and on the threads. So products only
sort candidates roughly: they are in float32 with a bound on their error (:func:`slack_of`), and a candidate closer than
that to the value it is compared with is computed again in float64, always in the same order of additions. These exact
similarities are compared on a grid of 2**-32 (:data:`GRID`): two in one cell are tied. Identical profiles therefore tie,
and neither row order nor threads decide who wins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled

Doubles = NDArray[np.float64]
Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

GRID = 2.0**-32
"""Similarities closer than this (2.3e-10) are ties; float32 profiles carry 6e-8."""

COSINE, ABS_COSINE, CORRELATION, EUCLIDEAN = range(4)
METRICS = {"cosine": COSINE, "abs_cosine": ABS_COSINE, "correlation": CORRELATION, "euclidean": EUCLIDEAN}


USABLE, NO_DIRECTION, NOT_FINITE = range(3)


@compiled
def unit_rows(rows: Floats, metric: int, units: Doubles, rough: NDArray[np.float32], states: NDArray[np.int8]) -> None:
    """Scale ``float[n, f]`` rows to unit length, for correlations after centring, and say which have none.

    Values are divided by the largest first, so that squares of huge or tiny ones neither overflow nor vanish.
    """
    f = rows.shape[1]
    for i in range(rows.shape[0]):
        row, unit = rows[i], units[i]
        largest = 0.0
        check = 0.0
        for j in range(f):
            value = np.float64(row[j])
            largest = max(largest, abs(value))
            check += value * 0.0
        states[i] = NOT_FINITE if check != 0.0 else USABLE  # NaN is unlike everything
        scale = 1.0 / largest if largest > 0.0 else 1.0
        exact = largest < 1e-300 or largest > 1e300  # the reciprocal itself would overflow or vanish
        for j in range(f):
            unit[j] = np.float64(row[j]) / largest if exact and largest > 0.0 else np.float64(row[j]) * scale
        if metric == CORRELATION:
            mean = 0.0
            for j in range(f):
                mean += unit[j]
            mean /= f
            for j in range(f):
                unit[j] -= mean
        norm = np.sqrt(_sum_of_squares(unit))
        if norm <= 1e-12:  # a constant row leaves only the rounding error of its mean
            states[i] = max(states[i], NO_DIRECTION)
            norm = 1.0
        for j in range(f):
            unit[j] /= norm
            rough[i, j] = np.float32(unit[j])


@compiled
def _sum_of_squares(values: Doubles) -> float:
    s0 = s1 = s2 = s3 = 0.0
    n = values.shape[0]
    for k in range(n // 4):
        i = 4 * k
        s0 += values[i] * values[i]
        s1 += values[i + 1] * values[i + 1]
        s2 += values[i + 2] * values[i + 2]
        s3 += values[i + 3] * values[i + 3]
    for i in range(n - n % 4, n):
        s0 += values[i] * values[i]
    return (s0 + s1) + (s2 + s3)


def centred_rows(rows: Doubles) -> float:
    """Centre ``float64[n, f]`` rows for distances, in place, and scale them all together; return the scale.

    That leaves the order of distances as it is and keeps the squares small.
    """
    rows -= rows.mean(axis=0)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    typical = float(np.median(norms)) if norms.size else 0.0
    scale = typical or float(norms.max(initial=0.0)) or 1.0
    rows /= scale
    return scale


def slack_of(units: Doubles, metric: int) -> float:
    """How far a product of rough rows may be from the exact similarity.

    Rough rows are unit rows in float32; for distances, whose differences cancel, they are the rows themselves.

    A sum of ``f`` products of unit rows is off by at most ``f`` roundings, and, rounding errors being independent, by
    more than ``16 sqrt(f)`` of them with probability below 1e-55 (Higham and Mary 2019); 8 more for rounding the rows.
    """
    f = units.shape[1]
    roundings = min(float(f), 16.0 * np.sqrt(f)) + 8.0
    if metric == EUCLIDEAN:
        return float(4.0 * roundings * 2.0**-53 * np.einsum("ij,ij->i", units, units).max(initial=0.0))
    return float(roundings * 2.0**-24)


def products(queries: Floats, references: Floats, metric: int) -> Floats:
    """``float[n_queries, n_references]``: larger is more alike. Euclidean: the negative squared distance, scaled."""
    out: Floats = queries @ references.T
    if metric == ABS_COSINE:
        np.abs(out, out=out)
    elif metric == EUCLIDEAN:
        out *= 2.0
        out -= np.einsum("ij,ij->i", queries, queries)[:, None]
        out -= np.einsum("ij,ij->i", references, references)[None, :]
    return out


@compiled
def similarity_of(a: Doubles, b: Doubles, metric: int) -> float:
    """The exact similarity of one pair of unit rows: float64, the same order of additions wherever it is computed."""
    n = a.shape[0]
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    if metric == EUCLIDEAN:
        for i in range(n):
            d = a[i] - b[i]
            s0 -= d * d
        return s0
    # Eight sums: an addition need not wait for the one before it.
    for k in range(n // 8):
        i = 8 * k
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        s4 += a[i + 4] * b[i + 4]
        s5 += a[i + 5] * b[i + 5]
        s6 += a[i + 6] * b[i + 6]
        s7 += a[i + 7] * b[i + 7]
    for i in range(n - n % 8, n):
        s0 += a[i] * b[i]
    total = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
    return abs(total) if metric == ABS_COSINE else total


@compiled
def listed_similarities(units: Doubles, left: Integers, right: Integers, metric: int, out: Doubles) -> None:
    """Similarities of listed pairs of rows, for the few pairs that positives are."""
    for pair in range(left.shape[0]):
        out[pair] = similarity_of(units[left[pair]], units[right[pair]], metric)
