"""Ranks, counts of equal values, and rounding to digits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled, over_ranges

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
_SLAB_VALUES = 1 << 17
_SAMPLE = 15
_FEW = 1 << 14
"""Up to so many values, keys of two bytes tell nearly all of them apart."""
_ONE, _INFINITY = (int(number.view(np.int64)) for number in np.array([1.0, np.inf]))
"""Their bits."""
_MOST_MOVES = 16
"""Places that values may move after the sort of keys, on average, before values that differ little are sorted anew."""


@compiled
def _middle(row: Floats) -> tuple[float, float]:
    """The median of some values and their typical, positive distance from it, whatever outliers there are."""
    n = len(row)
    some = np.empty(_SAMPLE, dtype=np.float64)
    for k in range(_SAMPLE):
        some[k] = np.float64(row[k * n // _SAMPLE])
    # NaN goes last.
    centre = np.sort(some)[_SAMPLE // 2]
    centre = centre if abs(centre) < 1e290 else 0.0
    distances = np.sort(np.abs(some - centre))
    for k in range(_SAMPLE // 2, _SAMPLE):
        if 1e-290 < distances[k] < 1e290:
            return centre, distances[k]
    return centre, 1.0


@compiled
def _order(
    row: Floats, digits: int, keys: NDArray[np.uint64], room: NDArray[np.uint64], counts: NDArray[np.int32]
) -> bool:
    """Sort positions by keys of so many bytes, a byte at a time; returns whether ``room`` holds the result.

    A key never falls while the value rises. It stands above the position, in one whole number. Of ``1 + distance from
    the middle / typical distance`` the leading bits are taken, which are linear near the middle and logarithmic far from
    it: so values of a bell with far outliers spread evenly over the keys, and every byte tells them apart.
    """
    n = len(row)
    centre, typical = _middle(row)
    scale = 1.0 / typical
    # Loops that do one thing each are what the compiler makes vectors of.
    sizes, bits = room.view(np.float64), room.view(np.int64)
    for k in range(n):
        sizes[k] = 1.0 + abs(np.float64(row[k]) - centre) * scale
    largest = _ONE
    for k in range(n):
        # Of positive numbers the bits rise as they do. Neither NaN nor infinity sets the range.
        largest = max(largest, bits[k] if bits[k] < _INFINITY else _ONE)
    half = np.int64(1) << np.int64(8 * digits - 1)
    shift = np.int64(0)
    while (largest - _ONE) >> shift >= half:
        shift += 1
    for k in range(n):
        value = np.float64(row[k]) - centre
        distance = min((bits[k] - _ONE) >> shift, half - 2)
        key = half - distance if value < 0.0 else half + distance
        if np.isnan(value):
            key = half + half - 1
        keys[k] = np.uint64((key << np.int64(32)) | k)
    counts[:digits] = 0
    byte = np.uint64(255)
    for k in range(n):
        for digit in range(digits):
            counts[digit, (keys[k] >> np.uint64(32 + 8 * digit)) & byte] += 1
    moved = False
    for digit in range(digits):
        source, target = (room, keys) if moved else (keys, room)
        place_of = np.uint64(32 + 8 * digit)
        if counts[digit, (source[0] >> place_of) & byte] == n:
            continue
        start = 0
        for b in range(256):
            count = counts[digit, b]
            counts[digit, b] = start
            start += count
        places = counts[digit]
        for k in range(n):
            key = source[k]
            place = (key >> place_of) & byte
            # Whole numbers without a sign need no check for places counted from the end.
            target[np.uint64(places[place])] = key
            places[place] += np.int32(1)
        moved = not moved
    return moved


@compiled
def _rank_rows(values: Floats, scaled: bool, out: Doubles) -> None:
    n = values.shape[1]
    keys, room = np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.uint64)
    counts = np.empty((4, 256), dtype=np.int32)
    digits = 2 if n <= _FEW else 3 if n <= 256 * _FEW else 4
    order, rising = np.empty(n, dtype=np.uint64), np.empty(n, dtype=values.dtype)
    low = (np.uint64(1) << np.uint64(32)) - np.uint64(1)
    middle = 0.5 * (n + 1) if scaled else 0.0
    for row in range(values.shape[0]):
        line, ranks = values[row], out[row]
        sorted_keys = room if _order(line, digits, keys, room, counts) else keys
        moves, distinct = 0, True
        before = line.dtype.type(-np.inf)
        for k in range(n):
            place = sorted_keys[k] & low
            value = line[place]
            order[k], rising[k] = place, value
            if value > before:
                before = value
                continue
            if not value < before:
                # A tie, or missing.
                distinct = False
                continue
            # The keys know the first bits of a value: put what they could not tell apart in order.
            j = k
            while j > 0 and rising[j - 1] > value:
                order[j], rising[j] = order[j - 1], rising[j - 1]
                j -= 1
            order[j], rising[j] = place, value
            distinct &= j == 0 or rising[j - 1] != value
            moves += k - j
            if moves > _MOST_MOVES * n:
                order[:] = np.argsort(line).astype(np.uint64)
                rising[:] = line[order]
                distinct = False
                break
        if distinct:
            factor = 1.0 / np.sqrt((n * (n * n - 1.0)) / 12.0) if scaled else 1.0
            for k in range(n):
                ranks[order[k]] = ((k + 1) - middle) * factor
        else:
            _rank_with_ties(order, rising, scaled, middle, ranks)


@compiled
def _rank_with_ties(order: NDArray[np.uint64], rising: Floats, scaled: bool, middle: float, ranks: Doubles) -> None:
    """Ranks of values that are in order, missing ones last."""
    n = len(rising)
    # Of a run of equal values the sum of squares of ranks is that of as many distinct ones without (t^3 - t) / 12.
    cubes = n * (n * n - 1.0)
    start = 0
    while start < n:
        value = rising[start]
        stop = start + 1
        if np.isnan(value):
            for k in range(start, n):
                ranks[order[k]] = np.nan
            cubes = np.nan
            break
        while stop < n and rising[stop] == value:
            stop += 1
        size = stop - start
        cubes -= size * (size * size - 1.0)
        rank = 0.5 * (start + stop + 1) - middle
        for k in range(start, stop):
            ranks[order[k]] = rank
        start = stop
    if scaled:
        factor = 1.0 / np.sqrt(cubes / 12.0) if cubes > 0 else np.nan
        for k in range(n):
            ranks[k] *= factor


def average_ranks(values: Floats, threads: int = 1) -> Doubles:
    """Ranks from 1 along the last axis of ``[k, n]``, ties share their mean rank, NaN has none (NaN).

    Sorting keys byte by byte with their position in the last half is several times faster than sorting positions.
    """
    return _ranked(values, False, threads, None)


def rank_units(values: Floats, threads: int = 1, out: Doubles | None = None) -> Doubles:
    """Ranks centred to length 1, so that products of rows are Spearman correlations; NaN where there is NaN or no spread."""
    return _ranked(values, True, threads, out)


def _ranked(values: Floats, scaled: bool, threads: int, given: Doubles | None) -> Doubles:
    out = np.empty(values.shape, dtype=np.float64) if given is None else given
    rows = np.ascontiguousarray(values)

    def work(low: int, high: int) -> None:
        _rank_rows(rows[low:high], scaled, out[low:high])

    if values.size:
        over_ranges(work, len(values), threads)
    return out


@compiled
def _count_runs(ordered: Floats, out: NDArray[np.int64]) -> None:
    for row in range(ordered.shape[0]):
        n = ordered.shape[1]
        distinct, first, second = 0, 0, 0
        start = 0
        while start < n and not np.isnan(ordered[row, start]):
            stop = start + 1
            while stop < n and ordered[row, stop] == ordered[row, start]:
                stop += 1
            length = stop - start
            distinct += 1
            if length > first:
                first, second = length, first
            elif length > second:
                second = length
            start = stop
        out[row, 0], out[row, 1], out[row, 2] = distinct, first, second


def value_counts(columns: Floats, threads: int = 1) -> NDArray[np.int64]:
    """``int64[f, 3]``: distinct values, count of the most common, count of the next. NaN is no value, 0.0 is -0.0."""
    out = np.zeros((len(columns), 3), dtype=np.int64)

    def work(low: int, high: int) -> None:
        step = max(1, _SLAB_VALUES // max(1, columns.shape[1]))
        for start in range(low, high, step):
            part = np.sort(columns[start : min(start + step, high)], axis=1)
            _count_runs(part, out[start : start + len(part)])

    if columns.size:
        over_ranges(work, len(columns), threads)
    return out


def to_digits(values: Floats, digits: int) -> Doubles:
    """Round to so many significant decimal digits, as text of the form ``%.{digits}g`` reads back."""
    wide = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        exponent = np.floor(np.log10(np.abs(wide)))
        shift = digits - 1 - exponent
        scaled = np.where(shift >= 0, wide * 10.0**shift, wide / 10.0**-shift)
        whole = np.rint(scaled)
        rounded = np.where(shift >= 0, whole / 10.0**shift, whole * 10.0**-shift)
        # Half-way between two numbers the rounding of the product would decide; text goes by the exact value.
        halfway = np.abs(np.abs(scaled - whole) - 0.5) <= 4 * np.finfo(np.float64).eps * np.abs(scaled)
    out = np.where(np.isfinite(rounded), rounded, wide)
    if halfway.any():
        distinct, place = np.unique(wide[halfway], return_inverse=True)
        out[halfway] = np.array([float(f"{value:.{digits}g}") for value in distinct.tolist()])[place]
    return out
