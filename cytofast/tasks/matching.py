"""Matching: whether perturbations with the same target resemble each other, of one kind or across kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from cytofast.errors import DataError, RecipeError
from cytofast.retrieval.rule import Retrieval
from cytofast.schema import as_columns
from cytofast.tasks.labels import LABELS, LabelTask, matched
from cytofast.tasks.task import Wells, wells_of

Metric = Literal["cosine", "abs_cosine", "correlation", "euclidean"]
SIDE = "Metadata_Task_Side"
BORNE = "Metadata_Task_Borne"
"""Side and labels: what is equal in it resembles each other, and is given labels together when these are permuted."""


@dataclass(frozen=True, kw_only=True)
class SisterMatching(LabelTask):
    """Perturbations of one kind with the same label among all others (Fig. 4b of the CPJUMP1 paper).

    Each perturbation is the median of its wells; by default only those count that were detected. Further fields are those
    of :class:`cytofast.tasks.labels.LabelTask` and :class:`cytofast.tasks.task.Task`.

    Parameters
    ----------
    metric
        ``"abs_cosine"`` (the paper's for compounds: an inhibitor and an activator of a target match) or ``"cosine"``
        (the paper's for guides), or another of :class:`cytofast.Retrieval`.
    drop_singles
        Leave out perturbations none of whose labels has a second bearer (the paper does so for guides: they would be
        negatives only).
    """

    name: str = "sister_matching"
    metric: Metric = "cosine"
    drop_singles: bool = False

    def answer(self, profiles: pl.DataFrame | pl.LazyFrame, detected: pl.DataFrame | None = None) -> pl.DataFrame:
        """Ask it of the wells of one condition.

        Parameters
        ----------
        profiles
            Wells, controls among them.
        detected
            What a :class:`Detection` answered, to not ask it again.

        Returns
        -------
        polars.DataFrame
            One row a label, sorted: ``name``, ``about`` (who bears it), ``mean_average_precision``,
            ``mean_normalized_average_precision``, ``p_value``, ``p_method``, ``q_value``, ``n_profiles``, ``n_candidates``
            (the fewest perturbations that one of its bearers ranked), ``retrieved`` (null where one perturbation bears it
            alone) and ``doubtful`` (see :class:`cytofast.TaskResults`).

        Raises
        ------
        DataError
            Nothing was detected, or no two perturbations share a label.
        SchemaError
            A column is missing.
        """
        return self.answer_wells(wells_of(self, profiles.lazy().collect(), self.name), detected)[0]

    def answer_wells(self, wells: Wells, detected: pl.DataFrame | None) -> tuple[pl.DataFrame, list[str]]:
        """The same of wells that are ready, and what was left out."""
        table = self.labelled(wells, detected)
        known = table.filter(pl.col(LABELS).list.len() > 0)
        notes = _left_out(table.height - known.height, f"perturbations without {'/'.join(as_columns(self.label))}")
        counts = known[LABELS].explode().value_counts(name="bearers")
        shared = counts.filter(pl.col("bearers") > 1)[LABELS]
        if not shared.len():
            raise DataError(
                f"{self.name}: no two of {table.height:,} perturbations share a label of {'/'.join(as_columns(self.label))}."
            )
        if counts.height == 1:
            raise DataError(
                f"{self.name}: all {known.height:,} perturbations bear one label, so nothing can be told from it."
            )
        if self.drop_singles:
            sisters = known.filter(pl.col(LABELS).list.eval(pl.element().is_in(shared.implode())).list.any())
            notes += _left_out(known.height - sisters.height, "perturbations whose label nobody else bears")
            known = sisters
        rule = Retrieval(
            pos_sameby=[LABELS], neg_diffby=[LABELS], metric=self.metric, features=wells.features, tie=self.tie
        )
        found, more = matched(self, rule, known)
        return found, [*notes, *more]


@dataclass(frozen=True, kw_only=True)
class CrossTask(LabelTask):
    """The fields of tasks that compare two kinds of perturbation, compounds and genes for example.

    Parameters
    ----------
    first, second
        SQL predicates over the condition columns: which conditions :func:`cytofast.run_conditions` takes for the two sides.
    apart
        Condition columns in which the two sides may differ; in all others they are equal.
    """

    first: str | None = None
    second: str | None = None
    apart: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "apart", tuple(as_columns(self.apart)))
        if (self.first is None) != (self.second is None):
            raise RecipeError(f"{type(self).__name__}: first= and second= are given together or not at all")

    def ready(self, first: pl.DataFrame | pl.LazyFrame, second: pl.DataFrame | pl.LazyFrame) -> tuple[Wells, Wells]:
        """The wells of both sides that take part."""
        return (
            wells_of(self, first.lazy().collect(), f"{self.name}, first side"),
            wells_of(self, second.lazy().collect(), f"{self.name}, second side"),
        )

    def sides(
        self,
        first: Wells,
        second: Wells,
        detected: tuple[pl.DataFrame | None, pl.DataFrame | None] = (None, None),
    ) -> tuple[pl.DataFrame, pl.DataFrame, list[str], list[str]]:
        """Labelled median profiles of both sides, the features that both have, and what was left out.

        The labels of the first side are those that somebody on the second side bears.
        """
        label = "/".join(as_columns(self.label))
        features = [name for name in first.features if name in set(second.features)]
        if not features:
            raise DataError(f"{self.name}: the two sides have no feature in common")
        notes = _left_out(
            len(first.features) + len(second.features) - 2 * len(features), "features that one side lacks"
        )
        ours, theirs = self.labelled(first, detected[0]), self.labelled(second, detected[1])
        known = theirs.filter(pl.col(LABELS).list.len() > 0)
        notes += _left_out(theirs.height - known.height, f"perturbations of the second side without {label}")
        borne = known[LABELS].explode().unique()
        within = pl.col(LABELS).list.eval(pl.element().filter(pl.element().is_in(borne.implode())))
        aimed = ours.with_columns(within.alias(LABELS)).filter(pl.col(LABELS).list.len() > 0)
        unknown = ours[LABELS].explode().drop_nulls().unique()
        unknown = unknown.filter(~unknown.is_in(borne.implode()))
        notes += _left_out(unknown.len(), "labels that no perturbation of the second side bears")
        notes += _left_out(
            ours.height - aimed.height, "perturbations of the first side whose labels nobody on the second bears"
        )
        if not aimed.height:
            raise DataError(
                f"{self.name}: none of {ours.height:,} perturbations of the first side shares a label of {label} with any of "
                f"{theirs.height:,} of the second. Hint: are the labels written alike on both sides?"
            )
        return aimed, known, features, notes


@dataclass(frozen=True, kw_only=True)
class CrossMatching(CrossTask):
    """Perturbations of two kinds with the same label, across kinds only (gene and compound, Fig. 4c of the CPJUMP1 paper).

    Each perturbation is the median of its wells; by default only those count that were detected. Features are those that
    both sides have. Positives and negatives are of the other kind. The labels of the first side are restricted to those that the
    second side bears: a compound is judged by the genes that were perturbed.

    Read few labels with care. With ``null="cpjump1"`` a perfect ranking has the smallest p there is, however few perturbations
    the other side has: of seven ORFs detected in a planted screen without a pair, two were "retrieved". Such labels are
    marked ``doubtful``. ``null="labels"`` knows how few there are, and that guides of a gene resemble each other and match by
    chance together: perturbations of a side that bear the same labels are given labels together. (In simulated screens
    whose guides of a gene are alike, and so are their compounds, permuting them one by one
    gave 22 % false discoveries among labels retrieved at q < 0.05; together they gave 4 %, and found 88 of 128 pairs instead of
    124.) Compounds that share a part of their labels only are permuted apart. For the score of the preprint see
    :class:`PercentMatching`.
    """

    name: str = "cross_matching"
    metric: Metric = "abs_cosine"

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
            Wells of the two kinds, controls among them; the first may have more labels than the second.
        detected
            What a :class:`Detection` answered for either side, to not ask it again.

        Returns
        -------
        polars.DataFrame
            As :meth:`SisterMatching.answer`.

        Raises
        ------
        DataError
            Nothing was detected on a side, or the sides share no label.
        SchemaError
            A column is missing.
        """
        return self.answer_wells(*self.ready(first, second), detected)[0]

    def answer_wells(
        self, first: Wells, second: Wells, detected: tuple[pl.DataFrame | None, pl.DataFrame | None]
    ) -> tuple[pl.DataFrame, list[str]]:
        """The same of wells that are ready, and what was left out."""
        ours, theirs, features, notes = self.sides(first, second, detected)
        if _labels(ours, theirs) < 2:
            raise DataError(
                f"{self.name}: the two sides share one label only, among {ours.height:,} and {theirs.height:,} perturbations, so "
                "nothing can be told from it."
            )
        columns = [self.perturbation, LABELS, *features]
        both = [
            side.select(columns).with_columns(
                pl.lit(k).alias(SIDE), pl.concat_str(pl.lit(f"{k}|"), pl.col(LABELS).list.join("|")).alias(BORNE)
            )
            for k, side in enumerate((ours, theirs))
        ]
        # Who is of the other side differs in BORNE anyhow: naming it changes no pair, but binds profiles in permutations.
        rule = Retrieval(
            pos_sameby=[LABELS],
            pos_diffby=[SIDE, BORNE],
            neg_diffby=[LABELS, SIDE],
            metric=self.metric,
            features=features,
            tie=self.tie,
        )
        found, more = matched(self, rule, pl.concat(both, how="vertical_relaxed"))
        return found, [*notes, *more]


def _labels(*tables: pl.DataFrame) -> int:
    """How many labels there are in these tables."""
    return pl.concat([table[LABELS].explode() for table in tables]).n_unique()


def _left_out(count: int, what: str) -> list[str]:
    return [f"{count:,} {what}"] if count else []
