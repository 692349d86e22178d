"""Detection: what a perturbation does tells its replicates from the controls of their plates, or not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import polars as pl

from cytofast.errors import ProfileWarning, RecipeError
from cytofast.retrieval.rule import Retrieval
from cytofast.schema import WELL, require_columns
from cytofast.tasks.asking import ask
from cytofast.tasks.task import RETRIEVED, Task, Wells, described, wells_of


@dataclass(frozen=True, kw_only=True)
class Detection(Task):
    """Replicates of a perturbation against the negative controls of their plate (Fig. 4a of the CPJUMP1 paper).

    The fields of every task are those of :class:`cytofast.tasks.task.Task`; besides:

    Parameters
    ----------
    position
        ``"any"``: replicates may lie anywhere. ``"same"``: only replicates in the same well count, each well by itself, so
        that what a well position does counts as an effect. ``"different"``: only replicates in another well count, so that
        it cannot. (Extended Data Fig. 1 compares the last two.)
    well
        Column of well names, for ``position``.
    metric
        As in :class:`cytofast.Retrieval`.

    Examples
    --------
    >>> wells = pl.DataFrame({
    ...     "Metadata_Plate": ["P1", "P1", "P1", "P2", "P2", "P2"],
    ...     "Metadata_pert": ["a", None, None, "a", None, None],
    ...     "Metadata_control_type": [None, "negcon", "negcon"] * 2,
    ...     "Cells_x": [1.0, -1.0, 0.1, 1.1, -0.9, 0.0], "Cells_y": [1.0, 0.2, -1.0, 0.9, 0.1, -1.0]})
    >>> Detection(perturbation="Metadata_pert", null="ranks").answer(wells).select("name", "mean_average_precision").rows()
    [('a', 1.0)]
    """

    name: str = "detection"
    position: Literal["any", "same", "different"] = "any"
    well: str = WELL
    metric: Literal["cosine", "abs_cosine", "correlation", "euclidean"] = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.position not in ("any", "same", "different"):
            raise RecipeError(
                f"Detection: {RecipeError.unknown('position', self.position, ('any', 'same', 'different'))}"
            )

    def columns(self) -> list[str]:
        """Metadata columns that the task must find."""
        return super().columns() + ([self.well] if self.position != "any" else [])

    def answer(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Ask it of the wells of one condition.

        Returns
        -------
        polars.DataFrame
            One row a perturbation, sorted: ``name``, ``about``, ``position`` (the well, if ``position="same"``),
            ``mean_average_precision``, ``mean_normalized_average_precision``, ``p_value``, ``p_method``, ``q_value``,
            ``n_profiles``, ``n_candidates`` (the fewest controls and replicates that one of its wells ranked), ``retrieved``
            (null where it has no replicates) and ``doubtful`` (see :class:`cytofast.TaskResults`).

        Raises
        ------
        DataError
            No perturbation has replicates, no plate has controls, or wells have missing features.
        SchemaError
            A column is missing.

        Warns
        -----
        ProfileWarning
            Wells lie on plates without controls, so that there is nothing to tell them from.
        """
        found, notes = self.answer_wells(wells_of(self, profiles.lazy().collect(), "detection"))
        for note in notes:
            warnings.warn(f"{self.name}: {note}", ProfileWarning, stacklevel=2)
        return found

    def answer_wells(self, wells: Wells) -> tuple[pl.DataFrame, list[str]]:
        """The same of wells that are ready, and what is to be said about it."""
        require_columns(wells.table.schema, self.columns(), "detection")
        sameby = [self.perturbation, *([self.well] if self.position == "same" else [])]
        rule = Retrieval(
            pos_sameby=sameby,
            pos_diffby=[self.well] if self.position == "different" else [],
            neg_sameby=[self.block],
            controls=self.controls,
            metric=self.metric,
            features=wells.features,
            tie=self.tie,
        )
        found, notes = ask(self, rule, wells.table, sameby, "wells on plates without controls")
        first = wells.treated.unique(self.perturbation, keep="first", maintain_order=True)
        about = first.select(pl.col(self.perturbation), described(first, self.about))
        named = found.join(about, on=self.perturbation, how="left", maintain_order="left")
        return named.select(
            pl.col(self.perturbation).cast(pl.String).alias("name"),
            "about",
            (pl.col(self.well).cast(pl.String) if self.position == "same" else pl.lit(None, pl.String)).alias(
                "position"
            ),
            *RETRIEVED,
        ), notes
