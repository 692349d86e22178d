"""Nearest neighbours: whether the profile next to a treatment's, of another compound, has the same mechanism."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import group_rows
from cytofast.errors import DataError, RecipeError, listed
from cytofast.kernels.similarity import products
from cytofast.retrieval.neighbors import Metric, prepared
from cytofast.retrieval.profiles import Comparable, metric_code
from cytofast.schema import as_columns, require_columns
from cytofast.steps.consensus import Consensus
from cytofast.tasks.task import Task, Wells, wells_of

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
Statistic = Literal["mean", "median"]

_TILE_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class NearestNeighbourAccuracy(Task):
    """The share of treatments whose nearest neighbour, another compound's treatment, has the same mechanism.

    This is how BBBC021 is scored ("not same compound", NSC; with ``batch`` "not same compound and batch", NSCB). A treatment is
    a compound at a dose: the mean or median of its wells. Its nearest neighbour is looked for among the treatments of all other
    compounds that have a label, controls aside; of equals, the one whose name sorts first. A treatment whose label no allowed
    neighbour has cannot be right, and is counted apart. Other fields are those of :class:`cytofast.tasks.task.Task`;
    those of the null have no part in it.

    The interval that a benchmark gives takes treatments for independent. Doses of one compound are not, so it is too narrow.

    Parameters
    ----------
    perturbation
        Column of compounds: a neighbour is of another one.
    dose
        Further columns that make a treatment of a compound.
    label
        Column of mechanisms, one a treatment.
    batch
        Column of batches: a neighbour shares none with the treatment. ``None``: batches do not matter.
    statistic
        ``"mean"`` or ``"median"`` of a treatment's wells.
    metric
        As in :class:`cytofast.Retrieval`.

    Examples
    --------
    >>> wells = pl.DataFrame({
    ...     "Metadata_Plate": "P1", "Metadata_Compound": ["DMSO", "a", "b", "c", "d"],
    ...     "Metadata_Concentration": [0.0, 1.0, 1.0, 1.0, 1.0], "Metadata_moa": [None, "X", "X", "Y", "Y"],
    ...     "Cells_x": [0.1, 1.0, 0.9, -1.0, 0.2], "Cells_y": [0.1, 0.1, 0.0, 0.2, 1.0]})
    >>> task = NearestNeighbourAccuracy(controls="Metadata_Compound = 'DMSO'")
    >>> task.answer(wells).select("name", "label", "neighbour", "neighbour_label", "correct").rows()[2:]
    [('c 1.0', 'Y', 'd 1.0', 'Y', True), ('d 1.0', 'Y', 'a 1.0', 'X', False)]
    """

    name: str = "nearest_neighbour"
    perturbation: str = "Metadata_Compound"
    dose: Sequence[str] = ("Metadata_Concentration",)
    label: str = "Metadata_moa"
    batch: str | None = None
    statistic: Statistic = "mean"
    metric: Metric = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "dose", tuple(as_columns(self.dose)))
        if self.statistic not in get_args(Statistic):
            raise RecipeError(
                f"NearestNeighbourAccuracy: {RecipeError.unknown('statistic', str(self.statistic), get_args(Statistic))}"
            )
        metric_code(self.metric)
        if self.label in self.treatment:
            raise RecipeError(f"NearestNeighbourAccuracy: label={self.label!r} is what tells treatments apart, too")

    @property
    def treatment(self) -> list[str]:
        """Columns that tell treatments apart."""
        return [self.perturbation, *self.dose]

    def columns(self) -> list[str]:
        """Metadata columns that the task must find."""
        return list(dict.fromkeys([*super().columns(), *self.dose, self.label, *([self.batch] if self.batch else [])]))

    def answer(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Ask it of wells, controls among them.

        Returns
        -------
        polars.DataFrame
            One row a treatment, sorted: ``name``, ``label``, ``neighbour``, ``neighbour_label``, ``similarity``,
            ``n_allowed`` (treatments that could be its neighbour), ``n_same`` (those of them with its label; ``n_same /
            n_allowed`` is how often chance is right) and ``correct`` (null where ``n_same`` is 0).

        Raises
        ------
        DataError
            A treatment has two labels, no two treatments may be neighbours, or none could be right.
        SchemaError
            A column is missing.
        """
        return self.answer_wells(wells_of(self, profiles.lazy().collect(), self.name))[0]

    def answer_wells(self, wells: Wells) -> tuple[pl.DataFrame, list[str]]:
        """The same of wells that are ready, and what was left out."""
        require_columns(wells.table.schema, self.columns(), self.name)
        treated = wells.treated
        known = treated.filter(pl.col(self.label).is_not_null())
        notes = list(wells.notes)
        if known.height < treated.height:
            notes.append(f"{treated.height - known.height:,} wells without {self.label}")
        if not known.height:
            raise DataError(f"{self.name}: no treated well has {self.label}")
        told = self._described(known)
        ready = prepared(
            Consensus(self.treatment, method=self.statistic, features=wells.features)(
                known.select(*self.treatment, *wells.features)
            ),
            self.metric,
            wells.features,
            self.treatment,
            self.name,
            self.on_invalid,
        )
        told = ready.metadata.select(self.treatment).join(
            told, on=self.treatment, how="left", nulls_equal=True, maintain_order="left"
        )
        found = self._found(ready, told, self._batches(known, told))
        tested = found.filter(pl.col("correct").is_not_null())
        if not tested.height:
            apart = f"of another compound{' and batch' if self.batch else ''}"
            raise DataError(
                f"{self.name}: none of {found.height:,} treatments has a treatment {apart} with the same {self.label}, so no "
                "nearest neighbour could be right."
                + (f" Hint: does {self.batch} tell batches apart?" if self.batch else "")
            )
        chance = float(np.mean((tested["n_same"] / tested["n_allowed"]).to_numpy()))
        return found, [*notes, f"a random neighbour would be right for {chance:.1%}"]

    def _described(self, known: pl.DataFrame) -> pl.DataFrame:
        """Treatments with their name and label."""
        labels = known.group_by(self.treatment).agg(pl.col(self.label).unique().sort()).sort(self.treatment)
        several = labels.filter(pl.col(self.label).list.len() > 1)
        if several.height:
            named = several.select(self._name(), pl.col(self.label).cast(pl.List(pl.String)).list.join(" and "))
            raise DataError(
                f"{self.name}: {several.height:,} treatments have more than one {self.label}: "
                f"{listed(': '.join(row) for row in named.rows())}. Hint: name all that tells treatments apart in dose=."
            )
        return labels.select(
            *self.treatment, self._name(), pl.col(self.label).list.first().cast(pl.String).alias("label")
        )

    def _name(self) -> pl.Expr:
        texts = [pl.col(name).cast(pl.String) for name in self.treatment]
        return pl.concat_str(texts, separator=" ", ignore_nulls=True).alias("name")

    def _batches(self, known: pl.DataFrame, told: pl.DataFrame) -> Flags | None:
        """``bool[n_treatments, n_batches]``: in which batches each treatment stands."""
        if self.batch is None:
            return None
        codes, batches = group_rows(known, [self.batch])
        numbered = told.select(self.treatment).with_row_index("treatment of it")
        rows = known.select(self.treatment).join(
            numbered, on=self.treatment, how="left", nulls_equal=True, maintain_order="left"
        )["treatment of it"]
        usable = rows.is_not_null().to_numpy()
        flags: Flags = np.zeros((told.height, batches.height), dtype=np.bool_)
        flags[rows.drop_nulls().to_numpy(), codes[usable]] = True
        return flags

    def _found(self, ready: Comparable, told: pl.DataFrame, batches: Flags | None) -> pl.DataFrame:
        compounds = group_rows(told, [self.perturbation])[0]
        labels = group_rows(told, ["label"])[0]
        n = told.height
        rows, values = np.zeros(n, dtype=np.int64), np.empty(n)
        allowed_of, same_of = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        height = max(16, _TILE_BYTES // (8 * n))
        for start in range(0, n, height):
            tile = slice(start, min(start + height, n))
            allowed: Flags = compounds[tile, None] != compounds[None, :]
            if batches is not None:
                allowed &= (batches[tile].astype(np.float32) @ batches.T.astype(np.float32)) == 0
            similarities = np.where(allowed, products(ready.units[tile], ready.units, ready.metric), -np.inf)
            rows[tile] = similarities.argmax(axis=1)
            values[tile] = similarities.max(axis=1)
            allowed_of[tile] = allowed.sum(axis=1)
            same_of[tile] = (allowed & (labels[tile, None] == labels[None, :])).sum(axis=1)
        if not allowed_of.any():
            raise DataError(
                f"{self.name}: {n:,} treatments are all of one compound{' or batch' if self.batch else ''}, so none has a "
                "neighbour"
            )
        shown = np.asarray(ready.shown(np.where(allowed_of > 0, values, np.nan)), dtype=np.float64)
        there = pl.Series("there", allowed_of > 0)
        testable = pl.Series("testable", same_of > 0)

        def only(values: Any, where: pl.Series) -> pl.Series:
            return pl.Series(values).zip_with(where, pl.Series([None], dtype=pl.Series(values).dtype))

        return pl.DataFrame(
            {
                "name": told["name"],
                "label": told["label"],
                "neighbour": only(told["name"][rows], there),
                "neighbour_label": only(told["label"][rows], there),
                "similarity": only(shown, there),
                "n_allowed": allowed_of,
                "n_same": same_of,
                "correct": only(labels[rows] == labels, testable),
            }
        )
