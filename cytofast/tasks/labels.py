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
        Lists, or text separated by ``|`` if ``multilabel``. All wells of a perturbation that have any tell the same.
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
            No perturbation was detected, or its wells tell different labels.
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
        table = profiles.select(self.perturbation)
        for number, name in enumerate(known):
            table = table.join(self._told(treated, name, f"label {number}"), on=self.perturbation, how="left")
        labels = pl.coalesce(f"label {number}" for number in range(len(known))).fill_null([])
        chosen = profiles.select(self.perturbation, *wells.features)
        return chosen.join(
            table.select(self.perturbation, labels.alias(LABELS)),
            on=self.perturbation,
            how="left",
            maintain_order="left",
        )

    def _told(self, wells: pl.DataFrame, name: str, alias: str) -> pl.DataFrame:
        """The labels of each perturbation that has any in a column; wells may lack them, but not contradict each other."""
        lists = self._lists(wells[name]).alias(alias)
        said = wells.select(self.perturbation).with_columns(lists, lists.list.join("|").alias("text"))
        said = (
            said.filter(pl.col(alias).list.len() > 0)
            .unique([self.perturbation, "text"])
            .sort(self.perturbation, "text")
        )
        several = (
            said.group_by(self.perturbation, maintain_order=True).agg("text").filter(pl.col("text").list.len() > 1)
        )
        if several.height:
            shown = [f"{who!r} ({', '.join(texts)})" for who, texts in several.head(3).rows()]
            raise DataError(
                f"{self.name}: {several.height:,} perturbations have different {name} in different wells: {'; '.join(shown)}. "
                "Hint: was the platemap joined by the right columns?"
            )
        return said.drop("text")

    def _lists(self, column: pl.Series) -> pl.Series:
        if isinstance(column.dtype, pl.List):
            return split_labels(column)
        texts = column.cast(pl.String)
        return split_labels(
            texts if self.multilabel else texts.reshape((-1, 1)).cast(pl.List(pl.String)).alias(column.name)
        )


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
