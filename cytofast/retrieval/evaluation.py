"""Older scores that people still cite: hit@k, precision and recall at k, grit, mp-value, enrichment (as in cytominer-eval)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from math import comb, lgamma
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import group_rows, predicate_columns, reference_mask
from cytofast.errors import DataError, RecipeError
from cytofast.kernels.chance import count_at_least, p_value, threshold_of
from cytofast.kernels.rng import generator, key_of
from cytofast.kernels.similarity import products
from cytofast.retrieval.neighbors import Metric, nearest, prepared
from cytofast.retrieval.pairing import Lists
from cytofast.retrieval.profiles import Comparable, collect, comparable, metric_code, whole_number
from cytofast.schema import Features, as_columns

Doubles = NDArray[np.float64]


def _grouped(
    profiles: pl.DataFrame | pl.LazyFrame, sameby: str | Sequence[str], metric: str, features: Features, where: str
) -> tuple[Comparable, NDArray[np.int64], NDArray[np.int64]]:
    """Profiles, the group of each, and how many partners each has."""
    columns = as_columns(sameby)
    if not columns:
        raise RecipeError(f"{where}: sameby names no column")
    ready = prepared(profiles, metric, features, columns, where)
    codes, keys = group_rows(ready.metadata, columns)
    absent = keys.select(pl.any_horizontal(pl.col(name).is_null() for name in columns)).to_series().to_numpy()
    partners = np.where(absent[codes], 0, np.bincount(codes)[codes] - 1)
    if not partners.any():
        raise DataError(f"{where}: no two profiles are equal in {columns}")
    # Profiles without a label match nobody.
    return ready, np.where(absent[codes], -1 - np.arange(len(codes)), codes), partners


def _checked_k(k: int, n: int, where: str) -> int:
    k = whole_number("k", k, 0, where)
    if not 1 <= k < n:
        raise RecipeError(f"{where}: k must lie between 1 and {n - 1}, the number of other profiles, not {k}")
    return k


def precision_recall(
    profiles: pl.DataFrame | pl.LazyFrame,
    sameby: str | Sequence[str],
    k: int = 10,
    metric: Metric = "correlation",
    features: Features = None,
) -> pl.DataFrame:
    """Precision and recall among the ``k`` nearest other profiles of each profile that has partners.

    Returns
    -------
    polars.DataFrame
        The metadata, ``precision`` (share of the ``k`` nearest that are partners), ``recall`` (share of the partners that
        are among them), ``n_partners``.
    """
    ready, codes, partners = _grouped(profiles, sameby, metric, features, "precision_recall")
    asking = np.flatnonzero(partners)
    k = _checked_k(k, len(codes), "precision_recall")
    hits = (codes[nearest(ready, asking, k)[0]] == codes[asking][:, None]).sum(axis=1)
    return ready.metadata[asking].with_columns(
        pl.Series("precision", hits / k),
        pl.Series("recall", hits / partners[asking]),
        pl.Series("n_partners", partners[asking]),
    )


def hit_at_k(
    profiles: pl.DataFrame | pl.LazyFrame,
    sameby: str | Sequence[str],
    k: int | Sequence[int] = (1, 5, 10),
    metric: Metric = "correlation",
    features: Features = None,
) -> pl.DataFrame:
    """How often a profile has a partner among its ``k`` nearest, and how often it would by chance.

    Returns
    -------
    polars.DataFrame
        One row a ``k``: ``hit_rate`` (share of profiles with at least one partner among the ``k``), ``expected`` (the same for
        random neighbours, hypergeometric), ``n_hits`` (partners found in all), ``n_queries``.
    """
    ready, codes, partners = _grouped(profiles, sameby, metric, features, "hit_at_k")
    several = k if isinstance(k, Iterable) and not isinstance(k, str) else [k]
    every = sorted({_checked_k(value, len(codes), "hit_at_k") for value in several})
    if not every:
        raise RecipeError("hit_at_k: k names no number")
    asking = np.flatnonzero(partners)
    hits = codes[nearest(ready, asking, every[-1])[0]] == codes[asking][:, None]
    n = len(codes) - 1
    rows = []
    for value in every:
        found = hits[:, :value].sum(axis=1)
        expected = np.mean([1 - comb(n - int(m), value) / comb(n, value) for m in partners[asking]])
        rows.append((value, float((found > 0).mean()), float(expected), int(found.sum()), len(asking)))
    return pl.DataFrame(rows, schema=["k", "hit_rate", "expected", "n_hits", "n_queries"], orient="row")


def grit(
    profiles: pl.DataFrame | pl.LazyFrame,
    group: str,
    perturbation: str,
    controls: str,
    how: Literal["mean", "median"] = "mean",
    metric: Metric = "correlation",
    features: Features = None,
) -> pl.DataFrame:
    """How much more alike a profile is to its group than to controls, in standard deviations of the latter.

    Parameters
    ----------
    group, perturbation
        Group (a gene) and perturbation (a guide): a profile is compared with those of its group that are of another
        perturbation.
    controls
        SQL predicate for control profiles.
    how
        Mean or median of the z-scores.

    Returns
    -------
    polars.DataFrame
        One row a profile that is no control: the metadata, ``grit`` (null without partners) and ``n_partners``.
    """
    if how not in ("mean", "median"):
        raise RecipeError.unknown("how", how, ("mean", "median"))
    ready = prepared(profiles, metric, features, [group, perturbation], "grit", looked_at=predicate_columns(controls))
    mask = reference_mask(ready.metadata, controls, "grit: controls")
    if mask is None or mask.sum() < 2:
        raise DataError(
            f"grit: fewer than two profiles satisfy controls={controls!r}, so there is no spread to compare with"
        )
    groups, names = (group_rows(ready.metadata, [column])[0] for column in (group, perturbation))
    unknown = ready.metadata[group].is_null().to_numpy()
    asking = np.flatnonzero(~mask)
    spread = ready.shown(products(ready.units[asking], ready.units[mask], ready.metric))
    # Population spread, as scikit-learn's StandardScaler, which the original uses.
    centre, deviation = spread.mean(axis=1), spread.std(axis=1)
    usable = ~mask & ~unknown
    members = Lists.of_codes(groups[usable], int(groups.max()) + 1, np.flatnonzero(usable))
    values, counts = np.full(len(asking), np.nan), np.zeros(len(asking), dtype=np.int64)
    for i, row in enumerate(asking.tolist()):
        if unknown[row]:
            continue
        others = members[int(groups[row])]
        others = others[names[others] != names[row]]
        counts[i] = len(others)
        if len(others) and deviation[i] > 0:
            scores = (
                ready.shown(products(ready.units[[row]], ready.units[others], ready.metric))[0] - centre[i]
            ) / deviation[i]
            values[i] = scores.mean() if how == "mean" else np.median(scores)
    return ready.metadata[asking].with_columns(
        pl.Series("grit", values).fill_nan(None), pl.Series("n_partners", counts)
    )


def enrichment(
    profiles: pl.DataFrame | pl.LazyFrame,
    sameby: str | Sequence[str],
    percentile: float | Sequence[float] = 0.99,
    metric: Metric = "correlation",
    features: Features = None,
) -> pl.DataFrame:
    """Are pairs of partners over-represented among the most similar pairs? Fisher's exact test, one-sided.

    Returns
    -------
    polars.DataFrame
        One row a percentile: ``percentile``, ``threshold`` (similarity), ``odds_ratio``, ``p_value``, ``n_top`` and
        ``n_top_partners`` (pairs above the threshold, and partners among them), ``n_pairs``, ``n_partners``.
    """
    ready, codes, _ = _grouped(profiles, sameby, metric, features, "enrichment")
    n = len(codes)
    if 12 * n * n > resources.current().working_bytes:
        raise DataError(
            f"enrichment: all pairs of {n:,} profiles do not fit into the memory budget. Hint: aggregate or filter them."
        )
    left, right = np.triu_indices(n, 1)
    values = ready.shown(products(ready.units, ready.units, ready.metric))[left, right]
    same = codes[left] == codes[right]
    rows = []
    for share in [percentile] if isinstance(percentile, int | float) else percentile:
        if not 0 < share < 1:
            raise RecipeError(f"enrichment: percentile must lie in (0, 1), not {share}")
        threshold = float(np.quantile(values, share))
        top = values > threshold
        a, b = int((top & same).sum()), int((top & ~same).sum())
        c, d = int(same.sum()) - a, int((~same).sum()) - b
        odds = a * d / (b * c) if b * c else float("inf") if a * d else float("nan")
        rows.append((share, threshold, odds, _fisher(a, b, c, d), a + b, a, len(values), a + c))
    names = ["percentile", "threshold", "odds_ratio", "p_value", "n_top", "n_top_partners", "n_pairs", "n_partners"]
    return pl.DataFrame(rows, schema=names, orient="row")


def _fisher(a: int, b: int, c: int, d: int) -> float:
    """Probability of ``a`` or more in the first cell, margins fixed."""
    top, same, total = a + b, a + c, a + b + c + d

    def log_comb(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    logs = [log_comb(same, x) + log_comb(total - same, top - x) for x in range(a, min(top, same) + 1)]
    return float(min(1.0, np.exp(np.array(logs) - log_comb(total, top)).sum()))


def mp_value(
    profiles: pl.DataFrame | pl.LazyFrame,
    sameby: str | Sequence[str],
    controls: str,
    variance: float = 0.9,
    null_size: int = 1000,
    seed: int = 0,
    features: Features = None,
) -> pl.DataFrame:
    """Is a perturbation away from the controls? Mahalanobis distance after a PCA, labels permuted (Hutz et al. 2013).

    For each perturbation its profiles and the controls are projected on the principal components that hold ``variance`` of
    their variance. The distance of its mean from that of the controls is measured by the covariance of the controls, and
    compared with the distances after labels are exchanged between the two; every exchange if there are at most ``null_size``.

    Returns
    -------
    polars.DataFrame
        ``sameby`` columns, ``distance``, ``p_value``, ``p_method``, ``n_profiles``.
    """
    columns = as_columns(sameby)
    null_size = whole_number("null_size", null_size, 1, "mp_value")
    seed = whole_number("seed", seed, 0, "mp_value")
    if not columns or not 0 < variance <= 1:
        raise RecipeError(f"mp_value: give sameby, and variance in (0, 1], not {columns} and {variance}")
    looked_at = predicate_columns(controls)
    table, names = collect(profiles, features, columns, "mp_value", looked_at=looked_at)
    # Only for its checks of the values: the distances need the values themselves.
    metadata = comparable(table, names, metric_code("euclidean"), "mp_value", looked_at=looked_at).metadata
    values = table.select(names).cast(pl.Float64).to_numpy()
    mask = reference_mask(metadata, controls, "mp_value: controls")
    if mask is None or mask.sum() < 3:
        raise DataError(
            f"mp_value: fewer than three profiles satisfy controls={controls!r}, so they have no covariance"
        )
    treated = np.flatnonzero(~mask)
    codes, keys = group_rows(metadata[treated], columns)
    groups = Lists.of_codes(codes, keys.height, treated)
    rows = []
    for group in range(keys.height):
        key = key_of("mp_value", repr(keys.row(group)))
        rows.append(_one_mp_value(values[groups[group]], values[mask], variance, null_size, (seed, key)))
    found = pl.DataFrame(rows, schema=["distance", "p_value", "p_method", "n_profiles"], orient="row")
    return keys.hstack(found)


def _one_mp_value(
    treated: Doubles, controls: Doubles, variance: float, null_size: int, key: tuple[int, int]
) -> tuple[float, float, str, int]:
    both = np.vstack([treated, controls])
    both = both - both.mean(axis=0)
    _, singular, axes = np.linalg.svd(both, full_matrices=False)
    explained = np.cumsum(singular**2) / np.sum(singular**2) if singular.any() else np.ones(1)
    kept = min(int(np.searchsorted(explained, variance * (1 - 1e-12))) + 1, len(singular))
    scores = both @ axes[:kept].T
    n, k = len(both), len(treated)

    def distances(chosen: NDArray[np.int64]) -> Doubles:
        out = np.empty(len(chosen))
        for i, rows in enumerate(chosen):
            rest = np.ones(n, dtype=np.bool_)
            rest[rows] = False
            gap = scores[rows].mean(axis=0) - scores[rest].mean(axis=0)
            inverse = np.linalg.pinv(np.atleast_2d(np.cov(scores[rest], rowvar=False)), hermitian=True)
            out[i] = np.sqrt(max(gap @ inverse @ gap, 0.0))
        return out

    observed = distances(np.arange(k)[None, :])
    if comb(n, k) <= null_size:
        null = distances(np.array(list(combinations(range(n), k))))
        return (
            float(observed[0]),
            float(np.mean(null >= threshold_of(observed))),
            f"labels, exact, {len(null):,} labelings",
            k,
        )
    rng = generator(*key)
    null = distances(np.array([rng.choice(n, size=k, replace=False) for _ in range(null_size)]))
    p = p_value(count_at_least(null, threshold_of(observed)), null_size)
    return float(observed[0]), float(p[0]), f"labels, sampled {null_size:,}", k
