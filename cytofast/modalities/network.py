"""A small neural network over all targets of one fold at once (scikit-learn's, so serial and the same each time)."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from cytofast.modalities.linear import FoldFit, Penalties, determination, scaled

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

HIDDEN = ((50,), (64, 32))
SHRINKAGE = (0.01, 1.0)
_EPOCHS = 300


def _fitted(
    x: Doubles, y: Doubles, hidden: tuple[int, ...], shrinkage: float, seed: int
) -> tuple[object, Doubles, Doubles]:
    """A network for standardized targets, with their means and spreads."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    mean, spread = y.mean(axis=0), y.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    network = MLPRegressor(
        hidden_layer_sizes=hidden, alpha=shrinkage, max_iter=_EPOCHS, random_state=seed, tol=1e-4, n_iter_no_change=8
    )
    with warnings.catch_warnings():
        # Epochs are part of the model: few of them hold it back as a penalty does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        scaled_y = (y - mean) / spread
        network.fit(x, scaled_y[:, 0] if y.shape[1] == 1 else scaled_y)
    return network, mean, spread


def _predicted(model: tuple[object, Doubles, Doubles], x: Doubles) -> Doubles:
    network, mean, spread = model
    found: Doubles = network.predict(x).reshape(len(x), -1) * spread + mean  # type: ignore[attr-defined]
    return found


def network_fold(
    x: Doubles,
    y: Doubles,
    train: Integers,
    test: Integers,
    inner: list[tuple[Integers, Integers]],
    penalties: Penalties,
    *,
    standardize: bool,
    leak: bool = False,
    seed: int = 0,
) -> FoldFit:
    """Networks of two shapes and two (or the given) penalties; each target takes the one that is best in its inner folds.

    The parameters are those of :func:`cytofast.modalities.linear.lasso_fold`. There are no coefficients.
    """
    xt, xs = scaled(x, train, test, standardize=standardize)
    yt = y[train]
    chosen = [(h, s) for h in HIDDEN for s in (penalties.given or SHRINKAGE)]
    errors = np.zeros((len(chosen), y.shape[1]))
    if len(chosen) > 1:
        for fit, held in inner:
            for i, (hidden, shrinkage) in enumerate(chosen):
                predicted = _predicted(_fitted(xt[fit], yt[fit], hidden, shrinkage, seed), xt[held])
                errors[i] += ((yt[held] - predicted) ** 2).mean(axis=0)
    best = errors.argmin(axis=0)
    predicted = np.zeros((len(test), y.shape[1]))
    rows_x, rows_y = (np.vstack([xt, xs]), np.vstack([yt, y[test]])) if leak else (xt, yt)
    for i in np.unique(best):
        hidden, shrinkage = chosen[i]
        columns = best == i
        predicted[:, columns] = _predicted(_fitted(rows_x, rows_y, hidden, shrinkage, seed), xs)[:, columns]
    penalty = np.array([chosen[i][1] for i in best])
    return FoldFit(
        determination(y[test], predicted), penalty, np.zeros((y.shape[1], 0)), np.zeros(y.shape[1], dtype=np.bool_)
    )
