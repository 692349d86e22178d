"""Permuted labels of many sizes from one drawing: the first ``k`` profiles that were drawn are a label of size ``k``.

What costs is to look up ranks all over a large matrix, and labels of 2 to 29 profiles look up ten times as many as the
largest of them alone. A query's positives come one after the other; a new one sets those behind it a rank back and adds
its own precision (as the ladders of :mod:`cytofast.kernels.chance`), so every size is passed on the way to the largest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.chance import LANES, Integers, Places, Singles, insert, network, start_steps, take_step
from cytofast.kernels.jit import compiled
from cytofast.kernels.labels import Ranks, score_general

Doubles = NDArray[np.float64]

LONGEST = 64
"""Labels of more profiles are better scored size by size: the way to the largest grows with its cube."""
_0 = np.float32(0.0)
_SHORTEST = 8
"""Networks of 8, 16 and 32."""


def start_networks() -> tuple[Integers, Integers]:
    """Networks for what comes before a query, one after the other, and their bounds."""
    parts = [network(_SHORTEST << n) for n in range(3)]
    return np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64), np.concatenate(parts)


@compiled
def _look_up(
    above: Ranks, flag: int, images: Places, query: int, first: int, places: Singles, tied_from: Integers
) -> None:
    """Ranks of all others for one query of many draws, and after how many of them the first tie comes."""
    others = images.shape[0] - 1
    for b in range(LANES):
        row = above[images[query, first + b]]
        tied = others
        for k in range(others - 1, -1, -1):
            value = np.int64(row[images[k + (k >= query), first + b]])
            if value & flag:
                tied = k
            places[k, b] = np.float32(value & (flag - 1))
        tied_from[b] = tied


@compiled
def _before(query: int, network_start: Integers) -> tuple[int, int, int]:
    """How many positives a network sorts for a query, and where the network stands."""
    start, low, high = 0, 0, 0
    for n in range(network_start.shape[0] - 1):
        if query >= _SHORTEST << n:
            start, low, high = _SHORTEST << n, network_start[n], network_start[n + 1]
    return start, low, high


@compiled
def score_prefixes(
    above: Ranks,
    level: Ranks,
    flag: int,
    images: Places,
    sizes: Integers,
    network_start: Integers,
    networks: Integers,
    optimistic: bool,
    out: Doubles,
) -> None:
    """Mean average precision of the first ``sizes[i]`` images of each draw under one label, into ``out[i]``.

    All profiles of the pool are in the arena of all others, and all of a label are queries. Without ties the sums are
    in float32, right to :data:`cytofast.kernels.chance.LADDER_TOLERANCE`; a query with a tie is scored in full.

    Parameters
    ----------
    images
        ``int32[sizes[-1], n_draws]``; ``n_draws`` is a multiple of :data:`LANES`.
    sizes
        ``int64[n_sizes]``, rising, from 2 to :data:`LONGEST`.
    """
    top = sizes[-1]
    # Three positions behind every list, before any rank, fill the last group of four.
    earlier = np.empty((top + 3, LANES), dtype=np.float32)
    inverse = np.empty((top + 3, LANES), dtype=np.float32)
    places = np.empty((top, LANES), dtype=np.float32)
    gains, beyond = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    ranks = np.empty(LANES, dtype=np.float32)
    tied_from = np.empty(LANES, dtype=np.int64)
    others, scratch = np.empty(top - 1, dtype=np.int64), np.empty(top, dtype=np.int64)
    out[:] = 0.0
    for query in range(top):
        others[:query] = np.arange(query)
        others[query:] = np.arange(query + 1, top)
        # No size asks for the positives before the query itself: as many as a network takes are sorted at once.
        start, low, high = _before(query, network_start)
        pairs = networks[low:high]
        asked = np.searchsorted(sizes, query + 1)
        for first in range(0, images.shape[1], LANES):
            _look_up(above, flag, images, query, first, places, tied_from)
            gains[:] = _0
            earlier[:] = np.float32(-1.0)
            inverse[:] = _0
            start_steps(places[:start], pairs, inverse, gains)
            earlier[:start] = places[:start]
            size = asked
            for known in range(max(start, 1), top):
                k = known - 1
                if k >= start:
                    ranks[:] = np.float32(1 - (4 - k % 4) % 4)
                    beyond[:] = _0
                    for i in range(0, k, 4):
                        insert(earlier[i : i + 4], inverse[i : i + 4], places[k], ranks, beyond)
                    earlier[k] = places[k]
                    take_step(places[k], inverse[k], ranks, beyond, gains)
                if size < sizes.shape[0] and sizes[size] == known + 1:
                    for b in range(LANES):
                        if tied_from[b] >= known:
                            out[size, first + b] += np.float64(gains[b] / np.float32(known))
                        else:
                            of_size = others[:known]
                            total = score_general(
                                above, level, flag, images, first + b, query, of_size, of_size, optimistic, scratch
                            )
                            out[size, first + b] += total / known
                    size += 1
    for i in range(sizes.shape[0]):
        for d in range(out.shape[1]):
            out[i, d] /= sizes[i]
