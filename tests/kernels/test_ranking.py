import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast.kernels import ranking
from cytofast.kernels.ranking import count_around, expected_gain, falling_levels, gained
from tests import oracle_retrieval as oracle


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 6), st.integers(0, 6))
def test_gain_of_ties_is_the_mean_over_every_order(before, above, positives, negatives):
    wanted = float(oracle.tied(before, before + above, positives, negatives))
    assert expected_gain(before, above, positives, negatives) == pytest.approx(wanted, abs=1e-13)


@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 60]), st.sampled_from([1e-7, 0.3]))
def test_counting_is_exact_whatever_the_slack(seed, m, slack):
    """Rough similarities that are off by up to the slack, and candidates that are exactly tied with a positive."""
    rng = np.random.default_rng(seed)
    units = rng.normal(size=(200, 6))
    units /= np.linalg.norm(units, axis=1)[:, None]
    units[100:130] = units[:30]
    exact = np.array([oracle.similarity(units[0], u, "cosine") for u in units])
    rough = (exact + rng.uniform(-1, 1, size=200) * slack * 0.9).astype(np.float32)
    who = rng.permutation(np.arange(80, 200))
    levels, times = np.empty(m), np.empty(m, dtype=np.int64)
    n = falling_levels(exact[rng.integers(1, 60, size=m)], levels, times)
    above, level = np.empty(m, dtype=np.int64), np.empty(m, dtype=np.int64)
    count_around(rough[who], who, 120, levels, n, slack + 1e-6, units, 0, 0, above, level)
    cells = np.rint(exact[who] * 2**32)
    for k in range(n):
        assert above[k] == (cells > round(levels[k] * 2**32)).sum()
        assert level[k] == (cells == round(levels[k] * 2**32)).sum()
    assert 0 < gained(above, level, times, n, optimistic=False) <= gained(above, level, times, n, optimistic=True)


def test_both_ways_of_counting_are_used():
    assert 3 < ranking._FEW < 60
