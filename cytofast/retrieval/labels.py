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

from cytofast import resources
from cytofast.errors import DataError
from cytofast.kernels.chance import LANES, NETWORK, count_at_least, p_value, threshold_of
from cytofast.kernels.jit import over_items, over_ranges
from cytofast.kernels.labels import INDEX_BITS, Plan, draw_images, networks_of, rank_rows, score_draws, sort_keys
from cytofast.kernels.rng import key_of
from cytofast.kernels.similarity import products
from cytofast.retrieval.exchange import Columns, Design, columns_of, design_of
from cytofast.retrieval.nulls import Groups
from cytofast.retrieval.pairing import Integers, Lists, Pairing
from cytofast.retrieval.profiles import Comparable

if TYPE_CHECKING:
    from cytofast.retrieval.rule import Retrieval

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ranks = NDArray[np.unsignedinteger]

_ROWS_BYTES = 16 << 20
_BATCH = 16 * LANES
_NOTHING = np.zeros((0, 0), dtype=np.uint16)


@dataclass(frozen=True)
class RankMatrix:
    """Ranks inside a pool, see :mod:`cytofast.kernels.labels`; ``level`` and ``order`` are empty where nothing is tied."""

    above: Ranks
    level: Ranks
    order: Ranks
    eligible: Integers
    """Pool positions that have a row and column: all, or as many as the memory budget allows."""


def label_p_values(
    rule: Retrieval, ready: Comparable, pairing: Pairing, groups: Groups, names: list[str], null_size: int, seed: int
) -> tuple[Doubles, list[str | None]]:
    """p-value of each perturbation, and how it was found; NaN and ``None`` for those without queries."""
    if pairing.n >> INDEX_BITS:
        raise DataError(
            f'null="labels" ranks at most {1 << INDEX_BITS:,} profiles, not {pairing.n:,}. Hint: split the table by batch.'
        )
    columns = columns_of(pairing, _label_codes(pairing))
    members = Lists.of_codes(pairing.blocks, int(pairing.blocks.max(initial=-1)) + 1)
    shared = bool(set(rule.pos_sameby) & set(rule.neg_diffby))
    test = _Test(ready, pairing, groups, columns, members, ready.digests, rule.tie == "optimistic", null_size, seed)
    tested = [group for group in range(groups.size) if groups.counts[group]]
    if shared:
        test.run_shared(tested)
    else:
        over_items(lambda group: test.run_alone(group, names[group]), tested, resources.current().threads)
    return test.p, test.method


def rank_budget() -> float:
    """Bytes that a rank matrix may take."""
    return resources.current().working_bytes / 8


def _label_codes(pairing: Pairing) -> Integers:
    """A code for the label of each profile, or for its set of labels."""
    if pairing.labels is not None:
        sets: dict[bytes, int] = {}
        return np.array(
            [sets.setdefault(pairing.labels[row].tobytes(), len(sets)) for row in range(pairing.n)], dtype=np.int64
        )
    codes = np.zeros(pairing.n, dtype=np.int64)
    codes[pairing.groups.items] = np.repeat(np.arange(len(pairing.groups)), np.diff(pairing.groups.start))
    return codes


class _Test:
    """One call's worth of tests; perturbations may be tested on several threads."""

    def __init__(
        self,
        ready: Comparable,
        pairing: Pairing,
        groups: Groups,
        columns: Columns,
        members: Lists,
        digests: NDArray[np.uint64],
        optimistic: bool,
        null_size: int,
        seed: int,
    ) -> None:
        self.ready, self.pairing, self.groups, self.columns, self.members = ready, pairing, groups, columns, members
        self.digests, self.optimistic, self.null_size, self.seed = digests, optimistic, null_size, seed
        self.p = np.full(groups.size, np.nan)
        self.method: list[str | None] = [None] * groups.size

    def design(self, group: int) -> Design:
        return design_of(self.pairing, self.columns, self.members, self.groups.members[group], self.digests)

    def run_alone(self, group: int, name: str) -> None:
        """Test one perturbation in a pool of its own."""
        design = self.design(group)
        ranks = self._ranks(design, threads=1)
        key = key_of("labels", self.seed, name, design.signature)
        self._decide([group], design, ranks, key, threads=1)

    def run_shared(self, tested: list[int]) -> None:
        """Test perturbations whose labels are exchanged among the same profiles: alike ones share a null."""
        threads = resources.current().threads
        alike: dict[bytes, dict[tuple[object, ...], tuple[Design, list[int]]]] = {}
        for group in tested:
            design = self.design(group)
            of_pool = alike.setdefault(design.pool.tobytes() + design.strata.tobytes(), {})
            of_pool.setdefault(design.signature, (design, []))[1].append(group)
        for of_pool in alike.values():
            ranks = self._ranks(next(iter(of_pool.values()))[0], threads)
            for signature, (design, groups) in of_pool.items():
                self._decide(groups, design, ranks, key_of("labels", self.seed, signature), threads)

    def _decide(self, groups: list[int], design: Design, ranks: RankMatrix, key: int, threads: int) -> None:
        thresholds = threshold_of(self.groups.means[groups], self.groups.tolerance)
        thinned = len(ranks.eligible) < len(design.pool)
        if design.interchangeable and design.labelings <= self.null_size and not thinned:
            null = self._scores(design, ranks, enumerated(design))
            self.p[groups] = count_at_least(null, thresholds) / null.size
            how = f"labels, exact, {null.size:,} labelings"
        else:
            null = self._sampled(design, ranks, key, threads)
            self.p[groups] = p_value(count_at_least(null, thresholds), self.null_size)
            how = f"labels, sampled {self.null_size:,}"
            if thinned:
                how += f" among {len(ranks.eligible):,} of {len(design.pool):,} profiles"
        for group in groups:
            self.method[group] = how

    # --- ranks -----------------------------------------------------------------------------------------------------------

    def _ranks(self, design: Design, threads: int) -> RankMatrix:
        n = len(design.pool)
        dtype = np.uint16 if n < 2**16 else np.uint32
        most = max(64, int((rank_budget() / np.dtype(dtype).itemsize) ** 0.5))
        eligible = np.arange(n) if n <= most else _thinned(design, self.digests[design.pool], most)
        columns = np.full(n, -1, dtype=np.int64)
        columns[eligible] = np.arange(len(eligible))
        above = np.empty((len(eligible), len(eligible)), dtype=dtype)
        if not self._fill(design, eligible, columns, above, _NOTHING.astype(dtype), _NOTHING.astype(dtype), threads):
            return RankMatrix(above, _NOTHING.astype(dtype), _NOTHING.astype(dtype), eligible)
        level, order = np.empty_like(above), np.empty_like(above)
        self._fill(design, eligible, columns, above, level, order, threads)
        return RankMatrix(above, level, order, eligible)

    def _fill(
        self,
        design: Design,
        eligible: Integers,
        columns: Integers,
        above: Ranks,
        level: Ranks,
        order: Ranks,
        threads: int,
    ) -> bool:
        n = len(design.pool)
        units = self.ready.units[design.pool]
        tied = False
        height = max(8, _ROWS_BYTES // (16 * n))
        for start in range(0, len(eligible), height):
            own = eligible[start : start + height]
            similarities = np.asarray(
                products(units if len(own) == n else units[own], units, self.ready.metric), dtype=np.float64
            )
            out = [matrix[start : start + height] for matrix in (above, level, order)]
            found = np.zeros(len(own), dtype=np.bool_)

            def work(
                first: int,
                last: int,
                rows: Doubles = similarities,
                own: Integers = own,
                out: list[Ranks] = out,
                found: Flags = found,
            ) -> None:
                keys = sort_keys(rows[first:last])
                keys.sort(axis=1)
                above, level, order = (matrix[first:last] for matrix in out)
                found[first] = rank_rows(
                    keys, own[first:last], design.arenas, design.strata, columns, above, level, order
                )

            over_ranges(work, len(own), threads, smallest=4)
            tied = tied or bool(found.any())
            if tied and not len(level):
                return True
        return tied

    # --- draws -----------------------------------------------------------------------------------------------------------

    def _sampled(self, design: Design, ranks: RankMatrix, key: int, threads: int) -> Doubles:
        plan = _plan(design, ranks.eligible)
        out = np.empty(self.null_size)

        def work(start: int, stop: int) -> None:
            for first in range(start * _BATCH, min(stop * _BATCH, self.null_size), _BATCH):
                images = np.empty((len(design.slots), min(_BATCH, self.null_size - first)), dtype=np.int32)
                draw_images(np.uint64(key), first, plan, images)
                out[first : first + images.shape[1]] = self._scores(design, ranks, images)

        over_ranges(work, -(-self.null_size // _BATCH), threads)
        return out

    def _scores(self, design: Design, ranks: RankMatrix, images: NDArray[np.int32]) -> Doubles:
        """Mean average precision of each drawn labelling."""
        sizes = design.positive.sum(axis=1)
        # Where nothing is tied and the arena holds either all positives or none, many draws are scored at once.
        quick = (sizes <= NETWORK) & (len(ranks.level) == 0)
        none, all_of_them = ~design.removed.any(axis=1), (design.removed == design.positive).all(axis=1)
        modes = np.where(quick & none, 0, np.where(quick & all_of_them, 1, 2))
        start, networks = networks_of(sizes)
        positive, removed = _lists(design.positive), _lists(design.removed)
        out = np.empty(images.shape[1])
        score_draws(
            ranks.above,
            ranks.level,
            ranks.order,
            images,
            design.queries,
            positive.start,
            positive.items,
            removed.start,
            removed.items,
            modes,
            start,
            networks,
            self.optimistic,
            out,
        )
        return out


def _lists(flags: Flags) -> Lists:
    return Lists(
        np.concatenate([[0], np.cumsum(flags.sum(axis=1))]).astype(np.int64), np.nonzero(flags)[1].astype(np.int64)
    )


def _thinned(design: Design, digests: NDArray[np.uint64], most: int) -> Integers:
    """Pool positions that may take part in labelings: whole units, chosen by content, the same share of each class."""
    share = most / len(design.pool)
    keep = []
    for c in np.unique(design.unit_classes):
        units = np.flatnonzero(design.unit_classes == c)
        held = int(np.isin(units, design.slot_units).sum())
        # At least twice as many as slots, or labels could hardly move.
        size = min(len(units), max(int(share * len(units)), 2 * held, 1))
        order = np.argsort([int(digests[design.unit_rows[int(u)][0]]) for u in units], kind="stable")
        keep += [design.unit_rows[int(u)] for u in units[order[:size]]]
    return np.sort(np.concatenate(keep))


def _plan(design: Design, eligible: Integers) -> Plan:
    """What :func:`cytofast.kernels.labels.draw_images` needs to know of a design."""
    column = np.full(len(design.pool), -1, dtype=np.int64)
    column[eligible] = np.arange(len(eligible))
    sizes, widths, rows, starts, unit_of_slot = [], [], [], [0], []
    for units, held in design.classes:
        usable = [u for u in units.tolist() if column[design.unit_rows[u][0]] >= 0]
        sizes.append(len(usable))
        widths.append(len(design.unit_rows[int(units[0])]))
        rows += [column[design.unit_rows[u]] for u in usable]
        for k, unit in enumerate(held.tolist()):
            unit_of_slot += [k] * int((design.slot_units == unit).sum())
        starts.append(len(unit_of_slot))
    offsets = np.concatenate([[0], np.cumsum(np.array(sizes) * np.array(widths))])[:-1]
    arrays = (sizes, offsets, widths, np.concatenate(rows), starts, unit_of_slot)
    return Plan(*(np.asarray(a, dtype=np.int64) for a in arrays))


def enumerated(design: Design) -> NDArray[np.int32]:
    """``int32[n_slots, n_labelings]``: every way to choose the units that hold slots."""
    parts = []
    for units, held in design.classes:
        rows = np.stack([design.unit_rows[int(unit)] for unit in units])
        chosen = np.array(list(combinations(range(len(units)), len(held))), dtype=np.int64)
        parts.append(rows[chosen].reshape(len(chosen), -1))
    images = np.empty((len(design.slots), design.labelings), dtype=np.int32)
    repeat, at = 1, 0
    for part in parts:
        index = (np.arange(design.labelings) // repeat) % len(part)
        images[at : at + part.shape[1]] = part[index].T
        repeat, at = repeat * len(part), at + part.shape[1]
    return images
