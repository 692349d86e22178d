"""Ranks and counts of equal values, from one sort (numpy's, which is vectorised) and a compiled walk along it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled, over_ranges

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
_SLAB_VALUES = 1 << 17


@compiled
def _sort_keys(values: Floats, bits: int, out: NDArray[np.uint64]) -> None:
    """Whole numbers that sort as the values do, down to their last ``bits`` bits, which hold the position instead."""
    low = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    top = np.uint64(1) << np.uint64(63)
    exact = np.empty(1, dtype=np.float64)
    pattern = exact.view(np.uint64)
    for row in range(values.shape[0]):
        for k in range(values.shape[1]):
            # Adding 0.0 makes -0.0 the same as 0.0; NaN of either sign goes last.
            exact[0] = np.float64(values[row, k]) + 0.0
            key = pattern[0]
            if np.isnan(exact[0]):
                key = ~np.uint64(0)
            elif key & top:
                key = ~key
            else:
                key = key | top
            out[row, k] = (key & ~low) | np.uint64(k)


@compiled
def _rank_rows(values: Floats, keys: NDArray[np.uint64], bits: int, out: Doubles) -> None:
    low = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    n = values.shape[1]
    order = np.empty(n, dtype=np.int64)
    for row in range(values.shape[0]):
        for k in range(n):
            place = np.int64(keys[row, k] & low)
            value = values[row, place]
            # The keys ignore the last bits of a value: put what they could not tell apart in order.
            j = k
            while j > 0 and values[row, order[j - 1]] > value:
                order[j] = order[j - 1]
                j -= 1
            order[j] = place
        start = 0
        while start < n:
            value = values[row, order[start]]
            stop = start + 1
            if np.isnan(value):
                for k in range(start, n):
                    out[row, order[k]] = np.nan
                break
            while stop < n and values[row, order[stop]] == value:
                stop += 1
            rank = 0.5 * (start + stop + 1)
            for k in range(start, stop):
                out[row, order[k]] = rank
            start = stop


def average_ranks(values: Floats, threads: int = 1) -> Doubles:
    """Ranks from 1 along the last axis of ``[k, n]``, ties share their mean rank, NaN has none (NaN).

    Sorting values with their position packed into the last bits is several times faster than sorting positions.
    """
    out = np.empty(values.shape, dtype=np.float64)
    bits = max(1, int(values.shape[1] - 1).bit_length())

    def work(low: int, high: int) -> None:
        step = max(1, _SLAB_VALUES // max(1, values.shape[1]))
        for start in range(low, high, step):
            part = np.ascontiguousarray(values[start : min(start + step, high)])
            keys = np.empty(part.shape, dtype=np.uint64)
            _sort_keys(part, bits, keys)
            keys.sort(axis=1)
            _rank_rows(part, keys, bits, out[start : start + len(part)])

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
        rounded = np.where(
            shift >= 0, np.rint(wide * 10.0**shift) / 10.0**shift, np.rint(wide / 10.0**-shift) * 10.0**-shift
        )
    return np.where(np.isfinite(rounded), rounded, wide)
