"""Which mechanism a perturbation has, from either modality, or from both together: clustering and classification."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytofast.errors import DataError, RecipeError
from cytofast.kernels.rng import generator
from cytofast.modalities.align import Aligned, require_values
from cytofast.modalities.folds import group_codes, shuffled_rows
from cytofast.modalities.fusion import CCA, EARLY, FUSIONS, LATE, RGCCA, chosen_fusions, embedded
from cytofast.modalities.labels import Labelled, Several, label_rows
from cytofast.modalities.mechanism_result import MechanismResult, class_f1
from cytofast.modalities.settings import require_between, require_once, set_whole

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Progress = Callable[[str, float, int], None]

_STRENGTHS: dict[str, tuple[float, ...]] = {"logistic": (0.01, 0.1, 1.0, 10.0), "mlp": (0.1, 1.0, 10.0)}
"""Of the logistic regression, the inverse of its penalty; of the network, its penalty."""
_EPOCHS = 200
_SHUFFLES = 200
_OVERSAMPLE, _SHUFFLE = 11, 12


@dataclass(frozen=True)
class Mechanism:
    """Predict, and find by clustering, the class of each perturbation: a mechanism, a target, a pathway.

    Cross-validation is nested, stratified by class and grouped by perturbation. What is learned (the scale of features, the
    joint space, the oversampled training set, the penalty) is learned from training rows alone.

    Parameters
    ----------
    label
        A column of the pair's metadata: text, with several words between ``separator``, or lists of text.
    groups
        Columns that name what is held out together. Default: the first column that was matched on.
    classifiers
        ``"logistic"`` (logistic regression) and ``"mlp"`` (a network with one hidden layer).
    fusions
        ``"early"`` (features side by side), ``"late"`` (the mean of both modalities' class probabilities), ``"rgcca"``
        (a space of what both have in common; needs ``pip install 'cytofast[fusion]'``), ``"cca"`` (scikit-learn's, of
        principal components). ``None``: early, late, and rgcca where installed.
    folds, inner_folds
        Outer folds score, inner ones choose the penalty.
    smallest_class
        Classes with fewer perturbations are left out, and so are rows without a class; the result counts them.
    several
        What a row of several remaining classes is: ``"rarest"``, the most specific of them, or ``"leave_out"``.
    oversample
        Draw rows of smaller classes again until all are of one size, in training rows only.
    components, shrinkage
        Of the joint space: dimensions of each side, and 0 (canonical correlation) to 1 (covariance).
    seed
        Of folds, oversampling, networks and clusters.
    """

    label: str
    groups: str | Sequence[str] | None = None
    classifiers: Sequence[str] = ("logistic", "mlp")
    fusions: Sequence[str] | None = None
    folds: int = 5
    inner_folds: int = 3
    smallest_class: int = 5
    several: Several = "rarest"
    separator: str = "|"
    oversample: bool = True
    components: int = 10
    shrinkage: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        require_once(self, "classifiers")
        if self.fusions is not None:
            require_once(self, "fusions")
            unknown = [name for name in self.fusions if name not in FUSIONS]
            if unknown:
                raise RecipeError.unknown("fusion", unknown[0], FUSIONS)
        unknown = [name for name in self.classifiers if name not in _STRENGTHS]
        if unknown or not self.classifiers:
            raise RecipeError.unknown("classifier", unknown[0] if unknown else "", _STRENGTHS)
        if self.several not in get_args(Several):
            raise RecipeError.unknown("policy for several classes", self.several, get_args(Several))
        set_whole(self, {"folds": 2, "inner_folds": 2, "smallest_class": 2, "components": 1, "seed": 0})
        if self.shrinkage not in (0, 1):
            require_between(self, "shrinkage", 0, 1)
        if not self.separator:
            raise RecipeError("Mechanism: separator is empty. Hint: one that no label has, if labels are single words.")
        need = max(self.folds, self.inner_folds + 1)
        if self.smallest_class < need:
            raise RecipeError(
                f"Mechanism: smallest_class={self.smallest_class} is too small for {self.folds} folds and "
                f"{self.inner_folds} inner folds: a class needs a perturbation in each. Hint: at least {need}, or fewer folds."
            )

    # --- questions -------------------------------------------------------------------------------------------------

    def labelled(self, pair: Aligned) -> Labelled:
        """The rows that have a class, and what was left out."""
        columns = pair.keys.columns[:1] if self.groups is None else self.groups
        groups = group_codes(pair.metadata, columns, "Mechanism")
        return label_rows(pair.metadata, self.label, groups, self.separator, self.smallest_class, self.several)

    def classify(self, pair: Aligned, progress: Progress | None = None) -> MechanismResult:
        """Predict the class of perturbations that were held out, from each modality and each fusion.

        Raises
        ------
        DataError
            Fewer than two classes are large enough.
        """
        from sklearn.model_selection import StratifiedGroupKFold

        fusions = chosen_fusions(self.fusions)
        rows = self.labelled(pair)
        sides = _sides(pair, rows.rows)
        spaces = [pair.a.name, pair.b.name, *fusions]
        y = rows.classes
        shape = (len(self.classifiers), len(spaces), len(y), len(rows.names))
        probabilities, fold = np.zeros(shape), np.zeros(len(y), dtype=np.int64)
        splitter = StratifiedGroupKFold(self.folds, shuffle=True, random_state=self.seed)
        total = self.folds * len(self.classifiers) * len(spaces)
        splits = list(splitter.split(y, y, rows.groups))
        models = product(range(self.folds), range(len(self.classifiers)), range(len(spaces)))
        for done, (f, c, s) in enumerate(models, start=1):
            train, test = splits[f]
            classifier, space = self.classifiers[c], spaces[s]
            fold[test] = f
            if space == LATE:
                probabilities[c, s, test] = probabilities[c, :2, test].mean(axis=1)
            else:
                # The matrices are small: several threads of a BLAS would only wait for each other.
                with threadpool_limits(1, user_api="blas"):
                    probabilities[c, s, test] = self._held_out(classifier, space, sides, rows, train, test, f)
            if progress is not None:
                progress(f"fold {f + 1}, {classifier}, {space}", done, total)
        return MechanismResult(
            label=self.label,
            keys=pair.keys[rows.rows],
            classes=rows,
            classifiers=tuple(self.classifiers),
            spaces=tuple(spaces),
            fold=fold,
            probabilities=probabilities,
            seed=self.seed,
        )

    def cluster(self, pair: Aligned) -> pl.DataFrame:
        """K-means with as many clusters as classes, on each modality and each joint space.

        Returns
        -------
        polars.DataFrame
            One row a space and class: ``space, class, n_rows, jaccard`` (of the class and the cluster that is most like
            it), ``chance_jaccard`` (mean over shuffled labels), ``p_value``, and the space's ``adjusted_rand``.
        """
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_rand_score

        rows = self.labelled(pair)
        sides = _sides(pair, rows.rows)
        for name, values in sides:
            if not np.ptp(values, axis=0).any():
                raise DataError(f"Mechanism: every feature of {name} is constant; there is nothing to cluster.")
        every, k = np.arange(len(rows.rows)), len(rows.names)
        shuffles = [rows.classes[shuffled_rows(rows.groups, self.seed, _SHUFFLE, i)] for i in range(_SHUFFLES)]
        tables = []
        for space in [pair.a.name, pair.b.name, *(f for f in chosen_fusions(self.fusions) if f in (EARLY, RGCCA, CCA))]:
            x, _ = embedded(space, sides, every, every, self.components, self.shrinkage)
            with threadpool_limits(1):
                found = KMeans(k, n_init=10, random_state=self.seed).fit_predict(x)
            observed = _jaccard(rows.classes, found, k)
            null = np.stack([_jaccard(shuffled, found, k) for shuffled in shuffles])
            tables.append(
                pl.DataFrame(
                    {
                        "space": [space] * k,
                        "class": rows.names,
                        "n_rows": np.bincount(rows.classes, minlength=k),
                        "jaccard": observed,
                        "chance_jaccard": null.mean(axis=0),
                        "p_value": (1 + (null >= observed).sum(axis=0)) / (1 + _SHUFFLES),
                        "adjusted_rand": [float(adjusted_rand_score(rows.classes, found))] * k,
                    }
                )
            )
        return pl.concat(tables)

    # --- parts -----------------------------------------------------------------------------------------------------

    def _held_out(
        self,
        classifier: str,
        space: str,
        sides: tuple[tuple[str, Doubles], tuple[str, Doubles]],
        rows: Labelled,
        train: Integers,
        test: Integers,
        fold: int,
    ) -> Doubles:
        """Class probabilities of the test rows, with the strength that is best in the inner folds of the training rows."""
        from sklearn.model_selection import StratifiedGroupKFold

        y, groups, k = rows.classes, rows.groups, len(rows.names)
        strengths = _STRENGTHS[classifier]
        scores = np.zeros(len(strengths))
        inner = StratifiedGroupKFold(self.inner_folds, shuffle=True, random_state=self.seed)
        for i, (fit, held) in enumerate(inner.split(y[train], y[train], groups[train])):
            a, b = train[fit], train[held]
            xa, xb = embedded(space, sides, a, b, self.components, self.shrinkage)
            for j, strength in enumerate(strengths):
                found = self._probabilities(classifier, strength, xa, y[a], xb, k, (fold, i + 1))
                scores[j] += weighted_f1(y[b], found.argmax(axis=1), k)
        xa, xb = embedded(space, sides, train, test, self.components, self.shrinkage)
        return self._probabilities(classifier, strengths[int(scores.argmax())], xa, y[train], xb, k, (fold, 0))

    def _probabilities(
        self, classifier: str, strength: float, x: Doubles, y: Integers, held: Doubles, k: int, key: tuple[int, int]
    ) -> Doubles:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.neural_network import MLPClassifier

        model: Any
        if classifier == "logistic":
            model = LogisticRegression(C=strength, max_iter=1000)
        else:
            model = MLPClassifier(hidden_layer_sizes=(50,), alpha=strength, max_iter=_EPOCHS, random_state=self.seed)
        chosen = oversampled(y, self.seed, _OVERSAMPLE, *key) if self.oversample else np.arange(len(y))
        with warnings.catch_warnings():
            # A network's epochs are limited on purpose, as a penalty is.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x[chosen], y[chosen])
        out = np.zeros((len(held), k))
        out[:, model.classes_] = model.predict_proba(held)
        return out


def _sides(pair: Aligned, rows: Integers) -> tuple[tuple[str, Doubles], tuple[str, Doubles]]:
    """Names and values of both modalities."""
    require_values(pair.a, pair.b)
    for side in (pair.a, pair.b):
        if side.name in FUSIONS:
            raise RecipeError(
                f"Mechanism: {side.name!r} is a fusion; a modality needs another name. Hint: align(names=)."
            )
    return (pair.a.name, pair.a.values[rows]), (pair.b.name, pair.b.values[rows])


def oversampled(classes: Integers, *key: int) -> Integers:
    """All rows, and drawn repetitions of the smaller classes until each is as large as the largest."""
    counts = np.bincount(classes)
    rng = generator(*key)
    parts = [np.arange(len(classes))]
    for code in np.flatnonzero(counts):
        members = np.flatnonzero(classes == code)
        parts.append(rng.choice(members, counts.max() - len(members)))
    return np.concatenate(parts)


def weighted_f1(truth: Integers, found: Integers, k: int) -> float:
    """F1 of each class, weighted by how many rows truly are of it."""
    support = np.bincount(truth, minlength=k)
    return float(class_f1(truth, found, k) @ support / support.sum())


def _jaccard(classes: Integers, clusters: Integers, k: int) -> Doubles:
    """For each class, intersection over union with the cluster that is most like it."""
    table = np.zeros((k, k))
    np.add.at(table, (classes, clusters), 1.0)
    union = table.sum(axis=1)[:, None] + table.sum(axis=0) - table
    best: Doubles = (table / np.maximum(union, 1.0)).max(axis=1)
    return best
