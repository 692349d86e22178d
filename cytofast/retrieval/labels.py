"""The null of permuted labels: what if the labels had been given out otherwise.

The permutation respects the design. Labels are exchanged inside the blocks of ``neg_sameby``, and columns that cross the
labels stay with their profiles. Against controls, a perturbation's profiles are exchanged with the controls of their
blocks; against the rest, labels are exchanged among all profiles that the rule compares. Drawn labels are scored on the
same similarities, so that profiles that resemble each other because they share a plate, or a control, do so in the null too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytofast import resources
from cytofast.errors import DataError
from cytofast.kernels.chance import LADDER_TOLERANCE, LANES, count_at_least, p_value, threshold_of
from cytofast.kernels.jit import over_items, over_ranges
from cytofast.kernels.labels import INDEX_BITS, Plan, draw_images, networks_of, score_draws
from cytofast.kernels.prefixes import LONGEST, score_prefixes, start_networks
from cytofast.kernels.rng import key_of
from cytofast.retrieval.exchange import Columns, Design, columns_of, design_of
from cytofast.retrieval.nulls import Groups
from cytofast.retrieval.pairing import Integers, Lists, Pairing
from cytofast.retrieval.pool_ranks import Ranker, RankMatrix
from cytofast.retrieval.profiles import Comparable

if TYPE_CHECKING:
    from cytofast.retrieval.rule import Retrieval

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Images = NDArray[np.int32]

_BATCH = 16 * LANES
_KEPT_BYTES = 64 << 20
"""Drawn labelings are kept for perturbations of the same design, if they are no larger than this."""


def label_p_values(
    rule: Retrieval, ready: Comparable, pairing: Pairing, groups: Groups, null_size: int, seed: int
) -> tuple[Doubles, list[str | None]]:
    """p-value of each perturbation, and how it was found; NaN and ``None`` for those without queries."""
    if pairing.n >> INDEX_BITS:
        raise DataError(
            f'null="labels" ranks at most {1 << INDEX_BITS:,} profiles, not {pairing.n:,}. Hint: split the table by batch.'
        )
    test = _Test(ready, pairing, groups, rule.tie == "optimistic", null_size, seed)
    tested = [group for group in range(groups.size) if groups.counts[group]]
    if set(rule.pos_sameby) & set(rule.neg_diffby):
        test.run_shared(tested)
    else:
        # Perturbations run on threads; BLAS threads inside each would fight over the same cores (4 times the time, on two).
        with threadpool_limits(1, user_api="blas"):
            over_items(test.run_alone, tested, resources.current().threads)
    return test.p, test.method


def _label_codes(pairing: Pairing) -> Integers:
    """A code for the label of each profile, or for its set of labels."""
    if pairing.labels is not None:
        sets: dict[bytes, int] = {}
        labels = pairing.labels
        return np.array([sets.setdefault(labels[row].tobytes(), len(sets)) for row in range(pairing.n)], dtype=np.int64)
    codes = np.zeros(pairing.n, dtype=np.int64)
    codes[pairing.groups.items] = np.repeat(np.arange(len(pairing.groups)), np.diff(pairing.groups.start))
    return codes


@dataclass(frozen=True)
class _Scorer:
    """What scoring needs of a design, made once for all its draws."""

    queries: Integers
    sizes: Integers
    positive: Lists
    removed: Lists
    modes: Integers
    """How a query is scored, see :func:`score_draws`."""
    networks: tuple[Integers, Integers]

    @classmethod
    def of(cls, design: Design) -> _Scorer:
        sizes = design.positive.sum(axis=1)
        none, all_of_them = ~design.removed.any(axis=1), (design.removed == design.positive).all(axis=1)
        modes = np.where(none, 0, np.where(all_of_them, 1, 2))
        return cls(design.queries, sizes, _lists(design.positive), _lists(design.removed), modes, networks_of(sizes))

    def __call__(self, ranks: RankMatrix, images: Images, optimistic: bool) -> Doubles:
        """Mean average precision of each labelling."""
        out = np.empty(images.shape[1])
        score_draws(
            ranks.above,
            ranks.level,
            ranks.flag,
            images,
            self.queries,
            self.positive.start,
            self.positive.items,
            self.removed.start,
            self.removed.items,
            self.modes,
            *self.networks,
            optimistic,
            out,
        )
        return out


class _Test:
    """One call's worth of tests; perturbations may be tested on several threads."""

    def __init__(
        self, ready: Comparable, pairing: Pairing, groups: Groups, optimistic: bool, null_size: int, seed: int
    ) -> None:
        self.pairing, self.groups, self.digests = pairing, groups, ready.digests
        self.optimistic, self.null_size, self.seed = optimistic, null_size, seed
        self.columns: Columns = columns_of(pairing, _label_codes(pairing))
        self.members = Lists.of_codes(pairing.blocks, int(pairing.blocks.max(initial=-1)) + 1)
        self.rank = Ranker(ready)
        self.p = np.full(groups.size, np.nan)
        self.method: list[str | None] = [None] * groups.size
        self._kept: dict[tuple[object, ...], Images] = {}

    def design(self, group: int) -> Design:
        return design_of(self.pairing, self.columns, self.members, self.groups.members[group], self.digests)

    def run_alone(self, group: int) -> None:
        """Test one perturbation in a pool of its own."""
        design = self.design(group)
        self._decide([group], design, self.rank(design, threads=1), threads=1)

    def run_shared(self, tested: list[int]) -> None:
        """Test perturbations whose labels are exchanged among the same profiles: alike ones share a null."""
        threads = resources.current().threads
        alike: dict[bytes, dict[tuple[object, ...], tuple[Design, list[int]]]] = {}
        for group in tested:
            design = self.design(group)
            of_pool = alike.setdefault(design.pool.tobytes() + design.strata.tobytes() + design.arenas.tobytes(), {})
            of_pool.setdefault(design.signature, (design, []))[1].append(group)
        for of_pool in alike.values():
            ranks = self.rank(next(iter(of_pool.values()))[0], threads)
            nested = []
            for design, groups in of_pool.values():
                if _complete(design) and not self._exact(design, ranks):
                    nested.append((design, groups))
                else:
                    self._decide(groups, design, ranks, threads)
            if nested:
                self._decide_nested(sorted(nested, key=lambda pair: len(pair[0].slots)), ranks, threads)

    def _exact(self, design: Design, ranks: RankMatrix) -> bool:
        thinned = len(ranks.eligible) < len(design.pool)
        return design.interchangeable and design.labelings <= self.null_size and not thinned

    def _decide_nested(self, alike: list[tuple[Design, list[int]]], ranks: RankMatrix, threads: int) -> None:
        """Labels of several sizes, all against all: the first profiles of one drawing are a label of each size.

        Draws of a size depend on the seed and the pool alone, so they are the same without the other sizes.
        """
        sizes = np.array([len(design.slots) for design, _ in alike], dtype=np.int64)
        largest = alike[-1][0]
        plan, networks = _plan(largest, ranks.eligible), start_networks()
        key = np.uint64(key_of("labels", self.seed, "nested", len(largest.pool)))
        null = np.empty((len(sizes), -(-self.null_size // LANES) * LANES))

        def work(start: int, stop: int) -> None:
            for first in range(start * _BATCH, min(stop * _BATCH, null.shape[1]), _BATCH):
                part = null[:, first : first + _BATCH]
                images = np.empty((len(largest.slots), part.shape[1]), np.int32)
                draw_images(key, first, plan, images)
                scores = np.empty(part.shape)
                score_prefixes(ranks.above, ranks.level, ranks.flag, images, sizes, *networks, self.optimistic, scores)
                part[:] = scores

        over_ranges(work, -(-null.shape[1] // _BATCH), threads)
        tolerance = max(self.groups.tolerance, LADDER_TOLERANCE)
        for (design, groups), row in zip(alike, null[:, : self.null_size], strict=True):
            reached = count_at_least(row, threshold_of(self.groups.means[groups], tolerance))
            self.p[groups] = p_value(reached, self.null_size)
            for group in groups:
                self.method[group] = self._sampled_how(design, ranks)

    def _sampled_how(self, design: Design, ranks: RankMatrix) -> str:
        how = f"labels, sampled {self.null_size:,}"
        if len(ranks.eligible) < len(design.pool):
            how += f" among {len(ranks.eligible):,} of {len(design.pool):,} profiles"
        return how

    def _decide(self, groups: list[int], design: Design, ranks: RankMatrix, threads: int) -> None:
        thresholds = threshold_of(self.groups.means[groups], self.groups.tolerance)
        if self._exact(design, ranks):
            null = _Scorer.of(design)(ranks, enumerated(design), self.optimistic)
            self.p[groups] = count_at_least(null, thresholds) / null.size
            how = f"labels, exact, {null.size:,} labelings"
        else:
            null = self._sampled(design, ranks, threads)
            self.p[groups] = p_value(count_at_least(null, thresholds), self.null_size)
            how = self._sampled_how(design, ranks)
        for group in groups:
            self.method[group] = how

    def _sampled(self, design: Design, ranks: RankMatrix, threads: int) -> Doubles:
        """Scores of drawn labelings. The draws belong to the seed and the design alone."""
        plan, scorer = _plan(design, ranks.eligible), _Scorer.of(design)
        key = np.uint64(key_of("labels", self.seed, design.signature))
        content = (int(key), *(part.tobytes() for part in plan))
        kept = self._kept.get(content)
        new = np.empty((len(design.slots), self.null_size), dtype=np.int32) if self._worth_keeping(design) else None
        out = np.empty(self.null_size)

        def work(start: int, stop: int) -> None:
            for first in range(start * _BATCH, min(stop * _BATCH, self.null_size), _BATCH):
                part = slice(first, min(first + _BATCH, self.null_size))
                if kept is not None:
                    images = kept[:, part]
                else:
                    images = (
                        new[:, part] if new is not None else np.empty((len(design.slots), part.stop - first), np.int32)
                    )
                    draw_images(key, first, plan, images)
                out[part] = scorer(ranks, images, self.optimistic)

        over_ranges(work, -(-self.null_size // _BATCH), threads)
        if kept is None and new is not None:
            if sum(images.nbytes for images in list(self._kept.values())) + new.nbytes > 4 * _KEPT_BYTES:
                self._kept.clear()
            self._kept[content] = new
        return out

    def _worth_keeping(self, design: Design) -> bool:
        return 4 * len(design.slots) * self.null_size <= _KEPT_BYTES


def _complete(design: Design) -> bool:
    """Whether all profiles of a label ask for all others of it, among profiles that are all exchanged with each other."""
    size = len(design.slots)
    return (
        2 <= size <= LONGEST
        and len(design.unit_rows) == len(design.pool)
        and not design.strata.any()
        and np.array_equal(design.queries, np.arange(size))
        and bool((design.positive == ~np.eye(size, dtype=np.bool_)).all())
        and bool((design.removed == design.positive).all())
    )


def _lists(flags: Flags) -> Lists:
    return Lists(
        np.concatenate([[0], np.cumsum(flags.sum(axis=1))]).astype(np.int64), np.nonzero(flags)[1].astype(np.int64)
    )


def _plan(design: Design, eligible: Integers) -> Plan:
    """What :func:`cytofast.kernels.labels.draw_images` needs to know of a design."""
    column = np.full(len(design.pool), -1, dtype=np.int64)
    column[eligible] = np.arange(len(eligible))
    sizes, widths, rows, starts, unit_of_slot = [], [], [], [0], []
    for units, held in design.classes:
        of_class = column[design.rows_of(units)]
        usable = of_class[of_class[:, 0] >= 0]
        sizes.append(len(usable))
        widths.append(usable.shape[1])
        rows.append(usable.ravel())
        unit_of_slot += np.repeat(np.arange(len(held)), usable.shape[1]).tolist()
        starts.append(len(unit_of_slot))
    offsets = np.concatenate([[0], np.cumsum(np.array(sizes) * np.array(widths))])[:-1]
    arrays = (sizes, offsets, widths, np.concatenate(rows), starts, unit_of_slot)
    return Plan(*(np.asarray(a, dtype=np.int64) for a in arrays))


def enumerated(design: Design) -> NDArray[np.int32]:
    """``int32[n_slots, n_labelings]``: every way to choose the units that hold slots."""
    parts = []
    for units, held in design.classes:
        rows = design.rows_of(units)
        chosen = np.array(list(combinations(range(len(units)), len(held))), dtype=np.int64)
        parts.append(rows[chosen].reshape(len(chosen), -1))
    images = np.empty((len(design.slots), design.labelings), dtype=np.int32)
    repeat, at = 1, 0
    for part in parts:
        index = (np.arange(design.labelings) // repeat) % len(part)
        images[at : at + part.shape[1]] = part[index].T
        repeat, at = repeat * len(part), at + part.shape[1]
    return images
