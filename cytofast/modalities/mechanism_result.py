"""What a classification of mechanisms found: scores with intervals, chance, classes, and comparisons of modalities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.errors import RecipeError
from cytofast.modalities.folds import shuffled_rows
from cytofast.modalities.labels import Labelled

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
_SHUFFLES = 1000
_CHANCE = 21


def class_f1(truth: Integers, found: Integers, k: int) -> Doubles:
    """``float64[k]``: 2 true positives over predicted and true members; 0 where there are neither."""
    right = np.bincount(truth[truth == found], minlength=k)
    members = np.bincount(truth, minlength=k) + np.bincount(found, minlength=k)
    return np.where(members > 0, 2 * right / np.maximum(members, 1), 0.0)


@dataclass(frozen=True)
class MechanismResult:
    """Class probabilities of every perturbation, from models that never saw it.

    Attributes
    ----------
    keys
        What was matched on, one row a classified row.
    classes
        Classes of the rows, their names, and what was left out.
    spaces
        The two modalities, then the fusions.
    fold
        The fold that held each row out.
    probabilities
        ``float64[n_classifiers, n_spaces, n_rows, n_classes]``.
    """

    label: str
    keys: pl.DataFrame
    classes: Labelled
    classifiers: tuple[str, ...]
    spaces: tuple[str, ...]
    fold: Integers
    probabilities: Doubles
    seed: int

    @cached_property
    def _found(self) -> Integers:
        found: Integers = self.probabilities.argmax(axis=3)
        return found

    @cached_property
    def _fold_f1(self) -> Doubles:
        """Weighted F1 of each classifier, space and fold."""
        y, k = self.classes.classes, len(self.classes.names)
        out = np.zeros((*self._found.shape[:2], int(self.fold.max()) + 1))
        for f in range(out.shape[2]):
            held = self.fold == f
            support = np.bincount(y[held], minlength=k) / held.sum()
            for c, s in np.ndindex(out.shape[:2]):
                out[c, s, f] = class_f1(y[held], self._found[c, s, held], k) @ support
        return out

    def _pairs(self) -> list[tuple[int, int]]:
        return [(c, s) for c in range(len(self.classifiers)) for s in range(len(self.spaces))]

    @property
    def predictions(self) -> pl.DataFrame:
        """One row a perturbation, classifier and space: the keys, ``class, predicted, probability, fold``."""
        names = np.array(self.classes.names)
        tables = []
        for c, s in self._pairs():
            found = self._found[c, s]
            tables.append(
                self.keys.with_columns(
                    pl.lit(self.classifiers[c]).alias("classifier"),
                    pl.lit(self.spaces[s]).alias("space"),
                    pl.Series("class", names[self.classes.classes].tolist()),
                    pl.Series("predicted", names[found].tolist()),
                    pl.Series("probability", self.probabilities[c, s].max(axis=1)),
                    pl.Series("fold", self.fold),
                )
            )
        return pl.concat(tables)

    @property
    def scores(self) -> pl.DataFrame:
        """One row a classifier, space and fold: ``weighted_f1`` and rows."""
        sizes = np.bincount(self.fold)
        rows = [
            (self.classifiers[c], self.spaces[s], f, float(self._fold_f1[c, s, f]), int(sizes[f]))
            for c, s in self._pairs()
            for f in range(len(sizes))
        ]
        return pl.DataFrame(rows, schema=["classifier", "space", "fold", "weighted_f1", "n_test"], orient="row")

    def summary(self, confidence: float = 0.95) -> pl.DataFrame:
        """One row a classifier and space, with an interval and the chance line.

        Returns
        -------
        polars.DataFrame
            ``classifier, space, weighted_f1`` (mean over folds), ``lower, upper`` (from folds, widened because their
            training sets overlap: Nadeau and Bengio 2003; cut at 0 and 1), ``macro_f1, accuracy`` (of all held-out rows),
            ``chance_f1, chance_p95, p_value`` (of predictions that are shuffled among perturbations).
        """
        y, k = self.classes.classes, len(self.classes.names)
        support = np.bincount(y, minlength=k) / len(y)
        orders = [shuffled_rows(self.classes.groups, self.seed, _CHANCE, i) for i in range(_SHUFFLES)]
        rows = []
        for c, s in self._pairs():
            found = self._found[c, s]
            low, high = self._interval(self._fold_f1[c, s], confidence)
            f1 = class_f1(y, found, k)
            pooled = float(f1 @ support)
            null = np.array([class_f1(y, found[order], k) @ support for order in orders])
            rows.append(
                (
                    self.classifiers[c],
                    self.spaces[s],
                    float(self._fold_f1[c, s].mean()),
                    max(low, 0.0),
                    min(high, 1.0),
                    float(f1.mean()),
                    float((found == y).mean()),
                    float(null.mean()),
                    float(np.quantile(null, 0.95)),
                    float((1 + (null >= pooled).sum()) / (1 + _SHUFFLES)),
                )
            )
        names = "classifier space weighted_f1 lower upper macro_f1 accuracy chance_f1 chance_p95 p_value"
        return pl.DataFrame(rows, schema=names.split(), orient="row")

    def per_class(self) -> pl.DataFrame:
        """One row a classifier, space and class: ``f1`` of all held-out rows, and the class's size."""
        y, k = self.classes.classes, len(self.classes.names)
        sizes = self.classes.table()
        tables = [
            sizes.with_columns(
                pl.lit(self.classifiers[c]).alias("classifier"),
                pl.lit(self.spaces[s]).alias("space"),
                pl.Series("f1", class_f1(y, self._found[c, s], k)),
            )
            for c, s in self._pairs()
        ]
        return pl.concat(tables).select("classifier", "space", "class", "n_rows", "n_groups", "f1")

    def compare(self, confidence: float = 0.95) -> pl.DataFrame:
        """Every two spaces on the same folds: the mean difference of weighted F1, its interval and p-value.

        Returns
        -------
        polars.DataFrame
            ``classifier, one, other, difference`` (one minus other), ``lower, upper, p_value`` (corrected t-test of paired
            folds, two-sided; not corrected for the number of comparisons).
        """
        from scipy import stats

        rows = []
        for c, classifier in enumerate(self.classifiers):
            for one, other in combinations(range(len(self.spaces)), 2):
                differences = self._fold_f1[c, one] - self._fold_f1[c, other]
                mean, error = float(differences.mean()), self._error(differences)
                low, high = self._interval(differences, confidence)
                p = 2 * float(stats.t.sf(abs(mean) / error, len(differences) - 1)) if error > 0 else float(mean == 0)
                rows.append((classifier, self.spaces[one], self.spaces[other], mean, low, high, p))
        names = "classifier one other difference lower upper p_value"
        return pl.DataFrame(rows, schema=names.split(), orient="row")

    def _error(self, values: Doubles) -> float:
        """Standard error of a mean over folds that share training rows."""
        k = len(values)
        return float(values.std(ddof=1) * np.sqrt(1 / k + 1 / (k - 1)))

    def _interval(self, values: Doubles, confidence: float) -> tuple[float, float]:
        from scipy import stats

        if not 0 < confidence < 1:
            raise RecipeError(f"confidence must be in (0, 1), not {confidence}")
        half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * self._error(values)
        return float(values.mean()) - half, float(values.mean()) + half
