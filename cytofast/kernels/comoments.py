"""Counts, means and sums of products of deviations (co-moments) that merge, and correlations where values are missing.

Shapes follow the other kernels: ``columns[n_features, n_rows]``, a feature contiguous.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
_SLAB_ROWS = 256
"""Rows of a square matrix changed at once, so that temporaries stay small beside it."""
_PIECE_ROWS = 1024
"""Rows standardized at once, at least, or as many as features: the matrix products must outweigh adding their results."""
_NO_SPREAD = 1e-13
"""A sum of squares that cancels below this share of itself is rounding noise."""


class CoMoments(NamedTuple):
    """``n_rows`` rows, ``mean[f]`` and ``products[f, f]``, the sums of products of deviations from the mean."""

    n_rows: int
    mean: Doubles
    products: Doubles

    def covariance(self, ddof: int = 1) -> Doubles:
        """``float64[f, f]``; NaN where there are too few rows."""
        free = self.n_rows - ddof
        return self.products / free if free > 0 else np.full_like(self.products, np.nan)


def comoments(columns: Floats) -> CoMoments:
    """Co-moments of ``columns[f, n]`` in float64, the deviations taken from the mean of these rows; n is at least 1."""
    deviations = np.array(columns, dtype=np.float64)
    mean = deviations.mean(axis=1)
    deviations -= mean[:, None]
    # The mean's own rounding error, corrected: without it a constant feature gets a tiny spread.
    drift = deviations.mean(axis=1)
    deviations -= drift[:, None]
    return CoMoments(columns.shape[1], mean + drift, deviations @ deviations.T)


def absorb(total: CoMoments, part: CoMoments) -> CoMoments:
    """Merge ``part`` into ``total``, whose matrix is reused (Chan, Golub and LeVeque 1983)."""
    if part.n_rows == 0:
        return total
    n_rows = total.n_rows + part.n_rows
    shift = part.mean - total.mean
    weighted = shift * (total.n_rows * part.n_rows / n_rows)
    for low in range(0, len(shift), _SLAB_ROWS):
        rows = slice(low, low + _SLAB_ROWS)
        total.products[rows] += part.products[rows]
        total.products[rows] += shift[rows, None] * weighted[None, :]
    return CoMoments(n_rows, total.mean + shift * (part.n_rows / n_rows), total.products)


def to_correlations(products: Doubles, spreads: Doubles) -> None:
    """Turn sums of products into correlations in place; rows and columns without spread become NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = np.where(spreads > 0, 1.0 / spreads, np.nan)
    for low in range(0, len(spreads), _SLAB_ROWS):
        rows = slice(low, low + _SLAB_ROWS)
        products[rows] *= inverse[rows, None]
        products[rows] *= inverse[None, :]
        np.clip(products[rows], -1.0, 1.0, out=products[rows])
    np.fill_diagonal(products, np.where(spreads > 0, 1.0, np.nan))


def spreads_of(moments: CoMoments) -> Doubles:
    """Root of the sum of squares of each feature, 0 where that is the rounding of its own mean."""
    squares = np.diagonal(moments.products).copy()
    noise = moments.n_rows * (8 * np.finfo(np.float64).eps * np.abs(moments.mean)) ** 2
    return np.where(squares > noise, np.sqrt(np.maximum(squares, 0.0)), 0.0)


def pairwise_correlations(
    chunks: Iterable[Floats], centres: Doubles, scales: Doubles, gappy: NDArray[np.int64]
) -> Doubles:
    """Pearson correlations, each pair over the rows where both are finite; as pandas' ``corr``.

    Only the ``gappy`` features need sums of their own for every pair: with a mask ``M`` of theirs, the sums of ``x``
    and ``x^2`` over the rows that a pair shares are ``X M'`` and ``X^2 M'``. All is matrix products.

    Parameters
    ----------
    chunks
        ``[f, k]`` each: all features, some rows at a time.
    centres, scales
        ``float64[f]``, near the mean and the standard deviation; they only keep sums from cancelling.
    gappy
        Indices of the features that have values that are not finite.

    Returns
    -------
    float64[f, f]
        NaN where a pair shares fewer than two rows or one side has no spread there.
    """
    f, g = len(centres), len(gappy)
    products = np.zeros((f, f))
    sums, squares = np.zeros(f), np.zeros(f)
    shared_sums, shared_squares = np.zeros((f, g)), np.zeros((f, g))
    shared = np.zeros((g, g))
    n_rows = 0
    inverse = 1.0 / scales
    step = max(_PIECE_ROWS, f)
    room = np.empty((f, f))
    for piece in chunks:
        for start in range(0, piece.shape[1], step):
            chunk = piece[:, start : start + step]
            values = chunk.astype(np.float64)
            present = np.isfinite(values[gappy])
            values -= centres[:, None]
            values *= inverse[:, None]
            values[gappy] = np.where(present, values[gappy], 0.0)
            mask = present.astype(np.float64)
            n_rows += values.shape[1]
            products += np.matmul(values, values.T, out=room)
            sums += values.sum(axis=1)
            shared += mask @ mask.T
            shared_sums += values @ mask.T
            np.square(values, out=values)
            squares += values.sum(axis=1)
            shared_squares += values @ mask.T
    del room
    own = np.diagonal(shared)
    # The pairs with a gappy feature first, because the plain ones are finished in place.
    between = np.empty((f, g))
    position = np.full(f, -1, dtype=np.int64)
    position[gappy] = np.arange(g)
    for b in range(g):
        j = gappy[b]
        count = np.where(position < 0, own[b], 0.0)
        y_sum, y_square = np.full(f, sums[j]), np.full(f, squares[j])
        count[gappy], y_sum[gappy], y_square[gappy] = shared[:, b], shared_sums[j], shared_squares[j]
        x_sum, x_square = shared_sums[:, b], shared_squares[:, b]
        between[:, b] = _correlate(products[:, j], count, x_sum, y_sum, x_square, y_square)
    for low in range(0, f, _SLAB_ROWS):
        rows = slice(low, low + _SLAB_ROWS)
        products[rows] -= sums[rows, None] * (sums / max(n_rows, 1))[None, :]
    spread = squares - sums * sums / max(n_rows, 1)
    to_correlations(products, np.where(spread > _NO_SPREAD * squares, np.sqrt(np.maximum(spread, 0.0)), 0.0))
    products[:, gappy] = between
    products[gappy, :] = between.T
    return products


def _correlate(xy: Doubles, count: Doubles, x: Doubles, y: Doubles, xx: Doubles, yy: Doubles) -> Doubles:
    with np.errstate(invalid="ignore", divide="ignore"):
        x_spread, y_spread = xx - x * x / count, yy - y * y / count
        r = np.clip((xy - x * y / count) / np.sqrt(x_spread * y_spread), -1.0, 1.0)
    defined = (count > 1) & (x_spread > _NO_SPREAD * xx) & (y_spread > _NO_SPREAD * yy)
    return np.where(defined, r, np.nan)
