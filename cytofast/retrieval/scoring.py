"""Average precision of every query instance of a rule, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cytofast import resources
from cytofast.kernels.jit import over_ranges
from cytofast.kernels.ranking import count_positives, fill_positives, score_tile
from cytofast.kernels.similarity import listed_similarities, products, slack_of
from cytofast.retrieval.pairing import Integers, Pairing
from cytofast.retrieval.profiles import Comparable

Doubles = NDArray[np.float64]
Floats = NDArray[np.floating]

_TILE_BYTES = 32 << 20
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

    def score_rows(task: Task, tile: Integers, references: Floats) -> None:
        instance_start, instances = _instances(starts, by_row, tile)
        positive_start, values = _positive_values(units, metric, pairing, instances, sizes)
        similarities = products(rough[tile], references, metric)
        sharing_start, sharing = _sharing(pairing, tile)
        found, negatives = np.empty(len(instances)), np.zeros(len(instances), dtype=np.int64)

        def work(first: int, last: int) -> None:
            score_tile(
                similarities, slack, units, metric, tile, task.candidates, pairing.neg_differ, task.check, sharing_start, sharing,
                instance_start, positive_start, values, optimistic, first, last, found, negatives,
            )  # fmt: skip

        over_ranges(work, len(tile), threads, smallest=max(1, 200_000 // (len(task.candidates) + 1)))
        precision[instances] = found
        n_positives[instances] = np.diff(positive_start)
        n_negatives[instances] = negatives

    for task in tasks(pairing, np.unique(pairing.instance_rows)):
        rows = task.rows[np.argsort(first_group[task.rows], kind="stable")]
        references = rough[task.candidates]
        most = int(sizes[pairing.instance_groups[_instances(starts, by_row, rows)[1]]].max(initial=0))
        height = max(16, _TILE_BYTES // (4 * (len(task.candidates) + 2 * most + 1)))
        for start in range(0, len(rows), height):
            score_rows(task, rows[start : start + height], references)
    return precision, n_positives, n_negatives


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
        threads = resources.current().threads
        over_ranges(
            lambda i, j: listed_similarities(units, a[i:j], b[i:j], metric, found[i:j]), len(a), threads, smallest=4096
        )
        values[small] = found
    for group in np.unique(groups[large]):
        which = np.flatnonzero(groups == group)
        block = products(units[rows[which]], units[pairing.groups[int(group)]], metric)
        for local, instance in enumerate(which):
            span = slice(start[instance], start[instance + 1])
            values[span] = block[local, slots[span]]
    return start, values


def _sharing(pairing: Pairing, tile: Integers) -> tuple[Integers, Integers]:
    """For each row of a tile, the profiles that share a label with it."""
    if pairing.labels is None or pairing.bearers is None:
        return np.zeros(len(tile) + 1, dtype=np.int64), _NO_SHARING
    found = []
    for row in tile:
        of_labels = [pairing.bearers[int(label)] for label in pairing.labels[int(row)]]
        # A profile without any label is still not its own negative.
        found.append(np.concatenate([*of_labels, [row]]))
    return np.concatenate([[0], np.cumsum([len(f) for f in found])]).astype(np.int64), np.concatenate(found).astype(
        np.int64
    )
