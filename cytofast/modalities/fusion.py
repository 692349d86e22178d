"""One space of two modalities: each alone, side by side, or what they have in common. Learned from training rows alone."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytofast.errors import DataError, ProfileWarning, RecipeError
from cytofast.modalities.linear import Doubles, scaled

Integers = NDArray[np.int64]

EARLY, LATE, RGCCA, CCA = "early", "late", "rgcca", "cca"
FUSIONS = (EARLY, LATE, RGCCA, CCA)
_PACKAGE = "cca_zoo"


def chosen_fusions(fusions: Sequence[str] | None) -> tuple[str, ...]:
    """The fusions that were asked for; without a word: early, late, and RGCCA where its package is installed."""
    installed = importlib.util.find_spec(_PACKAGE) is not None
    if fusions is None:
        if not installed:
            warnings.warn(
                "fusion by RGCCA is left out: it needs cca-zoo. Install it with: pip install 'cytofast[fusion]'.",
                ProfileWarning,
                stacklevel=3,
            )
        return (EARLY, LATE, RGCCA) if installed else (EARLY, LATE)
    unknown = [name for name in fusions if name not in FUSIONS]
    if unknown:
        raise RecipeError.unknown("fusion", unknown[0], FUSIONS)
    if RGCCA in fusions and not installed:
        raise RecipeError(
            "fusion 'rgcca' needs cca-zoo. Install it with: pip install 'cytofast[fusion]'; or take 'cca' (scikit-learn's, "
            "on principal components)."
        )
    return tuple(fusions)


def embedded(
    space: str,
    sides: tuple[tuple[str, Doubles], tuple[str, Doubles]],
    train: Integers,
    test: Integers,
    components: int,
    shrinkage: float,
) -> tuple[Doubles, Doubles]:
    """Training and test rows in a space: a side's name, ``"early"``, ``"rgcca"`` or ``"cca"``.

    Features are standardized. Side by side, both modalities weigh the same, however many features they have.
    """
    both = []
    for name, values in sides:
        pair = scaled(values, train, test, standardize=True)
        if space == name:
            return pair
        both.append(pair)
    if space == EARLY:
        mean = np.sqrt(np.mean([one.shape[1] for one, _ in both]))
        weights = [mean / np.sqrt(one.shape[1]) for one, _ in both]
        fit, held = (np.hstack([w * p[i] for w, p in zip(weights, both, strict=True)]) for i in (0, 1))
        return fit, held
    varying = [int((np.ptp(one, axis=0) > 0).sum()) for one, _ in both]
    for (name, _), n in zip(sides, varying, strict=True):
        if not n:
            raise DataError(
                f"fusion {space!r}: every feature of {name} is constant among the {len(train):,} training rows, so nothing "
                "is common. Hint: leave this fusion out."
            )
    most = min(components, len(train) - 1, *varying)
    joint = _rgcca(both, most, shrinkage) if space == RGCCA else _cca(both, most)
    every = np.arange(len(train))
    stacked = np.vstack(joint)
    return scaled(stacked, every, np.arange(len(train), len(stacked)), standardize=True)


def _rgcca(both: list[tuple[Doubles, Doubles]], components: int, shrinkage: float) -> tuple[Doubles, Doubles]:
    """Regularized CCA of two blocks: for two, RGCCA is the canonical ridge whatever its scheme (Tenenhaus 2011)."""
    from cca_zoo.linear import MCCA

    model = MCCA(n_components=components, shrinkage=shrinkage)
    model.fit([one for one, _ in both])
    fit = np.hstack(model.transform([one for one, _ in both]))
    return fit, np.hstack(model.transform([two for _, two in both]))


def _cca(both: list[tuple[Doubles, Doubles]], components: int) -> tuple[Doubles, Doubles]:
    """scikit-learn's CCA of principal components: as such it is not regularized, and more features than rows fit all."""
    from sklearn import cross_decomposition
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning

    reduced = []
    for one, two in both:
        width = min(max(components, len(one) // 5), *one.shape)
        pca = PCA(width, svd_solver="full").fit(one)
        reduced.append((pca.transform(one), pca.transform(two)))
    model = cross_decomposition.CCA(components, max_iter=2000)
    with warnings.catch_warnings():
        # Components beyond what is shared have no maximum to converge to.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(reduced[0][0], reduced[1][0])
    fit, held = (np.hstack(model.transform(reduced[0][i], reduced[1][i])) for i in (0, 1))
    return fit, held
