"""Plain answers in double precision, a few features or rows at a time: what every contender's answer is held against."""

from __future__ import annotations

import numpy as np


def medians(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The median of each group in order, missing values left out."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=group[order][0] - 1))
    parts = (part[~np.isnan(part)] for part in np.split(values[order].astype(float), starts[1:]))
    return np.array([np.median(part) if len(part) else np.nan for part in parts])


def robust_z(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Against the median and 1.4826 times the MAD of the reference rows."""
    known = values[reference & ~np.isnan(values)].astype(float)
    centre = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - centre))
    return (values - centre) / spread if spread > 0 else np.full(len(values), np.nan)


def correlations(x: np.ndarray) -> np.ndarray:
    """Pearson's r of all pairs of columns, over the rows that both have."""
    there = ~np.isnan(x)
    if there.all():
        return np.corrcoef(x, rowvar=False)
    z = np.where(there, x - np.nanmean(x, axis=0), 0.0)
    m = there.astype(float)
    n = m.T @ m
    sums, squares, products = z.T @ m, (z * z).T @ m, z.T @ z
    covariance = products - sums * sums.T / n
    variance = squares - sums**2 / n
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / np.sqrt(variance * variance.T)


def kept_features(x: np.ndarray, threshold: float = 0.9) -> np.ndarray:
    """pycytominer's rule: of every pair above the threshold, that with the larger sum of |r| goes."""
    r = correlations(x)
    total = np.nansum(np.abs(r), axis=0)
    low, high = np.nonzero(np.tril(r, -1) > threshold)
    drop = np.where(total[low] > total[high], low, high)
    near = np.abs(total[low] - total[high]) < 1e-6 * total[low]  # a choice left to rounding
    keep = np.ones(x.shape[1], bool)
    keep[drop] = False
    keep_or_not = np.zeros(x.shape[1], bool)
    keep_or_not[[*low[near], *high[near]]] = True
    return np.where(keep_or_not, -1, keep.astype(int))


def _ranks(row: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def modz(x: np.ndarray, min_weight: float = 0.01) -> np.ndarray:
    """The replicates of one perturbation, weighted by their mean Spearman correlation with the others, if positive."""
    r = np.maximum(np.corrcoef([_ranks(row) for row in x]), 0)
    np.fill_diagonal(r, 0)
    raw = np.maximum(r.sum(axis=1) / (len(x) - 1), min_weight)
    return (raw / raw.sum()) @ x


def average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """Of one query, from its similarities to those that it should find and to the rest."""
    found = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    hits = found[np.argsort(-np.concatenate([positive, negative]), kind="stable")]
    return float((np.cumsum(hits)[hits > 0] / (np.flatnonzero(hits) + 1)).mean())


def expected_null(positives: int, total: int) -> float:
    """Mean average precision of a random order: the mean over ranks k of (1 + (k - 1) (m - 1) / (n - 1)) / k."""
    k = np.arange(1, total + 1)
    return float(((1 + (k - 1) * (positives - 1) / (total - 1)) / k).mean())


def close(found, wanted, what: str, tolerance: float = 1e-4) -> None:
    a, b = np.asarray(found, float), np.asarray(wanted, float)
    assert a.shape == b.shape, f"{what}: {a.shape} values instead of {b.shape}"
    there = np.isfinite(b)
    assert there.any(), f"{what}: nothing to compare"
    worst = np.max(np.abs(a[there] - b[there]) / (1 + np.abs(b[there])))
    assert worst < tolerance, f"{what}: off by {worst:.2g}"
