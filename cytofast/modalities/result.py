"""What a cross-modal prediction found: scores, the null, what is predictable, and by which features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.errors import DataError, RecipeError
from cytofast.kernels.rng import generator

Doubles = NDArray[np.float64]
What = Literal["target", "feature"]


@dataclass(frozen=True)
class CrossModalResult:
    """Scores of every target, on every fold, against those of shuffled rows.

    Attributes
    ----------
    r2, penalty
        ``float64[n_targets, n_folds]``; NaN where a target is constant among the test rows.
    null_r2
        ``float64[n_rounds, n_targets, n_folds]``.
    coefficients
        ``float64[n_folds, n_targets, n_features]``, per standard deviation of a feature in the training rows; no features
        for a network.
    n_rows
        Training and test rows of each fold.
    notes
        What a reader must know: targets left out, undefined scores, a compatibility mode and its leak.
    """

    model: str
    source: str
    target: str
    features: list[str]
    targets: list[str]
    r2: Doubles
    penalty: Doubles
    null_r2: Doubles
    coefficients: Doubles
    n_rows: tuple[NDArray[np.int64], NDArray[np.int64]]
    margin: float
    quantile: float
    compat: str | None
    notes: tuple[str, ...]

    @property
    def scores(self) -> pl.DataFrame:
        """One row a target and fold: ``target, fold, r2, penalty, n_train, n_test``."""
        n, k = self.r2.shape
        fold = np.tile(np.arange(k), n)
        return pl.DataFrame(
            {
                "target": pl.Series(np.repeat(np.arange(n), k)).replace_strict(
                    np.arange(n), self.targets, return_dtype=pl.String
                ),
                "fold": fold,
                "r2": pl.Series(self.r2.ravel()).fill_nan(None),
                "penalty": self.penalty.ravel(),
                "n_train": self.n_rows[0][fold],
                "n_test": self.n_rows[1][fold],
            }
        )

    @property
    def null_scores(self) -> pl.DataFrame:
        """One row a round and shuffled target: ``round, target, median_r2``."""
        rounds, n, _ = self.null_r2.shape
        return pl.DataFrame(
            {
                "round": np.repeat(np.arange(rounds), n),
                "target": self.targets * rounds,
                "median_r2": pl.Series(_medians(self.null_r2).ravel()).fill_nan(None),
            }
        )

    @cached_property
    def null_medians(self) -> Doubles:
        """The median over folds of each target and round of shuffled rows, sorted."""
        medians = _medians(self.null_r2).ravel()
        found: Doubles = np.sort(medians[~np.isnan(medians)])
        if not len(found):
            raise DataError("the null is empty: every shuffled target is constant among its test rows")
        return found

    @property
    def t99(self) -> float:
        """The quantile (by default the 99th percentile) of the null's medians."""
        return float(np.quantile(self.null_medians, self.quantile))

    @property
    def threshold(self) -> float:
        """What the median R^2 of a predictable target exceeds: ``t99`` and the margin."""
        return self.t99 + self.margin

    def summary(self) -> pl.DataFrame:
        """One row a target: ``target, median_r2, mean_r2, lowest_r2, highest_r2, n_folds, p_value, predictable``.

        ``p_value`` is the share of shuffled targets, all pooled, whose median is as large, counting the target itself.
        """
        medians = _medians(self.r2)
        defined = ~np.isnan(medians)
        at_least = len(self.null_medians) - np.searchsorted(self.null_medians, medians)
        p = np.where(defined, (1 + at_least) / (1 + len(self.null_medians)), np.nan)
        # A target without any defined fold stays undefined in every column.
        filled = np.where(defined[:, None], self.r2, 0.0)
        columns = {
            "median_r2": medians,
            "mean_r2": np.where(defined, np.nanmean(filled, axis=1), np.nan),
            "lowest_r2": np.where(defined, np.nanmin(filled, axis=1), np.nan),
            "highest_r2": np.where(defined, np.nanmax(filled, axis=1), np.nan),
        }
        table = pl.DataFrame(
            {
                "target": self.targets,
                **{name: pl.Series(values).fill_nan(None) for name, values in columns.items()},
                "n_folds": (~np.isnan(self.r2)).sum(axis=1),
                "p_value": pl.Series(p).fill_nan(None),
            }
        )
        return table.with_columns((pl.col("median_r2") > self.threshold).alias("predictable"))

    def percent_predictable(self, n_bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0) -> pl.DataFrame:
        """The share of targets that are predictable, with a bootstrap interval.

        Targets and folds are drawn with replacement: targets, because others might have been measured; folds, because
        other perturbations might have been held out, which moves all targets together.

        Returns
        -------
        polars.DataFrame
            One row: ``percent, lower, upper, n_predictable, n_targets, t99, threshold, median_r2``.
        """
        if n_bootstrap < 1 or not 0 < confidence < 1:
            raise RecipeError(
                f"n_bootstrap must be at least 1 and confidence in (0, 1), not {n_bootstrap} and {confidence}"
            )
        r2 = self.r2[~np.isnan(self.r2).all(axis=1)]
        if not len(r2):
            raise DataError("no target has a defined score: each is constant among its test rows")
        medians, limit = _medians(r2), self.threshold
        rng = generator(seed, len(r2))
        shares = np.empty(n_bootstrap)
        for i in range(n_bootstrap):
            folds = rng.integers(0, r2.shape[1], r2.shape[1])
            drawn = r2[rng.integers(0, len(r2), len(r2))][:, folds]
            shares[i] = np.mean(_medians(drawn) > limit)
        low, high = np.quantile(shares, [(1 - confidence) / 2, (1 + confidence) / 2])
        hits = int((medians > limit).sum())
        percent = 100 * hits / len(r2)
        return pl.DataFrame(
            {
                "percent": [percent],
                "lower": [min(100 * float(low), percent)],
                "upper": [max(100 * float(high), percent)],
                "n_predictable": [hits],
                "n_targets": [len(r2)],
                "t99": [self.t99],
                "threshold": [limit],
                "median_r2": [float(np.median(medians))],
            }
        )

    def explain(self, name: str, most: int = 20, what: What | None = None) -> pl.DataFrame:
        """The strongest features of a target, or the strongest targets of a feature, with their stability over folds.

        ``what`` (``"target"`` or ``"feature"``) tells which is meant, where both modalities use a name.

        Returns
        -------
        polars.DataFrame
            ``feature`` (or ``target``), ``coefficient`` (mean over folds, per standard deviation of the feature and of the
            target's units), ``lowest``, ``highest``, ``stability`` (share of folds in which it is not zero and has the sign
            of the mean) and, for targets, their ``median_r2``. The largest absolute mean comes first.
        """
        if not self.coefficients.shape[2]:
            raise RecipeError(f"explain: a {self.model} has no coefficients. Hint: use the lasso or ridge.")
        known = {"target": self.targets, "feature": self.features}
        if what is not None and what not in known:
            raise RecipeError.unknown("kind of name", what, known)
        meant = [kind for kind, names in known.items() if name in names and what in (None, kind)]
        if not meant:
            among = [*self.targets, *self.features] if what is None else known[what]
            raise RecipeError.unknown(what or "target or feature", name, among)
        if len(meant) > 1:
            raise RecipeError(
                f'explain: {name!r} is both a target and a feature. Hint: say what="target" or what="feature".'
            )
        if meant == ["target"]:
            found, other, names = self.coefficients[:, self.targets.index(name), :], "feature", self.features
        else:
            found, other, names = self.coefficients[:, :, self.features.index(name)], "target", self.targets
        mean = found.mean(axis=0)
        table = pl.DataFrame(
            {
                other: names,
                "coefficient": mean,
                "lowest": found.min(axis=0),
                "highest": found.max(axis=0),
                "stability": np.mean((np.sign(found) == np.sign(mean)) & (found != 0), axis=0),
            }
        )
        if other == "target":
            table = table.with_columns(pl.Series("median_r2", _medians(self.r2)).fill_nan(None))
        used = table.filter((pl.col("lowest") != 0) | (pl.col("highest") != 0))
        return used.sort(pl.col("coefficient").abs(), descending=True, maintain_order=True).head(most)


def _medians(r2: Doubles) -> Doubles:
    """Medians over the last axis, of what is defined; NaN where nothing is."""
    if not np.isnan(r2).any():
        plain: Doubles = np.median(r2, axis=-1)
        return plain
    empty = np.asarray(np.isnan(r2).all(axis=-1))
    found: Doubles = np.nanmedian(np.where(empty[..., None], 0.0, r2), axis=-1)
    return np.where(empty, np.nan, found)
