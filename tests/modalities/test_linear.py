import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from cytofast.kernels.lasso import descend, lasso_path
from cytofast.modalities.folds import grouped_folds
from cytofast.modalities.linear import Penalties, determination, lasso_fold, ridge_fold
from tests import oracle_modalities as oracle


def factors(n, p, q, rank, noise=0.5, seed=0):
    """Features that are as correlated as those of cells: a few factors and some noise."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, rank))
    x = scores @ rng.normal(size=(rank, p)) + noise * rng.normal(size=(n, p))
    y = scores[:, :2] @ rng.normal(size=(2, q)) + rng.normal(size=(n, q))
    return 3 * x + rng.normal(size=p), y


def split(n, seed=0):
    groups = np.arange(n) // 2
    fold = grouped_folds(groups, 4, seed)
    train, test = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
    inner = grouped_folds(groups[train], 5, seed, 1)
    return train, test, [(np.flatnonzero(inner != i), np.flatnonzero(inner == i)) for i in range(5)]


@pytest.mark.parametrize(("n", "p", "rank"), [(60, 20, 5), (40, 60, 6)])
def test_lasso_equals_one_lassocv_a_target(n, p, rank):
    x, y = factors(n, p, 2, rank)
    train, test, inner = split(n)
    ours = lasso_fold(x, y, train, test, inner, Penalties(count=25), standardize=True)
    r2, penalty, coefficients = oracle.lasso(x, y, train, test, inner, 25)
    np.testing.assert_allclose(ours.penalty, penalty, rtol=1e-9)
    np.testing.assert_allclose(ours.coefficients, coefficients, atol=1e-6)
    np.testing.assert_allclose(ours.r2, r2, atol=1e-6)
    assert not ours.unsettled.any()


@pytest.mark.parametrize(("n", "p", "rank"), [(60, 20, 5), (50, 80, 8)])
def test_ridge_equals_one_ridgecv_a_target(n, p, rank):
    x, y = factors(n, p, 6, rank)
    train, test, inner = split(n)
    penalties = tuple(np.geomspace(0.01, 1e4, 13))
    ours = ridge_fold(x, y, train, test, inner, Penalties(penalties), standardize=True)
    r2, penalty, coefficients = oracle.ridge(x, y, train, test, inner, penalties)
    np.testing.assert_allclose(ours.penalty, penalty)
    np.testing.assert_allclose(ours.coefficients, coefficients, atol=1e-6)
    np.testing.assert_allclose(ours.r2, r2, atol=1e-6)


def test_given_penalties_and_raw_features_are_used_as_they_are():
    x, y = factors(40, 10, 2, 4)
    train, test, inner = split(40)
    ours = lasso_fold(x, y, train, test, inner, Penalties((0.3,)), standardize=False)
    for target in range(2):
        model = Lasso(0.3, tol=1e-12, max_iter=100_000).fit(x[train], y[train][:, target])
        np.testing.assert_allclose(ours.coefficients[target], model.coef_, atol=1e-7)
        assert ours.r2[target] == pytest.approx(model.score(x[test], y[test][:, target]), abs=1e-7)


def violation(gram, products, b, penalty):
    """By how much the conditions of the optimum, which is one, are missed."""
    rest = products - gram @ b
    return max((np.abs(rest) - penalty).max(), np.abs(rest - penalty * np.sign(b))[b != 0].max(initial=0.0))


@settings(max_examples=150)
@given(
    n=st.integers(3, 25), p=st.integers(1, 30), rank=st.integers(1, 6), twins=st.booleans(), seed=st.integers(0, 10_000),
    smallest=st.sampled_from([0.5, 0.05, 1e-3]),
)  # fmt: skip
def test_the_path_is_optimal_at_every_penalty(n, p, rank, twins, seed, smallest):
    """Also where features repeat each other, are constant, or outnumber the rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, p)) + 0.3 * rng.normal(size=(n, p))
    if twins:
        x = np.hstack([x, x[:, ::2], -x[:, :1], np.zeros((n, 1))])
    y = rng.normal(size=n)
    x, y = x - x.mean(axis=0), y - y.mean()
    held, target = rng.normal(size=(x.shape[1], 4)), rng.normal(size=4)
    gram, products = x.T @ x / n, x.T @ y / n
    grid = np.abs(products).max() * np.geomspace(1.2, smallest, 7)
    errors, unused, b = np.zeros(7), np.zeros(7), np.zeros(x.shape[1])
    assert lasso_path(gram, products, grid, max(1, n - 1), held, target, errors, b)
    for i in range(7):
        assert lasso_path(gram, products, grid[: i + 1], max(1, n - 1), held, target, unused, b)
        assert violation(gram, products, b, grid[i]) <= 1e-8 * grid[0]
        if not twins:
            assert ((target - b @ held) ** 2).mean() == pytest.approx(errors[i], rel=1e-5, abs=1e-9)


def test_features_that_are_nearly_copies_do_not_spoil_the_path():
    """Twins come and go often, and each time the inverse of the active features loses digits."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(40, 50)), 2, axis=1) + 1e-3 * rng.normal(size=(40, 100))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = rng.normal(size=(40, 8))
    y[:, :5] += x[:, :1]
    gram, products = x.T @ x / 40, np.ascontiguousarray((y - y.mean(axis=0)).T @ x / 40)
    nothing, errors, b = (np.zeros((100, 0)), np.zeros(0)), np.zeros(30), np.zeros(100)
    for q in range(8):
        grid = np.abs(products[q]).max() * np.geomspace(1, 1e-3, 30)
        assert lasso_path(gram, products[q], grid, 39, *nothing, errors, b)
        assert violation(gram, products[q], b, grid[-1]) <= 1e-8 * grid[0]


def test_scores_do_not_depend_on_the_units_of_a_target():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(20, 3))
    predicted = y + 0.3 * rng.normal(size=y.shape)
    plain = determination(y, predicted)
    for unit in (1e-14, 1e-100, 1e100):
        np.testing.assert_allclose(determination(unit * y, unit * predicted), plain)
    constant = np.full((20, 1), 0.1) + np.where(np.arange(20) % 2, 0.0, 1e-17)[:, None]
    assert np.isnan(determination(constant, constant)).all()
    assert np.isnan(determination(np.zeros((20, 1)), np.ones((20, 1)))).all()


def test_descent_reaches_the_end_of_the_path():
    x, y = factors(60, 30, 1, 5)
    x, y = x - x.mean(axis=0), y[:, 0] - y[:, 0].mean()
    gram, products = x.T @ x / 60, x.T @ y / 60
    grid = np.abs(products).max() * np.geomspace(1, 0.05, 10)
    nothing = np.zeros((30, 0)), np.zeros(0)
    one, two = np.zeros(30), np.zeros(30)
    assert lasso_path(gram, products, grid, 59, *nothing, np.zeros(10), one)
    assert descend(gram, products, grid, *nothing, np.zeros(10), two)
    np.testing.assert_allclose(one, two, atol=1e-5)
