"""Remove what a feature owes to the number of cells."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import Profiles, column_blocks, float_type, require_polars, require_rows, to_frame, to_matrix
from cytofast.errors import DataError, ProfileWarning, RecipeError, SchemaError, listed
from cytofast.kernels.ranks import value_counts
from cytofast.schema import OBJECT_COUNT, Features, require_columns, resolve_features
from cytofast.steps.step import Scope, Step

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class RegressCellCount(Step):
    """Residuals of a straight line through the number of cells: ``x - intercept - slope * count``, by least squares.

    The ``cc`` step of the JUMP recipe, which fits one statsmodels formula a feature; here all features share the sums
    of the counts. Features with few distinct values pass through, as there. A well without a count cannot be corrected:
    its features become null (there they stay as they were, beside corrected ones).

    Parameters
    ----------
    count
        Column with the number of cells; it is not corrected itself.
    min_unique
        Features with at most so many distinct values are left alone.
    features
        Columns to correct: ``None`` infers CellProfiler features, a string is a prefix, a list is names.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Object_Count": [10, 20, 30], "Cells_A_a": [1.0, 2.0, 6.0]})
    >>> RegressCellCount(min_unique=0)(wells)["Cells_A_a"].round(9).to_list()
    [0.5, -1.0, 0.5]
    """

    name: ClassVar[str] = "regress_cell_count"
    version: ClassVar[int] = 2

    count: str = OBJECT_COUNT
    min_unique: int = 100
    features: Features = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_unique < 0:
            raise RecipeError(f"RegressCellCount: min_unique must not be negative, but is {self.min_unique}")

    @property
    def scope(self) -> Scope:
        """All rows of a few columns."""
        return Scope.FEATURE

    def columns(self) -> list[str]:
        """The column of counts."""
        return [self.count]

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Fit one line a feature.

        Returns
        -------
        polars.DataFrame
            One row a feature: ``feature``, ``intercept``, ``slope``, ``r`` (with the counts), ``n`` (wells that took
            part), ``status``: ``ok``, ``few values``, ``no values`` or ``no line`` (the wells with values have all the same
            count); only what is ``ok`` is corrected, the others pass through.

        Raises
        ------
        DataError
            The table has no rows, or the counts do not vary.
        SchemaError
            A column is missing or not numeric.
        """
        require_polars(profiles, "RegressCellCount")
        schema = profiles.collect_schema()
        require_columns(schema, [self.count], "RegressCellCount: count")
        if not schema[self.count].is_numeric():
            raise SchemaError(f"RegressCellCount: count column {self.count!r} holds {schema[self.count]}, not numbers.")
        features = [n for n in resolve_features(schema, self.features, "RegressCellCount") if n != self.count]
        if not features:
            raise SchemaError(f"RegressCellCount: there is no feature to correct beside the count {self.count!r}.")
        require_rows(profiles, "RegressCellCount")
        fit = self.merge(
            [self._fit_block(frame, block) for frame, block in column_blocks(profiles, [self.count], features)]
        )
        if fit.height and not (fit["status"] == "ok").any():
            warnings.warn(
                f"RegressCellCount: none of {fit.height:,} features has more than min_unique={self.min_unique} distinct "
                "values, so none is corrected. Hint: fit all plates together, or lower min_unique.",
                ProfileWarning,
                stacklevel=3,
            )
        return fit

    def _fit_block(self, frame: pl.DataFrame, features: list[str]) -> pl.DataFrame:
        counts = frame[self.count].cast(pl.Float64).fill_null(np.nan).to_numpy()
        counted = np.isfinite(counts)
        if np.unique(counts[counted]).size < 2:
            raise DataError(
                f"RegressCellCount: {self.count!r} has the same value, or none, in all {frame.height:,} wells."
            )
        columns = to_matrix(frame, features).T[:, counted].astype(np.float64)
        x = counts[counted]
        distinct = value_counts(columns, resources.current().threads)[:, 0]
        with np.errstate(invalid="ignore", over="ignore"):
            lines = _lines(columns, x)
            for gappy in np.flatnonzero(~np.isfinite(columns).all(axis=1)):
                present = np.isfinite(columns[gappy])
                lines[:, gappy] = _lines(columns[gappy][None, present], x[present])[:, 0] if present.any() else np.nan
        intercept, slope, r = lines
        many = distinct > self.min_unique
        used = many & np.isfinite(slope)
        status = np.select([used, many, distinct > 0], ["ok", "no line", "few values"], "no values")
        return pl.DataFrame(
            {
                "feature": pl.Series(features, dtype=pl.String),
                "intercept": np.where(used, intercept, 0.0),
                "slope": np.where(used, slope, 0.0),
                "r": pl.Series(r).fill_nan(None),
                "n": np.isfinite(columns).sum(axis=1).astype(np.int64),
                "status": pl.Series(status, dtype=pl.String),
            }
        )

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Subtract the line of each feature. A LazyFrame stays lazy.

        Wells without a count get nulls, with a :class:`~cytofast.errors.ProfileWarning`.
        """
        require_polars(profiles, "RegressCellCount")
        require_columns(fit.schema, ["feature", "intercept", "slope", "status"], "RegressCellCount: the fit")
        schema = profiles.collect_schema()
        require_columns(schema, [self.count], "RegressCellCount: count")
        lines = fit.filter(pl.col("status") == "ok")
        names = lines["feature"].to_list()
        resolve_features(schema, names, "RegressCellCount")
        dtypes = {name: float_type(schema[name]) for name in names}
        intercept, slope = lines["intercept"].to_numpy(), lines["slope"].to_numpy()

        def corrected(frame: pl.DataFrame) -> pl.DataFrame:
            counts = frame[self.count].cast(pl.Float64).fill_null(np.nan).to_numpy()
            without = ~np.isfinite(counts)
            if without.any():
                named = frame.filter(without).select(pl.col("^Metadata_(Plate|Well)$")).rows()
                wells = f": {listed(' '.join(map(str, row)) for row in named)}" if named else ""
                warnings.warn(
                    f"RegressCellCount: {int(without.sum()):,} wells have no {self.count!r} and become null{wells}.",
                    ProfileWarning,
                    stacklevel=3,
                )
            left = (
                to_matrix(frame, names)
                - intercept[None, :]
                - np.where(without, np.nan, counts)[:, None] * slope[None, :]
            )
            return frame.with_columns(to_frame(left, dtypes))

        if isinstance(profiles, pl.DataFrame):
            return corrected(profiles) if names else profiles
        return (
            profiles.map_batches(corrected, schema=pl.Schema({**schema, **dtypes}), streamable=True)
            if names
            else profiles
        )


def _lines(columns: Doubles, x: Doubles) -> Doubles:
    """Intercept, slope and r of each of ``columns[f, n]`` against ``x[n]``, ``float64[3, f]``."""
    centred = x - x.mean()
    squares = centred @ centred
    means = columns.mean(axis=1)
    # Deviations, because sums of squares of large values lose those of small differences.
    deviations = columns - means[:, None]
    products = deviations @ centred
    own = np.einsum("ij,ij->i", deviations, deviations)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = products / squares
        return np.array([means - slope * x.mean(), slope, np.clip(products / np.sqrt(squares * own), -1, 1)])
