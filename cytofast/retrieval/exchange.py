"""Which labels may be exchanged: the design of a perturbation's queries, as slots, classes and relations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

from cytofast.retrieval.pairing import Codes, Integers, Lists, Pairing

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Columns:
    """What each column that must differ is to a permutation of labels.

    A column that is constant among a perturbation's profiles is part of its label. A column that determines the label (a
    compound has one target) makes units: its profiles get a label together. Any other column crosses the labels (a plate,
    a modality): a profile keeps it, so labels are exchanged among equals only.
    """

    units: Integers
    """Code of the unit of each profile; its own number where nothing binds profiles together."""
    bound: bool
    """Whether units can hold more than one profile."""
    crossing: Codes
    """``int32[n_columns, n_profiles]`` of columns that cross labels."""


def columns_of(pairing: Pairing, label_codes: Integers) -> Columns:
    """Sort the columns of a rule by what they are to its labels."""
    units = np.arange(pairing.n, dtype=np.int64)
    coarsest = pairing.n
    crossing = []
    for differ, binds in ((pairing.pos_differ, True), (pairing.neg_differ, False)):
        for codes in differ:
            distinct = int(codes.max(initial=-1)) + 1
            if distinct == pairing.n:
                continue
            joint = len(np.unique(codes.astype(np.int64) * (int(label_codes.max(initial=0)) + 1) + label_codes))
            if joint > distinct:
                crossing.append(codes)
            elif binds and distinct < coarsest:
                coarsest, units = distinct, codes.astype(np.int64)
    stacked = np.stack(crossing) if crossing else np.zeros((0, pairing.n), dtype=np.int32)
    return Columns(units, coarsest < pairing.n, stacked)


@dataclass(frozen=True)
class Design:
    """A perturbation's queries and what their labels may be exchanged with.

    Attributes
    ----------
    pool
        Profiles that labels are exchanged among, in an order that depends on their content alone.
    strata
        Stratum of each pool profile; labels stay inside strata.
    arenas
        ``bool[n_strata, n_strata]``: whose profiles can be negatives of whose.
    unit_rows, unit_classes
        Pool positions of each unit's profiles, and the class of units that it can be exchanged with.
    slots, slot_units
        Pool position and unit of each slot.
    queries
        The slot of each query.
    positive, removed
        ``bool[n_queries, n_slots]``: positives of a query; slots that are in its arena without being its negatives.
    """

    pool: Integers
    strata: Integers
    arenas: Flags
    unit_rows: Lists
    unit_classes: Integers
    slots: Integers
    slot_units: Integers
    queries: Integers
    positive: Flags
    removed: Flags

    @cached_property
    def classes(self) -> list[tuple[Integers, Integers]]:
        """For each class that has slots: the units in it, and those of them that hold slots."""
        held = np.unique(self.slot_units)
        return [
            (np.flatnonzero(self.unit_classes == c), held[self.unit_classes[held] == c])
            for c in np.unique(self.unit_classes[held])
        ]

    def rows_of(self, units: Integers) -> Integers:
        """``int64[n_units, width]``: the pool positions of units of one class."""
        width = int(self.unit_rows.start[units[0] + 1] - self.unit_rows.start[units[0]])
        rows: Integers = self.unit_rows.items[self.unit_rows.start[units][:, None] + np.arange(width)]
        return rows

    @cached_property
    def labelings(self) -> int:
        """How many ways there are to choose the units that hold the slots."""
        total = 1
        for units, held in self.classes:
            total *= comb(len(units), len(held))
        return total

    @cached_property
    def signature(self) -> tuple[object, ...]:
        """What the null depends on besides the pool."""
        classes = tuple((len(units), len(held), self.rows_of(units).shape[1]) for units, held in self.classes)
        return classes, self.queries.tobytes(), self.positive.tobytes(), self.removed.tobytes()

    @cached_property
    def interchangeable(self) -> bool:
        """Whether a labelling is told by which units hold slots, whichever slot each of them holds."""
        if len(set(self.queries.tolist())) != len(self.slots) or len(self.queries) != len(self.slots):
            return False
        by_slot = np.argsort(self.queries)
        for relation in (self.positive[by_slot], self.removed[by_slot]):
            for _, held in self.classes:
                groups = [np.flatnonzero(self.slot_units == unit) for unit in held]
                for a, b in pairwise(groups):
                    swapped = np.arange(len(self.slots))
                    swapped[a], swapped[b] = b, a
                    if not np.array_equal(relation, relation[np.ix_(swapped, swapped)]):
                        return False
        return True


def differs(codes: Codes, row: int, others: Integers) -> Flags:
    """Which of the others differ from a profile in every column."""
    apart: Flags = np.all(codes[:, others] != codes[:, [row]], axis=0)
    return apart


def design_of(
    pairing: Pairing, columns: Columns, members: Lists, instances: Integers, digests: NDArray[np.uint64]
) -> Design:
    """The design of the query instances of one perturbation.

    Parameters
    ----------
    members
        Profiles of each ``neg_sameby`` block.
    digests
        Content of each profile, see :func:`cytofast.kernels.labels.row_digests`.
    """
    rows, groups = pairing.instance_rows[instances], pairing.instance_groups[instances]
    positives = []
    for row, group in zip(rows.tolist(), groups.tolist(), strict=True):
        other = pairing.groups[group]
        positives.append(other[(other != row) & differs(pairing.pos_differ, row, other)])
    slots = np.unique(np.concatenate([rows, *positives]))
    negatives = [_negatives(pairing, members, row) for row in rows.tolist()]
    inside = np.zeros(pairing.n, dtype=np.bool_)
    inside[slots] = True
    for others in negatives:
        inside[others] = True
    pool = np.flatnonzero(inside)
    crossing = _crossing(columns, slots)
    strata = pairing.blocks[pool]
    for codes in crossing:
        strata = strata * (int(codes.max()) + 1) + codes[pool]
    _, example, strata = np.unique(strata, return_index=True, return_inverse=True)
    arenas = np.array([[_compatible(pairing, crossing, pool[a], pool[b]) for b in example] for a in example])
    place = np.full(pairing.n, -1, dtype=np.int64)
    order = np.lexsort((digests[pool], strata))
    pool, strata = pool[order], strata[order]
    place[pool] = np.arange(len(pool))
    if pairing.labels is not None:
        # Profiles that share another label are neither positive nor negative; chance may put others in their place.
        neither = [_arena(arenas, strata, pool, place[row]) for row in rows.tolist()]
        neither = [np.setdiff1d(a, n, assume_unique=True) for a, n in zip(neither, negatives, strict=True)]
        slots = np.unique(np.concatenate([slots, *neither]))
    units, unit_rows, unit_classes, slots = _units(columns, pool, strata, slots, place)
    # Slots in the order of class, unit and row: that of the table must not matter.
    slots = place[slots]
    slot_units = units[slots]
    slots = slots[np.lexsort((slots, slot_units, unit_classes[slot_units]))]
    slot_units = units[slots]
    slot_of = np.full(len(pool), -1, dtype=np.int64)
    slot_of[slots] = np.arange(len(slots))
    positive, removed = (np.zeros((len(rows), len(slots)), dtype=np.bool_) for _ in range(2))
    queries = slot_of[place[rows]]
    for q in range(len(rows)):
        positive[q, slot_of[place[positives[q]]]] = True
        removed[q] = arenas[strata[slots[queries[q]]], strata[slots]]
        taken = slot_of[place[negatives[q]]]
        removed[q, taken[taken >= 0]] = False
        removed[q, queries[q]] = False
    sequence = np.lexsort((*positive.T[::-1], queries))
    return Design(
        pool,
        strata,
        arenas,
        unit_rows,
        unit_classes,
        slots,
        slot_units,
        queries[sequence],
        positive[sequence],
        removed[sequence],
    )


def _crossing(columns: Columns, slots: Integers) -> Codes:
    """Crossing columns that are not constant among the slots, and so not part of the label."""
    chosen = [codes for codes in columns.crossing if len(np.unique(codes[slots])) > 1]
    return np.stack(chosen) if chosen else columns.crossing[:0]


def _negatives(pairing: Pairing, members: Lists, row: int) -> Integers:
    others: Integers = members[int(pairing.blocks[row])]
    others = others[(others != row) & differs(pairing.neg_differ, row, others)]
    if pairing.labels is not None and pairing.bearers is not None:
        for label in pairing.labels[row]:
            others = others[~np.isin(others, pairing.bearers[int(label)])]
    return others


def _compatible(pairing: Pairing, crossing: Codes, a: int, b: int) -> bool:
    """Whether profiles like ``b`` can be negatives of profiles like ``a``, labels aside."""
    if pairing.blocks[a] != pairing.blocks[b]:
        return False
    apart = [codes for codes in crossing if any(np.array_equal(codes, other) for other in pairing.neg_differ)]
    return all(codes[a] != codes[b] for codes in apart)


def _arena(arenas: Flags, strata: Integers, pool: Integers, at: int) -> Integers:
    inside = arenas[strata[at]][strata]
    inside[at] = False
    found: Integers = np.sort(pool[inside])
    return found


def _units(
    columns: Columns, pool: Integers, strata: Integers, slots: Integers, place: Integers
) -> tuple[Integers, Lists, Integers, Integers]:
    """Unit of each pool position, the positions of each unit, its class, and the slots with the rest of their units."""
    n = len(pool)
    if not columns.bound:
        return np.arange(n), Lists(np.arange(n + 1), np.arange(n)), strata, slots
    # Units in the order of their first profile, which is that of content.
    _, first, units = np.unique(columns.units[pool], return_index=True, return_inverse=True)
    units = np.argsort(np.argsort(first))[units]
    lists = Lists.of_codes(units, len(first))
    shapes = [tuple(strata[lists[u]].tolist()) for u in range(len(lists))]
    numbered = {shape: i for i, shape in enumerate(sorted(set(shapes)))}
    classes = np.array([numbered[shape] for shape in shapes])
    return units, lists, classes, pool[np.isin(units, np.unique(units[place[slots]]))]
