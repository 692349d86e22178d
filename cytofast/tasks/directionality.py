"""Directionality: whether true pairs resemble each other or look opposite, against pairs of different targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from cytofast.errors import DataError, RecipeError
from cytofast.kernels.quantiles import grouped_medians
from cytofast.retrieval.profiles import comparable, metric_code
from cytofast.schema import as_columns
from cytofast.tasks.labels import LABELS
from cytofast.tasks.matching import CrossTask
from cytofast.tasks.task import Wells, median_profiles

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Similarities of two kinds of perturbation, pair by pair.

    Attributes
    ----------
    same
        True pairs: ``first``, ``second``, ``shared``, ``similarity``.
    different
        Similarities of all pairs that share no label.
    """

    same: pl.DataFrame
    different: Doubles


@dataclass(frozen=True, kw_only=True)
class PairTask(CrossTask):
    """What tasks about single pairs have in common: the tails of what pairs of different labels show.

    Parameters
    ----------
    tails
        The thresholds are this quantile of the similarities of pairs that share no label, and one minus it.
    side
        Which pairs count as retrieved: ``"both"``, ``"right"`` (above) or ``"left"`` (below).
    pool
        Condition columns among ``apart`` over which :func:`cytofast.run_conditions` pools pairs: one answer for all time points.
    """

    tails: float = 0.05
    side: Literal["both", "right", "left"] = "both"
    detected_only: bool = False
    pool: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        object.__setattr__(self, "pool", tuple(as_columns(self.pool)))
        if not 0 < self.tails < 0.5:
            raise RecipeError(f"{where}: tails must lie in (0, 0.5), not {self.tails}")
        if self.side not in ("both", "right", "left"):
            raise RecipeError(f"{where}: {RecipeError.unknown('side', self.side, ('both', 'right', 'left'))}")
        if not set(self.pool) <= set(self.apart):
            raise RecipeError(f"{where}: pool= names {list(self.pool)}, which must be among apart={list(self.apart)}")

    def pairs(
        self,
        first: Wells,
        second: Wells,
        detected: tuple[pl.DataFrame | None, pl.DataFrame | None] = (None, None),
    ) -> tuple[Pairs, list[str]]:
        """Similarities of all pairs of wells that are ready, and what was left out."""
        raise NotImplementedError

    def answer(
        self,
        first: pl.DataFrame | pl.LazyFrame,
        second: pl.DataFrame | pl.LazyFrame,
        detected: tuple[pl.DataFrame | None, pl.DataFrame | None] = (None, None),
    ) -> pl.DataFrame:
        """Ask it of the wells of two conditions.

        Parameters
        ----------
        first, second
            Wells of the two kinds, controls among them.
        detected
            What a :class:`Detection` answered for either side, where only detected perturbations count.

        Returns
        -------
        polars.DataFrame
            One row a true pair, the most similar first: ``first``, ``second``, ``shared`` (labels), ``similarity`` and
            ``beyond`` (``"below"``, ``"between"`` or ``"above"`` the thresholds). :meth:`summary` counts them.
        """
        return self.judged(self.pairs(*self.ready(first, second), detected)[0])

    def summary(
        self,
        first: pl.DataFrame | pl.LazyFrame,
        second: pl.DataFrame | pl.LazyFrame,
        detected: tuple[pl.DataFrame | None, pl.DataFrame | None] = (None, None),
    ) -> pl.DataFrame:
        """The shares beyond the thresholds and their tests; the columns are those of :attr:`TaskResults.directions`."""
        return self.directions(self.pairs(*self.ready(first, second), detected)[0])

    def thresholds(self, pairs: Pairs) -> tuple[float, float]:
        """The lower and the upper quantile of pairs that share no label."""
        if not pairs.different.size:
            raise DataError(f"{self.name}: every pair shares a label, so there is nothing to compare true pairs with")
        low, high = np.quantile(pairs.different, [self.tails, 1 - self.tails])
        return float(low), float(high)

    def judged(self, pairs: Pairs) -> pl.DataFrame:
        """True pairs, and on which side of the thresholds each stands."""
        low, high = self.thresholds(pairs)
        value = pl.col("similarity")
        beyond = pl.when(value >= high).then(pl.lit("above")).when(value <= low).then(pl.lit("below"))
        order = ["similarity", "first", "second"]
        return pairs.same.with_columns(beyond.otherwise(pl.lit("between")).alias("beyond")).sort(
            order, descending=[True, False, False], maintain_order=True
        )

    def directions(self, pairs: Pairs) -> pl.DataFrame:
        """One row: counts, shares and tests.

        Fisher's exact test takes pairs for independent, which pairs that share a perturbation are not: read it as a
        description, as the paper does.
        """
        low, high = self.thresholds(pairs)
        same = pairs.same["similarity"].to_numpy()
        (below, above), (fewer, more) = (
            (int((values <= low).sum()), int((values >= high).sum())) for values in (same, pairs.different)
        )
        n, others = len(same), len(pairs.different)
        odds, p = stats.fisher_exact([[above, below], [more, fewer]])
        tail = {
            name: float(stats.fisher_exact([[k, n - k], [null, others - null]], alternative="greater")[1])
            for name, k, null in (("p_below", below, fewer), ("p_above", above, more))
        }
        return pl.DataFrame(
            {
                "n_same": [n],
                "n_different": [others],
                "low_threshold": [low],
                "high_threshold": [high],
                "n_below": [below],
                "n_above": [above],
                "share_below": [below / n],
                "share_above": [above / n],
                "odds_ratio": pl.Series([float(odds) if np.isfinite(odds) else None], dtype=pl.Float64),
                "p_value": [float(p)],
                **{name: [value] for name, value in tail.items()},
            }
        )

    def retrieved(self, judged: pl.DataFrame) -> pl.Series:
        """Which true pairs count."""
        wanted = {"both": ["above", "below"], "right": ["above"], "left": ["below"]}[self.side]
        return judged["beyond"].is_in(wanted)

    def paired(self, ours: pl.DataFrame, theirs: pl.DataFrame, names: tuple[str, str], values: Doubles) -> Pairs:
        """Sort a matrix of similarities into pairs that share a label and others."""
        a, b = _incidence(ours, theirs)
        same = (a.astype(np.int64) @ b.astype(np.int64).T) > 0
        rows, columns = np.nonzero(same)
        left, right = ours[rows], theirs[columns]
        labels = pl.DataFrame([left[LABELS].alias("a"), right[LABELS].alias("b")])
        shared = labels.select(
            pl.col("a").list.set_intersection(pl.col("b")).list.sort().list.join("|").alias("shared")
        )
        return Pairs(
            pl.DataFrame(
                [
                    left[names[0]].cast(pl.String).alias("first"),
                    right[names[1]].cast(pl.String).alias("second"),
                    shared["shared"],
                    pl.Series("similarity", values[rows, columns], dtype=pl.Float64),
                ]
            ),
            values[~same],
        )


@dataclass(frozen=True, kw_only=True)
class Directionality(PairTask):
    """Cosine similarity of true pairs of two kinds, against pairs of different targets (Fig. 5 of the CPJUMP1 paper).

    Perturbations are medians of their wells, of all of them whether detected or not; those of the second side with the same
    label become one profile (guides of a gene). Pairs that share no label give the 5th and 95th percentile; true pairs at or
    beyond them count. (The paper's notebook also took a compound and its second target for a different pair.)
    Further fields: :class:`PairTask`, :class:`cytofast.tasks.matching.CrossTask`, :class:`cytofast.tasks.labels.LabelTask`.

    Parameters
    ----------
    collapse
        Whether perturbations of the second side with the same label become one profile.
    """

    name: str = "directionality"
    collapse: bool = True

    def pairs(
        self,
        first: Wells,
        second: Wells,
        detected: tuple[pl.DataFrame | None, pl.DataFrame | None] = (None, None),
    ) -> tuple[Pairs, list[str]]:
        """Cosine similarities of all pairs of wells that are ready, and what was left out."""
        ours, theirs, features, notes = self.sides(first, second, detected)
        theirs_named = self.perturbation
        if self.collapse:
            bearing = theirs.select(self.perturbation, LABELS)
            wells = second.treated.join(bearing, on=self.perturbation, how="inner", maintain_order="left")
            theirs = median_profiles(wells.explode(LABELS), LABELS, features).select(LABELS, *features)
            theirs_named = "Metadata_Task_Name"
            theirs = theirs.with_columns(
                pl.col(LABELS).alias(theirs_named), pl.concat_list(pl.col(LABELS)).alias(LABELS)
            )
        units = [comparable(side, features, metric_code("cosine"), self.name).units for side in (ours, theirs)]
        return self.paired(ours, theirs, (self.perturbation, theirs_named), _product(*units)), notes


@dataclass(frozen=True, kw_only=True)
class PercentMatching(PairTask):
    """Share of true pairs of two kinds whose wells correlate better than those of different pairs (CPJUMP1's preprint).

    The value of a pair is the median Pearson correlation of every well of the one with every well of the other. It matches above
    the 95th percentile of all pairs that share no label. (The preprint drew 1,000 of these; here all of them are looked at.)
    """

    name: str = "percent_matching"
    side: Literal["both", "right", "left"] = "right"

    def pairs(
        self,
        first: Wells,
        second: Wells,
        detected: tuple[pl.DataFrame | None, pl.DataFrame | None] = (None, None),
    ) -> tuple[Pairs, list[str]]:
        """Median correlations of all pairs of wells that are ready, and what was left out."""
        ours, theirs, features, notes = self.sides(first, second, detected)
        units, bounds = [], []
        for wells, known in ((first, ours), (second, theirs)):
            number = known.select(self.perturbation).with_row_index("Metadata_Task_Row")
            table = wells.treated.join(number, on=self.perturbation, how="inner", maintain_order="left")
            table = table.sort("Metadata_Task_Row", maintain_order=True)
            units.append(comparable(table, features, metric_code("correlation"), self.name).units)
            bounds.append(np.searchsorted(table["Metadata_Task_Row"].to_numpy(), np.arange(known.height + 1)))
        correlations = _product(*units)
        values = np.empty((ours.height, theirs.height))
        for row, (start, stop) in enumerate(pairwise(bounds[0].tolist())):
            # Wells of the second side lie perturbation by perturbation, and so do their correlations with these wells.
            beside = np.ascontiguousarray(correlations[start:stop].T).reshape(1, -1)
            values[row] = grouped_medians(beside, bounds[1] * (stop - start), 1)[:, 0]
        return self.paired(ours, theirs, (self.perturbation, self.perturbation), values), notes


def _product(a: Doubles, b: Doubles) -> Doubles:
    clipped: Doubles = np.clip(a @ b.T, -1.0, 1.0)
    return clipped


def _incidence(*tables: pl.DataFrame) -> list[Flags]:
    """``bool[n_perturbations, n_labels]`` of each table."""
    names = pl.concat([table[LABELS].explode() for table in tables]).drop_nulls().unique().sort()
    number = {name: k for k, name in enumerate(names.to_list())}
    found = []
    for table in tables:
        flags = np.zeros((table.height, len(number)), dtype=np.bool_)
        for row, labels in enumerate(table[LABELS].to_list()):
            flags[row, [number[label] for label in labels]] = True
        found.append(flags)
    return found
