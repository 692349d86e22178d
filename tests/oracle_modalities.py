"""Plain twins of the modalities room: one model a target, by scikit-learn, on folds that are given."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LassoCV, Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def lasso(x, y, train, test, inner, penalties=100):
    """R^2, penalty and coefficients of each target, from a LassoCV of its own."""
    found = []
    for column in y.T:
        model = make_pipeline(StandardScaler(), LassoCV(alphas=penalties, cv=inner, tol=1e-11, max_iter=1_000_000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x[train], column[train])
        found.append((r2_score(column[test], model.predict(x[test])), model[-1].alpha_, model[-1].coef_))
    return tuple(np.array(part) for part in zip(*found, strict=True))


def ridge(x, y, train, test, inner, penalties):
    """R^2, penalty and coefficients of each target, from a RidgeCV of its own."""
    found = []
    for column in y.T:
        search = RidgeCV(alphas=penalties, cv=inner, scoring="neg_mean_squared_error")
        model = make_pipeline(StandardScaler(), search).fit(x[train], column[train])
        final = make_pipeline(StandardScaler(), Ridge(search.alpha_)).fit(x[train], column[train])
        np.testing.assert_allclose(model[-1].coef_, final[-1].coef_, atol=1e-8)
        found.append((r2_score(column[test], model.predict(x[test])), search.alpha_, model[-1].coef_))
    return tuple(np.array(part) for part in zip(*found, strict=True))
