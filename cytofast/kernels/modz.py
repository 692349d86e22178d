"""Replicates weighted by how well they agree: the modified z-score of Subramanian et al. 2017 (cmapPy)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.ranks import average_ranks

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]


def _unit(rows: Doubles) -> Doubles:
    """Rows centred to length 1, in place; NaN where a row has no spread."""
    largest = np.maximum(rows.max(axis=1, initial=0.0), -rows.min(axis=1, initial=0.0))
    rows -= rows.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    noise = 8 * np.finfo(np.float64).eps * largest * np.sqrt(rows.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        rows *= np.where(length > noise, 1.0 / length, np.nan)[:, None]
    return rows


def _units(rows: Floats, rank: bool, threads: int) -> Doubles:
    return _unit(average_ranks(rows, threads) if rank else np.array(rows, dtype=np.float64))


def replicate_correlations(
    rows: Floats, bounds: NDArray[np.int64], rank: bool = True, threads: int = 1
) -> list[Doubles]:
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
    list of float64[r, r]
        One symmetric matrix a group; the diagonal and whatever is undefined are NaN.
    """
    present: NDArray[np.bool_] = np.isfinite(rows)
    whole: NDArray[np.bool_] = np.all(present, axis=1)
    if whole.all():
        units = _units(rows, rank, threads)
    else:
        units = np.empty(rows.shape)
        units[whole] = _units(rows[whole], rank, threads)
    out = []
    for low, high in pairwise(bounds.tolist()):
        group = slice(low, high)
        complete = bool(whole[group].all())
        r = units[group] @ units[group].T if complete else _with_gaps(rows[group], present[group], rank)
        np.fill_diagonal(r, np.nan)
        out.append(np.clip(r, -1.0, 1.0))
    return out


def _with_gaps(rows: Floats, present: NDArray[np.bool_], rank: bool) -> Doubles:
    common = present.all(axis=0)
    if (present == common).all():
        units = _units(rows[:, common], rank, 1)
        return units @ units.T
    n = len(rows)
    r = np.full((n, n), np.nan)
    for a in range(n):
        for b in range(a):
            both = present[a] & present[b]
            if both.sum() > 1:
                units = _units(rows[[a, b]][:, both], rank, 1)
                r[a, b] = r[b, a] = units[0] @ units[1]
    return r


def weights_of(r: Doubles, min_weight: float, precision: int | None) -> Doubles:
    """``float64[r]``: mean positive correlation with the others, at least ``min_weight``, scaled to sum 1, rounded."""
    defined = ~np.isnan(r)
    count = defined.sum(axis=1)
    total = np.where(defined, np.maximum(r, 0.0), 0.0).sum(axis=1)
    # A replicate without spread has no correlation: it gets the least weight, as one that agrees with nobody.
    raw = np.maximum(np.divide(total, count, out=np.zeros(len(r)), where=count > 0), min_weight)
    whole = raw.sum()
    weights = raw / whole if whole > 0 else np.full(len(r), 1.0 / len(r))
    return weights if precision is None else np.round(weights, precision)


def weighted_sum(rows: Floats, weights: Doubles, rescale: bool) -> Doubles:
    """``float64[f]``: sum of weight x value over the values that are there; NaN where there is none.

    With ``rescale`` the sum is divided by the weights that took part: a missing value is then skipped, not
    counted as 0.
    """
    missing = np.isnan(rows)
    total: Doubles = weights @ np.where(missing, 0.0, rows)
    if not missing.any():
        return total
    if rescale:
        taking_part = weights @ ~missing
        with np.errstate(invalid="ignore", divide="ignore"):
            total = np.where(taking_part > 0, total / taking_part * weights.sum(), np.nan)
    total[missing.all(axis=0)] = np.nan
    return total
