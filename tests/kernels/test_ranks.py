import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import rankdata

from cytofast.kernels.ranks import average_ranks, to_digits, value_counts
from cytofast.kernels.spearman import gappy_rank_correlations
from tests import oracle_wells

numbers = st.sampled_from(
    [0.0, -0.0, 1.0, 1.0 + 2**-52, -1.0, -1.0 - 2**-52, float("inf"), float("-inf"), 5e-324]
) | st.floats(allow_nan=False)
values = st.lists(numbers | st.just(float("nan")), min_size=1, max_size=30)


@given(values, st.booleans())
def test_ranks_are_those_of_the_definition(row, single):
    with np.errstate(over="ignore"):
        x = np.array([row, row[::-1]]).astype(np.float32 if single else np.float64)
    got = average_ranks(x, 2)
    for line, ranked in zip(x, got, strict=True):
        present = ~np.isnan(line)
        assert_array_equal(ranked[present], oracle_wells.ranks(line[present].tolist()))
        assert np.isnan(ranked[~present]).all()


@pytest.mark.parametrize("n", [40, 3_000, 20_000])
@pytest.mark.parametrize("single", [True, False])
def test_ranks_of_every_kind_of_row(n, single):
    """Bells, far outliers, mostly zeros, narrow bands, whole numbers, the ends of what a float can be."""
    rng = np.random.Generator(np.random.PCG64(n))
    bell = rng.normal(size=n)
    few = np.where(rng.random(n) < 0.01, 1e6 * bell, bell)
    ends = np.where(rng.random(n) < 0.5, bell * 1e30, bell * 1e-37)
    odd = np.where(rng.random(n) < 0.01, np.inf * np.sign(bell), bell)
    rows = [
        bell,
        few,
        np.where(bell > 1, bell, 0.0),
        1000 + bell,
        1e6 + bell,
        np.rint(bell * 3),
        ends,
        odd,
        -few,
        np.exp(9 * bell),
    ]
    x = np.array(rows).astype(np.float32 if single else np.float64)
    x[1, ::7] = np.nan
    for line, ranked in zip(x, average_ranks(x, 2), strict=True):
        present = ~np.isnan(line)
        assert_array_equal(ranked[present], rankdata(line[present]))
        assert np.isnan(ranked[~present]).all()


@given(values)
def test_value_counts(row):
    distinct, first, second = value_counts(np.array([row]))[0]
    ratio, unique = oracle_wells.frequencies(row)
    assert (second / first if distinct > 1 else 0.0) == ratio
    assert distinct / len(row) == unique


@given(st.lists(st.floats(-1e30, 1e30, allow_subnormal=False), min_size=1, max_size=20), st.integers(2, 9))
def test_digits_are_those_of_text(row, digits):
    got = to_digits(np.array(row), digits)
    assert_allclose(got, [float(f"{v:.{digits}g}") for v in row], rtol=1.1 * 10.0 ** (1 - digits))
    exact = np.array([float(f"{v:.5g}") for v in [0.123456, 12.34567, 123456.7, 1e-7 / 3, 0.0]])
    assert_allclose(to_digits(np.array([0.123456, 12.34567, 123456.7, 1e-7 / 3, 0.0]), 5), exact, rtol=1e-14)
    assert_array_equal(to_digits(np.array([np.nan, np.inf]), 3), [np.nan, np.inf])


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 10))
def test_rank_correlations_with_gaps(seed, f, n):
    rng = np.random.Generator(np.random.PCG64(seed))
    x = rng.integers(0, 5, size=(f, n)).astype(float)
    x[: f // 2 + 1] = np.where(rng.random((f // 2 + 1, n)) < 0.3, np.nan, x[: f // 2 + 1])
    ranks = average_ranks(x).astype(np.float32)
    r = np.zeros((f, f))
    gappy = np.flatnonzero(np.isnan(x).any(axis=1))
    gappy_rank_correlations(ranks, gappy, r, 2)
    for i in gappy:
        for j in range(f):
            if i != j:
                assert_allclose(r[i, j], oracle_wells.spearman(x[i], x[j]), atol=1e-12)
                assert_array_equal(r[i, j], r[j, i])


@given(st.integers(0, 10**6), st.booleans())
def test_values_that_differ_in_their_last_bits_are_ranked_exactly(seed, gap):
    rng = np.random.Generator(np.random.PCG64(seed))
    x = 1000 + rng.integers(0, 2000, size=(2, 300)) * 2.0**-43
    x[0, 5] = -1e300
    if gap:
        x[1, 7] = np.nan
    for line, ranked in zip(x, average_ranks(x), strict=True):
        present = ~np.isnan(line)
        assert_array_equal(ranked[present], oracle_wells.ranks(line[present].tolist()))
        assert np.isnan(ranked[~present]).all()


@given(st.lists(st.decimals(-1000, 1000, places=6, allow_nan=False), min_size=1), st.integers(1, 12))
def test_digits_are_those_of_text_at_decimal_ties_too(values, digits):
    x = np.array([float(v) for v in values] + [1.5, 0.125, 2.675, 1.000005, 0.123455, 12345.5, 1e-320, 9.9999995])
    expected = [float(f"{v:.{digits}g}") for v in x]
    assert_allclose(to_digits(x, digits), expected, rtol=1e-15)
