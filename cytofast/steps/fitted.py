"""A fit of groups: whether it belongs to these profiles, and which of its groups each row of them is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import group_rows, unused_name
from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.schema import as_columns, require_columns, resolve_features

Doubles = NDArray[np.float64]


def require_free_names(by: str | Sequence[str] | None, measured: Sequence[str], where: str) -> None:
    """The ``by`` columns stand in the fit beside what was measured: no name may be both."""
    taken = [name for name in as_columns(by) if name in measured]
    if taken:
        raise RecipeError(
            f"{where}: by= cannot name {listed(taken)}, because the fit has columns of this name. "
            "Hint: rename yours, for example Metadata_..."
        )


def in_order(fit: pl.DataFrame, by: Sequence[str], features: Sequence[str]) -> pl.DataFrame:
    """One group after the other, each with its features in this order, however large the blocks were that it was learned in."""
    codes, _ = group_rows(fit, by)
    place = {name: index for index, name in enumerate(features)}
    places = fit["feature"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    order = np.lexsort((places, codes))
    return fit if np.array_equal(order, np.arange(fit.height)) else fit[order]


@dataclass(frozen=True)
class FittedGroups:
    """The groups of a fit with one row a group and feature, in whatever order its rows are.

    Attributes
    ----------
    by
        Columns that make the groups.
    keys
        One row a group, sorted; no columns where all rows are one group.
    features
        Names, in the order of the fit.
    codes, columns
        Group and feature of each row of the fit.
    """

    by: list[str]
    keys: pl.DataFrame
    features: list[str]
    codes: NDArray[np.int64]
    columns: NDArray[np.int64]
    where: str

    def table(self, values: pl.Series) -> Doubles:
        """``float64[n_groups, n_features]`` of a column of the fit; null is NaN."""
        out = np.full((self.keys.height if self.by else 1, len(self.features)), np.nan)
        out[self.codes, self.columns] = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
        return out

    def parts(self, fit: pl.DataFrame) -> list[pl.DataFrame]:
        """The rows of each group, in the order of the features."""
        order = np.lexsort((self.columns, self.codes))
        width = len(self.features)
        return [fit[order[start : start + width]] for start in range(0, len(order), width)]

    def of(self, frame: pl.DataFrame, known: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """The group of each row of a frame; groups that are not ``known`` count as absent."""
        if not self.by:
            return np.zeros(frame.height, dtype=np.int64)
        codes, present = group_rows(frame, self.by)
        number = unused_name("fit row", self.by)
        theirs = self.keys.schema
        # Integers of another width and categories compare as text.
        written = [pl.col(n).cast(pl.String) for n, dtype in present.schema.items() if dtype != theirs[n]]
        numbered = self.keys.with_columns(written).with_row_index(number)
        if known is not None:
            numbered = numbered.filter(known)
        found = present.with_columns(written).join(
            numbered, on=self.by, how="left", nulls_equal=True, maintain_order="left"
        )[number]
        if found.null_count():
            unknown = listed(["/".join(str(v) for v in row) for row in present.filter(found.is_null()).rows()])
            raise DataError(
                f"{self.where}: the fit has no {'/'.join(self.by)} {unknown}. Hint: fit these profiles too."
            )
        return found.cast(pl.Int64).to_numpy()[codes]


def fitted_groups(
    fit: pl.DataFrame,
    by: list[str],
    measured: Sequence[str],
    schema: pl.Schema,
    where: str,
    once: pl.Series | None = None,
) -> FittedGroups:
    """Check a fit against the step and the profiles that it is applied to.

    Parameters
    ----------
    measured
        The columns of the fit beside ``by``.
    schema
        Of the profiles.
    once
        The rows of the fit that stand once a group and feature; ``None`` is all of them.

    Raises
    ------
    DataError
        The fit has other groups than ``by`` makes, no rows, or not one row for each group and feature.
    SchemaError
        A column is missing or not numeric, or a ``by`` column has another type than in the fit.
    """
    require_columns(fit.schema, measured, f"{where}: the fit")
    made = [name for name in fit.columns if name not in measured]
    if set(made) != set(by):
        shown, asked = (listed(names) if names else "None" for names in (made, by))
        raise DataError(
            f"{where}: the fit was made with by={shown} and is applied with by={asked}. Hint: apply it with the step that "
            "made it, or fit again."
        )
    if fit.height == 0:
        raise DataError(f"{where}: the fit has no rows. Hint: fit again.")
    features: list[str] = fit["feature"].unique(maintain_order=True).to_list()
    resolve_features(schema, features, where)
    require_columns(schema, by, where)
    _require_same_kinds(schema, fit.schema, by, where)
    codes, keys = group_rows(fit, by)
    position = {name: index for index, name in enumerate(features)}
    columns = fit["feature"].replace_strict(position, return_dtype=pl.Int64).to_numpy()
    groups = FittedGroups(by, keys, features, codes, columns, where)
    _require_each_once(groups, np.ones(fit.height, dtype=np.bool_) if once is None else once.to_numpy())
    return groups


def _require_same_kinds(mine: pl.Schema, theirs: pl.Schema, by: list[str], where: str) -> None:
    """Keys of the profiles and of the fit must be of types whose values can be compared without changing them."""
    for name in by:
        if _kind(mine[name]) != _kind(theirs[name]):
            raise SchemaError(
                f"{where}: column {name!r} holds {mine[name]} in the profiles and {theirs[name]} in the fit, so their "
                "groups cannot be told to be the same. Hint: cast one of them."
            )


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "integer"
    return "text" if dtype in (pl.String, pl.Categorical, pl.Enum) else str(dtype)


def _require_each_once(groups: FittedGroups, once: NDArray[np.bool_]) -> None:
    times = np.zeros((groups.keys.height if groups.by else 1, len(groups.features)), dtype=np.int64)
    np.add.at(times, (groups.codes[once], groups.columns[once]), 1)
    if np.all(times == 1):
        return
    group, feature = (int(index[0]) for index in np.nonzero(times != 1))
    key = ["/".join(str(value) for value in groups.keys.row(group))] if groups.by else []
    raise DataError(
        f"{groups.where}: the fit has {times[group, feature]} rows for "
        f"{'/'.join([*key, groups.features[feature]])!r} instead of one ({np.count_nonzero(times > 1):,} groups x features "
        f"stand more than once, {np.count_nonzero(times == 0):,} are missing). Hint: fit again; fits of several plates are "
        "joined with merge()."
    )
