"""Ranks of a pool of profiles, computed once and scored for every labelling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytofast import resources
from cytofast.kernels.jit import over_ranges
from cytofast.kernels.labels import rank_rows, sort_keys
from cytofast.kernels.similarity import products
from cytofast.retrieval.exchange import Design
from cytofast.retrieval.pairing import Integers
from cytofast.retrieval.profiles import Comparable

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ranks = NDArray[np.unsignedinteger]

_ROWS_BYTES = 16 << 20
_SMALL_POOL = 2048
"""Pools up to this size have their similarities put together from parts that other pools share."""


@dataclass(frozen=True)
class RankMatrix:
    """Ranks inside a pool, see :mod:`cytofast.kernels.labels`."""

    above: Ranks
    level: Ranks
    """Zeros that are never touched, and so take no memory, but where something is tied."""
    eligible: Integers
    """Pool positions that have a row and column: all, or as many as the memory budget allows."""

    @property
    def flag(self) -> int:
        """The bit that marks a tie."""
        return 1 << (8 * self.above.itemsize - 1)


def rank_budget() -> float:
    """Bytes that the two matrices may take."""
    return resources.current().working_bytes / 8


class Ranker:
    """Makes rank matrices; keeps the similarities of controls with each other, which many perturbations share."""

    def __init__(self, ready: Comparable) -> None:
        self.ready = ready
        self._shared: dict[bytes, Doubles] = {}

    def __call__(self, design: Design, threads: int) -> RankMatrix:
        """Rank the profiles of a pool."""
        n = len(design.pool)
        dtype = np.uint16 if n < 2**15 else np.uint32
        most = max(64, int((rank_budget() / (2 * np.dtype(dtype).itemsize)) ** 0.5))
        eligible = np.arange(n) if n <= most else _thinned(design, self.ready.digests[design.pool], most)
        shape = (len(eligible), len(eligible))
        ranks = RankMatrix(np.empty(shape, dtype=dtype), np.zeros(shape, dtype=dtype), eligible)
        columns = np.full(n, -1, dtype=np.int64)
        columns[eligible] = np.arange(len(eligible))
        whole = self._assembled(design) if n <= _SMALL_POOL else None
        units = self.ready.units[design.pool]
        height = n if whole is not None else max(8, _ROWS_BYTES // (16 * n))
        for start in range(0, len(eligible), height):
            own = eligible[start : start + height]
            rows = (
                np.asarray(products(units[own], units, self.ready.metric), np.float64) if whole is None else whole[own]
            )
            _rank(rows, own, design, columns, ranks, start, threads)
        return ranks

    def _assembled(self, design: Design) -> Doubles:
        """Similarities inside a pool: those of profiles without a slot with each other are kept for the next pool."""
        n = len(design.pool)
        rest = np.setdiff1d(np.arange(n), design.slots, assume_unique=True)
        key = design.pool[rest].tobytes()
        known = self._shared.get(key)
        if known is None:
            units = self.ready.units[design.pool[rest]]
            known = np.asarray(products(units, units, self.ready.metric), np.float64)
            if sum(matrix.nbytes for matrix in list(self._shared.values())) + known.nbytes > rank_budget():
                self._shared.clear()
            self._shared[key] = known
        out = np.empty((n, n))
        out[np.ix_(rest, rest)] = known
        units = self.ready.units[design.pool]
        own = np.asarray(products(units[design.slots], units, self.ready.metric), np.float64)
        out[design.slots] = own
        out[:, design.slots] = own.T
        return out


def _rank(
    rows: Doubles, own: Integers, design: Design, columns: Integers, ranks: RankMatrix, start: int, threads: int
) -> None:
    def work(first: int, last: int) -> None:
        keys = sort_keys(rows[first:last])
        keys.sort(axis=1)
        part = slice(start + first, start + last)
        above, level = ranks.above[part], ranks.level[part]
        rank_rows(keys, own[first:last], design.arenas, design.strata, columns, ranks.flag, above, level)

    over_ranges(work, len(own), threads, smallest=4)


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
