"""Whitening (sphering) matrices from sums of products of deviations.

Notation of Kessy, Lewin and Strimmer 2018, "Optimal whitening and decorrelation": with ``X = U S V'`` (centred, and for
the ``-cor`` methods scaled to unit variance), PCA whitening is ``V / S`` and ZCA whitening ``V / S V'``, times ``sqrt(n
- 1)``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
_UNRELIABLE = 1e-8
"""Eigenvalues below this share of the largest have lost half of their digits: X'X squares what X knows."""


class Decomposition(NamedTuple):
    """``vectors[d, d]``, one a column, ``singular[d]`` of the data matrix, descending, and the numerical ``rank``."""

    vectors: Doubles
    singular: Doubles
    rank: int


def decompose(products: Doubles, count: int, noise: Doubles) -> tuple[Decomposition, bool]:
    """Eigenvectors of ``products[d, d]``, and whether a second look at the data would sharpen small singular values.

    ``noise[d]`` is the rounding of each feature: a direction with no more than that has no variance.
    """
    values, vectors = np.linalg.eigh(products)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    largest = values[0] if len(values) else 0.0
    floor = np.sqrt(largest * len(values) * np.finfo(np.float64).eps)
    within = values[: min(len(values), max(count - 1, 0))]
    if (within < _UNRELIABLE * largest).any():
        return Decomposition(vectors, np.sqrt(values), len(within)), True
    return _finished(vectors, np.sqrt(values), count, noise, floor), False


def settled(first: Decomposition, count: int, noise: Doubles) -> Decomposition:
    """Of an unsure decomposition what stands above the rounding of the sums, without a second look at the data."""
    floor = first.singular[0] * np.sqrt(len(first.singular) * np.finfo(np.float64).eps)
    return _finished(first.vectors, first.singular, count, noise, floor)


def refine(first: Decomposition, gram: Doubles, count: int, noise: Doubles) -> Decomposition:
    """Singular values to the accuracy of a decomposition of the data itself.

    ``gram[d, d]`` is ``Y'Y`` of ``Y = X vectors / probes(first)``. With ``Y'Y = Q L Q'``, ``X'X = R'R`` where
    ``R = sqrt(L) Q' diag(probes) vectors'``, and R is decomposed without squaring (the idea of Cholesky QR 2, Fukaya
    2014).
    """
    values, q = np.linalg.eigh(gram)
    root = (np.sqrt(np.maximum(values, 0.0))[:, None] * q.T * probes(first)[None, :]) @ first.vectors.T
    _, singular, vectors = np.linalg.svd(root)
    floor = singular[0] * np.sqrt(len(singular) * np.finfo(np.float64).eps * _UNRELIABLE)
    return _finished(vectors.T, singular, count, noise, floor)


def probes(decomposition: Decomposition) -> Doubles:
    """Singular values, none below what can be trusted: divisors that blow nothing up."""
    singular = decomposition.singular
    trusted: Doubles = np.maximum(singular, singular[:1] * np.sqrt(_UNRELIABLE))
    return trusted


def _finished(vectors: Doubles, singular: Doubles, count: int, noise: Doubles, floor: float) -> Decomposition:
    """Directions without variance last, with the smallest singular value of the others; largest entries positive."""
    rounding = np.sqrt(count * (np.square(vectors).T @ np.square(noise)))
    real = singular > np.maximum(rounding, floor)
    real[max(count - 1, 0) :] = False
    order = np.argsort(~real, kind="stable")
    rank = int(real.sum())
    vectors, singular = vectors[:, order], singular[order]
    if rank:
        singular[rank:] = singular[rank - 1]
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
    return Decomposition(vectors * signs[None, :], singular, rank)


def whitening_matrix(vectors: Doubles, singular: Doubles, count: int, epsilon: float, rotate_back: bool) -> Doubles:
    """``W[d, d]`` with ``cov(X W) = I``: PCA, or ZCA to ``rotate_back``. ``epsilon`` is added to ``singular``."""
    divisor = singular + epsilon
    with np.errstate(divide="ignore"):
        scaled = vectors * (np.sqrt(max(count - 1, 0)) * np.where(divisor > 0, 1.0 / divisor, 0.0))[None, :]
    matrix: Doubles = scaled @ vectors.T if rotate_back else scaled
    return matrix


def symmetric_power(matrix: Doubles, exponent: float) -> Doubles:
    """A power of a symmetric positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    power: Doubles = (vectors * np.maximum(values, np.finfo(np.float64).tiny) ** exponent) @ vectors.T
    return power
