"""Consensus: the replicates of a perturbation become one profile."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import (
    FloatMatrix,
    Profiles,
    float_type,
    group_rows,
    require_polars,
    require_rows,
    take_columns,
    to_frame,
)
from cytofast.errors import ProfileWarning, RecipeError, listed
from cytofast.kernels.jit import over_ranges
from cytofast.kernels.modz import means_of_pairs, over_replicates, weighted_sums, weights_of
from cytofast.kernels.moments import grouped_moments
from cytofast.kernels.quantiles import grouped_medians
from cytofast.schema import Features, as_columns, require_columns, resolve_features
from cytofast.steps.grouping import heads, require_other_names
from cytofast.steps.step import Scope, Step, as_given

Method = Literal["median", "mean", "modz"]
Correlation = Literal["spearman", "pearson"]
Missing = Literal["zero", "skip"]
Doubles = NDArray[np.float64]

REPLICATES = "Metadata_Replicate_Count"
AGREEMENT = "Metadata_Replicate_Correlation"
_MADE = (REPLICATES, AGREEMENT)
_ROUNDED = 0.05
"""So far from 1 the sum of rounded weights may be before that is told."""
_BATCH_BYTES = 96 << 20
"""Rows of whole groups taken at once, in float64."""
_WORTH_A_THREAD = 256
"""Rows."""


@dataclass(frozen=True)
class Consensus(Step):
    """One profile a perturbation: the median, mean or weighted mean of its replicates.

    ``"modz"`` is pycytominer's: the weight of a replicate is its mean Spearman correlation with the others, negative
    ones counted as 0, at least ``min_weight``, scaled to sum 1 and rounded to ``precision`` digits; one replicate
    passes through. Missing values: the median and the mean skip them. In modz a missing value counts as 0, as in
    pycytominer, unless ``missing="skip"``; a feature that all replicates lack stays missing (pycytominer makes 0 of
    it). A replicate without any correlation (all its values equal) gets the least weight.

    Beside the ``by`` columns and metadata that is the same in all replicates, ``Metadata_Replicate_Count`` and
    ``Metadata_Replicate_Correlation`` (mean over pairs of replicates; null for one) come with each profile. Groups come
    sorted; null is a group like any other. A lazy table that does not fit into the memory budget is read several times,
    some perturbations at a time.

    Parameters
    ----------
    by
        Column or columns that tell one perturbation from another.
    method
        ``"median"``, ``"mean"`` or ``"modz"``.
    features
        Columns to reduce: ``None`` infers CellProfiler features, a string is a prefix, a list is names.
    correlation
        ``"spearman"`` or ``"pearson"``, over features: of the weights, and of what is reported.
    min_weight
        The least weight before scaling.
    precision
        Decimal digits of a weight; ``None`` does not round. Rounded weights do not quite sum to 1; where a perturbation has
        so many replicates that this matters, a :class:`~cytofast.errors.ProfileWarning` says so.
    missing
        ``"zero"`` or ``"skip"`` (the other replicates' weights are scaled up); modz only.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_pert": ["x", "x", "y"], "Cells_A_a": [1.0, 3.0, 5.0], "Cells_A_b": [0.0, 2.0, 1.0]})
    >>> Consensus("Metadata_pert")(wells).drop("Metadata_Replicate_Correlation").rows()
    [('x', 2, 2.0, 1.0), ('y', 1, 5.0, 1.0)]
    """

    name: ClassVar[str] = "consensus"
    separable: ClassVar[bool] = False
    reduces: ClassVar[bool] = True

    by: str | Sequence[str]
    method: Method = "median"
    features: Features = None
    correlation: Correlation = "spearman"
    min_weight: float = 0.01
    precision: int | None = 4
    missing: Missing = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not as_columns(self.by):
            raise RecipeError("Consensus: by= needs at least one column")
        for value, known, what in (
            (self.method, get_args(Method), "method"),
            (self.correlation, get_args(Correlation), "correlation"),
            (self.missing, get_args(Missing), "missing"),
        ):
            if value not in known:
                raise RecipeError.unknown(what, str(value), known)
        if not 0 <= self.min_weight < inf:
            raise RecipeError(f"Consensus: min_weight must be 0 or a positive number, not {self.min_weight}")
        if self.precision is not None and not 0 <= self.precision <= 15:
            raise RecipeError(f"Consensus: precision must lie between 0 and 15, or be None, not {self.precision}")
        require_other_names(as_columns(self.by), _MADE, "Consensus")

    @property
    def scope(self) -> Scope:
        """All rows: the replicates of a perturbation lie on several plates."""
        return Scope.DATASET

    def columns(self) -> list[str]:
        """The ``by`` columns."""
        return as_columns(self.by)

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:  # noqa: ARG002  (a consensus learns nothing)
        """Reduce each group to one row.

        Raises
        ------
        DataError
            The table has no rows.
        SchemaError
            A column is missing or not numeric.
        """
        require_polars(profiles, "Consensus")
        schema = profiles.collect_schema()
        by: list[str] = as_columns(self.by)
        require_columns(schema, by, "Consensus: by")
        features: list[str] = resolve_features(schema, self.features, "Consensus", by)
        require_rows(profiles, "Consensus")
        dtypes = {name: float_type(schema[name]) for name in features}
        head = heads(profiles, by, features, _MADE, "Consensus")
        if self.method == "modz" and self.precision is not None:
            _warn_of_rounding(head, by, self.precision)
        parts: list[pl.DataFrame] = []
        agreement: list[Doubles] = []
        for rows in _held(profiles, by, features, head):
            for values, order, bounds in _batches(rows, by, features):
                reduced, agreed = self._reduce(values, order, bounds)
                parts.append(to_frame(reduced, dtypes))
                agreement.append(agreed)
        mean = pl.Series(AGREEMENT, np.concatenate(agreement)).fill_nan(None)
        return as_given(pl.concat([head.with_columns(mean), pl.concat(parts)], how="horizontal"), profiles)

    def _reduce(
        self, rows: FloatMatrix, order: NDArray[np.int64], bounds: NDArray[np.int64]
    ) -> tuple[Doubles, Doubles]:
        """Profiles ``[n_groups, f]`` of ``rows[n, f]``, ``order`` sorts them by group, and the mean correlation of each."""
        threads = resources.current().threads
        agreement = np.empty(len(bounds) - 1)
        reduced = np.empty((len(bounds) - 1, rows.shape[1]))

        def use(groups: NDArray[np.int64], replicates: NDArray[np.floating], r: Doubles) -> None:
            agreement[groups] = means_of_pairs(r)
            if self.method == "modz":
                weights = weights_of(r, self.min_weight, self.precision)
                reduced[groups] = weighted_sums(replicates, weights, self.missing == "skip")

        over_replicates(rows, order, bounds, use, self.correlation == "spearman", threads)
        if self.method == "median":
            return grouped_medians(rows[order].T, bounds, threads), agreement
        if self.method == "mean":
            return grouped_moments(rows[order].T, bounds)[1], agreement
        return reduced, agreement


def _warn_of_rounding(head: pl.DataFrame, by: list[str], precision: int) -> None:
    """Of many replicates each weighs so little that rounding changes what the weights sum to."""
    step = 0.5 * 10.0**-precision
    many = head.filter(head[REPLICATES] * step > _ROUNDED)
    if many.height:
        shown = listed(["/".join(map(str, row)) for row in many.select(by).rows()])
        warnings.warn(
            f"Consensus: weights rounded to {precision} digits may sum to other than 1 by up to "
            f"{step * max(head[REPLICATES]):.0%}, which makes profiles so much too large or small, of {many.height:,} "
            f"perturbations with many replicates: {shown}. Hint: precision=None does not round.",
            ProfileWarning,
            stacklevel=4,
        )


def _held(
    profiles: pl.DataFrame | pl.LazyFrame, by: list[str], features: list[str], head: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Whole groups in memory, in order: all at once if they fit, else some of them with each reading."""
    chosen = take_columns(profiles, [*by, *features])
    if isinstance(chosen, pl.DataFrame):
        yield chosen
        return
    schema = chosen.collect_schema()
    row = sum(4 if schema[name] == pl.Float32 else 8 for name in features) + 64 * len(by)
    room = max(1, resources.current().working_bytes // (3 * row))
    share = (head[REPLICATES].cum_sum() - 1) // room
    for part in share.unique(maintain_order=True):
        keys = head.select(by).filter(share == part)
        # Rows must keep the order of the table inside a group: sums depend on it in their last bits.
        yield chosen.join(keys.lazy(), on=by, how="semi", nulls_equal=True, maintain_order="left").collect()


def _batches(rows: pl.DataFrame, by: list[str], features: list[str]) -> Iterator[tuple[FloatMatrix, Any, Any]]:
    """Some whole groups at a time: their rows as a matrix, what sorts these by group, and the bounds of each group."""
    codes, keys = group_rows(rows, by)
    order = np.argsort(codes, kind="stable")
    bounds = np.zeros(keys.height + 1, dtype=np.int64)
    np.cumsum(np.bincount(codes, minlength=keys.height), out=bounds[1:])
    most = max(1, min(_BATCH_BYTES, resources.current().working_bytes // 8) // (8 * max(1, len(features))))
    values = take_columns(rows, features)
    if not any(dtype in (pl.Float32, pl.Float64) for dtype in values.dtypes):
        values = values.cast(pl.Float64)
    first = 0
    while first < keys.height:
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + most, side="right")) - 1)
        low, high = bounds[first], bounds[last]
        if high - low == len(order):
            yield _in_rows(values.to_numpy(order="fortran")), order, bounds
        else:
            batch = values[order[low:high]].to_numpy(order="fortran")
            yield _in_rows(batch), np.arange(high - low), bounds[first : last + 1] - low
        first = last


def _in_rows(matrix: FloatMatrix) -> FloatMatrix:
    """The same in C order; Polars takes twice as long to lay rows side by side."""
    out = np.empty(matrix.shape, dtype=matrix.dtype)

    def copy(first: int, last: int) -> None:
        out[first:last] = matrix[first:last]

    over_ranges(copy, len(out), resources.current().threads, _WORTH_A_THREAD)
    return out
