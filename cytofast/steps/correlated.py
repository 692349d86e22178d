"""Drop features that repeat others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cytofast import resources
from cytofast.blocks import column_blocks, to_matrix
from cytofast.errors import DataError, RecipeError
from cytofast.kernels.comoments import pairwise_correlations, spreads_of, to_correlations
from cytofast.kernels.jit import over_items, over_ranges
from cytofast.kernels.ranks import average_ranks
from cytofast.kernels.redundancy import absolute_sums, close_calls, levels, losers_in_turn, losers_of_pairs, partners
from cytofast.kernels.spearman import gappy_rank_correlations
from cytofast.kernels.units import unit_columns
from cytofast.schema import as_columns
from cytofast.steps.accumulate import finite_comoments, in_reference, matrices, require_reference
from cytofast.steps.selection import Judgement, Selection, groups_of
from cytofast.steps.step import Scope

Method = Literal["pearson", "spearman"]
Rule = Literal["pycytominer", "greedy"]
Doubles = NDArray[np.float64]

_PAIR_MARGIN = 1e-5
"""A correlation from single precision is surely this exact; nearer to the threshold it is computed again in double."""
_SUM_MARGIN = 1e-6
"""The same for a sum of |r|, for each feature summed over."""
_SMALL = 3e9
"""Rows x features x features up to which double precision costs nothing to speak of."""
_WIDTH = 64
_SAMPLE = 256
"""Rows from which a scale is guessed that keeps sums of squares of an ordinary size."""
_ROWS = 8192
"""Rows of one product in single precision, so that rounding stays under the margin."""


@dataclass(frozen=True)
class DropCorrelated(Selection):
    """Drop features that are correlated with others above ``threshold``.

    With ``rule="pycytominer"`` exactly the features that pycytominer's ``correlation_threshold`` drops: of every pair
    with r > ``threshold`` the one with the larger sum of abs(r) over all features goes, all pairs judged at once. So of
    a chain a - b - c two may go where one would do. ``rule="greedy"`` goes through the features from the smallest sum
    to the largest and drops one only if it is over the threshold with a feature that stays; it keeps all that the other
    rule keeps, and more. Where sums are equal (a feature and its copy) the first feature stays; pycytominer's choice
    there is left to rounding and an unstable sort.

    Correlations are in double precision where it decides. Each pair is taken over the rows where both values are
    finite; a feature without spread is correlated with nothing. A lazy table without gaps is read once, in chunks of
    rows.

    Parameters
    ----------
    threshold
        Between 0 and 1. r is signed: -0.99 is no duplicate, as in pycytominer, unless ``absolute``.
    method
        ``"pearson"`` or ``"spearman"`` (ties share their mean rank).
    absolute
        Compare abs(r).
    rule
        ``"pycytominer"`` or ``"greedy"``.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [1.0, 2.0, 3.0, 4.0], "Cells_A_b": [2.0, 4.0, 6.0, 9.0],
    ...                       "Cells_A_c": [1.0, -1.0, 1.0, -1.0]})
    >>> step = DropCorrelated(0.9)
    >>> step(wells).columns
    ['Cells_A_a', 'Cells_A_c']
    >>> step.fit(wells).filter(~pl.col("kept")).select("feature", "partner", pl.col("r").round(4)).rows()
    [('Cells_A_b', 'Cells_A_a', 0.9944)]
    """

    name: ClassVar[str] = "drop_correlated"
    separable: ClassVar[bool] = False

    threshold: float = 0.9
    method: Method = "pearson"
    absolute: bool = False
    rule: Rule = "pycytominer"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold <= 1:
            raise RecipeError(f"DropCorrelated: threshold must lie between 0 and 1, not {self.threshold}")
        if self.method not in get_args(Method):
            raise RecipeError.unknown("method", str(self.method), get_args(Method))
        if self.rule not in get_args(Rule):
            raise RecipeError.unknown("rule", str(self.rule), get_args(Rule))

    @property
    def scope(self) -> Scope:
        """All rows and columns, through sums that merge."""
        return Scope.DATASET

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Judge every pair of features; the report names for each dropped feature the one it repeats, and r.

        For a kept feature ``partner`` and ``r`` are the most correlated feature there is.

        Raises
        ------
        DataError
            The table or the reference has no rows.
        SchemaError
            A column is missing or not numeric.
        """
        features = self.checked(profiles)
        where = type(self).__name__
        parts = []
        by = as_columns(self.by)
        asked = in_reference(profiles, self.reference, where)
        if self.reference is not None:
            heads = asked.select(by) if by else asked.head(1)
            every = profiles.lazy().select(by).unique(maintain_order=True).collect() if by else None
            require_reference(every, heads.lazy().collect(), by, self.reference, where)
        for key, chosen in groups_of(asked, by, where):
            parts.append(self._judge_pairs(chosen, features, key))
        return self.merge(parts)

    def _judge_pairs(
        self, profiles: pl.DataFrame | pl.LazyFrame, features: list[str], key: pl.DataFrame | None
    ) -> pl.DataFrame:
        r, sums = self._correlations(profiles, features)
        level = levels(sums)
        if self.rule == "greedy":
            dropped = losers_in_turn(r, np.lexsort((np.arange(len(level)), level)), self.threshold, self.absolute)
        else:
            dropped = losers_of_pairs(r, level, self.threshold, self.absolute)
        partner = partners(r, dropped, level, self.threshold, self.absolute)
        found = np.where(partner >= 0, r[np.arange(len(r)), partner], np.nan)
        value = np.abs(found) if self.absolute else found
        measure = "|r| with partner" if self.absolute else "r with partner"
        report = self.report(features, key, Judgement(~dropped[None, :], value[None, :], self.threshold, measure))
        names = pl.Series("partner", [features[i] if i >= 0 else None for i in partner], dtype=pl.String)
        return report.with_columns(names, pl.Series("r", found).fill_nan(None))

    def _correlations(self, profiles: pl.DataFrame | pl.LazyFrame, features: list[str]) -> tuple[Doubles, Doubles]:
        """The matrix of r, exact where the rule looks closely, and the sums of abs(r)."""
        if self.method == "spearman":
            return _with_sums(_rank_correlations(profiles, features))
        count = len(features)
        if (
            isinstance(profiles, pl.DataFrame)
            and profiles.height * count**2 > _SMALL
            # Units, r and a product of single floats, beside the table that is there already.
            and 4 * count * profiles.height + 12 * count**2 < resources.current().working_bytes * 2 // 3
        ):
            units = _single_units(profiles, features)
            if units is not None:
                return self._refined(profiles, features, units)
        moments = finite_comoments(profiles, features)
        if moments is None:
            return _with_sums(_gappy_correlations(profiles, features))
        r, spreads = moments.products, spreads_of(moments)
        to_correlations(r, spreads)
        return _with_sums(r)

    def _refined(
        self, profiles: pl.DataFrame, features: list[str], units: NDArray[np.float32]
    ) -> tuple[Doubles, Doubles]:
        """Correlations by a product in single precision; what it cannot decide is computed again in double."""
        r = np.zeros((len(features), len(features)))
        for start in range(0, units.shape[1], _ROWS):
            part = units[:, start : start + _ROWS]
            r += part @ part.T
        del units, part
        np.clip(r, -1.0, 1.0, out=r)
        sums = absolute_sums(r)
        pairs, unsure = close_calls(r, self.threshold, _PAIR_MARGIN, self.absolute, sums, _SUM_MARGIN * len(features))
        if len(pairs):
            low, high = pairs.T
            r[low, high] = r[high, low] = _dots(profiles, features, low, high)
        chosen = np.flatnonzero(unsure)
        if len(chosen):
            sums[chosen] = _exact_sums(profiles, features, chosen)
        return r, sums


def _with_sums(r: Doubles) -> tuple[Doubles, Doubles]:
    return r, absolute_sums(r)


def _double_units(frame: pl.DataFrame, names: list[str]) -> Doubles:
    """``float64[f, n]``: columns centred to length 1; 0 where there is no spread. The values must be finite."""
    columns = to_matrix(frame, names).T
    out = np.empty(columns.shape)
    unit_columns(columns, out)
    return out


def _single_units(frame: pl.DataFrame, features: list[str]) -> NDArray[np.float32] | None:
    """``float32[f, n]``: columns centred to length 1 in double, then rounded; ``None`` if a value is not finite."""
    out = np.empty((len(features), frame.height), dtype=np.float32)
    broken: list[bool] = []

    def work(first: int, last: int) -> None:
        for start in range(first, last, _WIDTH):
            stop = min(start + _WIDTH, last)
            if broken or not unit_columns(to_matrix(frame, features[start:stop]).T, out[start:stop]):
                broken.append(True)
                return

    over_ranges(work, len(features), resources.current().threads)
    return None if broken else out


def _dots(frame: pl.DataFrame, features: list[str], low: NDArray[np.int64], high: NDArray[np.int64]) -> Doubles:
    """R of given pairs of features in double precision."""
    out = np.empty(len(low))
    step = max(1, (32 << 20) // (8 * frame.height))
    for start in range(0, len(low), step):
        part = slice(start, start + step)
        used, place = np.unique(np.concatenate([low[part], high[part]]), return_inverse=True)
        units = _double_units(frame, [features[i] for i in used])
        half = len(place) // 2
        out[part] = np.einsum("ij,ij->i", units[place[:half]], units[place[half:]])
    return np.clip(out, -1.0, 1.0)


def _exact_sums(frame: pl.DataFrame, features: list[str], chosen: NDArray[np.int64]) -> Doubles:
    """Sums of abs(r) of some features with all, in double precision."""
    out = np.zeros(len(chosen))
    step = max(_WIDTH, (256 << 20) // (8 * frame.height))
    for start in range(0, len(chosen), step):
        part = slice(start, start + step)
        ours = _double_units(frame, [features[i] for i in chosen[part]])

        def work(first: int, ours: Doubles = ours) -> Doubles:
            theirs = _double_units(frame, features[first : first + _WIDTH])
            sums: Doubles = np.abs(np.clip(ours @ theirs.T, -1.0, 1.0)).sum(axis=1)
            return sums

        with threadpool_limits(1, user_api="blas"):
            # Added in the order of the features, whoever was first.
            out[part] = sum(over_items(work, range(0, len(features), _WIDTH), resources.current().threads))
    return out


def _gappy_correlations(profiles: pl.DataFrame | pl.LazyFrame, features: list[str]) -> Doubles:
    """Pearson correlations over the rows that each pair shares: one pass for means, one for products."""
    centres, scales, gappy = [], [], []
    for frame, block in column_blocks(profiles, [], features):
        columns = to_matrix(frame, block).T
        with np.errstate(invalid="ignore", over="ignore"):
            means = columns.mean(axis=1, dtype=np.float64)
        holed = np.flatnonzero(~np.isfinite(means))
        for feature in holed:
            present = columns[feature][np.isfinite(columns[feature])]
            means[feature] = present.mean(dtype=np.float64) if present.size else 0.0
        some = columns[:, :: max(1, columns.shape[1] // _SAMPLE)].astype(np.float64)
        spread = np.sqrt(np.square(np.where(np.isfinite(some), some - means[:, None], 0.0)).mean(axis=1))
        centres.append(means)
        scales.append(np.where((spread > 0) & np.isfinite(spread), spread, 1.0))
        gappy.append(np.isin(np.arange(len(block)), holed))
    every = np.concatenate(centres), np.concatenate(scales), np.flatnonzero(np.concatenate(gappy))
    return pairwise_correlations(matrices(profiles, features), *every)


@contextmanager
def _room_for(shape: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
    """An array in memory if it fits, else in a scratch file."""
    limits = resources.current()
    if 4 * shape[0] * shape[1] <= limits.working_bytes // 4:
        yield np.empty(shape, dtype=np.float32)
        return
    with TemporaryDirectory(dir=limits.scratch, prefix="cytofast-ranks-") as folder:
        yield np.memmap(f"{folder}/ranks", dtype=np.float32, mode="w+", shape=shape)


def _rank_correlations(profiles: pl.DataFrame | pl.LazyFrame, features: list[str]) -> Doubles:
    """Spearman: correlations of the ranks of columns; halves up to 2^23 rows are exact in single precision."""
    n_rows = profiles.lazy().select(pl.len()).collect().item()
    if n_rows >= 1 << 23:
        raise DataError(
            f"DropCorrelated: Spearman ranks of {n_rows:,} rows are not exact here. "
            f"Hint: use at most {1 << 23:,} rows, or method='pearson'."
        )
    threads = resources.current().threads
    r = np.zeros((len(features), len(features)))
    with _room_for((len(features), n_rows)) as ranks:
        start = 0
        gappy: list[int] = []
        seen = list(dict.fromkeys([features[0], features[-1]]))
        first_seen: pl.DataFrame | None = None
        for frame, block in column_blocks(profiles, seen, features):
            # Ranks of different readings are compared row by row.
            first_seen = frame.select(seen) if first_seen is None else first_seen
            if not frame.select(seen).equals(first_seen):
                raise DataError(
                    "DropCorrelated: the rows of this lazy table come in another order each time it is read. "
                    "Hint: collect it first, or sort it."
                )
            columns = to_matrix(frame, block).T
            finite = np.isfinite(columns)
            gappy.extend(start + np.flatnonzero(~finite.all(axis=1)))
            ranked = average_ranks(np.where(finite, columns, np.nan), threads)
            ranked -= (finite.sum(axis=1, keepdims=True) + 1) / 2
            ranks[start : start + len(block)] = ranked
            start += len(block)
        for first in range(0, n_rows, _ROWS):
            part = np.nan_to_num(ranks[:, first : first + _ROWS].astype(np.float64))
            r += part @ part.T
        to_correlations(r, np.sqrt(np.diagonal(r)))
        if gappy:
            gappy_rank_correlations(ranks, np.array(gappy, dtype=np.int64), r, threads)
    return r
