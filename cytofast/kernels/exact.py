"""Exact distributions of average precision under random ranking, where they are small enough to write out.

Of ``m`` positives among ``n`` candidates every one of the ``C(n, m)`` sets of positions is equally likely. A distribution
is a pair of arrays: distinct values, falling, and their probabilities.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.chance import TOLERANCE
from cytofast.kernels.jit import compiled

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Distribution = tuple[Doubles, Doubles]

_EMPTY: Distribution = (np.zeros(0), np.zeros(0))
MOST_OUTCOMES = 250_000
"""Sets of positions, or pairs of values to add, that are still written out. Fixed: no answer depends on the company it is in."""
MOST_TAIL = 4_000
"""Outcomes of an upper tail that are looked for before it is left to sampling."""


@compiled
def _walk(m: int, total: int, least: float, out: Doubles) -> int:
    """Write sums of precisions of all sets of positions that reach ``least``; return how many, or -1 if ``out`` is too short.

    Depth first, positions rising. A branch is left as soon as even neighbouring positions for the rest would not reach.
    """
    places = np.empty(m + 1, dtype=np.int64)
    sums = np.zeros(m + 1, dtype=np.float64)
    found = 0
    depth = 1
    places[0] = 0
    places[1] = 1
    while depth > 0:
        place = places[depth]
        best = sums[depth - 1]
        for k in range(depth, m + 1):
            best += k / (place + k - depth)
        if place > total - (m - depth) or best < least:
            depth -= 1
            if depth > 0:
                places[depth] += 1
            continue
        sums[depth] = sums[depth - 1] + depth / place
        if depth == m:
            if found == out.shape[0]:
                return -1
            out[found] = sums[m]
            found += 1
            places[depth] += 1
        else:
            depth += 1
            places[depth] = place + 1
    return found


def merged(values: Doubles, weights: Doubles) -> Distribution:
    """Distinct values, falling, with the weights of equal ones added."""
    order = np.argsort(values, kind="stable")[::-1]
    values, weights = values[order], weights[order]
    new = np.empty(len(values), dtype=np.bool_)
    new[:1] = True
    new[1:] = values[1:] < values[:-1] * (1.0 - TOLERANCE)
    first = np.flatnonzero(new)
    return values[first], np.add.reduceat(weights, first) if len(first) else weights


def upper_part(n_positives: int, n_total: int, least: float, most: int) -> Distribution | None:
    """The values of average precision that are at least ``least``; ``None`` if they are more than ``most`` sets."""
    outcomes = comb(n_total, n_positives)
    if outcomes <= MOST_OUTCOMES and least > 0.0:
        # One list serves every threshold.
        values, probabilities = whole(n_positives, n_total) or _EMPTY
        rising = values[::-1]
        reach = len(values) - int(np.searchsorted(rising, least * (1.0 - TOLERANCE), side="left"))
        return (values[:reach], probabilities[:reach]) if reach <= most else None
    out = np.empty(min(most, outcomes))
    # A sum in another order may come out a little smaller.
    found = _walk(n_positives, n_total, least * n_positives * (1.0 - TOLERANCE), out)
    if found < 0:
        return None
    return merged(out[:found] / n_positives, np.full(found, 1.0 / outcomes))


@lru_cache(maxsize=64)
def whole(n_positives: int, n_total: int) -> Distribution | None:
    """The distribution of average precision; ``None`` if there are too many sets of positions."""
    if comb(n_total, n_positives) > MOST_OUTCOMES:
        return None
    return upper_part(n_positives, n_total, 0.0, MOST_OUTCOMES)


def sum_of(a: Distribution, b: Distribution) -> Distribution | None:
    """The distribution of a sum of two independent values; ``None`` if too many pairs would have to be added."""
    if len(a[0]) * len(b[0]) > MOST_OUTCOMES:
        return None
    return merged((a[0][:, None] + b[0][None, :]).ravel(), (a[1][:, None] * b[1][None, :]).ravel())


def mean_distribution(configurations: list[tuple[int, int]]) -> Distribution | None:
    """The distribution of the mean average precision of independent queries ``(positives, candidates)``."""
    total: Distribution | None = None
    for m, n in configurations:
        one = whole(m, n)
        if one is None:
            return None
        total = one if total is None else sum_of(total, one)
        if total is None:
            return None
    return None if total is None else (total[0] / len(configurations), total[1])


def tail_of(distribution: Distribution, thresholds: Doubles) -> Doubles:
    """Probability of each threshold or more."""
    values, probabilities = distribution
    reach = np.searchsorted(-values, -thresholds, side="right")
    tails: Doubles = np.minimum(np.concatenate([[0.0], np.cumsum(probabilities)])[reach], 1.0)
    return tails


@compiled
def _count_sums(
    values: Doubles, tails: Doubles, probabilities: Doubles, starts: Integers, least: float, most: int
) -> float:
    """Probability that one value of each list adds up to ``least``; -1 if more than ``most`` combinations must be visited."""
    lists = starts.shape[0] - 1
    rest = np.zeros(lists + 1, dtype=np.float64)
    for k in range(lists - 1, -1, -1):
        rest[k] = rest[k + 1] + values[starts[k]]
    at = np.zeros(lists, dtype=np.int64)
    sums, weights = np.zeros(lists + 1, dtype=np.float64), np.ones(lists + 1, dtype=np.float64)
    total = 0.0
    visited = 0
    depth = 0
    at[0] = starts[0]
    while depth >= 0:
        visited += 1
        if visited > most:
            return -1.0
        if depth == lists - 1:
            needed = least - sums[depth]
            low, high = starts[depth], starts[depth + 1]
            while low < high:
                middle = (low + high) // 2
                if values[middle] >= needed:
                    low = middle + 1
                else:
                    high = middle
            if low > starts[depth]:
                total += weights[depth] * tails[low - 1]
            depth -= 1
            if depth >= 0:
                at[depth] += 1
            continue
        i = at[depth]
        if i >= starts[depth + 1] or sums[depth] + values[i] + rest[depth + 1] < least:
            depth -= 1
            if depth >= 0:
                at[depth] += 1
            continue
        sums[depth + 1] = sums[depth] + values[i]
        weights[depth + 1] = weights[depth] * probabilities[i]
        depth += 1
        at[depth] = starts[depth]
    return total


def mean_tail(configurations: list[tuple[int, int]], threshold: float) -> float | None:
    """Probability that the mean of independent queries reaches a high threshold; ``None`` if that is not cheap to find out."""
    queries = len(configurations)
    # If all others were perfect, this one would still have to reach:
    least = threshold * queries - (queries - 1)
    if least <= 0.0:
        return None
    parts: dict[tuple[int, int], tuple[Doubles, Doubles, Doubles]] = {}
    # Of the values that could take part at all, so many are too many to be combined.
    most = MOST_TAIL if queries == 1 else MOST_TAIL // 2
    for configuration in dict.fromkeys(configurations):
        part = upper_part(*configuration, least, most)
        if part is None or not len(part[0]):
            return None
        parts[configuration] = (*part, np.cumsum(part[1]))
    known = [parts[configuration] for configuration in configurations]
    starts = np.concatenate([[0], np.cumsum([len(part[0]) for part in known])]).astype(np.int64)
    values, probabilities, tails = (np.concatenate([part[i] for part in known]) for i in (0, 1, 2))
    found = _count_sums(values, tails, probabilities, starts, threshold * queries * (1.0 - TOLERANCE), MOST_TAIL)
    return None if found < 0 else float(found)
