"""Ranks of values in a known distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled
from cytofast.kernels.rng import substream

Doubles = NDArray[np.float64]


def share_below(x: Doubles, values: Doubles, upto: NDArray[np.unsignedinteger], within: Doubles | float) -> Doubles:
    """Rank of ``x[n]`` in a distribution of distinct ``values`` of which ``upto`` so many are at most each.

    Among ``c`` equal values that begin at rank ``a`` it is ``a + within * (c - 1)``, so 0.5 is the mean rank; between
    two values the mean of their ranks; outside the first or last. NaN has none.
    """
    if len(values) == 0:
        return np.full(len(x), np.nan)
    last = upto.astype(np.float64)
    first = np.concatenate([[0.0], last[:-1]]) + 1.0
    place = np.minimum(np.searchsorted(values, x), len(values) - 1)
    known = values[place] == x
    spread = np.broadcast_to(within, x.shape)
    rank = first[place] + spread * (last[place] - first[place])
    before = np.maximum(place - 1, 0)
    middle = np.where(x > values[-1], last[-1], np.where(x < values[0], 1.0, 0.5 * (last[before] + first[place])))
    return np.where(np.isnan(x), np.nan, np.where(known, rank, middle))


@compiled
def _shares(keys: NDArray[np.uint64], stream: np.uint64, out: Doubles) -> None:
    for k in range(len(keys)):
        out[k] = np.float64(substream(keys[k], stream) >> np.uint64(11)) / 9007199254740991.0


def seeded_shares(keys: NDArray[np.uint64], stream: int) -> Doubles:
    """``float64[n]`` in [0, 1], a function of each key and the stream alone."""
    out = np.empty(len(keys))
    _shares(keys, np.uint64(stream), out)
    return out
