"""Lasso and ridge for many targets over one fold: what depends on features alone is computed once for all targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.lasso import lasso_paths

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Penalties:
    """Which penalties are tried: given ones, or a geometric grid that the data place."""

    given: tuple[float, ...] | None = None
    count: int = 100
    smallest: float = 1e-3


@dataclass(frozen=True)
class FoldFit:
    """Models of some targets, learned from the training rows of one fold.

    Attributes
    ----------
    r2
        ``float64[n_targets]`` on the test rows; NaN where the target is constant there.
    penalty
        What the inner folds chose.
    coefficients
        ``float64[n_targets, n_features]``, per standard deviation of the feature if features are standardized.
    unsettled
        ``bool[n_targets]``: the solver did not reach its tolerance.
    """

    r2: Doubles
    penalty: Doubles
    coefficients: Doubles
    unsettled: NDArray[np.bool_]


Fit = Callable[..., FoldFit]


def scaled(x: Doubles, train: Integers, test: Integers, *, standardize: bool) -> tuple[Doubles, Doubles]:
    """Training and test rows, centred (and scaled) by the training rows alone; a constant feature becomes 0."""
    mean = x[train].mean(axis=0)
    inner, outer = x[train] - mean, x[test] - mean
    if standardize:
        spread = np.sqrt((inner * inner).mean(axis=0))
        # What rounding leaves of a constant is no spread.
        flat = spread <= 10 * np.finfo(np.float64).eps * np.abs(mean)
        inner[:, flat] = outer[:, flat] = 0.0
        spread[flat | (spread == 0)] = 1.0
        inner /= spread
        outer /= spread
    return inner, outer


def determination(y: Doubles, predicted: Doubles) -> Doubles:
    """R^2 of each column, against the mean of these rows; NaN where the column is constant."""
    centred = y - y.mean(axis=0)
    total = (centred * centred).sum(axis=0)
    rest = ((y - predicted) ** 2).sum(axis=0)
    # What rounding leaves of a constant, whatever its unit.
    constant = total <= 1e-24 * (y * y).sum(axis=0)
    return np.where(constant, np.nan, 1.0 - rest / np.where(constant, 1.0, total))


def lasso_fold(
    x: Doubles,
    y: Doubles,
    train: Integers,
    test: Integers,
    inner: list[tuple[Integers, Integers]],
    penalties: Penalties,
    *,
    standardize: bool,
    leak: bool = False,
) -> FoldFit:
    """One lasso a target; the penalty is that of the least mean squared error over the inner folds.

    As scikit-learn's ``LassoCV``: the grid goes from the penalty at which all coefficients vanish down to ``smallest`` of
    it, the mean over folds is not weighted, and features are scaled by the whole training set.

    Parameters
    ----------
    inner
        ``(training, validation)`` positions within ``train``.
    leak
        Fit the chosen model to all rows, those of the test fold too, before it is scored: the published mistake.
    """
    xt, xs = scaled(x, train, test, standardize=standardize)
    yt = y[train]
    products, gram, most, mean = _products(xt, yt)
    if penalties.given is None:
        top = np.maximum(np.abs(products).max(axis=1), np.finfo(np.float64).tiny)
        grid = np.ascontiguousarray(np.geomspace(top, top * penalties.smallest, penalties.count, axis=1))
    else:
        grid = np.tile(np.sort(np.array(penalties.given, dtype=np.float64))[::-1], (y.shape[1], 1))
    if grid.shape[1] > 1:
        errors = np.zeros_like(grid)
        for fit, held in inner:
            errors += _paths(xt[fit], yt[fit], grid, xt[held], yt[held])
        penalty = np.take_along_axis(grid, errors.argmin(axis=1)[:, None], axis=1)
    else:
        penalty = grid
    coefficients = np.zeros((y.shape[1], x.shape[1]))
    states = np.zeros(y.shape[1], dtype=np.int8)
    nothing = np.zeros((x.shape[1], 0)), np.zeros((y.shape[1], 0))
    if leak:
        every = np.concatenate([train, test])
        whole = np.vstack([xt, xs])
        centre = whole.mean(axis=0)
        products, gram, most, mean = _products(whole - centre, y[every])
        xs = xs - centre
    lasso_paths(gram, products, penalty, most, *nothing, np.zeros_like(penalty), coefficients, states)
    r2 = determination(y[test], xs @ coefficients.T + mean)
    return FoldFit(r2, penalty[:, 0], coefficients, states == 2)


def _products(x: Doubles, y: Doubles) -> tuple[Doubles, Doubles, int, Doubles]:
    """``y'x / n`` and ``x'x / n`` of centred features, the greatest possible rank, and the means of the targets."""
    n = len(x)
    mean = y.mean(axis=0)
    return np.ascontiguousarray((y - mean).T @ x / n), x.T @ x / n, max(1, n - 1), mean


def _paths(x: Doubles, y: Doubles, grid: Doubles, held: Doubles, held_y: Doubles) -> Doubles:
    """Mean squared error of the held rows, ``float64[n_targets, n_penalties]``."""
    centre = x.mean(axis=0)
    products, gram, most, mean = _products(x - centre, y)
    errors = np.zeros_like(grid)
    unused = np.zeros((y.shape[1], x.shape[1]))
    states = np.zeros(y.shape[1], dtype=np.int8)
    columns = np.ascontiguousarray((held - centre).T)
    lasso_paths(gram, products, grid, most, columns, np.ascontiguousarray((held_y - mean).T), errors, unused, states)
    return errors


def ridge_fold(
    x: Doubles,
    y: Doubles,
    train: Integers,
    test: Integers,
    inner: list[tuple[Integers, Integers]],
    penalties: Penalties,
    *,
    standardize: bool,
    leak: bool = False,
) -> FoldFit:
    """One ridge a target, all from one decomposition of each training set; parameters as in :func:`lasso_fold`.

    Minimized is ``|y - X b|^2 + penalty |b|^2``. Unless penalties are given, they go from 1e4 to 1e-4 times the mean
    squared singular value of the training rows.
    """
    xt, xs = scaled(x, train, test, standardize=standardize)
    yt = y[train]
    if penalties.given is None:
        scale = float((xt * xt).sum()) / max(1, min(xt.shape)) or 1.0
        grid = scale * np.geomspace(1e4, 1e-4, min(penalties.count, 25))
    else:
        grid = np.sort(np.array(penalties.given, dtype=np.float64))[::-1]
    errors = np.zeros((len(grid), y.shape[1]))
    if len(grid) > 1:
        for fit, held in inner:
            left, values, right, centre, mean = _decomposed(xt[fit], yt[fit])
            projected = (xt[held] - centre) @ right.T
            for i, penalty in enumerate(grid):
                predicted = (projected * (values / (values**2 + penalty))) @ left + mean
                errors[i] += ((yt[held] - predicted) ** 2).mean(axis=0)
    penalty = grid[errors.argmin(axis=0)]
    if leak:
        left, values, right, centre, mean = _decomposed(np.vstack([xt, xs]), np.vstack([yt, y[test]]))
    else:
        left, values, right, centre, mean = _decomposed(xt, yt)
    shrunk = values[:, None] / (values[:, None] ** 2 + penalty) * left
    coefficients = np.ascontiguousarray((right.T @ shrunk).T)
    r2 = determination(y[test], (xs - centre) @ coefficients.T + mean)
    return FoldFit(r2, penalty, coefficients, np.zeros(y.shape[1], dtype=np.bool_))


def _decomposed(x: Doubles, y: Doubles) -> tuple[Doubles, Doubles, Doubles, Doubles, Doubles]:
    """``U'y``, singular values, ``V'``, and the means of features and targets."""
    centre, mean = x.mean(axis=0), y.mean(axis=0)
    left, values, right = np.linalg.svd(x - centre, full_matrices=False)
    kept = values > values[:1].max(initial=0.0) * max(x.shape) * np.finfo(np.float64).eps
    return left[:, kept].T @ (y - mean), values[kept], right[kept], centre, mean
