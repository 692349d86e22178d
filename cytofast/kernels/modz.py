"""Replicates weighted by how well they agree: the modified z-score of Subramanian et al. 2017 (cmapPy)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import over_ranges
from cytofast.kernels.ranks import rank_units

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]


_STRIP_BYTES = 1 << 20
"""Rows of whole groups that a thread correlates at once: they stay in its cache."""


Use = Callable[[NDArray[np.int64], Floats, Doubles], None]
"""Takes numbers of groups of one size, their rows ``[g, size, n_features]`` and correlations ``r[g, size, size]``."""


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


def over_replicates(
    rows: Floats, order: NDArray[np.int64], bounds: NDArray[np.int64], use: Use, rank: bool = True, threads: int = 1
) -> None:
    """Correlations between the rows of each group, over features where both are finite.

    Parameters
    ----------
    rows
        ``float[n_rows, n_features]``, C order.
    order, bounds
        Group ``g`` has the rows ``order[bounds[g]:bounds[g + 1]]``; ``int64[n_groups + 1]``.
    use
        Is given every group once, some of one size at a time, while they are in the cache, from several threads. The diagonal
        of a matrix and whatever is undefined are NaN.
    rank
        Spearman (ties share their mean rank) instead of Pearson.
    """
    sizes = np.diff(bounds)
    for size in np.unique(sizes):
        groups = np.flatnonzero(sizes == size)
        strip = max(1, _STRIP_BYTES // (8 * max(1, int(size) * rows.shape[1])))
        n_strips = -(-len(groups) // strip)
        members = order[bounds[groups, None] + np.arange(size)]
        over_ranges(
            partial(_correlate, rows, groups, members, strip, rank, threads if n_strips == 1 else 1, use),
            n_strips,
            threads,
        )


def _correlate(
    rows: Floats, groups: NDArray[np.int64], members: NDArray[np.int64], strip: int, rank: bool, threads: int, use: Use,
    first: int, last: int,
) -> None:  # fmt: skip
    """Strips ``first`` to ``last``, each of ``strip`` groups."""
    size = members.shape[1]
    # One room for all strips: fresh memory costs more than what is computed in it.
    room = np.empty((strip, size, rows.shape[1]))
    for start in range(first * strip, min(last * strip, len(members)), strip):
        stack = rows[members[start : start + strip]]
        finite = np.isfinite(stack)
        whole: NDArray[np.bool_] = np.all(finite, axis=2)
        filled = stack if whole.all() else np.where(whole[..., None], stack, 0.0)
        units = room[: len(stack)]
        _fill_units(filled.reshape(-1, rows.shape[1]), rank, threads, units.reshape(-1, rows.shape[1]))
        # Rows of length 1 cannot overflow: BLAS flags what it computes of the padding of small matrices.
        with np.errstate(over="ignore", invalid="ignore"):
            r = np.matmul(units, units.transpose(0, 2, 1))
        for gappy in np.flatnonzero(~np.all(whole, axis=1)):
            r[gappy] = _with_gaps(stack[gappy], finite[gappy], rank)
        r[:, np.arange(size), np.arange(size)] = np.nan
        use(groups[start : start + strip], stack, np.clip(r, -1.0, 1.0, out=r))


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
