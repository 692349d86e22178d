"""What the selection rules share: the report that is their fit, and dropping columns by it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import (
    Profiles,
    Reference,
    column_blocks,
    predicate,
    predicate_columns,
    reference_mask,
    require_polars,
    require_rows,
    to_block,
)
from cytofast.errors import DataError, ProfileWarning, RecipeError, listed
from cytofast.schema import PLATE, Features, as_columns, require_columns, resolve_features
from cytofast.steps.accumulate import require_reference
from cytofast.steps.fitted import in_order, require_free_names
from cytofast.steps.step import Scope, Step

Columns = NDArray[np.floating]
Bounds = NDArray[np.int64]
InGroups = Literal["every", "any"]

REPORT = pl.Schema(
    {
        "feature": pl.String,
        "kept": pl.Boolean,
        "step": pl.String,
        "measure": pl.String,
        "value": pl.Float64,
        "threshold": pl.Float64,
        "partner": pl.String,
        "r": pl.Float64,
    }
)
"""The columns of a selection's fit, after the ``by`` columns: what was measured, against what, and because of whom."""


@dataclass(frozen=True)
class Judgement:
    """What a rule measured of some features in each group: arrays ``[n_groups, n_features]``."""

    kept: NDArray[np.bool_]
    value: NDArray[np.float64]
    threshold: NDArray[np.float64] | float
    measure: NDArray[Any] | str


@dataclass(frozen=True, kw_only=True)
class Selection(Step):
    """A rule that drops features. Its fit is its report: one row a group and feature, dropped or not.

    Parameters
    ----------
    features
        Columns to judge: ``None`` infers CellProfiler features, a string is a prefix, a list is names. Others pass
        through.
    reference
        Rows to judge by: a SQL predicate over metadata, a Polars expression, or ``None`` for every row.
    by
        Judge inside each group, for example ``"Metadata_Plate"`` or ``"Metadata_Batch"``; ``None`` judges all rows at
        once.
    in_groups
        With ``by``: a feature stays if it is kept in ``"every"`` group, or in ``"any"``.
    """

    features: Features = None
    reference: Reference = None
    by: str | Sequence[str] | None = None
    in_groups: InGroups = "every"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.in_groups not in get_args(InGroups):
            raise RecipeError.unknown("in_groups", str(self.in_groups), get_args(InGroups))
        require_free_names(self.by, ["order", *REPORT.names()], type(self).__name__)
        if self.reference is not None:
            predicate(self.reference)

    @property
    def scope(self) -> Scope:
        """All rows of a few columns; the columns that stay must be the same on every plate."""
        return Scope.FEATURE

    def columns(self) -> list[str]:
        """The ``by`` columns and those of the reference."""
        return list(dict.fromkeys([*as_columns(self.by), *predicate_columns(self.reference)]))

    def judge(self, columns: Columns, bounds: Bounds, frame: pl.DataFrame) -> Judgement:
        """Measure a block: ``columns[f, n]``, groups at ``bounds``; ``frame`` are the rows in their first order."""
        raise NotImplementedError

    def checked(self, profiles: pl.DataFrame | pl.LazyFrame) -> list[str]:
        """The features to judge, after all that the rule needs was found."""
        where = type(self).__name__
        require_polars(profiles, where)
        schema = profiles.collect_schema()
        require_columns(schema, self.columns(), where)
        features = resolve_features(schema, self.features, where, as_columns(self.by))
        require_rows(profiles, where)
        return features

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Judge every feature.

        Returns
        -------
        polars.DataFrame
            One row a group and feature: the ``by`` columns, ``feature``, ``kept``, ``step``, ``measure`` (what
            ``value`` is), ``value``, ``threshold``, ``partner`` and ``r`` (the correlated feature, of rules that
            compare features).

        Raises
        ------
        DataError
            The table or the reference has no rows.
        SchemaError
            A column is missing or not numeric.
        """
        features = self.checked(profiles)
        by, where = as_columns(self.by), type(self).__name__
        parts = []
        for whole, block in column_blocks(profiles, self.columns(), features):
            mask = reference_mask(whole, self.reference, where)
            frame = whole if mask is None else whole.filter(mask)
            if mask is not None:
                every = whole.select(by).unique(maintain_order=True) if by else None
                require_reference(every, frame, by, self.reference, where)
            entered = to_block(frame, block, by)
            columns, bounds = entered.by_group()
            parts.append(self.report(block, entered.keys if by else None, self.judge(columns, bounds, frame)))
        return in_order(self.merge(parts), by, features)

    def report(self, features: list[str], keys: pl.DataFrame | None, judged: Judgement) -> pl.DataFrame:
        """A judgement as rows of the fit."""
        n_groups, n_features = judged.kept.shape
        shape = judged.kept.shape
        heads = keys[np.repeat(np.arange(n_groups), n_features)].get_columns() if keys is not None else []
        measure = np.broadcast_to(np.asarray(judged.measure, dtype=object), shape).ravel().tolist()
        return pl.DataFrame(
            [
                *heads,
                pl.Series("feature", features * n_groups, dtype=pl.String),
                pl.Series("kept", judged.kept.ravel(), dtype=pl.Boolean),
                pl.Series("step", [self.name] * judged.kept.size, dtype=pl.String),
                pl.Series("measure", measure, dtype=pl.String),
                pl.Series("value", judged.value.ravel(), dtype=pl.Float64).fill_nan(None),
                pl.Series("threshold", np.broadcast_to(judged.threshold, shape).ravel(), dtype=pl.Float64).fill_nan(
                    None
                ),
                pl.Series("partner", [None] * judged.kept.size, dtype=pl.String),
                pl.Series("r", [None] * judged.kept.size, dtype=pl.Float64),
            ]
        )

    def kept(self, fit: pl.DataFrame) -> dict[str, bool]:
        """Which features stay, in the order of the fit; with groups, by ``in_groups``."""
        together = pl.col("kept").all() if self.in_groups == "every" else pl.col("kept").any()
        decided = fit.group_by("feature", maintain_order=True).agg(together)
        return dict(zip(decided["feature"].to_list(), decided["kept"].to_list(), strict=True))

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Drop the features that the fit does not keep.

        A feature that the fit keeps and these profiles lack becomes a column of nulls, with a
        :class:`~cytofast.errors.ProfileWarning`: so all plates have the same columns.
        """
        where = type(self).__name__
        require_columns(fit.schema, ["feature", "kept"], f"{where}: the fit")
        return drop_columns(profiles, self.kept(fit), where)


def drop_columns(profiles: Profiles, kept: dict[str, bool], where: str) -> Profiles:
    """Drop what is not kept; add what is kept and absent, as nulls, and say so."""
    require_polars(profiles, where)
    schema = profiles.collect_schema()
    dropped = [name for name, stays in kept.items() if not stays and name in schema]
    staying: list[str] = [name for name, stays in kept.items() if stays]
    if kept and not staying:
        warnings.warn(
            f"{where}: none of {len(kept):,} features stays. The fit says why, feature by feature.",
            ProfileWarning,
            stacklevel=4,
        )
    absent = [name for name in staying if name not in schema]
    result = profiles.drop(dropped)
    if absent:
        plates = _plates(profiles)
        warnings.warn(
            f"{where}: {plates} lacks {len(absent):,} of {len(staying):,} features that are kept; "
            f"they become null: {listed(absent)}. "
            f"Hint: to drop them on all plates instead, put DropMissing(by={PLATE!r}) first.",
            ProfileWarning,
            stacklevel=4,
        )
        single = all(schema[name] == pl.Float32 for name in staying if name in schema)
        result = result.with_columns(
            pl.lit(None, dtype=pl.Float32 if single else pl.Float64).alias(name) for name in absent
        )
        # In the order of the fit, so that all plates come out alike.
        others: list[str] = [name for name in result.collect_schema().names() if name not in kept]
        result = result.select([*others, *staying])
    return result


def _plates(profiles: pl.DataFrame | pl.LazyFrame) -> str:
    if isinstance(profiles, pl.LazyFrame) or PLATE not in profiles.columns or profiles[PLATE].n_unique() != 1:
        return "the table"
    return f"plate {profiles[PLATE][0]!r}"


def groups_of(
    profiles: pl.DataFrame | pl.LazyFrame, by: list[str], where: str
) -> Iterator[tuple[pl.DataFrame | None, pl.DataFrame | pl.LazyFrame]]:
    """The groups, sorted, nulls last, and the rows of each; without ``by`` all rows and no key."""
    if not by:
        yield None, profiles
        return
    keys = profiles.lazy().select(by).unique().collect().sort(by, nulls_last=True)
    if keys.height == 0:
        raise DataError(f"{where}: the table has no groups {'/'.join(by)}.")
    for row in range(keys.height):
        key = keys[row]
        same = [pl.col(name).eq_missing(pl.lit(key[name][0], dtype=key.schema[name])) for name in by]
        yield key, profiles.filter(*same)
