"""Nulls that need no profiles: random rankings of as many positives and candidates as each query has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cytofast import resources
from cytofast.kernels.chance import (
    CHUNK,
    LADDER_TOLERANCE,
    climb_means,
    count_at_least,
    draw_means,
    ladder_of,
    p_value,
    threshold_of,
)
from cytofast.kernels.exact import mean_distribution, mean_tail, tail_of
from cytofast.kernels.jit import over_items, over_ranges
from cytofast.kernels.rng import key_of
from cytofast.retrieval.pairing import Lists

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Configuration = tuple[int, int]
"""Positives and candidates of a query."""

TABLE_NULLS = ("ranks", "copairs", "cpjump1")
_TOGETHER = 64
"""Designs whose draws are held at once."""
_FEW = 3
"""If so few null draws reach the observed value, its exact tail is worth looking for."""


@dataclass(frozen=True)
class Groups:
    """Queries with average precision, and the perturbation that each belongs to (-1: none)."""

    codes: Integers
    size: int
    precision: Doubles
    n_positives: Integers
    n_total: Integers
    tolerance: float

    @cached_property
    def counts(self) -> Integers:
        """Queries of each perturbation."""
        return np.bincount(self.codes[self.codes >= 0], minlength=self.size).astype(np.int64)

    @cached_property
    def means(self) -> Doubles:
        """Mean average precision; NaN without queries."""
        return self.mean_of(self.precision)

    def mean_of(self, values: Doubles) -> Doubles:
        """Means over the queries of each perturbation, added in falling order, so that the order of rows does not matter."""
        known = np.flatnonzero(self.codes >= 0)
        order = known[np.lexsort((-values[known], self.codes[known]))]
        out = np.full(self.size, np.nan)
        present = np.flatnonzero(self.counts)
        starts = np.concatenate([[0], np.cumsum(self.counts[present])])[:-1]
        if len(present):
            out[present] = np.add.reduceat(values[order], starts) / self.counts[present]
        return out

    @cached_property
    def members(self) -> list[Integers]:
        """Queries of each perturbation."""
        known = np.flatnonzero(self.codes >= 0)
        lists = Lists.of_codes(self.codes[known], self.size, known)
        return [lists[group] for group in range(self.size)]

    def by_design(self) -> dict[tuple[Configuration, ...], Integers]:
        """Perturbations that share a design, the sorted configurations of their queries, and so a null."""
        known = np.flatnonzero(self.codes >= 0)
        pairs = np.stack([self.n_positives[known], self.n_total[known]], axis=1)
        configurations, which = np.unique(pairs, axis=0, return_inverse=True)
        names: list[Configuration] = [(m, n) for m, n in configurations.tolist()]
        which = which.reshape(-1)
        order = np.lexsort((which, self.codes[known]))
        present = np.flatnonzero(self.counts)
        counts = self.counts[present]
        starts = np.cumsum(counts) - counts
        found: dict[tuple[Configuration, ...], Integers] = {}
        for count in np.unique(counts):
            alike = counts == count
            places = which[order[starts[alike][:, None] + np.arange(count)]]
            designs, design_of = np.unique(places, axis=0, return_inverse=True)
            groups = Lists.of_codes(design_of.reshape(-1), len(designs), present[alike])
            for i, design in enumerate(designs.tolist()):
                found[tuple(names[place] for place in design)] = groups[i]
        return found


def table_p_values(groups: Groups, null: str, null_size: int, seed: int) -> tuple[Doubles, list[str | None]]:
    """p-value of each perturbation, and how it was found; NaN and ``None`` for those without queries."""
    methods = {"ranks": _independent, "copairs": _shared, "cpjump1": _geometric}
    return methods[null](groups, null_size, seed)


def _draws(design: tuple[Configuration, ...], key: int, null_size: int, threads: int) -> Doubles:
    out = np.empty(null_size)

    def fill(start: int, stop: int) -> None:
        draw_means(design, key, start * CHUNK, out[start * CHUNK : stop * CHUNK])

    over_ranges(fill, -(-null_size // CHUNK), threads, smallest=4)
    return out


def _independent(groups: Groups, null_size: int, seed: int) -> tuple[Doubles, list[str | None]]:
    p = np.full(groups.size, np.nan)
    method: list[str | None] = [None] * groups.size
    designs = groups.by_design()
    left = []
    for design, members in designs.items():
        known = mean_distribution(list(design))
        if known is None:
            left.append(design)
            continue
        p[members] = tail_of(known, threshold_of(groups.means[members], groups.tolerance))
        for group in members:
            method[group] = "ranks, exact"

    def test(design: tuple[Configuration, ...], draws: Doubles) -> None:
        members = designs[design]
        thresholds = threshold_of(groups.means[members], groups.tolerance)
        tolerance = LADDER_TOLERANCE if _ladder(design)[0] else 0.0
        reached = count_at_least(draws, threshold_of(thresholds, tolerance))
        p[members] = p_value(reached, null_size)
        tails: dict[float, float | None] = {}
        for group, count, threshold in zip(members.tolist(), reached.tolist(), thresholds.tolist(), strict=True):
            method[group] = f"ranks, sampled {null_size:,}"
            if count <= _FEW:
                if threshold not in tails:
                    tails[threshold] = mean_tail(list(design), threshold)
                tail = tails[threshold]
                if tail is not None:
                    p[group], method[group] = tail, "ranks, exact tail"

    threads = resources.current().threads
    for (length, n_total), alike in _ladders(left).items():
        for start in range(0, len(alike), _TOGETHER):
            part = alike[start : start + _TOGETHER]
            rows = _climbed(length, n_total, part, key_of("ranks", seed, length, n_total), null_size, threads)
            over_items(lambda pair: test(*pair), list(zip(part, rows, strict=True)), threads)
    single = [design for design in left if not _ladder(design)[0]]
    # Dear ones first, so that no thread is left alone with them.
    single.sort(key=lambda design: -sum(m for m, _ in design))
    inner = threads if len(single) == 1 else 1
    over_items(
        lambda design: test(design, _draws(design, key_of("ranks", seed, design), null_size, inner)), single, threads
    )
    return p, method


def _ladder(design: tuple[Configuration, ...]) -> tuple[int, int]:
    """Length of the ladder for a design and its candidates; length 0 if its queries differ or need none."""
    m, n = design[0]
    return (ladder_of(m, n), n) if design[-1] == design[0] else (0, n)


def _ladders(designs: list[tuple[Configuration, ...]]) -> dict[tuple[int, int], list[tuple[Configuration, ...]]]:
    found: dict[tuple[int, int], list[tuple[Configuration, ...]]] = {}
    for design in sorted(designs):
        if _ladder(design)[0]:
            found.setdefault(_ladder(design), []).append(design)
    return found


def _climbed(
    length: int, n_total: int, designs: list[tuple[Configuration, ...]], key: int, null_size: int, threads: int
) -> Doubles:
    """Draws of designs whose queries all have the same numbers of positives and candidates: a row a design."""
    out = np.empty((len(designs), null_size))
    sizes = [(design[0][0], len(design)) for design in designs]

    def fill(start: int, stop: int) -> None:
        climb_means(length, n_total, sizes, key, start * CHUNK, out[:, start * CHUNK : stop * CHUNK])

    over_ranges(fill, -(-null_size // CHUNK), threads, smallest=4)
    return out


def _shared(groups: Groups, null_size: int, seed: int) -> tuple[Doubles, list[str | None]]:
    """One null row a configuration, averaged over a perturbation's queries; strictly above counts."""
    p = np.full(groups.size, np.nan)
    method: list[str | None] = [None] * groups.size
    designed = groups.by_design()
    configurations = sorted({configuration for design in designed for configuration in design})
    place = {configuration: i for i, configuration in enumerate(configurations)}
    keys = [key_of("copairs", seed, configuration) for configuration in configurations]
    designs = {design: ([place[c] for c in design], members) for design, members in designed.items()}
    above = np.zeros(groups.size, dtype=np.int64)
    limits = groups.means * (1.0 + groups.tolerance)
    for first in range(0, null_size, 2 * CHUNK):
        rows = np.empty((len(configurations), min(2 * CHUNK, null_size - first)))

        def draw(start: int, stop: int, rows: Doubles = rows, first: int = first) -> None:
            for i in range(start, stop):
                draw_means([configurations[i]], keys[i], first, rows[i])

        over_ranges(draw, len(configurations), resources.current().threads)
        for wanted, members in designs.values():
            null = np.sort(rows[wanted].mean(axis=0) if len(set(wanted)) > 1 else rows[wanted[0]])
            above[members] += len(null) - np.searchsorted(null, limits[members], side="right")
    for _, members in designs.values():
        p[members] = p_value(above[members], null_size)
        for group in members:
            method[group] = f"copairs, shared ranks, sampled {null_size:,}"
    return p, method


def _geometric(groups: Groups, null_size: int, seed: int) -> tuple[Doubles, list[str | None]]:
    """A p-value a profile, strictly above; their geometric mean a perturbation."""
    known = np.flatnonzero(groups.codes >= 0)
    pairs = np.stack([groups.n_positives[known], groups.n_total[known]], axis=1)
    configurations, which = np.unique(pairs, axis=0, return_inverse=True)
    which = which.reshape(-1)
    logs = np.full(len(groups.codes), np.nan)

    def test(i: int) -> None:
        configuration = (int(configurations[i, 0]), int(configurations[i, 1]))
        null = np.sort(_draws((configuration,), key_of("cpjump1", seed, configuration), null_size, 1))
        queries = known[which == i]
        limits = groups.precision[queries] * (1.0 + groups.tolerance)
        logs[queries] = np.log(p_value(null_size - np.searchsorted(null, limits, side="right"), null_size))

    over_items(test, list(range(len(configurations))), resources.current().threads)
    p = np.exp(groups.mean_of(logs))
    return p, [f"cpjump1, geometric mean, sampled {null_size:,}" if n else None for n in groups.counts]
