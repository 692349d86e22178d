import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytofast.kernels.chance import LADDER_TOLERANCE, LANES
from cytofast.kernels.labels import networks_of, rank_rows, score_draws, sort_keys
from cytofast.kernels.prefixes import score_prefixes, start_networks

FLAG = 1 << 15


def rank_matrix(rng: np.random.Generator, n: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    similarities = rng.normal(size=(n, n))
    if ties:
        similarities = np.round(similarities)
    keys = sort_keys(similarities)
    keys.sort(axis=1)
    above, level = np.zeros((n, n), np.uint16), np.zeros((n, n), np.uint16)
    everyone = np.ones((1, 1), dtype=bool)
    rank_rows(keys, np.arange(n), everyone, np.zeros(n, np.int64), np.arange(n), FLAG, above, level)
    return above, level


def one_size(above: np.ndarray, level: np.ndarray, images: np.ndarray, size: int, optimistic: bool) -> np.ndarray:
    start = np.arange(size + 1) * (size - 1)
    items = np.nonzero(~np.eye(size, dtype=bool))[1]
    out = np.empty(images.shape[1])
    queries, modes = np.arange(size), np.ones(size, dtype=np.int64)
    networks = networks_of(np.full(size, size - 1))
    score_draws(above, level, FLAG, images, queries, start, items, start, items, modes, *networks, optimistic, out)
    return out


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sets(st.integers(2, 64), min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_first_profiles_of_a_drawing_score_as_labels_of_their_own(seed, sizes, ties, optimistic):
    rng = np.random.default_rng(seed)
    sizes = np.array(sorted(sizes))
    above, level = rank_matrix(rng, 100, ties)
    images = np.stack([rng.permutation(100)[: sizes[-1]] for _ in range(LANES)], axis=1).astype(np.int32)
    out = np.empty((len(sizes), LANES))
    score_prefixes(above, level, FLAG, images, sizes, *start_networks(), optimistic, out)
    for size, got in zip(sizes, out, strict=True):
        want = one_size(above, level, images, int(size), optimistic)
        assert np.allclose(got, want, rtol=LADDER_TOLERANCE, atol=0)


@pytest.mark.parametrize("others", [[3], [3, 17], [3, 17, 40]])
def test_a_size_scores_the_same_in_company(others):
    rng = np.random.default_rng(5)
    above, level = rank_matrix(rng, 60, ties=True)
    images = np.stack([rng.permutation(60)[:40] for _ in range(LANES)], axis=1).astype(np.int32)
    alone, company = np.empty((1, LANES)), np.empty((len(others), LANES))
    score_prefixes(above, level, FLAG, images[:3], np.array([3]), *start_networks(), False, alone)
    sizes = np.array(others)
    score_prefixes(above, level, FLAG, images[: sizes[-1]], sizes, *start_networks(), False, company)
    assert np.array_equal(alone[0], company[0])
