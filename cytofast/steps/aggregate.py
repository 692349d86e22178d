"""Aggregation: many rows of a group become one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import (
    Block,
    Groups,
    Profiles,
    column_blocks,
    float_type,
    group_rows,
    in_slices,
    require_polars,
    require_rows,
    to_block,
    to_frame,
)
from cytofast.errors import ProfileWarning, RecipeError
from cytofast.kernels.moments import grouped_counts, grouped_moments
from cytofast.kernels.quantiles import grouped_deviations, grouped_medians
from cytofast.schema import (
    BATCH,
    OBJECT_COUNT,
    PLATE,
    WELL,
    Features,
    as_columns,
    require_columns,
    resolve_features,
)
from cytofast.sharing import Chunk
from cytofast.steps.grouping import heads, require_other_names
from cytofast.steps.step import Scope, Step, as_given

Statistic = Literal["median", "mean", "std", "mad", "count"]


@dataclass(frozen=True)
class Aggregate(Step):
    """One row a group: a statistic of every feature, missing values skipped as pandas does.

    Medians are exact. (The medians of Polars and DuckDB take NaN for the largest value: of 1, 2 and NaN they give 2;
    1.5 is right.) Groups come sorted, null is a group like any other. ``Metadata_Object_Count`` counts the rows of a group.
    Metadata that is the same in all rows of every group is kept; pycytominer keeps only the ``by`` columns.

    Parameters
    ----------
    by
        Columns that make the groups.
    statistic
        ``"median"``, ``"mean"``, ``"std"`` (n - 1), ``"mad"`` (median absolute deviation, not scaled) or ``"count"``
        (values that are not missing).
    features
        Columns to aggregate: ``None`` infers CellProfiler features, a string is a prefix, a list is names.

    Examples
    --------
    >>> cells = pl.DataFrame({"Metadata_Plate": ["P"] * 3, "Metadata_Well": ["A01", "A01", "A02"],
    ...                       "Cells_AreaShape_Area": [1.0, 2.0, 7.0]})
    >>> Aggregate()(cells).rows()
    [('P', 'A01', 2, 1.5), ('P', 'A02', 1, 7.0)]
    """

    name: ClassVar[str] = "aggregate"
    reduces: ClassVar[bool] = True

    by: str | Sequence[str] = (PLATE, WELL)
    statistic: Statistic = "median"
    features: Features = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not as_columns(self.by):
            raise RecipeError("Aggregate: by= needs at least one column")
        require_other_names(as_columns(self.by), [OBJECT_COUNT], "Aggregate")

    @property
    def scope(self) -> Scope:
        """A plate, if the groups lie inside plates."""
        return Scope.PLATE if PLATE in as_columns(self.by) else Scope.FEATURE

    def columns(self) -> list[str]:
        """The ``by`` columns."""
        return as_columns(self.by)

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Nothing is learned: an empty table."""
        require_polars(profiles, "Aggregate")
        return pl.DataFrame()

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:  # noqa: ARG002  (an aggregate learns nothing)
        """Aggregate, a block of features at a time inside the memory budget.

        Raises
        ------
        DataError
            The table has no rows.
        SchemaError
            A column is missing or not numeric.
        """
        require_polars(profiles, "Aggregate")
        schema: pl.Schema = profiles.collect_schema()
        by: list[str] = as_columns(self.by)
        require_columns(schema, by, "Aggregate: by")
        features: list[str] = resolve_features(schema, self.features, "Aggregate", by)
        require_rows(profiles, "Aggregate")
        # The rows of a lazy query may come in another order each time.
        groups = group_rows(profiles, by) if isinstance(profiles, pl.DataFrame) else None
        head = self._head(profiles, schema, features, groups)
        parts: list[pl.DataFrame] = []
        for frame, block in column_blocks(profiles, by, features):
            dtypes = {name: self._type(schema[name]) for name in block}
            found = groups or group_rows(frame, by)
            made = [self._reduce(to_block(frame, some, by, groups=found)) for some in in_slices(frame, block)]
            parts.append(to_frame(np.concatenate(made, axis=1), dtypes))
        return as_given(pl.concat([head, *parts], how="horizontal"), profiles)

    def on_blocks(self, metadata: pl.DataFrame, blocks: Iterable[Chunk]) -> pl.DataFrame | None:
        """As :meth:`apply`; the groups are numbered once."""
        by = as_columns(self.by)
        if not set(by) <= set(metadata.columns):
            return None
        require_rows(metadata, "Aggregate")
        codes, keys = groups = group_rows(metadata, by)
        head = self._head(metadata, metadata.schema, [], groups)
        parts: list[NDArray[np.float64]] = []
        dtypes: dict[str, pl.DataType] = {}
        for chunk in blocks:
            parts.append(self._reduce(Block(chunk.values.T, codes, keys, chunk.features, metadata)))
            dtypes.update(dict.fromkeys(chunk.features, self._type(pl.Float32())))
        return head.hstack(to_frame(np.concatenate(parts, axis=1), dtypes))

    def _head(
        self, profiles: pl.DataFrame | pl.LazyFrame, schema: pl.Schema, features: Sequence[str], groups: Groups | None
    ) -> pl.DataFrame:
        by = as_columns(self.by)
        head = heads(profiles, by, features, [OBJECT_COUNT], "Aggregate", groups)
        if PLATE in by and BATCH in schema and BATCH not in head.columns:
            warnings.warn(
                "Aggregate: rows of several batches fall into one group, because a barcode stands in more than one batch. "
                f"Add {BATCH!r} to by= to keep them apart.",
                ProfileWarning,
                stacklevel=4,
            )
        return head

    def _type(self, dtype: pl.DataType) -> pl.DataType:
        return pl.Int64() if self.statistic == "count" else float_type(dtype)

    def _reduce(self, block: Block) -> NDArray[np.float64]:
        columns, bounds = block.by_group()
        threads = resources.current().threads
        if self.statistic in {"median", "mad"}:
            medians = grouped_medians(columns, bounds, threads)
            return medians if self.statistic == "median" else grouped_deviations(columns, bounds, medians, threads)
        if self.statistic == "count":
            return grouped_counts(columns, bounds).astype(np.float64)
        counts, means, squares = grouped_moments(columns, bounds)
        if self.statistic == "mean":
            return means
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(counts > 1, np.sqrt(squares / (counts - 1)), np.nan)
