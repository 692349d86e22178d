"""Perturbations with labels: one median profile each, those that were detected, and what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from cytofast.errors import DataError, RecipeError
from cytofast.retrieval.pairing import split_labels
from cytofast.retrieval.rule import Retrieval
from cytofast.schema import as_columns, require_columns
from cytofast.tasks.asking import ask
from cytofast.tasks.detection import Detection
from cytofast.tasks.task import RETRIEVED, Task, Wells, median_profiles

LABELS = "Metadata_Task_Label"
"""Column of labels, in the tables of this module."""


@dataclass(frozen=True, kw_only=True)
class LabelTask(Task):
    """The fields of tasks about what perturbations have in common.

    Parameters
    ----------
    label
        Columns that say it, for example ``["Metadata_target_list", "Metadata_gene"]``: the first that is not null counts.
        Lists, or text separated by ``|`` if ``multilabel``.
    multilabel
        Whether a perturbation may have several labels.
    detected_only
        Whether only perturbations count that :meth:`detection` finds.
    """

    label: str | Sequence[str] = "Metadata_target_list"
    multilabel: bool = True
    detected_only: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        names = as_columns(self.label)
        if not names:
            raise RecipeError(f"{type(self).__name__}: label= names no column")
        object.__setattr__(self, "label", tuple(names))

    def also(self) -> list[str]:
        """Columns that the task looks at where they exist."""
        return [*super().also(), *as_columns(self.label)]

    def detection(self) -> Detection:
        """The question that decides which perturbations were detected."""
        return Detection(
            **{name: getattr(self, name) for name in Task.__dataclass_fields__ if name not in ("name", "only", "about")}
        )

    def labelled(self, wells: Wells, detected: pl.DataFrame | None) -> pl.DataFrame:
        """Median profile of each perturbation that counts, with its labels (lists, empty where it has none).

        Raises
        ------
        DataError
            No perturbation was detected.
        """
        where = self.name
        treated = wells.treated
        known = [name for name in as_columns(self.label) if name in treated.columns]
        if not known:
            require_columns(treated.schema, as_columns(self.label), where)
        if self.detected_only:
            if detected is None:
                detected = self.detection().answer_wells(wells)[0]
            names = detected.filter(pl.col("retrieved"))["name"]
            if not names.len():
                raise DataError(
                    f"{where}: none of {detected.height:,} perturbations was detected, so there is nothing to match."
                )
            treated = treated.filter(pl.col(self.perturbation).cast(pl.String).is_in(names.implode()))
        profiles = median_profiles(treated, self.perturbation, wells.features)
        first = treated.unique(self.perturbation, keep="first", maintain_order=True)
        lists = pl.DataFrame([self._lists(first[name]) for name in known])
        labels = pl.coalesce(pl.when(pl.col(name).list.len() > 0).then(pl.col(name)) for name in known)
        table = lists.select(first[self.perturbation].alias(self.perturbation), labels.fill_null([]).alias(LABELS))
        chosen = profiles.select(self.perturbation, *wells.features)
        return chosen.join(table, on=self.perturbation, how="left", maintain_order="left")

    def _lists(self, column: pl.Series) -> pl.Series:
        if self.multilabel or isinstance(column.dtype, pl.List):
            return split_labels(column)
        return split_labels(column.cast(pl.String).reshape((-1, 1)).cast(pl.List(pl.String)).alias(column.name))


def matched(task: LabelTask, rule: Retrieval, table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Mean average precision of each label, and what is to be said; ``table`` has labels and whatever the rule names.

    A table whose perturbations have one label each is asked without multilabels, which is the same question.
    """
    if not table.select((pl.col(LABELS).list.len() > 1).any()).item():
        table = table.with_columns(pl.col(LABELS).list.first())
    found, notes = ask(task, rule, table, [LABELS], "perturbations that share a label with all others")
    named = found.join(bearers(table, task.perturbation), on=LABELS, how="left", maintain_order="left")
    return named.select(pl.col(LABELS).alias("name"), "about", *RETRIEVED), notes


def bearers(table: pl.DataFrame, perturbation: str) -> pl.DataFrame:
    """Who bears each label: the label, ``about``."""
    single = table.select(pl.col(perturbation).cast(pl.String).alias("about"), LABELS)
    if isinstance(single.schema[LABELS], pl.List):
        single = single.explode(LABELS)
    return single.group_by(LABELS, maintain_order=True).agg(pl.col("about").unique(maintain_order=True).str.join("|"))
