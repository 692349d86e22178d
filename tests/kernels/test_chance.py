from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytofast.kernels.chance import (
    CHUNK,
    benjamini_hochberg,
    climb_means,
    count_at_least,
    draw_means,
    ladder_of,
    network,
    p_value,
    threshold_of,
)
from cytofast.kernels.exact import mean_distribution, mean_tail, tail_of, whole
from cytofast.kernels.ranking import expected_precision
from tests import oracle_retrieval as oracle


@given(st.integers(1, 8), st.integers(0, 6))
def test_the_exact_distribution_is_every_set_of_positions(m, rest):
    values = np.array(oracle.precisions(m, m + rest))
    distinct, weights = whole(m, m + rest)
    assert weights.sum() == pytest.approx(1)
    assert (np.diff(distinct) < 0).all()
    for v in np.unique(values)[:: max(1, len(values) // 20)]:
        assert tail_of((distinct, weights), threshold_of(np.array([v])))[0] == pytest.approx(
            np.mean(values >= v - 1e-12)
        )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4)), min_size=1, max_size=3), st.integers(0, 10**6))
def test_the_exact_mean_is_every_combination(parts, pick):
    configurations = [(m, m + rest) for m, rest in parts]
    means = np.array([np.mean(c) for c in product(*(oracle.precisions(*c) for c in configurations))])
    value = means[pick % len(means)]
    wanted = np.mean(means >= value - 1e-12)
    threshold = threshold_of(np.array([value]))
    assert tail_of(mean_distribution(configurations), threshold)[0] == pytest.approx(wanted)
    tail = mean_tail(configurations, float(threshold[0]))
    assert tail is None or tail == pytest.approx(wanted)
    if value > 1 - 1e-9:
        assert tail == pytest.approx(1 / np.prod([float(comb(n, m)) for m, n in configurations]))


@pytest.mark.parametrize(
    ("m", "n"), [(1, 7), (2, 5), (3, 9), (4, 200), (9, 30), (20, 500), (40, 6000), (70, 100), (65, 2000), (5, 5)]
)
def test_draws_have_the_mean_and_tail_of_random_rankings(m, n):
    out = np.empty(40_000)
    draw_means([(m, n)], 7, 0, out)
    mean = expected_precision(np.array([m]), np.array([n]))[0]
    assert abs(out.mean() - mean) < 4.5 * out.std() / 200 + 1e-12
    if comb(n, m) <= 250_000:
        for quantile in (0.5, 0.9, 0.99):
            at = np.quantile(out, quantile)
            wanted = tail_of(whole(m, n), threshold_of(np.array([at])))[0]
            assert (
                abs(np.mean(out >= at * (1 - 1e-10)) - wanted) < 4.5 * np.sqrt(wanted * (1 - wanted) / 40_000) + 1e-12
            )


def test_draws_do_not_depend_on_how_they_are_cut():
    whole_row, parts = np.empty(3 * CHUNK + 5), np.empty(3 * CHUNK + 5)
    draw_means([(3, 67), (70, 100)], 11, 0, whole_row)
    for first in range(0, len(parts), CHUNK):
        draw_means([(3, 67), (70, 100)], 11, first, parts[first : first + CHUNK])
    assert (whole_row == parts).all()


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13, 28, 64])
def test_networks_sort(n):
    values = np.random.default_rng(n).integers(0, 2, size=(500, n))
    for low, high in network(n):
        values[:, [low, high]] = np.sort(values[:, [low, high]], axis=1)
    assert (np.diff(values, axis=1) >= 0).all()


def test_one_definition_of_p():
    null = np.array([0.1, 0.5, 0.5, 1.0])
    assert count_at_least(null, np.array([0.5])).tolist() == [3]
    assert count_at_least(null, threshold_of(np.array([0.5 + 1e-13, 0.6, 2.0]))).tolist() == [3, 1, 0]
    assert p_value(np.array([0, 4]), 4).tolist() == [0.2, 1.0]


def test_benjamini_hochberg_is_that_of_scipy_and_skips_nan():
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).uniform(size=50) ** 2
    holes = np.insert(p, 10, np.nan)
    q = benjamini_hochberg(holes)
    assert np.isnan(q[10])
    assert np.delete(q, 10) == pytest.approx(false_discovery_control(p))


def test_expected_precision_is_the_mean_of_every_ranking():
    for m, n in [(1, 1), (1, 9), (3, 7), (6, 6)]:
        places = list(combinations(range(n), m))
        wanted = np.mean([np.mean([(k + 1) / (r + 1) for k, r in enumerate(p)]) for p in places])
        assert expected_precision(np.array([m]), np.array([n]))[0] == pytest.approx(wanted)


@pytest.mark.parametrize(("m", "n"), [(9, 300), (16, 300), (17, 1100), (28, 1499), (64, 5000)])
def test_a_ladder_has_the_distribution_of_random_rankings(m, n):
    length = ladder_of(m, n)
    assert length // 2 < m <= length
    one, two = np.empty((1, 20_000)), np.empty(20_000)
    climb_means(length, n, [(m, 2)], 3, 0, one)
    draw_means([(m, n)] * 2, 5, 0, two)
    assert abs(one.mean() - expected_precision(np.array([m]), np.array([n]))[0]) < 4.5 * one.std() / 20_000**0.5
    from scipy.stats import ks_2samp

    assert ks_2samp(one[0], two).pvalue > 1e-3


def test_a_ladder_is_the_same_alone_and_in_company_and_however_it_is_cut():
    company, alone = np.empty((3, 2 * CHUNK + 9)), np.empty((1, 2 * CHUNK + 9))
    climb_means(16, 400, [(9, 2), (12, 5), (12, 7)], 3, 0, company)
    for first in range(0, alone.shape[1], CHUNK):
        climb_means(16, 400, [(12, 5)], 3, first, alone[:, first : first + CHUNK])
    assert (company[1] == alone[0]).all()
    assert ladder_of(8, 10_000) == ladder_of(20, 500) == ladder_of(65, 10_000) == 0
