"""What chance does: one definition of p, and average precisions of random rankings.

A p-value is ``(1 + #{null >= observed}) / (1 + N)`` for ``N`` draws, and the tail itself for an exact distribution.
"At least" allows for the rounding of sums that were added in another order: see :func:`threshold_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled
from cytofast.kernels.rng import GAMMA, below, mixed, substream

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = NDArray[np.int32]
Singles = NDArray[np.float32]

TOLERANCE = 1e-10
"""Relative: a null value this little below the observed one equals it."""
CHUNK = 2048
"""Draws come in chunks with a stream each, so that threads may share them."""
LANES = 128
"""Rankings that are sorted at once, side by side in vector registers."""
NETWORK = 64
"""Positives up to which a sorting network is used."""
LADDER_TOLERANCE = 2.0**-18
"""Ladders are in float32: a null value this little below the observed one counts as reaching it."""
_0, _1 = np.float32(0.0), np.float32(1.0)
_NO_PAIRS = np.empty((0, 2), dtype=np.int64)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_ONE = np.uint64(1)
_SIX = np.uint64(6)
_63 = np.uint64(63)
_58 = np.uint64(58)
_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_POSITION = np.zeros(64, dtype=np.int64)
for _bit in range(64):
    _POSITION[((0x03F79D71B4CB0A89 << _bit) & 0xFFFFFFFFFFFFFFFF) >> 58] = _bit


def threshold_of(observed: Doubles, tolerance: float = TOLERANCE) -> Doubles:
    """Null values from here on are "at least" the observed ones."""
    return np.multiply(observed, 1.0 - tolerance)


def p_value(at_least: Integers, n: int) -> Doubles:
    """``(1 + #{null >= observed}) / (1 + N)``: the observed labelling is one of those that chance could give."""
    p: Doubles = (1.0 + at_least.astype(np.float64)) / (1.0 + n)
    return p


def count_at_least(null: Doubles, thresholds: Doubles) -> Integers:
    """How many null values reach each threshold."""
    if thresholds.size <= 2:
        return np.array([np.count_nonzero(null >= t) for t in thresholds], dtype=np.int64)
    reach: Integers = null.size - np.searchsorted(np.sort(null), thresholds, side="left")
    return reach


def benjamini_hochberg(p: Doubles) -> Doubles:
    """q-values: the smallest false discovery rate at which each hypothesis is rejected; NaN stays NaN and is not counted."""
    q = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


@cache
def network(n: int) -> Integers:
    """``int64[n_pairs, 2]``: exchanges that sort ``n`` values (Batcher's merge exchange; Knuth, Algorithm 5.2.2M)."""
    pairs: list[tuple[int, int]] = []
    whole = 1 << (max(2, n) - 1).bit_length() - 1
    p = whole
    while p > 0:
        q, r, d = whole, 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


@compiled
def _draw_places(first: Places, second: Places, key: np.uint64, at: np.uint64, bound: np.uint64) -> None:
    """Two positions from each 64 random bits, a column each."""
    for b in range(LANES):
        bits = mixed(key + (at + np.uint64(b)) * GAMMA)
        first[b] = np.int32(((bits >> _32) * bound) >> _32)
        second[b] = np.int32(((bits & _LOW) * bound) >> _32)


@compiled
def exchange(low: Places, high: Places) -> None:
    """Put the smaller value of each lane first."""
    for b in range(low.shape[0]):
        x, y = low[b], high[b]
        low[b] = min(x, y)
        high[b] = max(x, y)


@compiled
def add_gain(places: Places, rank: float, gains: Doubles) -> None:
    """Add the precision at the positive of this rank; positions count from 0."""
    for b in range(places.shape[0]):
        gains[b] += rank / np.float64(places[b] + 1)


@compiled
def _mark_equal(left: Places, right: Places, marks: Places) -> None:
    for b in range(LANES):
        marks[b] = marks[b] | np.int32(left[b] == right[b])


@compiled
def _add_sparse(m: int, total: int, pairs: Integers, key: np.uint64, out: Doubles) -> None:
    """Add average precisions of random rankings with few positives.

    A vector register holds one position of many rankings, so that a sorting network sorts them all at once. A ranking in
    which a position came twice is left out, which leaves every set of distinct positions equally likely.
    """
    places = np.empty((m + 1, LANES), dtype=np.int32)
    gains = np.empty(LANES, dtype=np.float64)
    marks = np.empty(LANES, dtype=np.int32)
    at = np.uint64(0)
    bound = np.uint64(total)
    n = 0
    while n < out.shape[0]:
        for k in range((m + 1) // 2):
            _draw_places(places[2 * k], places[2 * k + 1], key, at, bound)
            at += np.uint64(LANES)
        for q in range(pairs.shape[0]):
            exchange(places[pairs[q, 0]], places[pairs[q, 1]])
        gains[:] = 0.0
        marks[:] = 0
        for k in range(m):
            add_gain(places[k], k + 1.0, gains)
        for k in range(m - 1):
            _mark_equal(places[k], places[k + 1], marks)
        for b in range(LANES):
            if marks[b] == 0 and n < out.shape[0]:
                out[n] += gains[b] / m
                n += 1


@compiled
def _many_positions(
    m: int, total: int, key: np.uint64, at: np.uint64, words: NDArray[np.uint64]
) -> tuple[float, np.uint64]:
    """Sum of precisions of ``m`` distinct random positions: positions are bits, which are read off in order."""
    bound = np.uint64(total)
    n_words = (total + 63) // 64
    for w in range(n_words):
        words[w] = np.uint64(0)
    absent = 2 * m > total
    left = total - m if absent else m
    while left > 0:
        place = np.uint64(below(key, at, bound))
        at += _ONE
        bit = _ONE << (place & _63)
        if words[place >> _SIX] & bit == 0:
            words[place >> _SIX] |= bit
            left -= 1
    gain = 0.0
    found = 0
    for w in range(n_words):
        word = ~words[w] if absent else words[w]
        if w == n_words - 1 and total % 64:
            word &= (_ONE << np.uint64(total % 64)) - _ONE
        while word != 0:
            low = word & (~word + _ONE)
            found += 1
            gain += found / (64 * w + _POSITION[(low * _BRUIJN) >> _58] + 1)
            word ^= low
    return gain, at


@compiled
def _add_dense(m: int, total: int, key: np.uint64, out: Doubles) -> None:
    words = np.empty((total + 63) // 64, dtype=np.uint64)
    at = np.uint64(0)
    for i in range(out.shape[0]):
        gain, at = _many_positions(m, total, key, at, words)
        out[i] += gain / m


@compiled
def _add_precisions(m: int, total: int, pairs: Integers, key: np.uint64, slot: int, first: int, out: Doubles) -> None:
    for chunk in range((out.shape[0] + CHUNK - 1) // CHUNK):
        stream = substream(substream(key, np.uint64(first // CHUNK + chunk)), np.uint64(slot))
        part = out[chunk * CHUNK : (chunk + 1) * CHUNK]
        if m == total:
            part += 1.0
        elif pairs.shape[0] > 0 or m == 1:
            _add_sparse(m, total, pairs, stream, part)
        else:
            _add_dense(m, total, stream, part)


def draw_means(configurations: Sequence[tuple[int, int]], key: int, first: int, out: Doubles) -> None:
    """Means of the average precisions of independent random rankings, one ranking a query.

    Parameters
    ----------
    configurations
        Positives and candidates of each query.
    key, first
        Draw ``first + i`` of stream ``key`` fills ``out[i]``; ``first`` is a multiple of :data:`CHUNK`.
    """
    out[:] = 0.0
    for slot, (m, total) in enumerate(configurations):
        sparse = 1 < m <= NETWORK and m * m <= 2 * total
        _add_precisions(m, total, network(m) if sparse else _NO_PAIRS, np.uint64(key), slot, first, out)
    out /= len(configurations)


def ladder_of(n_positives: int, n_total: int) -> int:
    """The length of the ladder that serves so many positives (16, 32 or 64), or 0 where there is none."""
    for length in (16, 32, 64):
        # Below, a network is faster; in short lists too many ladders would hold a position twice.
        if length // 2 < n_positives <= length and length * length <= n_total < 2**24:
            return length
    return 0


@compiled
def _draw_steps(first: Singles, second: Singles, key: np.uint64, at: np.uint64, bound: np.uint64) -> None:
    for b in range(LANES):
        bits = mixed(key + (at + np.uint64(b)) * GAMMA)
        first[b] = np.float32(np.int32(((bits >> _32) * bound) >> _32))
        second[b] = np.float32(np.int32(((bits & _LOW) * bound) >> _32))


@compiled
def insert(earlier: Singles, inverse: Singles, places: Singles, ranks: Singles, beyond: Singles) -> None:
    """Compare a new position with four earlier ones: is it behind them, do they step back."""
    for b in range(LANES):
        x = places[b]
        e0, e1, e2, e3 = earlier[0, b], earlier[1, b], earlier[2, b], earlier[3, b]
        v0, v1, v2, v3 = inverse[0, b], inverse[1, b], inverse[2, b], inverse[3, b]
        ranks[b] += ((_1 if e0 < x else _0) + (_1 if e1 < x else _0)) + (
            (_1 if e2 < x else _0) + (_1 if e3 < x else _0)
        )
        beyond[b] += ((v0 if e0 > x else _0) + (v1 if e1 > x else _0)) + (
            (v2 if e2 > x else _0) + (v3 if e3 > x else _0)
        )


@compiled
def _keep_apart(earlier: Singles, places: Singles, apart: Singles) -> None:
    for b in range(LANES):
        x = places[b]
        e0, e1, e2, e3 = earlier[0, b], earlier[1, b], earlier[2, b], earlier[3, b]
        # Below 2^24 each, so the product of four differences does not overflow; 0 where one is.
        apart[b] = min(apart[b], abs(((e0 - x) * (e1 - x)) * ((e2 - x) * (e3 - x))))


@compiled
def take_step(places: Singles, inverse: Singles, ranks: Singles, beyond: Singles, gains: Singles) -> None:
    """Add the precision at a new position, and what those behind it lose and gain."""
    for b in range(LANES):
        value = _1 / (places[b] + _1)
        inverse[b] = value
        gains[b] += beyond[b] + ranks[b] * value


@compiled
def start_steps(places: Singles, pairs: Integers, inverse: Singles, gains: Singles) -> None:
    """Sort the first positions with a network and add up their precisions."""
    for q in range(pairs.shape[0]):
        exchange(places[pairs[q, 0]], places[pairs[q, 1]])
    for k in range(places.shape[0]):
        rank = np.float32(k + 1)
        for b in range(LANES):
            value = _1 / (places[k, b] + _1)
            inverse[k, b] = value
            gains[b] += rank * value


@compiled
def _add_ladder(length: int, total: int, wanted: Integers, pairs: Integers, key: np.uint64, out: Doubles) -> None:
    """Add average precisions of random rankings with ``wanted[i]`` positives to ``out[i]``, for all ``i`` at once.

    Positions are drawn one after the other. A new one sets those beyond it a rank back, and adds its own precision, so each
    step of a ladder is a random ranking with one positive more. A step is left out where a position came twice up to it, so
    what ``out[i]`` gets does not depend on the other sizes. In float32, right to :data:`LADDER_TOLERANCE`.
    """
    half, top = length // 2, wanted[-1]
    # Three positions behind every list, never equal to a drawn one, fill the last four.
    places = np.full((length + 3, LANES), np.float32(-1.0), dtype=np.float32)
    inverse = np.zeros((length + 3, LANES), dtype=np.float32)
    table = np.empty((wanted.shape[0], LANES), dtype=np.float32)
    gains, beyond = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    ranks, apart = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    drawn = np.empty((length, LANES), dtype=np.float32)
    filled = np.zeros(wanted.shape[0], dtype=np.int64)
    size = out.shape[1]
    at = np.uint64(0)
    while filled.min() < size:
        for k in range((top + 1) // 2):
            _draw_steps(drawn[2 * k], drawn[2 * k + 1], key, at + np.uint64(k * LANES), np.uint64(total))
        at += np.uint64(half * LANES)
        gains[:] = _0
        apart[:] = _1
        # Nobody asks for the first half.
        start_steps(drawn[:half], pairs, inverse, gains)
        for k in range(1, half):
            for b in range(LANES):
                apart[b] = min(apart[b], drawn[k, b] - drawn[k - 1, b])
        places[:half] = drawn[:half]
        places[half:] = np.float32(-1.0)
        inverse[half:] = _0
        step = 0
        for k in range(half, top):
            # What fills a group of four lies before everything: taken off again.
            ranks[:] = np.float32(1 - (4 - k % 4) % 4)
            beyond[:] = _0
            for i in range(0, k, 4):
                insert(places[i : i + 4], inverse[i : i + 4], drawn[k], ranks, beyond)
                _keep_apart(places[i : i + 4], drawn[k], apart)
            places[k] = drawn[k]
            take_step(drawn[k], inverse[k], ranks, beyond, gains)
            if wanted[step] == k + 1:
                for b in range(LANES):
                    table[step, b] = gains[b] / np.float32(k + 1) if apart[b] > _0 else np.float32(-1.0)
                step += 1
        for i in range(wanted.shape[0]):
            kept = 0
            for b in range(LANES):
                table[i, kept] = table[i, b]
                kept += table[i, b] >= _0
            kept = min(kept, size - filled[i])
            place = filled[i]
            for b in range(kept):
                out[i, place + b] += table[i, b]
            filled[i] = place + kept


def climb_means(
    length: int, n_total: int, designs: Sequence[tuple[int, int]], key: int, first: int, out: Doubles
) -> None:
    """Like :func:`draw_means`, for designs whose queries all have the same numbers; the designs share their draws.

    Parameters
    ----------
    length
        See :func:`ladder_of`.
    n_total
        Candidates.
    designs
        Positives and queries of each design, rising. Draws of a design do not depend on the others in the list.
    key, first
        As for :func:`draw_means`; ``out`` is ``float64[n_designs, n_draws]``.
    """
    out[:] = 0.0
    sizes = np.array([m for m, _ in designs], dtype=np.int64)
    queries = np.array([k for _, k in designs], dtype=np.int64)
    pairs = network(length // 2)
    for start in range(0, out.shape[1], CHUNK):
        # Compiled functions give Python back plain integers.
        stream = np.uint64(substream(np.uint64(key), np.uint64((first + start) // CHUNK)))
        for slot in range(int(queries.max())):
            asking = np.flatnonzero(queries > slot)
            wanted, which = np.unique(sizes[asking], return_inverse=True)
            part = np.zeros((len(wanted), min(CHUNK, out.shape[1] - start)))
            _add_ladder(length, n_total, wanted, pairs, np.uint64(substream(stream, np.uint64(slot))), part)
            out[asking, start : start + part.shape[1]] += part[which]
    out /= queries[:, None]
