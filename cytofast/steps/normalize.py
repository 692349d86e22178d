"""Normalization: centre and scale each feature by what a reference shows, group by group."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import (
    Profiles,
    Reference,
    column_blocks,
    float_type,
    predicate,
    predicate_columns,
    reference_mask,
    require_polars,
    require_rows,
    to_block,
)
from cytofast.errors import DataError, ProfileWarning, RecipeError, listed
from cytofast.kernels.moments import grouped_counts, grouped_moments
from cytofast.kernels.quantiles import grouped_deviations, grouped_medians, grouped_quantiles
from cytofast.schema import PLATE, Features, as_columns, is_metadata, require_columns, resolve_features
from cytofast.sharing import Chunk
from cytofast.steps.accumulate import require_reference
from cytofast.steps.fitted import FittedGroups, fitted_groups, in_order, require_free_names
from cytofast.steps.scaling_fit import MEASURED, scaled_frame, scaling_chunks
from cytofast.steps.step import Scope, Step

ZeroScale = Literal["null", "one", "divide", "error"]
Doubles = NDArray[np.float64]
_RESOLUTION_STEPS = 4
"""A spread under so many rounding steps of the centre is rounding noise, not spread."""
_EPSILON: dict[pl.DataType, float] = {
    pl.Float32(): float(np.finfo(np.float32).eps),
    pl.Float64(): float(np.finfo(np.float64).eps),
}


@dataclass(frozen=True)
class _CentreAndScale(Step):
    """What the normalizations share; they differ in how centre and spread are measured."""

    version: ClassVar[int] = 2

    by: str | Sequence[str] | None = PLATE
    reference: Reference = None
    features: Features = None
    zero_scale: ZeroScale = "null"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference is not None:
            predicate(self.reference)
        require_free_names(self.by, MEASURED, type(self).__name__)

    @property
    def scope(self) -> Scope:
        """A plate, if the groups lie inside plates."""
        return Scope.PLATE if PLATE in as_columns(self.by) else Scope.FEATURE

    def columns(self) -> list[str]:
        """The ``by`` columns and those of the reference."""
        return list(dict.fromkeys([*as_columns(self.by), *predicate_columns(self.reference)]))

    def _measure(self, columns: NDArray[np.floating], bounds: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
        """Centre and divisor, ``float64[n_groups, n_features]`` each."""
        raise NotImplementedError

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Measure the reference of each group.

        Returns
        -------
        polars.DataFrame
            One row a group and feature: the ``by`` columns, ``feature``, ``centre``, ``spread`` (as measured), ``scale``
            (what :meth:`apply` divides by; null where the result is null), ``n_reference`` (values that are not missing),
            ``status``: ``ok``, ``zero spread``, ``undefined spread`` (infinite values, or too few for ``ddof``) or
            ``no values``.

        Raises
        ------
        DataError
            The table or the reference of a group has no rows; or a spread is zero and ``zero_scale="error"``.
        SchemaError
            A column is missing or not numeric.
        """
        where = type(self).__name__
        require_polars(profiles, where)
        schema = profiles.collect_schema()
        require_columns(schema, as_columns(self.by), f"{where}: by")
        require_columns(schema, predicate_columns(self.reference), f"{where}: reference {str(self.reference)!r}")
        features = resolve_features(schema, self.features, where, as_columns(self.by))
        require_rows(profiles, where)
        parts = [self._fit_block(frame, block) for frame, block in column_blocks(profiles, self.columns(), features)]
        fit = in_order(self.merge(parts), as_columns(self.by), features)
        if self.zero_scale == "error":
            flat = fit.filter(fit["status"] != "ok")
            if flat.height:
                raise DataError(
                    f"{where}: {flat.height:,} of {fit.height:,} spreads are zero or undefined: {_examples(flat, self.by)}."
                )
        return fit

    def learns_from(self, metadata: pl.DataFrame) -> NDArray[np.bool_] | None:
        """The rows of the reference.

        Raises
        ------
        DataError
            The reference of a group has no rows.
        """
        where, by = type(self).__name__, as_columns(self.by)
        if not set(self.columns()) <= set(metadata.columns):
            return None
        mask = reference_mask(metadata, self.reference, where)
        if mask is not None:
            every = metadata.select(by).unique(maintain_order=True) if by else None
            require_reference(every, metadata.filter(mask), by, self.reference, where)
        return mask

    def _fit_block(self, frame: pl.DataFrame, features: list[str]) -> pl.DataFrame:
        by = as_columns(self.by)
        mask = self.learns_from(frame.select(self.columns()))
        if mask is not None:
            frame = frame.filter(mask)
        block = to_block(frame, features, by)
        columns, bounds = block.by_group()
        centre, spread = self._measure(columns, bounds)
        counts = grouped_counts(columns, bounds)
        schema = frame.schema
        resolution = np.array([_RESOLUTION_STEPS * _EPSILON[float_type(schema[name])] for name in features])
        with np.errstate(invalid="ignore"):
            flat = ~(spread > resolution * np.abs(centre)) | ~np.isfinite(spread) | ~np.isfinite(centre)
        flat &= counts > 0
        scale = spread.copy()
        if self.zero_scale == "one":
            scale[flat] = 1.0
        elif self.zero_scale != "divide":
            scale[flat] = np.nan
        defined = np.isfinite(spread) & np.isfinite(centre)
        status = np.where(
            counts == 0, "no values", np.where(~defined, "undefined spread", np.where(flat, "zero spread", "ok"))
        )
        n_groups, n_features = centre.shape
        keys = block.keys[np.repeat(np.arange(n_groups), n_features)].get_columns() if by else []
        return pl.DataFrame(
            [
                *keys,
                pl.Series("feature", features * n_groups, dtype=pl.String),
                pl.Series("centre", centre.ravel()).fill_nan(None),
                pl.Series("spread", spread.ravel()).fill_nan(None),
                pl.Series("scale", scale.ravel()).fill_nan(None),
                pl.Series("n_reference", counts.ravel(), dtype=pl.Int64),
                pl.Series("status", status.ravel(), dtype=pl.String),
            ]
        )

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Centre and scale: ``(x - centre) / scale``, computed in float64 and rounded once to the type of the input.

        Features that the fit does not name pass through unchanged; missing values stay missing. A LazyFrame stays lazy.

        Raises
        ------
        DataError
            A group of the profiles is not in the fit; or the fit has other groups than ``by`` makes, two rows for a group
            and feature, or none.
        SchemaError
            A column is missing or not numeric, or a ``by`` column has another type than in the fit.
        """
        require_polars(profiles, type(self).__name__)
        schema = profiles.collect_schema()
        groups = self._groups(fit, schema)
        centres, scales = groups.table(fit["centre"]), groups.table(fit["scale"])

        def scaled(frame: pl.DataFrame) -> pl.DataFrame:
            return scaled_frame(frame, groups, centres, scales)

        if isinstance(profiles, pl.DataFrame):
            return scaled(profiles)
        changed = set(groups.features)
        result = {name: float_type(dtype) if name in changed else dtype for name, dtype in schema.items()}
        return profiles.map_batches(scaled, schema=pl.Schema(result), streamable=True)

    def on_chunks(self, fit: pl.DataFrame, schema: pl.Schema) -> Callable[[Chunk], Chunk] | None:
        """As :meth:`apply`, in place."""
        if not all(is_metadata(name) for name in as_columns(self.by)):
            return None
        groups = self._groups(fit, schema)
        return scaling_chunks(
            groups, groups.table(fit["centre"]), groups.table(fit["scale"]), [n for n in schema if not is_metadata(n)]
        )

    def _groups(self, fit: pl.DataFrame, schema: pl.Schema) -> FittedGroups:
        """The groups of a fit of these profiles; what has no spread is told."""
        where = type(self).__name__
        groups = fitted_groups(fit, as_columns(self.by), MEASURED, schema, where)
        flat = fit.filter(fit["status"] != "ok")
        if flat.height and self.zero_scale != "divide":
            outcome = "are only centred" if self.zero_scale == "one" else "become null"
            counts = flat["status"].value_counts().sort("status").rows()
            kinds = ", ".join(f"{count:,} {status}" for status, count in counts)
            warnings.warn(
                f"{where}: {flat.height:,} of {fit.height:,} features x groups have no spread in their reference ({kinds}) "
                f"and {outcome}: {_examples(flat, self.by)}. The fit lists them (column status).",
                ProfileWarning,
                stacklevel=4,
            )
        return groups


def _examples(flat: pl.DataFrame, by: str | Sequence[str] | None) -> str:
    columns = [*as_columns(by), "feature"]
    return listed(["/".join(str(value) for value in row) for row in flat.select(columns).head(4).rows()], 3)


@dataclass(frozen=True)
class RobustMAD(_CentreAndScale):
    """Robust z-score: ``(x - median) / (scale * MAD + epsilon)``, both of the reference of each group.

    The ``mad_robustize`` of pycytominer (``scale=1.4826, epsilon=1e-18``) and, with ``scale=1.0``, of the JUMP recipe.
    Medians are exact, in float64, and skip missing values.

    Parameters
    ----------
    by
        Column or columns that make the groups; ``None`` is one group of all rows. Null is a group like any other.
    reference
        Rows to learn from: a SQL predicate over metadata (``"Metadata_control_type = 'negcon'"``), a Polars expression,
        or ``None`` for every row of the group.
    features
        Columns to normalize: ``None`` infers CellProfiler features, a string is a prefix, a list is names.
    zero_scale
        What becomes of a feature whose spread in a group is zero, undefined, or less than the rounding of its own centre:
        ``"null"`` (the result is null and reported), ``"one"`` (centred, not scaled, as scikit-learn's scalers),
        ``"divide"`` (plain arithmetic with ``epsilon``, as pycytominer: values of 1e15 and more, or infinite), ``"error"``.
    scale
        1.4826 makes the MAD of a normal distribution its standard deviation.
    epsilon
        Added to the divisor.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Plate": ["P"] * 4, "Metadata_pert": ["DMSO", "DMSO", "DMSO", "drug"],
    ...                       "Cells_AreaShape_Area": [1.0, 2.0, 3.0, 10.0]})
    >>> RobustMAD(reference="Metadata_pert = 'DMSO'", scale=1.0)(wells)["Cells_AreaShape_Area"].to_list()
    [-1.0, 0.0, 1.0, 8.0]
    """

    name: ClassVar[str] = "robust_mad"

    scale: float = 1.4826
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scale < inf:
            raise RecipeError(f"RobustMAD: scale must be a positive number, not {self.scale}")
        if not 0 <= self.epsilon < inf:
            raise RecipeError(f"RobustMAD: epsilon must be 0 or a positive number, not {self.epsilon}")

    def _measure(self, columns: NDArray[np.floating], bounds: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
        threads = resources.current().threads
        medians = grouped_medians(columns, bounds, threads)
        deviations = grouped_deviations(columns, bounds, medians, threads)
        return medians, deviations * self.scale + self.epsilon


@dataclass(frozen=True)
class Standardize(_CentreAndScale):
    """z-score: ``(x - mean) / standard deviation`` of the reference of each group.

    The ``standardize`` of pycytominer (scikit-learn's StandardScaler, ``ddof=0``); ``ddof=1`` as pandas and R.
    Missing values are skipped. ``by``, ``reference``, ``features`` and ``zero_scale`` as in :class:`RobustMAD`.

    Parameters
    ----------
    ddof
        The sum of squares is divided by ``n - ddof``.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Plate": ["P"] * 3, "Cells_AreaShape_Area": [1.0, 2.0, 3.0]})
    >>> Standardize(ddof=1)(wells)["Cells_AreaShape_Area"].to_list()
    [-1.0, 0.0, 1.0]
    """

    name: ClassVar[str] = "standardize"

    ddof: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ddof < 0:
            raise RecipeError(f"Standardize: ddof must be 0 or more, not {self.ddof}")

    def _measure(self, columns: NDArray[np.floating], bounds: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
        counts, means, squares = grouped_moments(columns, bounds)
        free = counts - self.ddof
        with np.errstate(invalid="ignore", divide="ignore"):
            return means, np.where(free > 0, np.sqrt(squares / free), np.nan)


@dataclass(frozen=True)
class Robustize(_CentreAndScale):
    """Centre by the median, scale by an interquantile range of the reference of each group.

    The ``robustize`` of pycytominer (scikit-learn's RobustScaler): ``(x - median) / (q75 - q25)``, quantiles by linear
    interpolation. Missing values are skipped. ``by``, ``reference``, ``features``, ``zero_scale`` as in :class:`RobustMAD`.

    Parameters
    ----------
    lower, upper
        The quantiles, between 0 and 1.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Plate": ["P"] * 5, "Cells_AreaShape_Area": [1.0, 2.0, 3.0, 4.0, 9.0]})
    >>> Robustize()(wells)["Cells_AreaShape_Area"].to_list()
    [-1.0, -0.5, 0.0, 0.5, 3.0]
    """

    name: ClassVar[str] = "robustize"

    lower: float = 0.25
    upper: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.lower < self.upper <= 1:
            raise RecipeError(f"Robustize: need 0 <= lower < upper <= 1, not {self.lower} and {self.upper}")

    def _measure(self, columns: NDArray[np.floating], bounds: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
        low, high = grouped_quantiles(columns, bounds, np.array([self.lower, self.upper]))
        return grouped_medians(columns, bounds, resources.current().threads), high - low
