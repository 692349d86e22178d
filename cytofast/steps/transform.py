"""Changes of single values: ranks to normal scores, and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import (
    Profiles,
    column_blocks,
    float_type,
    require_polars,
    require_rows,
    to_block,
    to_frame,
    to_matrix,
)
from cytofast.errors import RecipeError
from cytofast.kernels.rng import key_of
from cytofast.kernels.scores import seeded_shares, share_below
from cytofast.schema import PLATE, WELL, Features, as_columns, require_columns, resolve_features
from cytofast.steps.fitted import fitted_groups, in_order, require_free_names
from cytofast.steps.step import Scope, Step

Ties = Literal["average", "seeded"]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class InverseNormal(Step):
    """Rank-based inverse normal transformation: each feature gets the shape of a normal distribution.

    A value of rank ``k`` among ``n`` becomes the normal quantile of ``(k - offset) / (n - 2 offset + 1)`` (Blom 1958
    with ``offset=3/8``). The ``int`` step of the JUMP recipe, which breaks ties at random: ``ties="seeded"`` spreads
    equal values at random over the ranks that they share, by ``seed`` and the well's own name, so that the order and
    grouping of rows change nothing. Missing values stay missing and do not count; infinite ones are the first and last
    ranks.

    The fit holds every distinct value of a feature. A value that it does not hold gets the score half-way between its
    neighbours' ranks.

    Parameters
    ----------
    by
        Rank inside each group, for example ``"Metadata_Plate"``; ``None`` ranks all wells together.
    ties
        ``"average"`` or ``"seeded"``.
    offset
        Between 0 and 1.
    seed
        For ``ties="seeded"``.
    keys
        Columns that tell one well from another; they decide the random places.
    features
        Columns to transform: ``None`` infers CellProfiler features, a string is a prefix, a list is names.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [10.0, 30.0, 20.0, 20.0]})
    >>> InverseNormal()(wells)["Cells_A_a"].round(3).to_list()
    [-1.049, 1.049, 0.0, 0.0]
    """

    name: ClassVar[str] = "inverse_normal"
    measured: ClassVar[tuple[str, ...]] = ("feature", "values", "upto")
    """The columns of the fit, beside the ``by`` columns."""

    by: str | Sequence[str] | None = None
    ties: Ties = "average"
    offset: float = 0.375
    seed: int = 0
    keys: str | Sequence[str] = (PLATE, WELL)
    features: Features = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ties not in get_args(Ties):
            raise RecipeError.unknown("ties", str(self.ties), get_args(Ties))
        if not 0 <= self.offset < 1:
            raise RecipeError(f"InverseNormal: offset must be at least 0 and less than 1, not {self.offset}")
        require_free_names(self.by, self.measured, "InverseNormal")

    @property
    def scope(self) -> Scope:
        """A plate, if the groups lie inside plates; else all rows of a few columns."""
        return Scope.PLATE if PLATE in as_columns(self.by) else Scope.FEATURE

    def columns(self) -> list[str]:
        """Groups and, for random places, keys."""
        return list(dict.fromkeys([*as_columns(self.by), *(as_columns(self.keys) if self.ties == "seeded" else [])]))

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Count the values of every feature.

        Returns
        -------
        polars.DataFrame
            One row a group and feature: the ``by`` columns, ``feature``, ``values`` (a list, sorted, each once),
            ``upto`` (how many values are at most this one).

        Raises
        ------
        DataError
            The table has no rows.
        SchemaError
            A column is missing or not numeric.
        """
        require_polars(profiles, "InverseNormal")
        schema = profiles.collect_schema()
        require_columns(schema, self.columns(), "InverseNormal")
        features = resolve_features(schema, self.features, "InverseNormal", as_columns(self.by))
        require_rows(profiles, "InverseNormal")
        by = as_columns(self.by)
        parts = []
        for frame, block in column_blocks(profiles, by, features):
            entered = to_block(frame, block, by)
            columns, bounds = entered.by_group()
            values, upto = [], []
            for group in range(len(bounds) - 1):
                for column in columns[:, bounds[group] : bounds[group + 1]]:
                    distinct, counts = np.unique(column[~np.isnan(column)], return_counts=True)
                    values.append(distinct.astype(np.float64))
                    upto.append(np.cumsum(counts))
            heads = entered.keys[np.repeat(np.arange(entered.n_groups), len(block))].get_columns() if by else []
            parts.append(
                pl.DataFrame(
                    [
                        *heads,
                        pl.Series("feature", block * entered.n_groups, dtype=pl.String),
                        # Arrays of one length would become arrays of Polars, which join no lists.
                        pl.Series("values", values).cast(pl.List(pl.Float64)),
                        pl.Series("upto", upto).cast(pl.List(pl.UInt32)),
                    ]
                )
            )
        return in_order(self.merge(parts), by, features)

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Replace values by normal scores. A LazyFrame stays lazy.

        Raises
        ------
        DataError
            A group of the profiles is not in the fit, or the fit has other groups than ``by`` makes.
        SchemaError
            A column is missing or not numeric.
        """
        # A fifth of a second and 30 MB, which other steps, loaded beside this one, have no use for.
        from scipy.special import ndtri

        require_polars(profiles, "InverseNormal")
        schema = profiles.collect_schema()
        require_columns(schema, self.columns(), "InverseNormal")
        groups = fitted_groups(fit, as_columns(self.by), self.measured, schema, "InverseNormal")
        names = groups.features
        dtypes = {name: float_type(schema[name]) for name in names}
        rows = {
            (code, column): row for row, (code, column) in enumerate(zip(groups.codes, groups.columns, strict=True))
        }

        def scored(frame: pl.DataFrame) -> pl.DataFrame:
            group = groups.of(frame)
            wells = self._well_keys(frame)
            matrix = to_matrix(frame, names)
            out = np.full(matrix.shape, np.nan)
            for code in np.unique(group):
                chosen = np.flatnonzero(group == code)
                for column, name in enumerate(names):
                    row = rows[code, column]
                    values = fit["values"][row].to_numpy()
                    upto = fit["upto"][row].to_numpy()
                    within = 0.5 if wells is None else seeded_shares(wells[chosen], key_of(self.seed, name))
                    some = matrix[chosen, column].astype(np.float64)
                    rank = share_below(some, values, upto, within)
                    n = float(upto[-1]) if len(upto) else 0.0
                    out[chosen, column] = ndtri((rank - self.offset) / (n - 2 * self.offset + 1))
            return frame.with_columns(to_frame(out, dtypes))

        if isinstance(profiles, pl.DataFrame):
            return scored(profiles)
        return profiles.map_batches(scored, schema=pl.Schema({**schema, **dtypes}), streamable=True)

    def _well_keys(self, frame: pl.DataFrame) -> NDArray[np.uint64] | None:
        if self.ties == "average":
            return None
        table = frame.select(as_columns(self.keys))
        return np.array([key_of(*row) for row in table.iter_rows()], dtype=np.uint64)


@dataclass(frozen=True)
class ClipOutliers(Step):
    """Limit values to ``[-limit, limit]``. Missing values stay missing.

    What the JUMP recipe's outlier step means to do with ``limit=100`` after dropping features whose 99th percentile is
    larger (:class:`~cytofast.steps.select.DropOutliers`); its code leaves the values as they are, so profiles made by
    it are not clipped.

    Parameters
    ----------
    limit
        The largest absolute value that stays.
    features
        Columns to limit: ``None`` infers CellProfiler features, a string is a prefix, a list is names.

    Examples
    --------
    >>> ClipOutliers(limit=100)(pl.DataFrame({"Cells_A_a": [1.0, -800.0, None]}))["Cells_A_a"].to_list()
    [1.0, -100.0, None]
    """

    name: ClassVar[str] = "clip_outliers"
    version: ClassVar[int] = 2

    limit: float = 100.0
    features: Features = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.limit > 0:
            raise RecipeError(f"ClipOutliers: limit must be positive, not {self.limit}")

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:  # noqa: ARG002  (limits are given, not learned)
        """Limit every value. A LazyFrame stays lazy."""
        require_polars(profiles, "ClipOutliers")
        schema = profiles.collect_schema()
        names = resolve_features(schema, self.features, "ClipOutliers")
        # Whole numbers would round the limit, and some of their types cannot hold it.
        limits = {name: pl.lit(self.limit, dtype=float_type(schema[name])) for name in names}
        return profiles.with_columns(
            pl.col(name).cast(float_type(schema[name])).clip(-limit, limit) for name, limit in limits.items()
        )
