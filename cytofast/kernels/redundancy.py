"""Which features repeat another: choices on a matrix of correlations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled

Doubles = NDArray[np.float64]
TIE = 1e-9
"""Sums of absolute correlations that differ by less are the same: the rest is rounding."""


@compiled
def absolute_sums(r: Doubles) -> Doubles:
    """``float64[f]``: the sum of |r| of each feature with all features, undefined ones skipped."""
    f = r.shape[0]
    out = np.zeros(f)
    for i in range(f):
        total = 0.0
        for j in range(f):
            if not np.isnan(r[i, j]):
                total += abs(r[i, j])
        out[i] = total
    return out


@compiled
def close_calls(
    r: Doubles, threshold: float, margin: float, absolute: bool, sums: Doubles, sum_margin: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What single precision cannot decide.

    Returns the pairs (``int64[k, 2]``, lower triangle) within ``margin`` of the threshold, and the features that are in
    a pair over it with sums of |r| within ``sum_margin`` of each other.
    """
    f = r.shape[0]
    unsure = np.zeros(f, dtype=np.bool_)
    count = 0
    for i in range(f):
        for j in range(i):
            value = abs(r[i, j]) if absolute else r[i, j]
            if abs(value - threshold) < margin:
                count += 1
            if value > threshold - margin and abs(sums[i] - sums[j]) < sum_margin:
                unsure[i] = True
                unsure[j] = True
    pairs = np.empty((count, 2), dtype=np.int64)
    count = 0
    for i in range(f):
        for j in range(i):
            value = abs(r[i, j]) if absolute else r[i, j]
            if abs(value - threshold) < margin:
                pairs[count, 0], pairs[count, 1] = i, j
                count += 1
    return pairs, unsure


def levels(sums: Doubles) -> NDArray[np.int64]:
    """Order of the sums, ``int64[f]``; sums that differ only by rounding share a level."""
    order = np.argsort(sums, kind="stable")
    steps = np.diff(sums[order], prepend=sums[order[:1]]) > TIE
    out = np.empty(len(sums), dtype=np.int64)
    out[order] = np.cumsum(steps)
    return out


@compiled
def losers_of_pairs(r: Doubles, level: NDArray[np.int64], threshold: float, absolute: bool) -> NDArray[np.bool_]:
    """Of every pair over the threshold, the one with the larger sum of |r| goes; at equal sums the later one.

    All pairs are judged at once, so a chain may lose two features where one would do.
    """
    f = r.shape[0]
    dropped = np.zeros(f, dtype=np.bool_)
    for i in range(f):
        for j in range(i):
            value = abs(r[i, j]) if absolute else r[i, j]
            if value > threshold:
                if level[i] >= level[j]:
                    dropped[i] = True
                else:
                    dropped[j] = True
    return dropped


@compiled
def losers_in_turn(r: Doubles, order: NDArray[np.int64], threshold: float, absolute: bool) -> NDArray[np.bool_]:
    """In this order, a feature goes if it is over the threshold with one that was kept before it."""
    dropped = np.zeros(r.shape[0], dtype=np.bool_)
    for p in range(len(order)):
        i = order[p]
        for q in range(p):
            j = order[q]
            if not dropped[j]:
                value = abs(r[i, j]) if absolute else r[i, j]
                if value > threshold:
                    dropped[i] = True
                    break
    return dropped


@compiled
def partners(
    r: Doubles, dropped: NDArray[np.bool_], level: NDArray[np.int64], threshold: float, absolute: bool
) -> NDArray[np.int64]:
    """Whom each feature repeats, ``int64[f]``; -1 is nobody.

    Of a dropped feature the most correlated one that stayed in its place, else one that beat it; of a kept one the most
    correlated of all.
    """
    f = r.shape[0]
    out = np.full(f, -1, dtype=np.int64)
    for i in range(f):
        best, stayed = -np.inf, False
        for j in range(f):
            value = abs(r[i, j]) if absolute else r[i, j]
            if i == j or np.isnan(value):
                continue
            if dropped[i]:
                if not value > threshold:
                    continue
                beaten = level[j] < level[i] or (level[j] == level[i] and j < i)
                if not beaten and dropped[j]:
                    continue
                if (not dropped[j] and not stayed) or (dropped[j] == (not stayed) and value > best + TIE):
                    best, stayed, out[i] = value, not dropped[j], j
            elif value > best + TIE:
                best, out[i] = value, j
    return out
