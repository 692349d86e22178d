import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast.kernels.moments import grouped_counts, grouped_moments
from cytofast.kernels.quantiles import grouped_deviations, grouped_medians, grouped_quantiles
from tests import oracle

numbers = st.floats(width=32, allow_nan=True, allow_infinity=False)
groups = st.lists(st.lists(numbers, max_size=12), min_size=1, max_size=5)


def as_columns(content: list[list[float]], features: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    bounds = np.cumsum([0, *map(len, content)]).astype(np.int64)
    row = np.array([v for group in content for v in group], dtype=dtype)
    return np.ascontiguousarray(np.tile(row, (features, 1))), bounds


@given(groups, st.integers(1, 4), st.sampled_from(["float32", "float64"]), st.integers(1, 3))
def test_medians_equal_the_plain_twin(content, features, dtype, threads):
    columns, bounds = as_columns(content, features, dtype)
    medians = grouped_medians(columns, bounds, threads)
    for group, values in enumerate(content):
        assert np.array_equal(medians[group], np.full(features, oracle.median(values)), equal_nan=True)


@given(groups, st.integers(1, 3))
def test_deviations_equal_the_plain_twin(content, threads):
    columns, bounds = as_columns(content, 2, "float64")
    centres = grouped_medians(columns, bounds)
    deviations = grouped_deviations(columns, bounds, centres, threads)
    for group, values in enumerate(content):
        assert np.array_equal(deviations[group], np.full(2, oracle.deviation(values)), equal_nan=True)


def test_input_is_left_as_it_was():
    columns = np.array([[3.0, 1.0, np.nan, 2.0]], dtype=np.float32)
    before = columns.copy()
    grouped_deviations(columns, np.array([0, 4]), grouped_medians(columns, np.array([0, 4])))
    assert np.array_equal(columns, before, equal_nan=True)


def test_nan_is_missing_and_not_the_largest_value():
    columns = np.array([[1.0, 2.0, np.nan]])
    assert grouped_medians(columns, np.array([0, 3]))[0, 0] == 1.5


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([np.inf, np.inf], np.inf),
        ([-np.inf, 1.0, 2.0], 1.0),
        ([1.0, np.inf], np.inf),
        ([np.inf, np.nan, 1.0, 0.0], 1.0),
    ],
)
def test_infinities_are_values(values, expected):
    assert grouped_medians(np.array([values]), np.array([0, len(values)]))[0, 0] == expected


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_middle_that_underflows_is_plain_zero(zero):
    found = grouped_medians(np.array([[-5e-324, zero]]), np.array([0, 2]))
    assert found[0, 0] == 0
    assert not np.signbit(found[0, 0])


def test_values_that_rise_and_fall_around_a_sample_that_misleads():
    # With a pivot from the middle this takes minutes: the largest value stands there again and again.
    size, step = 400_000, 400_000 // 31
    place = np.arange(size)
    values = np.minimum(place, size - place).astype(np.float32)
    sampled = place % step == step // 2
    values[sampled] = np.where(place[sampled] // step % 2, 1e9, -1e9)
    assert grouped_medians(values[None], np.array([0, size]))[0, 0] == np.median(values.astype(np.float64))


def test_opposite_infinities_have_no_middle():
    assert np.isnan(grouped_medians(np.array([[-np.inf, np.inf]]), np.array([0, 2]))[0, 0])


@given(groups)
def test_moments_equal_numpy(content):
    columns, bounds = as_columns(content, 1, "float64")
    counts, means, squares = grouped_moments(columns, bounds)
    assert np.array_equal(counts, grouped_counts(columns, bounds))
    for group, values in enumerate(content):
        present = np.array([v for v in values if not np.isnan(v)])
        assert counts[group, 0] == present.size
        if present.size:
            assert np.isclose(means[group, 0], present.mean(), rtol=1e-12, atol=1e-12 * np.abs(present).max())
            assert np.isclose(
                squares[group, 0],
                ((present - present.mean()) ** 2).sum(),
                rtol=1e-9,
                atol=1e-20 * np.abs(present).max() ** 2,
            )
        else:
            assert np.isnan(means[group, 0])


def test_a_constant_has_no_spread():
    columns = np.full((1, 1000), 0.1)
    assert grouped_moments(columns, np.array([0, 1000]))[2][0, 0] < 1e-28


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_quantiles_equal_numpy(values):
    found = grouped_quantiles(np.array([[*values, np.nan]]), np.array([0, len(values) + 1]), np.array([0.25, 0.5, 0.9]))
    assert np.array_equal(found[:, 0, 0], np.quantile(values, [0.25, 0.5, 0.9]))


@given(
    st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 1.0, 2.0, np.inf, np.nan]), min_size=13, max_size=300),
    st.sampled_from([np.float32, np.float64]),
)
def test_few_distinct_values_with_infinities(values, dtype):
    columns = np.array([values], dtype=dtype)
    got = grouped_medians(columns, np.array([0, len(values)]))[0, 0]
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = np.nanmedian(columns.astype(np.float64))
    present = np.sort(columns[0][~np.isnan(columns[0])])
    if present.size and present.size % 2 == 0 and present[present.size // 2] == present[present.size // 2 - 1]:
        want = present[present.size // 2]  # equal infinities stay themselves
    np.testing.assert_equal(got, np.float64(want))


SHAPES = {
    "bell": lambda rng, n: rng.normal(size=n),
    "heavy tails": lambda rng, n: rng.standard_cauchy(size=n),
    "steep bend": lambda rng, n: np.exp(20 * rng.normal(size=n)),
    "few values": lambda rng, n: rng.integers(0, 7, size=n).astype(float),
    "one value, mostly": lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.normal(size=n)),
    "two far clouds": lambda rng, n: np.where(rng.random(n) < 0.5, -1e30, 1e30) * (1 + 1e-3 * rng.normal(size=n)),
    "the largest and the least": lambda rng, n: rng.choice([3.4e38, -3.4e38, 1e-45, -1e-45, 0.0, -0.0], size=n),
    "sorted": lambda rng, n: np.sort(rng.normal(size=n)),
    "infinities": lambda rng, n: np.where(rng.random(n) < 0.6, np.inf, rng.normal(size=n)),
    "in a period of the sample": lambda _rng, n: np.where(np.arange(n) % max(1, n // 9) == 0, 1e6, np.arange(n)),
}


@given(
    kind=st.sampled_from(list(SHAPES)),
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(13, 6_000),
    gaps=st.sampled_from([0.0, 0.1, 0.99]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_medians_of_many_values_are_exact_and_do_not_depend_on_their_order(kind, seed, size, gaps, dtype):
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        values = SHAPES[kind](rng, size).astype(dtype)
    values[rng.random(size) < gaps] = np.nan
    bounds = np.array([0, size])
    present = np.sort(values[~np.isnan(values)]).astype(np.float64)
    n = present.size
    want = np.nan
    if n:
        upper, lower = present[n // 2], present[(n - 1) // 2]
        want = upper if upper == lower else (upper + lower) / 2
    found = grouped_medians(values[None], bounds)[0, 0]
    np.testing.assert_equal(found, want + 0.0)  # never minus zero
    np.testing.assert_equal(grouped_medians(rng.permutation(values)[None], bounds)[0, 0], want + 0.0)
