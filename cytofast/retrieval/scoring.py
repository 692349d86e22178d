"""Average precision of every query instance of a rule, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytofast import resources
from cytofast.kernels.jit import over_items
from cytofast.kernels.ranking import count_positives, fill_positives, score_tile
from cytofast.kernels.similarity import listed_similarities, products, slack_of
from cytofast.retrieval.pairing import Codes, Integers, Lists, Pairing
from cytofast.retrieval.profiles import Comparable

Doubles = NDArray[np.float64]
Floats = NDArray[np.floating]

_TILE_BYTES = 64 << 20
"""Similarities that all threads together hold."""
_LEAST_TILE = 1 << 16
"""Similarities that are worth a tile of their own."""
_SMALL_GROUP = 48
"""Up to this size similarities of positives are computed pair by pair, beyond it by a matrix product."""
_MOST_CLASSES = 64
_NO_SHARING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Task:
    """Queries of one block, and the profiles that can be their negatives."""

    rows: Integers
    candidates: Integers
    check: bool
    """Whether the candidates of a query still have to be looked at one by one."""


def tasks(pairing: Pairing, asking: Integers) -> Iterator[Task]:
    """Cut the queries so that few products are computed that no query needs."""
    order = np.argsort(pairing.blocks, kind="stable")
    bounds = np.flatnonzero(np.diff(pairing.blocks[order], prepend=-1, append=-1))
    is_asking = np.zeros(pairing.n, dtype=np.bool_)
    is_asking[asking] = True
    for start, stop in pairwise(bounds):
        members = order[start:stop]
        queries = members[is_asking[members]]
        if queries.size:
            yield from _tasks_of_block(pairing, members, queries)


def _tasks_of_block(pairing: Pairing, members: Integers, queries: Integers) -> Iterator[Task]:
    differ = pairing.neg_differ
    classes, first, which = np.unique(differ[:, queries], axis=1, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    useful = np.ones(len(members), dtype=np.bool_)
    for column in range(len(differ)):
        values = classes[column]
        if np.all(values == values[0]):
            useful &= differ[column, members] != values[0]
    together = members[useful]
    if classes.shape[1] <= _MOST_CLASSES:
        apart = [
            Task(
                queries[which == k],
                members[np.all(differ[:, members] != classes[:, [k]], axis=0)],
                pairing.labels is not None,
            )
            for k in range(classes.shape[1])
        ]
        if (
            sum(len(task.rows) * len(task.candidates) for task in apart) <= 0.7 * len(queries) * len(together)
            or len(first) == 1
        ):
            yield from apart
            return
    yield Task(queries, together, check=True)


def score(ready: Comparable, pairing: Pairing, optimistic: bool) -> tuple[Doubles, Integers, Integers]:
    """Average precision, number of positives and number of negatives of each query instance; NaN without positives."""
    total = len(pairing.instance_rows)
    units, rough, metric = ready.units, ready.rough, ready.metric
    slack = slack_of(units, metric)
    precision = np.full(total, np.nan)
    n_positives, n_negatives = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64)
    # Instances side by side by row; rows of one positive group side by side inside a task.
    by_row = np.argsort(pairing.instance_rows, kind="stable")
    starts = np.searchsorted(pairing.instance_rows[by_row], np.arange(pairing.n + 1))
    first_group = np.zeros(pairing.n, dtype=np.int64)
    first_group[pairing.instance_rows[by_row[::-1]]] = pairing.instance_groups[by_row[::-1]]
    sizes = np.diff(pairing.groups.start)
    threads = resources.current().threads

    def batches() -> Iterator[list[Work]]:
        batch: list[Work] = []
        held = 0
        for task in tasks(pairing, np.unique(pairing.instance_rows)):
            rows = task.rows[np.argsort(first_group[task.rows], kind="stable")]
            references = _rows_of(rough, task.candidates)
            excluded = Excluded.of(pairing, task)
            most = int(sizes[pairing.instance_groups[_instances(starts, by_row, rows)[1]]].max(initial=0))
            width = len(task.candidates)
            fitting = max(16, _TILE_BYTES // threads // (4 * (width + 2 * most + 1)))
            # A few tiles a thread, so that none waits long for the last one.
            shared = max(_LEAST_TILE // (width + 1), -(-len(rows) // (4 * threads)))
            height = min(fitting, max(16, shared))
            batch += [(task, references, excluded, rows[i : i + height]) for i in range(0, len(rows), height)]
            held += references.nbytes
            if held > 2 * _TILE_BYTES:
                yield batch
                batch, held = [], 0
        yield batch

    def score_rows(work: Work) -> None:
        task, references, excluded, tile = work
        instance_start, instances = _instances(starts, by_row, tile)
        positive_start, values = _positive_values(units, metric, pairing, instances, sizes)
        similarities = products(rough[tile], references, metric)
        sharing_start, sharing = excluded.sharing(pairing, tile)
        found, negatives = np.empty(len(instances)), np.zeros(len(instances), dtype=np.int64)
        score_tile(
            similarities, slack, units, metric, tile, task.candidates, excluded.codes(tile), excluded.like_start, excluded.like,
            sharing_start, sharing, instance_start, positive_start, values, optimistic, found, negatives,
        )  # fmt: skip
        precision[instances] = found
        n_positives[instances] = np.diff(positive_start)
        n_negatives[instances] = negatives

    # Each thread scores tiles of its own; a BLAS with threads of its own would make them wait for each other.
    with threadpool_limits(1, user_api="blas"):
        for batch in batches():
            over_items(score_rows, batch, threads)
    return precision, n_positives, n_negatives


@dataclass(frozen=True)
class Excluded:
    """Which candidates of a task are no negatives of a query, where that has to be looked up."""

    candidates: Integers
    """In rising order."""
    differ: Codes
    values: Sequence[Codes]
    """The codes that candidates have, rising, of each column of ``differ``."""
    like_start: Integers
    like: Integers
    """Places of the candidates with each of these codes; a code that none has comes last, and is empty."""

    @classmethod
    def of(cls, pairing: Pairing, task: Task) -> Excluded:
        """Candidates by their codes: memory is proportional to the candidates."""
        differ = pairing.neg_differ if task.check else pairing.neg_differ[:0]
        found = [np.unique(codes[task.candidates], return_inverse=True) for codes in differ]
        size = max((len(values) for values, _ in found), default=0) + 1
        lists = [Lists.of_codes(which.reshape(-1).astype(np.int64), size) for _, which in found]
        like_start = np.array([of_column.start for of_column in lists], dtype=np.int64).reshape(len(lists), size + 1)
        like = np.array([of_column.items for of_column in lists], dtype=np.int64)
        like = like.reshape(len(lists), len(task.candidates))
        return cls(task.candidates, differ, [values for values, _ in found], like_start, like)

    def codes(self, tile: Integers) -> Integers:
        """Of each row of a tile, in each column, the number of its code among those of the candidates."""
        out = np.empty((len(self.differ), len(tile)), dtype=np.int64)
        for own, codes, values in zip(out, self.differ, self.values, strict=True):
            own[:] = _places(values, codes[tile], missing=self.like_start.shape[1] - 2)
        return out

    def sharing(self, pairing: Pairing, tile: Integers) -> tuple[Integers, Integers]:
        """For each row of a tile, the places of the candidates that share a label with it."""
        if pairing.labels is None or pairing.bearers is None:
            return np.zeros(len(tile) + 1, dtype=np.int64), _NO_SHARING
        found = []
        for row in tile:
            of_labels = [pairing.bearers[int(label)] for label in pairing.labels[int(row)]]
            # A profile without any label is still not its own negative.
            places = _places(self.candidates, np.concatenate([*of_labels, [row]]), missing=-1)
            found.append(places[places >= 0])
        start = np.concatenate([[0], np.cumsum([len(places) for places in found])])
        return start.astype(np.int64), np.concatenate(found).astype(np.int64)


def _places(rising: NDArray[np.integer], wanted: NDArray[np.integer], missing: int) -> Integers:
    """Where each value stands in a rising list, or ``missing``."""
    if not rising.size:
        return np.full(len(wanted), missing, dtype=np.int64)
    places = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    return np.where(rising[places] == wanted, places, missing).astype(np.int64)


Work = tuple[Task, Floats, Excluded, Integers]
"""A task, its candidates' rough rows, who among them is no negative, and the rows of a tile."""


def _rows_of(rough: Floats, rows: Integers) -> Floats:
    """Some rows; no copy where they lie side by side."""
    first, last = int(rows[0]) if rows.size else 0, int(rows[-1]) + 1 if rows.size else 0
    together = last - first == rows.size and bool(np.all(np.diff(rows) == 1))
    return rough[first:last] if together else rough[rows]


def _instances(starts: Integers, by_row: Integers, rows: Integers) -> tuple[Integers, Integers]:
    """Instances of rows: ``(start, instances)``."""
    counts = starts[rows + 1] - starts[rows]
    start = np.concatenate([[0], np.cumsum(counts)])
    where = np.repeat(starts[rows] - start[:-1], counts) + np.arange(start[-1])
    return start, by_row[where]


def _positive_values(
    units: Doubles, metric: int, pairing: Pairing, instances: Integers, sizes: Integers
) -> tuple[Integers, Doubles]:
    """Exact similarities of all positives of some instances, and where each instance begins."""
    rows, groups = pairing.instance_rows[instances], pairing.instance_groups[instances]
    counts = np.zeros(len(instances), dtype=np.int64)
    count_positives(rows, groups, pairing.groups.start, pairing.groups.items, pairing.pos_differ, counts)
    start = np.concatenate([[0], np.cumsum(counts)])
    left, right, slots = (np.empty(start[-1], dtype=np.int64) for _ in range(3))
    fill_positives(
        rows, groups, pairing.groups.start, pairing.groups.items, pairing.pos_differ, start, left, right, slots
    )
    values = np.empty(len(left))
    large = sizes[groups] > _SMALL_GROUP
    small = np.repeat(~large, counts)
    if small.any():
        found = np.empty(int(small.sum()))
        a, b = left[small], right[small]
        listed_similarities(units, a, b, metric, found)
        values[small] = found
    for group in np.unique(groups[large]):
        which = np.flatnonzero(groups == group)
        block = products(units[rows[which]], units[pairing.groups[int(group)]], metric)
        for local, instance in enumerate(which):
            span = slice(start[instance], start[instance + 1])
            values[span] = block[local, slots[span]]
    return start, values
