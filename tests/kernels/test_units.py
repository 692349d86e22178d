import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast.kernels.units import unit_columns


@given(st.integers(0, 10**6), st.integers(1, 11), st.booleans())
def test_products_are_correlations(seed, n, single):
    rng = np.random.Generator(np.random.PCG64(seed))
    x = (rng.normal(size=(3, n)) * 10.0 ** rng.integers(-3, 4, size=(3, 1)) + 40).astype(
        np.float32 if single else np.float64
    )
    x[2] = 0.1
    out = np.empty(x.shape)
    assert unit_columns(x, out)
    assert (out[2] == 0).all()
    if n > 2:
        np.testing.assert_allclose(out[:2] @ out[:2].T, np.corrcoef(x[:2].astype(float)), atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told(bad):
    x = np.ones((2, 5))
    x[1, 4] = bad
    assert not unit_columns(x, np.empty((2, 5)))
