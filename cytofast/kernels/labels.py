"""Permuted labels, scored again on ranks that are computed once.

A pool is a set of profiles whose labels are exchanged. *Slots* are the places of a labelling: a query, its positives, and
profiles that are neither positive nor negative to it. A draw gives every slot a profile (its image). The rank matrix says,
for pool profiles ``i`` and ``j``, how many of those that could be negatives of ``i`` (its *arena*) are more similar to
``i`` than ``j`` is; whoever of them holds a slot is taken off again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.chance import LANES, NETWORK, Places, add_gain, exchange, network
from cytofast.kernels.jit import compiled
from cytofast.kernels.ranking import expected_gain
from cytofast.kernels.rng import below, substream

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Ranks = NDArray[np.unsignedinteger]

_ONE = np.uint64(1)
INDEX_BITS = 20
"""A sort key is a similarity on the grid, falling, and below it the column: so pools have at most a million profiles."""
_FARTHEST = 2.0**9


def sort_keys(similarities: Doubles) -> Integers:
    """Keys whose order is that of falling similarity; ``key >> 20`` is equal for ties, the lower bits are the column."""
    grid = np.clip(similarities, -_FARTHEST, _FARTHEST)
    if grid.size and grid.min() <= -_FARTHEST:
        # Outliers: equal keys would tie whatever is far from them.
        far = similarities < -_FARTHEST
        grid[far] -= 2.0 * np.log(similarities[far] / -_FARTHEST)
    grid *= -(2.0**32)
    np.rint(grid, out=grid)
    keys = grid.astype(np.int64)
    keys <<= INDEX_BITS
    keys |= np.arange(keys.shape[1], dtype=np.int64)[None, :]
    return keys


@compiled
def rank_rows(
    keys: Integers,
    own: Integers,
    arenas: Flags,
    strata: Integers,
    columns: Integers,
    flag: int,
    above: Ranks,
    level: Ranks,
) -> None:
    """Fill rows of the rank matrix.

    Parameters
    ----------
    keys
        Sorted :func:`sort_keys` of each row.
    own
        The row's own column, which is not in its arena.
    arenas, strata
        ``arenas[a, b]``: profiles of stratum ``b`` are in the arena of those of stratum ``a``; the stratum of each column.
    columns
        Where a column stands in the matrix; -1 where it does not.
    flag
        The highest bit of a rank: set where the profile is tied with others, one of them in the arena.
    above, level
        Arena profiles more similar; arena profiles tied, written only where the flag is set.
    """
    mask = (1 << INDEX_BITS) - 1
    n = keys.shape[1]
    for row in range(keys.shape[0]):
        arena = arenas[strata[own[row]]]
        before = 0
        start = 0
        while start < n:
            value = keys[row, start] >> INDEX_BITS
            stop = start
            members = 0
            while stop < n and keys[row, stop] >> INDEX_BITS == value:
                column = keys[row, stop] & mask
                members += arena[strata[column]] and column != own[row]
                stop += 1
            tied = members > 0 and stop - start > 1
            for k in range(start, stop):
                column = keys[row, k] & mask
                at = columns[column]
                if at >= 0:
                    above[row, at] = before | flag if tied else before
                    if tied:
                        inside = arena[strata[column]] and column != own[row]
                        level[row, at] = members - inside
            before += members
            start = stop


class Plan(NamedTuple):
    """Which units the slots of a design may be given.

    Attributes
    ----------
    sizes, offsets, widths, rows
        Units of each class, where its first row stands in ``rows``, and how many rows a unit has.
    slot_start, slot_unit
        The slots of class ``c`` are ``slot_start[c]`` to ``slot_start[c + 1]``; ``slot_unit`` counts their units from 0,
        and slots of one unit follow each other in the order of its rows.
    """

    sizes: Integers
    offsets: Integers
    widths: Integers
    rows: Integers
    slot_start: Integers
    slot_unit: Integers


@compiled
def draw_images(key: np.uint64, first: int, plan: Plan, images: Places) -> None:
    """Give the slots of each draw distinct units of their class: draw ``first + d`` fills ``images[:, d]``."""
    most = 0
    for c in range(plan.sizes.shape[0]):
        most = max(most, plan.sizes[c])
    stamp = np.full(most, -1, dtype=np.int64)
    mark = 0
    for d in range(images.shape[1]):
        stream = substream(key, np.uint64(first + d))
        at = np.uint64(0)
        for c in range(plan.sizes.shape[0]):
            bound = np.uint64(plan.sizes[c])
            unit, row, previous = np.int64(0), 0, np.int64(-1)
            for s in range(plan.slot_start[c], plan.slot_start[c + 1]):
                if plan.slot_unit[s] != previous:
                    previous = plan.slot_unit[s]
                    row = 0
                    unit = below(stream, at, bound)
                    at += _ONE
                    while stamp[unit] == mark:
                        unit = below(stream, at, bound)
                        at += _ONE
                    stamp[unit] = mark
                images[s, d] = plan.rows[plan.offsets[c] + unit * plan.widths[c] + row]
                row += 1
            mark += 1


@compiled
def _gather(
    ranks: Ranks, flag: int, images: Places, query: int, positives: Integers, places: Places, marks: Places
) -> None:
    """Ranks of the positives of each draw; a query's row is left only when it is done with."""
    for b in range(images.shape[1]):
        row = ranks[images[query, b]]
        tied = np.int64(0)
        for k in range(positives.shape[0]):
            value = np.int64(row[images[positives[k], b]])
            tied |= value & flag
            places[k, b] = np.int32(value & (flag - 1))
        marks[b] = tied != 0


@compiled
def _add_shifted_gain(places: Places, rank: float, gains: Doubles) -> None:
    for b in range(places.shape[0]):
        gains[b] += rank / (np.float64(places[b]) + rank)


@compiled
def _score_lanes(
    ranks: Ranks,
    flag: int,
    images: Places,
    query: int,
    positives: Integers,
    inside: bool,
    pairs: Integers,
    places: Places,
    marks: Places,
    gains: Doubles,
) -> None:
    """Sums of precisions of one query in many draws, where all positives or none are in its arena, and nobody else.

    In the arena the ``k``-th positive has ``rank - (k - 1)`` negatives before it, so its precision is ``k / (rank + 1)``.
    Draws in which a positive is tied are marked; their sums are not to be used.
    """
    m = positives.shape[0]
    _gather(ranks, flag, images, query, positives, places, marks)
    for q in range(pairs.shape[0]):
        exchange(places[pairs[q, 0]], places[pairs[q, 1]])
    if m > 1 and pairs.shape[0] == 0:
        for b in range(images.shape[1]):
            places[:m, b] = np.sort(places[:m, b])
    gains[:] = 0.0
    for k in range(m):
        if inside:
            add_gain(places[k], k + 1.0, gains)
        else:
            _add_shifted_gain(places[k], k + 1.0, gains)


@compiled
def score_general(
    above: Ranks,
    level: Ranks,
    flag: int,
    images: Places,
    draw: int,
    query: int,
    positives: Integers,
    removed: Integers,
    optimistic: bool,
    scratch: Integers,
) -> float:
    """Sum of precisions of one query in one draw, with ties and with others to take off.

    Profiles are in one tie if both are flagged and their ranks are equal: an arena profile in the tie sets the next ones back.
    """
    image = images[query, draw]
    m = positives.shape[0]
    for k in range(m):
        scratch[k] = np.int64(above[image, images[positives[k], draw]])
    total = 0.0
    for k in range(m):
        rank, tied = scratch[k] & (flag - 1), scratch[k] & flag
        before, same = 0, 0
        for x in range(m):
            other, other_tied = scratch[x] & (flag - 1), scratch[x] & flag
            if other < rank:
                before += 1
            elif other == rank:
                if tied and other_tied:
                    same += 1
                elif tied or (not other_tied and x < k):
                    # Of equal rank and not in the tie: before it, as nobody of the arena stands between.
                    before += 1
        negatives = rank
        equal = np.int64(level[image, images[positives[k], draw]]) if tied else np.int64(0)
        for x in range(removed.shape[0]):
            value = np.int64(above[image, images[removed[x], draw]])
            negatives -= (value & (flag - 1)) < rank
            # The level of a positive does not count itself.
            equal -= tied and value == scratch[k] and removed[x] != positives[k]
        same = max(same, 1)
        total += expected_gain(before, int(negatives), same, 0 if optimistic else max(int(equal), 0)) / same
    return total


@compiled
def score_draws(
    above: Ranks,
    level: Ranks,
    flag: int,
    images: Places,
    queries: Integers,
    positive_start: Integers,
    positives: Integers,
    removed_start: Integers,
    removed: Integers,
    modes: Integers,
    network_start: Integers,
    networks: Integers,
    optimistic: bool,
    out: Doubles,
) -> None:
    """Mean average precision of each draw. Modes: 0 no positive is in the arena, 1 all are, 2 anything else."""
    most = 1
    for q in range(queries.shape[0]):
        most = max(most, positive_start[q + 1] - positive_start[q])
    places = np.empty((most, LANES), dtype=np.int32)
    marks = np.empty(LANES, dtype=np.int32)
    gains = np.empty(LANES, dtype=np.float64)
    scratch = np.empty(most, dtype=np.int64)
    out[:] = 0.0
    for q in range(queries.shape[0]):
        chosen = positives[positive_start[q] : positive_start[q + 1]]
        off = removed[removed_start[q] : removed_start[q + 1]]
        pairs = networks[network_start[q] : network_start[q + 1]]
        for start in range(0, out.shape[0], LANES):
            n = min(LANES, out.shape[0] - start)
            if modes[q] < 2:
                lanes = images[:, start : start + n]
                _score_lanes(
                    above, flag, lanes, queries[q], chosen, modes[q] == 1, pairs, places[:, :n], marks[:n], gains[:n]
                )
            else:
                marks[:] = 1
            for b in range(n):
                if marks[b]:
                    gains[b] = score_general(
                        above, level, flag, images, start + b, queries[q], chosen, off, optimistic, scratch
                    )
                out[start + b] += gains[b] / chosen.shape[0]
    for d in range(out.shape[0]):
        out[d] /= queries.shape[0]


def networks_of(sizes: Integers) -> tuple[Integers, Integers]:
    """Sorting networks of queries with so many positives, one after the other; none beyond :data:`NETWORK`."""
    parts = [network(int(m)) if 1 < m <= NETWORK else np.empty((0, 2), dtype=np.int64) for m in sizes]
    start = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return start, np.concatenate([*parts, np.empty((0, 2), dtype=np.int64)])
