"""Feature selection: which columns go, in which order, and why."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources as package_files
from typing import Any, ClassVar, cast

import numpy as np
import polars as pl

from cytofast import resources
from cytofast.blocks import Profiles, require_polars, require_rows
from cytofast.errors import ProfileWarning, RecipeError, SchemaError, listed
from cytofast.schema import as_columns, require_columns, resolve_features
from cytofast.steps.correlated import DropCorrelated
from cytofast.steps.select_rules import (
    DropLowFrequency,
    DropLowMAD,
    DropLowVariance,
    DropMissing,
    DropNoisy,
    DropOutliers,
)
from cytofast.steps.selection import Judgement, Selection, drop_columns
from cytofast.steps.step import Scope, Step, step_class

__all__ = [
    "DropCorrelated",
    "DropListed",
    "DropLowFrequency",
    "DropLowMAD",
    "DropLowVariance",
    "DropMissing",
    "DropNoisy",
    "DropOutliers",
    "FeatureSelect",
    "KeepListed",
    "standard_blocklist",
]


@cache
def standard_blocklist() -> tuple[str, ...]:
    """The field's list of CellProfiler features known to be noisy (Way 2019, doi.org/10.6084/m9.figshare.10255811).

    >>> len(standard_blocklist()), standard_blocklist()[0]
    (55, 'Nuclei_Correlation_Manders_AGP_DNA')
    """
    text = package_files.files("cytofast.steps").joinpath("blocklist.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


@dataclass(frozen=True)
class _Named(Selection):
    """Rules that look at names alone; no value is read."""

    # A block of columns does not show whether a name is missing.
    separable: ClassVar[bool] = False

    def _stays(self, features: list[str]) -> tuple[list[bool], str]:
        raise NotImplementedError

    def _judge_names(self, schema: pl.Schema) -> pl.DataFrame:
        features = resolve_features(schema, self.features, type(self).__name__, as_columns(self.by))
        stays, measure = self._stays(features)
        kept = np.array([stays], dtype=np.bool_).reshape(1, len(features))
        return self.report(features, None, Judgement(kept, np.full(kept.shape, np.nan), np.nan, measure))

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Judge the names of the columns; nothing is read."""
        require_polars(profiles, type(self).__name__)
        return self._judge_names(profiles.collect_schema())


@dataclass(frozen=True)
class DropListed(_Named):
    """Drop the features of a list.

    Parameters
    ----------
    blocklist
        ``"default"`` is the field's standard list (:func:`standard_blocklist`), otherwise names. Names of yours that
        the table does not have are reported with a :class:`~cytofast.errors.ProfileWarning`; of the standard list most
        tables have only some, which is no news.

    Examples
    --------
    >>> wells = pl.DataFrame({"Nuclei_Granularity_14_AGP": [1.0], "Cells_A_b": [1.0]})
    >>> DropListed()(wells).columns
    ['Cells_A_b']
    """

    name: ClassVar[str] = "drop_listed"

    blocklist: str | Sequence[str] = "default"

    def _stays(self, features: list[str]) -> tuple[list[bool], str]:
        if self.blocklist == "default":
            listed_names = set(standard_blocklist())
        else:
            listed_names = {self.blocklist} if isinstance(self.blocklist, str) else set(self.blocklist)
            unknown = sorted(listed_names.difference(features))
            if unknown:
                warnings.warn(
                    f"DropListed: {len(unknown):,} of {len(listed_names):,} names of the blocklist are no "
                    f"features of the table: {listed(unknown)}.",
                    ProfileWarning,
                    stacklevel=5,
                )
        return [name not in listed_names for name in features], "name is on the blocklist"


@dataclass(frozen=True)
class KeepListed(_Named):
    """Keep the features of a list and drop all others, for example those that another selection kept.

    Parameters
    ----------
    keep
        Names of features.

    Raises
    ------
    SchemaError
        A name is not a feature of the table.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [1.0], "Cells_A_b": [1.0]})
    >>> KeepListed(["Cells_A_b"])(wells).columns
    ['Cells_A_b']
    """

    name: ClassVar[str] = "keep_listed"

    keep: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.keep, str) or not self.keep:
            raise RecipeError("KeepListed: keep= needs a list with at least one name of a feature")

    def _stays(self, features: list[str]) -> tuple[list[bool], str]:
        absent = [name for name in self.keep if name not in set(features)]
        if absent:
            raise SchemaError.missing_columns(absent, features, "KeepListed")
        names = set(self.keep)
        return [name in names for name in features], "name is not on the list to keep"


@dataclass(frozen=True)
class FeatureSelect(Step):
    """Several rules in order, each on the features that those before it left; one report of all.

    A table that fits into the memory budget is read once for all rules.

    Parameters
    ----------
    steps
        Selection rules. In a recipe: tables with ``step = "drop_missing"`` and the rule's keys.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [1.0, 2.0, 4.0], "Cells_A_b": [1.0, 2.0, 4.1],
    ...                       "Cells_A_c": [None, None, 1.0]})
    >>> select = FeatureSelect([DropMissing(0.05), DropCorrelated(0.9)])
    >>> report = select.fit(wells)
    >>> report.filter(~pl.col("kept")).select("feature", "step", "partner").rows()
    [('Cells_A_c', 'drop_missing', None), ('Cells_A_b', 'drop_correlated', 'Cells_A_a')]
    >>> select(wells).columns
    ['Cells_A_a']
    """

    name: ClassVar[str] = "feature_select"
    version: ClassVar[int] = 2
    separable: ClassVar[bool] = False

    steps: Sequence[Selection] = field(default=())

    def __post_init__(self) -> None:
        super().__post_init__()
        made = tuple(_as_selection(step, number) for number, step in enumerate(self.steps, start=1))
        if not made:
            raise RecipeError("FeatureSelect: steps= needs at least one rule, for example DropMissing()")
        object.__setattr__(self, "steps", made)

    @property
    def scope(self) -> Scope:
        """All rows, through the rules' own statistics."""
        return Scope.DATASET

    def columns(self) -> list[str]:
        """All that the rules read."""
        return list(dict.fromkeys(name for step in self.steps for name in step.columns()))

    def parameters(self) -> dict[str, Any]:
        """The rules as tables of a recipe."""
        return {"steps": [{"step": step.name, **step.parameters()} for step in self.steps]}

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Judge in order.

        Returns
        -------
        polars.DataFrame
            The reports of the rules (:meth:`~cytofast.steps.selection.Selection.fit`) one below the other, ``order``
            (from 0) first. A feature has a row for every rule that it reached.
        """
        require_polars(profiles, "FeatureSelect")
        require_rows(profiles, "FeatureSelect")
        schema = profiles.collect_schema()
        asked = [resolve_features(schema, s.features, "FeatureSelect", as_columns(s.by)) for s in self.steps]
        rest = self._held(profiles, list(dict.fromkeys(name for names in asked for name in names)))
        gone: set[str] = set()
        parts = []
        for order, (step, names) in enumerate(zip(self.steps, asked, strict=True)):
            left = [name for name in names if name not in gone]
            if not left:
                continue
            if isinstance(step, _Named):
                # Names are looked up among all features: one that an earlier rule dropped is not unknown.
                report = step.fit(profiles).filter(pl.col("feature").is_in(left))
            else:
                report = replace(step, features=left).fit(rest)
            parts.append(report.select(pl.lit(order, dtype=pl.Int32).alias("order"), *report.columns))
            dropped = [name for name, stays in step.kept(report).items() if not stays]
            gone.update(dropped)
            rest = rest.drop(dropped)
        return pl.concat(parts, how="diagonal_relaxed")

    def _held(self, profiles: pl.DataFrame | pl.LazyFrame, features: list[str]) -> pl.DataFrame | pl.LazyFrame:
        """The columns that the rules read, in memory if they and what is made of them fit."""
        needed = profiles.select(list(dict.fromkeys([*self.columns(), *features])))
        if isinstance(needed, pl.DataFrame):
            return needed
        schema = needed.collect_schema()
        n_rows = needed.select(pl.len()).collect().item()
        row = sum(4 if dtype in (pl.Float32, pl.Int32) else 8 for dtype in schema.dtypes())
        return needed.collect() if n_rows * row < resources.current().working_bytes // 6 else needed

    def kept(self, fit: pl.DataFrame) -> dict[str, bool]:
        """Which features stay after all rules."""
        decided: dict[str, bool] = {}
        for order, step in enumerate(self.steps):
            part = fit.filter(pl.col("order") == order)
            for name, stays in step.kept(part).items():
                decided[name] = decided.get(name, True) and stays
        return decided

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Drop the features that a rule dropped; as :meth:`~cytofast.steps.selection.Selection.apply`."""
        require_columns(fit.schema, ["order", "feature", "kept"], "FeatureSelect: the fit")
        return drop_columns(profiles, self.kept(fit), "FeatureSelect")


def _as_selection(step: object, number: int) -> Selection:
    """A rule, or one made of a recipe's table."""
    if isinstance(step, dict):
        parameters = dict(cast("dict[str, Any]", step))
        use = parameters.pop("step", None)
        if not isinstance(use, str):
            raise RecipeError(f'FeatureSelect: rule {number} does not say which it is; write step = "drop_missing"')
        kind = step_class(use)
        if not issubclass(kind, Selection):
            raise RecipeError(f"FeatureSelect: rule {number} is {use!r}, which does not select features")
        return kind.from_parameters(parameters, f"feature_select, rule {number}")
    if not isinstance(step, Selection):
        raise RecipeError(f"FeatureSelect: rule {number} is {step!r}, not a selection rule such as DropMissing()")
    return step
