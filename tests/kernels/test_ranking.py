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
    near = np.empty(120, dtype=np.int64)
    count_around(
        rough[who], who, levels, n, slack + 1e-6, units, 0, 0, np.empty(120, dtype=np.int32), near, above, level
    )
    cells = np.rint(exact[who] * 2**32)
    for k in range(n):
        assert above[k] == (cells > round(levels[k] * 2**32)).sum()
        assert level[k] == (cells == round(levels[k] * 2**32)).sum()
    assert 0 < gained(above, level, times, n, optimistic=False) <= gained(above, level, times, n, optimistic=True)


def test_both_ways_of_counting_are_used():
    assert 120 * 3 < ranking._LITTLE < 120 * 60


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1.0, 1e9])
def test_buckets_count_what_comparing_counts(dtype, size):
    """Thousands of negatives, some left out, at levels close together, far apart and at the ends."""
    rng = np.random.default_rng(3)
    n = 5000
    line = (size * rng.normal(size=n)).astype(dtype)
    units = line[:, None].astype(float)
    units = np.vstack([units, [[1.0]]])
    line[rng.integers(0, n, size=300)] = -np.inf
    chosen = np.concatenate([np.sort(line[np.isfinite(line)])[[0, 1, 2, -2, -1]], rng.normal(size=20) * size])
    levels, times = np.empty(25), np.empty(25, dtype=np.int64)
    found = falling_levels(chosen.astype(float), levels, times)
    above, level = np.empty(25, dtype=np.int64), np.empty(25, dtype=np.int64)
    room = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int64)
    count_around(line, np.arange(n), levels, found, 0.0, units, n, 0, *room, above, level)
    exact = line.astype(float)
    for k in range(found):
        assert above[k] == (exact > levels[k] + 2.0**-33).sum()
        assert level[k] == (abs(exact - levels[k]) <= 2.0**-33).sum()
