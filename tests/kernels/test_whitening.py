import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast.kernels.whitening import decompose, probes, refine, symmetric_power, whitening_matrix


def data(seed: int, n: int, d: int, decades: float) -> np.ndarray:
    """Centred, with singular values over so many decades."""
    rng = np.random.Generator(np.random.PCG64(seed))
    x = rng.normal(size=(n, d))
    x -= x.mean(axis=0)
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    return (u * 10.0 ** np.linspace(0, -decades, len(vt))) @ vt


@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(0, 6), st.sampled_from([True, False]))
def test_the_covariance_is_one(seed, d, decades, zca):
    x = data(seed, 40, d, decades)
    found, unsure = decompose(x.T @ x, len(x), np.zeros(d))
    assert unsure == (decades > 4) or abs(decades - 4) < 0.01
    if unsure:
        along = x @ found.vectors / probes(found)
        found = refine(found, along.T @ along, len(x), np.zeros(d))
    assert found.rank == d
    np.testing.assert_allclose(found.singular, np.linalg.svd(x)[1], rtol=1e-7)
    sphered = x @ whitening_matrix(found.vectors, found.singular, len(x), 0.0, zca)
    np.testing.assert_allclose(np.cov(sphered.T), np.eye(d), atol=1e-6)


@pytest.mark.parametrize(("n", "d", "rank"), [(5, 8, 4), (8, 8, 7), (30, 6, 6)])
def test_directions_beyond_the_rank_get_the_smallest_singular_value(n, d, rank):
    x = data(1, n, d, 1.0)
    x -= x.mean(axis=0)
    found, unsure = decompose(x.T @ x, n, np.zeros(d))
    assert not unsure
    assert found.rank == rank
    assert (found.singular[rank:] == found.singular[rank - 1]).all()
    scores = x @ whitening_matrix(found.vectors, found.singular, n, 0.0, False)
    np.testing.assert_allclose(np.cov(scores.T)[:rank, :rank], np.eye(rank), atol=1e-8)


def test_dependent_features_are_seen_after_a_second_look():
    x = data(2, 60, 4, 1.0)
    x = np.column_stack([x, x[:, 0] + x[:, 1]])
    noise = np.full(5, 1e-15)
    found, unsure = decompose(x.T @ x, 60, noise)
    assert unsure
    along = x @ found.vectors / probes(found)
    assert refine(found, along.T @ along, 60, noise).rank == 4


def test_epsilon_is_added_to_singular_values():
    x = data(3, 50, 3, 1.0)
    found, _ = decompose(x.T @ x, 50, np.zeros(3))
    w = whitening_matrix(found.vectors, found.singular, 50, 0.5, True)
    _, s, vt = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(w, (vt.T / (s + 0.5)) @ vt * 7.0, rtol=1e-9)


def test_powers():
    x = data(4, 20, 3, 1.0)
    square = x.T @ x
    root = symmetric_power(square, 0.5)
    np.testing.assert_allclose(root @ root, square, atol=1e-12)
    np.testing.assert_allclose(symmetric_power(square, -0.5) @ root, np.eye(3), atol=1e-9)
