from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from cytofast.kernels.comoments import absorb, comoments, pairwise_correlations, spreads_of, to_correlations
from tests import oracle_wells


def table(seed: int, f: int, n: int) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.normal(size=(f, n)) * 10.0 ** rng.integers(-3, 4, size=(f, 1)) + rng.normal(size=(f, 1)) * 100


@given(st.integers(0, 10**6), st.lists(st.integers(1, 7), min_size=1, max_size=5), st.randoms())
def test_merged_in_any_order_and_chunking(seed, sizes, random):
    x = table(seed, 3, sum(sizes))
    edges = np.cumsum([0, *sizes])
    parts = [comoments(x[:, a:b]) for a, b in pairwise(edges)]
    random.shuffle(parts)
    total = parts[0]
    for part in parts[1:]:
        total = absorb(total, part)
    whole = comoments(x)
    assert total.n_rows == whole.n_rows == x.shape[1]
    assert_allclose(total.mean, whole.mean, rtol=1e-12)
    scale = np.sqrt(np.outer(np.diag(whole.products), np.diag(whole.products))) + 1e-6
    assert (np.abs(total.products - whole.products) <= 1e-9 * scale).all()
    if x.shape[1] > 1:
        assert_allclose(whole.covariance(), np.cov(x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, -3e-7])
def test_a_constant_has_no_spread(value):
    moments = comoments(np.array([[value] * 1000, np.arange(1000.0)]))
    spreads = spreads_of(moments)
    assert spreads[0] == 0
    assert spreads[1] > 0
    to_correlations(moments.products, spreads)
    assert np.isnan(moments.products[0]).all()
    assert moments.products[1, 1] == 1


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 12), st.floats(0, 0.9))
def test_correlations_of_columns_with_gaps(seed, f, n, share):
    rng = np.random.Generator(np.random.PCG64(seed))
    x = np.round(table(seed, f, n), 2)
    holed = rng.random(f) < 0.6
    x[holed] = np.where(rng.random((holed.sum(), n)) < share, rng.choice([np.nan, np.inf, -np.inf]), x[holed])
    gappy = np.flatnonzero(~np.isfinite(x).all(axis=1))
    present = np.where(np.isfinite(x), x, np.nan)
    centres = np.array([np.nanmean(row) if np.isfinite(row).any() else 0.0 for row in present])
    edges = [0, n // 2, n]
    pieces = [x[:, a:b] for a, b in pairwise(edges)]
    r = pairwise_correlations(pieces, centres, np.ones(f), gappy)
    for i in range(f):
        for j in range(f):
            expected = oracle_wells.pearson(x[i], x[j])
            assert_allclose(r[i, j], expected, atol=1e-6 if i != j else 1e-9, err_msg=f"{i} {j}")
