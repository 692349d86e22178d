"""Corrections of where a well lies: the same position on all plates, rows and columns of one plate."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import (
    Profiles,
    Reference,
    column_blocks,
    float_type,
    group_rows,
    predicate,
    predicate_columns,
    reference_mask,
    require_polars,
    require_rows,
    require_unique,
    to_block,
    to_frame,
    to_matrix,
)
from cytofast.errors import ProfileWarning, RecipeError, SchemaError, listed
from cytofast.kernels.moments import grouped_counts, grouped_moments
from cytofast.kernels.polish import median_polish
from cytofast.kernels.quantiles import grouped_medians
from cytofast.schema import PLATE, WELL, Features, as_columns, require_columns, resolve_features
from cytofast.steps.fitted import fitted_groups, in_order, require_free_names
from cytofast.steps.step import Scope, Step

Statistic = Literal["mean", "median"]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class CentreWells(Step):
    """Subtract what a well position shows on average over all plates.

    The ``wellpos`` step of the JUMP recipe. It assumes that a position does not hold the same treatment everywhere:
    where it does, its effect is subtracted with the position's.

    Parameters
    ----------
    by
        The position: ``"Metadata_Well"``, or with more columns, for example a source.
    statistic
        ``"mean"`` or ``"median"``.
    reference
        Wells to learn from: a SQL predicate, a Polars expression, or ``None`` for all.
    features
        Columns to correct: ``None`` infers CellProfiler features, a string is a prefix, a list is names.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Plate": ["P", "Q"], "Metadata_Well": ["A01", "A01"], "Cells_A_a": [1.0, 3.0]})
    >>> CentreWells()(wells)["Cells_A_a"].to_list()
    [-1.0, 1.0]
    """

    name: ClassVar[str] = "centre_wells"
    version: ClassVar[int] = 2
    measured: ClassVar[tuple[str, ...]] = ("feature", "centre", "n_reference")
    """The columns of the fit, beside the ``by`` columns."""

    by: str | Sequence[str] = WELL
    statistic: Statistic = "mean"
    reference: Reference = None
    features: Features = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.statistic not in get_args(Statistic):
            raise RecipeError.unknown("statistic", str(self.statistic), get_args(Statistic))
        if not as_columns(self.by):
            raise RecipeError("CentreWells: by= needs at least one column")
        require_free_names(self.by, self.measured, "CentreWells")
        if self.reference is not None:
            predicate(self.reference)

    @property
    def scope(self) -> Scope:
        """A position's wells lie on all plates."""
        return Scope.PLATE if PLATE in as_columns(self.by) else Scope.FEATURE

    def columns(self) -> list[str]:
        """The position and the columns of the reference."""
        return list(dict.fromkeys([*as_columns(self.by), *predicate_columns(self.reference)]))

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Average each position.

        Returns
        -------
        polars.DataFrame
            One row a position and feature: the ``by`` columns, ``feature``, ``centre`` (null without values, or where it is
            infinite, with a :class:`~cytofast.errors.ProfileWarning`), ``n_reference``.

        Raises
        ------
        DataError
            The table has no rows.
        SchemaError
            A column is missing or not numeric.
        """
        require_polars(profiles, "CentreWells")
        schema = profiles.collect_schema()
        require_columns(schema, self.columns(), "CentreWells")
        features = resolve_features(schema, self.features, "CentreWells", as_columns(self.by))
        require_rows(profiles, "CentreWells")
        by = as_columns(self.by)
        parts = []
        for frame, block in column_blocks(profiles, self.columns(), features):
            entered = to_block(frame, block, by, reference_mask(frame, self.reference, "CentreWells"))
            columns, bounds = entered.by_group()
            if self.statistic == "mean":
                centre = grouped_moments(columns, bounds)[1]
            else:
                centre = grouped_medians(columns, bounds, resources.current().threads)
            centre[~np.isfinite(centre)] = np.nan
            keys = entered.keys[np.repeat(np.arange(len(centre)), len(block))].get_columns()
            names = pl.Series("feature", block * len(centre), dtype=pl.String)
            counts = pl.Series("n_reference", grouped_counts(columns, bounds).ravel(), dtype=pl.Int64)
            parts.append(pl.DataFrame([*keys, names, pl.Series("centre", centre.ravel()).fill_nan(None), counts]))
        fit = in_order(self.merge(parts), by, features)
        # Positions without any reference well are refused when the fit is applied to them.
        lost = fit.filter(pl.col("centre").is_null(), (pl.col("n_reference").sum() > 0).over(by))
        if lost.height:
            shown = listed(["/".join(map(str, row)) for row in lost.select(*by, "feature").head(4).rows()], 3)
            warnings.warn(
                f"CentreWells: {lost.height:,} of {fit.height:,} positions x features have no {self.statistic} (no values, or "
                f"infinite ones) and become null: {shown}. Hint: drop such features first, "
                "DropMissing(cutoff=0, infinite=True).",
                ProfileWarning,
                stacklevel=3,
            )
        return fit

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Subtract each position's centre, in float64. A LazyFrame stays lazy.

        Raises
        ------
        DataError
            A position of the profiles is not in the fit, or no well of the reference has it.
        """
        require_polars(profiles, "CentreWells")
        schema = profiles.collect_schema()
        groups = fitted_groups(fit, as_columns(self.by), self.measured, schema, "CentreWells")
        names = groups.features
        dtypes = {name: float_type(schema[name]) for name in names}
        centres = groups.table(fit["centre"])
        known = np.nansum(groups.table(fit["n_reference"]), axis=1) > 0

        def centred(frame: pl.DataFrame) -> pl.DataFrame:
            rows = groups.of(frame, known)
            return frame.with_columns(to_frame(to_matrix(frame, names) - centres[rows], dtypes))

        if isinstance(profiles, pl.DataFrame):
            return centred(profiles)
        return profiles.map_batches(centred, schema=pl.Schema({**schema, **dtypes}), streamable=True)


@dataclass(frozen=True)
class MedianPolish(Step):
    """Subtract the effects of plate rows and columns (Tukey's median polish), plate by plate, feature by feature.

    The table of wells of a plate is an overall value + row effect + column effect + residual; medians of rows and of
    columns are taken away in turn until that changes little. The algorithm of R's ``medpolish``. Missing wells and
    missing or infinite values are skipped.

    Parameters
    ----------
    by
        Column or columns that make a plate.
    well
        Column of well names such as ``B07``; a plate has each at most once.
    keep_overall
        Add the overall value back; otherwise residuals alone remain.
    max_iterations, tolerance
        It stops when the sum of absolute residuals changes by less than this share, or after so many rounds.
    features
        Columns to correct: ``None`` infers CellProfiler features, a string is a prefix, a list is names.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Plate": ["P"] * 4, "Metadata_Well": ["A01", "A02", "B01", "B02"],
    ...                       "Cells_A_a": [1.0, 2.0, 11.0, 12.0]})
    >>> MedianPolish()(wells)["Cells_A_a"].to_list()
    [0.0, 0.0, 0.0, 0.0]
    """

    name: ClassVar[str] = "median_polish"
    version: ClassVar[int] = 2
    measured: ClassVar[tuple[str, ...]] = ("feature", "kind", "position", "effect")
    """The columns of the fit, beside the ``by`` columns."""

    by: str | Sequence[str] = PLATE
    well: str = WELL
    keep_overall: bool = False
    max_iterations: int = 10
    tolerance: float = 0.01
    features: Features = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not as_columns(self.by):
            raise RecipeError("MedianPolish: by= needs at least one column")
        require_free_names(self.by, self.measured, "MedianPolish")
        if self.max_iterations < 1 or not self.tolerance >= 0:
            raise RecipeError("MedianPolish: max_iterations must be at least 1 and tolerance not negative")

    @property
    def scope(self) -> Scope:
        """A plate."""
        return Scope.PLATE if PLATE in as_columns(self.by) else Scope.FEATURE

    def columns(self) -> list[str]:
        """The plate and the well."""
        return [*as_columns(self.by), self.well]

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Polish every plate.

        Returns
        -------
        polars.DataFrame
            One row an effect: the ``by`` columns, ``feature``, ``kind`` (``overall``, ``row``, ``column``),
            ``position`` (row or column number from 1; 0 for overall), ``effect``.

        Raises
        ------
        DataError
            The table has no rows, or a plate has a well twice.
        SchemaError
            A column is missing or not numeric, or a well's name cannot be read.
        """
        require_polars(profiles, "MedianPolish")
        schema = profiles.collect_schema()
        require_columns(schema, self.columns(), "MedianPolish")
        features = resolve_features(schema, self.features, "MedianPolish", as_columns(self.by))
        require_rows(profiles, "MedianPolish")
        by = as_columns(self.by)
        parts = []
        for frame, block in column_blocks(profiles, self.columns(), features):
            require_unique(frame, [*by, self.well], "MedianPolish")
            codes, keys = group_rows(frame, by)
            row, column = positions(frame[self.well], "MedianPolish")
            matrix = to_matrix(frame, block)
            # An infinite median would take the whole row or column with it.
            matrix = np.where(np.isfinite(matrix), matrix, np.nan)
            for group in range(keys.height):
                chosen = np.flatnonzero(codes == group)
                shape = int(row[chosen].max()) + 1, int(column[chosen].max()) + 1
                tables = np.full((len(block), *shape), np.nan)
                tables[:, row[chosen], column[chosen]] = matrix[chosen].T
                effects = median_polish(tables, self.max_iterations, self.tolerance)
                parts.append(_as_rows(keys[group], block, *effects))
        return in_order(self.merge(parts), by, features)

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Subtract the effects; a position without values on the fitted plate becomes null. A LazyFrame stays lazy.

        Raises
        ------
        DataError
            A plate of the profiles is not in the fit.
        """
        require_polars(profiles, "MedianPolish")
        schema = profiles.collect_schema()
        require_columns(schema, self.columns(), "MedianPolish")
        require_columns(fit.schema, self.measured, "MedianPolish: the fit")
        overall = fit["kind"] == "overall"
        groups = fitted_groups(fit, as_columns(self.by), self.measured, schema, "MedianPolish", overall)
        names = groups.features
        dtypes = {name: float_type(schema[name]) for name in names}
        tables = {}
        for kind in ("overall", "row", "column"):
            chosen = (fit["kind"] == kind).to_numpy()
            position = fit["position"].to_numpy()[chosen]
            table = np.full((groups.keys.height, int(position.max()) + 1, len(names)), np.nan)
            effects = fit["effect"].fill_null(np.nan).to_numpy()
            table[groups.codes[chosen], position, groups.columns[chosen]] = effects[chosen]
            tables[kind] = table

        def polished(frame: pl.DataFrame) -> pl.DataFrame:
            group = groups.of(frame)
            row, col = positions(frame[self.well], "MedianPolish")
            left = to_matrix(frame, names) - _at(tables["row"], group, row + 1) - _at(tables["column"], group, col + 1)
            if not self.keep_overall:
                left -= tables["overall"][group, 0]
            return frame.with_columns(to_frame(left, dtypes))

        if isinstance(profiles, pl.DataFrame):
            return polished(profiles)
        return profiles.map_batches(polished, schema=pl.Schema({**schema, **dtypes}), streamable=True)


def _at(table: Doubles, group: NDArray[np.int64], position: NDArray[np.int64]) -> Doubles:
    inside = position < table.shape[1]
    effects: Doubles = table[group, np.where(inside, position, 0)]
    return np.where(inside[:, None], effects, np.nan)


def _as_rows(key: pl.DataFrame, features: list[str], overall: Doubles, rows: Doubles, columns: Doubles) -> pl.DataFrame:
    n_rows, n_columns = rows.shape[1], columns.shape[1]
    kinds = ["overall"] + ["row"] * n_rows + ["column"] * n_columns
    places = [0, *range(1, n_rows + 1), *range(1, n_columns + 1)]
    effects = np.concatenate([overall[:, None], rows, columns], axis=1)
    heads = key[np.zeros(effects.size, dtype=np.int64)].get_columns()
    return pl.DataFrame(
        [
            *heads,
            pl.Series("feature", [name for name in features for _ in kinds], dtype=pl.String),
            pl.Series("kind", kinds * len(features), dtype=pl.String),
            pl.Series("position", places * len(features), dtype=pl.Int64),
            pl.Series("effect", effects.ravel()).fill_nan(None),
        ]
    )


def positions(wells: pl.Series, where: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column, from 0, of well names such as ``B07`` or ``AF48``."""
    parts = wells.cast(pl.String).str.extract_groups(r"^\s*([A-Za-z]{1,2})0*([1-9][0-9]?)\s*$").struct
    letters, digits = parts.field("1").str.to_uppercase(), parts.field("2").cast(pl.Int64)
    wrong = wells.filter(letters.is_null() | digits.is_null())
    if wrong.len():
        raise SchemaError(
            f"{where}: column {wells.name!r} has {listed(wrong.unique().to_list())}, which are no names of wells such as B07."
        )
    known = {name: _row_number(name) for name in letters.unique().to_list()}
    rows = letters.replace_strict(known, return_dtype=pl.Int64) if known else digits
    return rows.to_numpy(), digits.to_numpy() - 1


def _row_number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1
