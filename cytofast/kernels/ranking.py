"""Average precision of ranked rows. What a tie means is defined here, once.

A query ranks its positives and negatives together by similarity, best first. Average precision is the mean, over its
positives, of (positives up to here) / (rank here). Lists are never sorted: for each distinct similarity of a positive,
negatives above it and level with it are counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled
from cytofast.kernels.similarity import similarity_of

Doubles = NDArray[np.float64]
Floats = NDArray[np.floating]
Integers = NDArray[np.int64]
Codes = NDArray[np.int32]

_HALF = 2.0**-33
_LITTLE = 2048
"""Up to so many comparisons, comparing every negative with every level (vectorised) beats counting in buckets."""
_STRIDE = 128
"""Negatives are compared in pieces; only a piece with one too near to call is looked at again."""
_BUCKETS = 1024


@compiled
def expected_gain(positives_above: int, negatives_above: int, positives: int, negatives: int) -> float:
    """Expected sum of precisions at ``positives`` that are tied with ``negatives``, every order equally likely.

    At position ``i`` of the ``n`` tied there is a positive with probability ``positives / n``, and then
    ``(i - 1) (positives - 1) / (n - 1)`` more are expected before it.
    """
    n = positives + negatives
    if negatives == 0 or n == 1:
        gain = 0.0
        for i in range(1, positives + 1):
            gain += (positives_above + i) / (positives_above + negatives_above + i)
        return gain
    share = positives / n
    slope = (positives - 1) / (n - 1)
    gain = 0.0
    for i in range(1, n + 1):
        gain += (positives_above + 1 + (i - 1) * slope) / (positives_above + negatives_above + i)
    return share * gain


@compiled
def count_around(
    line: Floats,
    who: Integers,
    levels: Doubles,
    n_levels: int,
    slack: float,
    units: Doubles,
    query: int,
    metric: int,
    places: Codes,
    near: Integers,
    above: Integers,
    level: Integers,
) -> None:
    """For each of the falling ``levels``: how many negatives lie above it, and how many in its cell.

    ``line`` are rough similarities of the profiles ``who``, minus infinity for those that are no negatives; those within
    ``slack`` of a level are computed exactly. ``places`` and ``near`` are room for as many numbers.
    """
    margin = slack + _HALF
    n = line.shape[0]
    if n_levels > 2 and n * n_levels > _LITTLE:
        _count_in_buckets(line, who, levels, n_levels, margin, units, query, metric, places, near, above, level)
        return
    for k in range(n_levels):
        high, low = line.dtype.type(levels[k] + margin), line.dtype.type(levels[k] - margin)
        over: int = 0
        level[k] = 0
        for start in range(0, n, _STRIDE):
            # A slice counts from 0: with a start that could be negative the loop is not vectorised.
            piece = line[start : min(start + _STRIDE, n)]
            sure, reach = _counted(piece, high, low)
            over += int(sure)
            if reach > sure:
                for j in range(piece.shape[0]):
                    if piece[j] >= low and piece[j] <= high:
                        exact = similarity_of(units[query], units[who[start + j]], metric)
                        over += exact > levels[k] + _HALF
                        level[k] += abs(exact - levels[k]) <= _HALF
        above[k] = over


@compiled
def _counted(line: Floats, high: np.floating, low: np.floating) -> tuple[np.int32, np.int32]:
    """How many values are above ``high``, and how many reach ``low``."""
    # Numba widens sums of int32 to int64; cast back, or half of each vector register is lost.
    over = np.int32(0)
    reach = np.int32(0)
    for j in range(line.shape[0]):
        over = np.int32(over + np.int32(line[j] > high))
        reach = np.int32(reach + np.int32(line[j] >= low))
    return over, reach


@compiled
def _bucket(value: np.floating, low: np.floating, scale: np.floating) -> np.int32:
    """Bucket of a similarity: never falling with it; 0 is below all levels, the last above them."""
    kind = type(value)
    place = (value - low) * scale + kind(1.0)
    return np.int32(min(place, kind(_BUCKETS - 1))) if place > kind(0.0) else np.int32(0)


@compiled
def _count_in_buckets(
    line: Floats,
    who: Integers,
    levels: Doubles,
    n_levels: int,
    margin: float,
    units: Doubles,
    query: int,
    metric: int,
    places: Codes,
    near: Integers,
    above: Integers,
    level: Integers,
) -> None:
    """Count the negatives of each bucket; look singly only at those whose bucket comes near a level."""
    n = line.shape[0]
    low, high = line.dtype.type(levels[n_levels - 1] - margin), line.dtype.type(levels[0] + margin)
    if not high > low:
        # Levels too large for their margin to be seen.
        for j in range(n):
            near[j] = j
        _count_by_search(line, who, near, n, levels, n_levels, margin, units, query, metric, above, level)
        return
    scale = line.dtype.type(_BUCKETS - 3) / (high - low)
    counts = np.zeros(_BUCKETS, dtype=np.int32)
    contested = np.zeros(_BUCKETS, dtype=np.uint8)
    for k in range(n_levels):
        first = _bucket(line.dtype.type(levels[k] - margin), low, scale)
        last = _bucket(line.dtype.type(levels[k] + margin), low, scale)
        contested[first : last + 1] = 1
    for j in range(n):
        places[j] = _bucket(line[j], low, scale)
    found = 0
    for j in range(n):
        place = places[j]
        counts[place] += 1
        if contested[place]:
            near[found] = j
            found += 1
    _count_by_search(line, who, near, found, levels, n_levels, margin, units, query, metric, above, level)
    place, sure = _BUCKETS - 1, 0
    for k in range(n_levels):
        own = _bucket(line.dtype.type(levels[k]), low, scale)
        while place > own:
            sure += 0 if contested[place] else counts[place]
            place -= 1
        above[k] += sure


@compiled
def _count_by_search(
    line: Floats,
    who: Integers,
    near: Integers,
    n_near: int,
    levels: Doubles,
    n_levels: int,
    margin: float,
    units: Doubles,
    query: int,
    metric: int,
    above: Integers,
    level: Integers,
) -> None:
    for k in range(n_levels):
        above[k] = 0
        level[k] = 0
    for i in range(n_near):
        j = near[i]
        value: float = np.float64(line[j])
        k = _first_level_at_or_below(levels, n_levels, value + margin)
        if k < n_levels and levels[k] >= value - margin:
            value = similarity_of(units[query], units[who[j]], metric)
        k = _first_level_at_or_below(levels, n_levels, value + _HALF)
        if k < n_levels:
            if levels[k] >= value - _HALF:
                level[k] += 1
                k += 1
            if k < n_levels:
                above[k] += 1
    for k in range(1, n_levels):
        # What is above a level, or level with it, is above every later one.
        above[k] += above[k - 1]


@compiled
def _first_level_at_or_below(levels: Doubles, n_levels: int, value: float) -> int:
    first, last = 0, n_levels
    while first < last:
        middle = (first + last) // 2
        if levels[middle] <= value:
            last = middle
        else:
            first = middle + 1
    return first


@compiled
def falling_levels(values: Doubles, levels: Doubles, times: Integers) -> int:
    """Put values on the grid; write the distinct ones, falling, and how often each occurs; return how many they are."""
    ordered = np.sort(values)
    n = 0
    for i in range(ordered.shape[0] - 1, -1, -1):
        value = np.rint(ordered[i] * 4294967296.0) / 4294967296.0
        if n > 0 and levels[n - 1] == value:
            times[n - 1] += 1
        else:
            levels[n] = value
            times[n] = 1
            n += 1
    return n


@compiled
def gained(above: Integers, level: Integers, times: Integers, n_levels: int, optimistic: bool) -> float:
    """Average precision from the negatives above and level with each level of the positives."""
    total = 0.0
    before = 0
    for k in range(n_levels):
        total += expected_gain(before, above[k], times[k], 0 if optimistic else level[k])
        before += times[k]
    return total / before if before > 0 else np.nan


@compiled
def score_tile(
    similarities: Floats,
    slack: float,
    units: Doubles,
    metric: int,
    rows: Integers,
    candidates: Integers,
    codes: Integers,
    like_start: Integers,
    like: Integers,
    sharing_start: Integers,
    sharing: Integers,
    instance_start: Integers,
    positive_start: Integers,
    positive_values: Doubles,
    optimistic: bool,
    precision: Doubles,
    n_negatives: Integers,
) -> None:
    """Average precision of the query instances of a tile's rows.

    Parameters
    ----------
    similarities, slack
        ``float[n_tile, n_candidates]``, rough, and how far they may be off. Those of candidates that are no negatives of a
        row are overwritten.
    units, metric
        The profiles, for the exact similarities of what is too near to call.
    rows, candidates
        Which profile a tile row or column is.
    codes, like_start, like
        In each column ``c`` of the metadata in which a negative differs from its query, ``codes[c, row]`` is that of the
        query, and the tile's columns of code ``k`` begin in ``like[c]`` at ``like_start[c, k]``.
    sharing_start, sharing
        For each tile row the columns of profiles that share a label with it and so are no negatives; empty without multilabels.
    instance_start
        Instances of each tile row (a profile with three labels asks three questions).
    positive_start, positive_values
        Exact similarities of the positives of each instance.
    """
    width = candidates.shape[0]
    most = 1
    for i in range(positive_start.shape[0] - 1):
        most = max(most, positive_start[i + 1] - positive_start[i])
    levels = np.empty(most, dtype=np.float64)
    times, above, level = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
    places, near = np.empty(width, dtype=np.int32), np.empty(width, dtype=np.int64)
    for row in range(rows.shape[0]):
        query = rows[row]
        line = similarities[row]
        # Minus infinity is below every level, so the negatives need not be moved together.
        n = width
        for c in range(codes.shape[0]):
            code = codes[c, row]
            for k in range(like_start[c, code], like_start[c, code + 1]):
                n -= line[like[c, k]] != -np.inf
                line[like[c, k]] = -np.inf
        if sharing.shape[0] > 0:
            for k in range(sharing_start[row], sharing_start[row + 1]):
                n -= line[sharing[k]] != -np.inf
                line[sharing[k]] = -np.inf
        for i in range(instance_start[row], instance_start[row + 1]):
            found = falling_levels(positive_values[positive_start[i] : positive_start[i + 1]], levels, times)
            count_around(line, candidates, levels, found, slack, units, query, metric, places, near, above, level)
            precision[i] = gained(above, level, times, found, optimistic)
            n_negatives[i] = n


def expected_precision(n_positives: Integers, n_total: Integers) -> Doubles:
    """Average precision that a random ranking has on average: ``((M-1)/(L-1) (L-H_L) + H_L) / L``, exact for finite lists.

    ``H_L`` is the harmonic number. NaN without positives, 1 where everything is positive.
    """
    m, n = n_positives.astype(np.float64), n_total.astype(np.float64)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, int(n_total.max(initial=0)) + 1))])[n_total]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = ((m - 1) / (n - 1) * (n - harmonic) + harmonic) / n
    mean = np.where(n_positives == n_total, 1.0, mean)
    return np.where(n_positives == 0, np.nan, mean)


def normalized_precision(precision: Doubles, n_positives: Integers, n_total: Integers) -> Doubles:
    """``(AP - chance) / (1 - chance)`` in [-1, 1]: 0 is chance, 1 is perfect; 0 where everything is positive."""
    chance = expected_precision(n_positives, n_total)
    return np.clip((precision - chance) / np.maximum(1.0 - chance, 1e-10), -1.0, 1.0)


@compiled
def is_positive(query: int, other: int, differ: Codes) -> bool:
    """Whether two members of a positive group are a positive pair: not the same profile, different in each column."""
    if query == other:
        return False
    for c in range(differ.shape[0]):  # noqa: SIM110  (a loop is what Numba compiles best)
        if differ[c, query] == differ[c, other]:
            return False
    return True


@compiled
def count_positives(
    rows: Integers, groups: Integers, start: Integers, members: Integers, differ: Codes, counts: Integers
) -> None:
    """How many positives each instance has."""
    for i in range(rows.shape[0]):
        for m in range(start[groups[i]], start[groups[i] + 1]):
            counts[i] += is_positive(rows[i], members[m], differ)


@compiled
def fill_positives(
    rows: Integers,
    groups: Integers,
    start: Integers,
    members: Integers,
    differ: Codes,
    positive_start: Integers,
    left: Integers,
    right: Integers,
    slots: Integers,
) -> None:
    """List the positives of each instance: query, positive, and the positive's place in its group."""
    for i in range(rows.shape[0]):
        at = positive_start[i]
        for m in range(start[groups[i]], start[groups[i] + 1]):
            if is_positive(rows[i], members[m], differ):
                left[at] = rows[i]
                right[at] = members[m]
                slots[at] = m - start[groups[i]]
                at += 1
