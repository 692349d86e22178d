import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cytofast.kernels.redundancy import absolute_sums, levels, losers_in_turn, losers_of_pairs, partners
from tests import oracle_wells


def correlations(seed: int, f: int) -> np.ndarray:
    """Symmetric, with chains, copies and undefined entries."""
    rng = np.random.Generator(np.random.PCG64(seed))
    x = np.repeat(rng.normal(size=(f, 8)), rng.integers(1, 4, size=f), axis=0)[:f]
    x += rng.choice([0.0, 0.2, 1.0], size=(f, 1)) * rng.normal(size=(f, 8))
    r = np.corrcoef(x).reshape(f, f)
    if rng.random() < 0.3:
        r[0, :] = r[:, 0] = np.nan
    return r


@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.3, 0.9, 1.0]), st.booleans())
def test_choices_are_those_of_the_definition(seed, f, threshold, absolute):
    r = correlations(seed, f)
    level = levels(absolute_sums(r))
    gone = losers_of_pairs(r, level, threshold, absolute)
    assert set(np.flatnonzero(gone)) == oracle_wells.drop_by_pairs(r.tolist(), threshold, absolute)
    who = partners(r, gone, level, threshold, absolute)
    for i in np.flatnonzero(gone):
        value = abs(r[i, who[i]]) if absolute else r[i, who[i]]
        assert value > threshold
        kept = [j for j in range(f) if j != i and not gone[j] and (abs(r[i, j]) if absolute else r[i, j]) > threshold]
        if kept:
            assert who[i] in kept


@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.3, 0.9]))
def test_in_turn_keeps_all_that_pairs_keep_and_drops_nothing_without_need(seed, f, threshold):
    r = correlations(seed, f)
    level = levels(absolute_sums(r))
    by_pairs = losers_of_pairs(r, level, threshold, False)
    in_turn = losers_in_turn(r, np.lexsort((np.arange(f), level)), threshold, False)
    assert set(np.flatnonzero(in_turn)) == oracle_wells.drop_in_turn(r.tolist(), threshold)
    assert not (in_turn & ~by_pairs).any()
    kept = np.flatnonzero(~in_turn)
    for i in kept:
        assert not any(r[i, j] > threshold for j in kept if j != i)
    for i in np.flatnonzero(in_turn):
        assert any(r[i, j] > threshold for j in kept)
