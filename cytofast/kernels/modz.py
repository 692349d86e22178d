"""Replicates weighted by how well they agree: the modified z-score of Subramanian et al. 2017 (cmapPy)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import over_ranges
from cytofast.kernels.ranks import rank_units

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]


_STRIP_BYTES = 1 << 20
"""Rows of whole groups that a thread correlates at once: they stay in its cache."""


class SameSize(NamedTuple):
    """Groups with the same number of rows: their numbers ``[g]``, rows ``[g, size]`` and matrices ``r[g, size, size]``."""

    groups: NDArray[np.int64]
    members: NDArray[np.int64]
    r: Doubles


def _unit(rows: Doubles) -> Doubles:
    """Rows centred to length 1, in place; NaN where a row has no spread."""
    largest = np.maximum(rows.max(axis=1, initial=0.0), -rows.min(axis=1, initial=0.0))
    rows -= rows.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    noise = 8 * np.finfo(np.float64).eps * largest * np.sqrt(rows.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        rows *= np.where(length > noise, 1.0 / length, np.nan)[:, None]
    return rows


def _fill_units(rows: Floats, rank: bool, threads: int, out: Doubles) -> None:
    if rank:
        rank_units(rows, threads, out)
    else:
        out[:] = rows
        _unit(out)


def _units(rows: Floats, rank: bool) -> Doubles:
    out = np.empty(rows.shape)
    _fill_units(rows, rank, 1, out)
    return out


def replicate_correlations(
    rows: Floats, bounds: NDArray[np.int64], rank: bool = True, threads: int = 1
) -> list[SameSize]:
    """Correlations between the rows of each group, over features where both are finite.

    Parameters
    ----------
    rows
        ``float[n_rows, n_features]``, C order, the rows of a group side by side.
    bounds
        ``int64[n_groups + 1]``.
    rank
        Spearman (ties share their mean rank) instead of Pearson.

    Returns
    -------
    list of SameSize
        Every group once. The diagonal of a matrix and whatever is undefined are NaN.
    """
    present: NDArray[np.bool_] = np.isfinite(rows)
    whole: NDArray[np.bool_] = np.all(present, axis=1)
    sizes = np.diff(bounds)
    out = []
    for size in np.unique(sizes):
        groups = np.flatnonzero(sizes == size)
        members = bounds[groups, None] + np.arange(size)
        r = np.empty((len(groups), size, size))
        strip = max(1, _STRIP_BYTES // (8 * max(1, int(size) * rows.shape[1])))
        n_strips = -(-len(groups) // strip)
        correlate = partial(_correlate, rows, whole, members, strip, rank, threads if n_strips == 1 else 1, r)
        over_ranges(correlate, n_strips, threads)
        for gappy in np.flatnonzero(~whole[members].all(axis=1)):
            r[gappy] = _with_gaps(rows[members[gappy]], present[members[gappy]], rank)
        r[:, np.arange(size), np.arange(size)] = np.nan
        out.append(SameSize(groups, members, np.clip(r, -1.0, 1.0, out=r)))
    return out


def _correlate(
    rows: Floats, whole: NDArray[np.bool_], members: NDArray[np.int64], strip: int, rank: bool, threads: int, r: Doubles,
    first: int, last: int,
) -> None:  # fmt: skip
    """Strips ``first`` to ``last``, each of ``strip`` groups; what has gaps is left to :func:`_with_gaps`."""
    # One room for all strips: fresh memory costs more than what is computed in it.
    room = np.empty((strip, members.shape[1], rows.shape[1]))
    for start in range(first * strip, min(last * strip, len(members)), strip):
        part = members[start : start + strip]
        stack = stacked(rows, part)
        if not whole[part].all():
            stack = np.where(whole[part][..., None], stack, 0.0)
        units = room[: len(part)]
        _fill_units(stack.reshape(-1, rows.shape[1]), rank, threads, units.reshape(-1, rows.shape[1]))
        # Rows of length 1 cannot overflow: BLAS flags what it computes of the padding of small matrices.
        with np.errstate(over="ignore", invalid="ignore"):
            np.matmul(units, units.transpose(0, 2, 1), out=r[start : start + len(part)])


def stacked(rows: Floats, members: NDArray[np.int64]) -> Floats:
    """``float[n_groups, size, f]``: the rows of some groups of one size, a view where they are neighbours."""
    first = int(members[0, 0])
    if np.array_equal(members.ravel(), np.arange(first, first + members.size)):
        return rows[first : first + members.size].reshape(*members.shape, rows.shape[1])
    return rows[members]


def _with_gaps(rows: Floats, present: NDArray[np.bool_], rank: bool) -> Doubles:
    common = present.all(axis=0)
    if not present.any():
        return np.full((len(rows), len(rows)), np.nan)
    if (present == common).all():
        units = _units(rows[:, common], rank)
        return units @ units.T
    n = len(rows)
    r = np.full((n, n), np.nan)
    for a in range(n):
        for b in range(a):
            both = present[a] & present[b]
            if both.sum() > 1:
                units = _units(rows[[a, b]][:, both], rank)
                r[a, b] = r[b, a] = units[0] @ units[1]
    return r


def means_of_pairs(r: Doubles) -> Doubles:
    """``float64[n_groups]``: the mean of the defined correlations of ``r[n_groups, size, size]``; NaN where none is."""
    defined = ~np.isnan(r)
    count = defined.sum(axis=(1, 2))
    total = np.where(defined, r, 0.0).sum(axis=(1, 2))
    means: Doubles = np.divide(total, count, out=np.full(len(r), np.nan), where=count > 0)
    return means


def weights_of(r: Doubles, min_weight: float, precision: int | None) -> Doubles:
    """``float64[n_groups, size]``: the weights of the replicates of each group.

    Mean positive correlation with the others, at least ``min_weight``, scaled to sum 1, rounded.
    """
    defined = ~np.isnan(r)
    count = defined.sum(axis=2)
    total = np.where(defined, np.maximum(r, 0.0), 0.0).sum(axis=2)
    # A replicate without spread has no correlation: it gets the least weight, as one that agrees with nobody.
    raw = np.maximum(np.divide(total, count, out=np.zeros(count.shape), where=count > 0), min_weight)
    whole = raw.sum(axis=1, keepdims=True)
    weights: Doubles = np.divide(raw, whole, out=np.full(raw.shape, 1.0 / raw.shape[1]), where=whole > 0)
    return weights if precision is None else np.round(weights, precision)


def weighted_sums(members: Floats, weights: Doubles, rescale: bool) -> Doubles:
    """``float64[n_groups, f]``: sum of weight x value over the values of ``members[n_groups, size, f]`` that are there.

    NaN where there is none. With ``rescale`` the sum is divided by the weights that took part: a missing value is then
    skipped, not counted as 0.
    """
    if members.shape[1] == 1:
        return members[:, 0].astype(np.float64)
    missing = np.isnan(members)
    holed = bool(missing.any())
    row = weights[:, None, :]
    with np.errstate(over="ignore", invalid="ignore"):  # a sum beyond float64 is infinite; padding as above
        total: Doubles = (row @ (np.where(missing, 0.0, members) if holed else members))[:, 0]
    if not holed:
        return total
    if rescale:
        taking_part = (row @ ~missing)[:, 0]
        scaled = total * weights.sum(axis=1, keepdims=True)
        total = np.divide(scaled, taking_part, out=np.full(total.shape, np.nan), where=taking_part > 0)
    total[missing.all(axis=1)] = np.nan
    return total
