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


def unit_rows(rows: Doubles, metric: int) -> tuple[NDArray[np.bool_], float]:
    """Bring ``float64[n, f]`` rows, in place, to where a product is the similarity; true marks rows without a direction.

    Cosine: unit length. Correlation: centred, then unit length. Euclidean: centred and scaled all together, which
    leaves the order of distances as it is and keeps the squares small; the scale is returned.
    """
    if metric == EUCLIDEAN:
        rows -= rows.mean(axis=0)
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        typical = float(np.median(norms)) if norms.size else 0.0
        scale = typical or float(norms.max(initial=0.0)) or 1.0
        rows /= scale
        return np.zeros(len(rows), dtype=np.bool_), scale
    largest = np.abs(rows).max(axis=1, initial=0.0)
    # Scaled first, so that squares of huge or tiny values neither overflow nor vanish.
    rows /= np.where(largest > 0, largest, 1.0)[:, None]
    if metric == CORRELATION:
        rows -= rows.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    # A constant row leaves only the rounding error of its mean.
    empty: NDArray[np.bool_] = norms <= 1e-12
    rows /= np.where(empty, 1.0, norms)[:, None]
    return empty, 1.0


def rough_rows(units: Doubles, metric: int) -> Floats:
    """What products are made of: float32, but for distances, whose differences cancel, the rows themselves."""
    return units if metric == EUCLIDEAN else units.astype(np.float32)


def slack_of(units: Doubles, metric: int) -> float:
    """How far a product of :func:`rough_rows` may be from the exact similarity.

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
