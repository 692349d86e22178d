"""Quality of single cells: mark those that are no cells, report how many, and only then leave them out."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from cytofast.blocks import Profiles, predicate, require_polars, require_rows
from cytofast.errors import ProfileWarning, RecipeError, SchemaError, listed
from cytofast.schema import PLATE, as_columns, require_columns
from cytofast.steps.step import Scope, Step

Unit = Literal["z", "value"]

PREFIX = "Metadata_cqc_"
"""What a flag's column begins with, as coSMicQC's do in pycytominer."""
_OF_MANY = re.compile(
    r"\b(select|over)\b|\b(max|min|avg|mean|sum|count|median|std\w*|var\w*|first|last|quantile\w*)\s*\(", re.IGNORECASE
)
"""What looks at several cells at once: it would depend on how many are in memory."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class FlagCells(Step):
    """Mark cells by rules over features, one column ``Metadata_cqc_<rule>`` a rule; no row is left out.

    In ``unit="z"`` features stand for their z-scores in each group (mean and population standard deviation of the finite
    values, as coSMicQC has them), so that one rule serves all plates. A rule that is undefined for a cell (a value is
    missing, or the feature is constant) gives null. The fit counts the cells of each group and rule.

    Parameters
    ----------
    rules
        ``"name: predicate"``; the predicate is SQL over features, such as
        ``"small: Nuclei_AreaShape_Area < -1 AND Nuclei_AreaShape_FormFactor < -1"``.
    unit
        ``"z"`` or ``"value"``.
    by
        Columns that make the groups of z-scores and counts.

    Examples
    --------
    >>> cells = pl.DataFrame({"Metadata_Plate": ["P"] * 4, "Nuclei_Area": [10.0, 10.0, 10.0, 90.0]})
    >>> FlagCells(["large: Nuclei_Area > 1.5"])(cells)["Metadata_cqc_large"].to_list()
    [False, False, False, True]
    """

    name: ClassVar[str] = "flag_cells"

    rules: Sequence[str] = ()
    unit: Unit = "z"
    by: str | Sequence[str] = PLATE

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rules:
            raise RecipeError("FlagCells: rules= needs at least one 'name: predicate'")
        names = list(self._predicates())
        if len(names) < len(self.rules):
            raise RecipeError(f"FlagCells: a rule's name stands more than once in {listed(self.rules)}")

    def _predicates(self) -> dict[str, pl.Expr]:
        found: dict[str, pl.Expr] = {}
        for rule in self.rules:
            name, separator, text = rule.partition(":")
            if not separator or not _NAME.fullmatch(name.strip()) or not text.strip():
                raise RecipeError(
                    f"FlagCells: {rule!r} is no rule; write for example 'small: Nuclei_AreaShape_Area < -1' (letters, digits "
                    "and underscores before the colon)"
                )
            expression = predicate(text.strip())
            if _OF_MANY.search(text) or not expression.meta.root_names():
                raise RecipeError(
                    f"FlagCells: {rule!r} must look at features of each cell by itself: no MAX, no SELECT, no rule without a "
                    "feature"
                )
            found[PREFIX + name.strip()] = expression
        return found

    def _features(self) -> list[str]:
        return list(dict.fromkeys(name for rule in self._predicates().values() for name in rule.meta.root_names()))

    @property
    def scope(self) -> Scope:
        """A plate, if the groups lie inside plates."""
        return Scope.PLATE if PLATE in as_columns(self.by) else Scope.FEATURE

    def columns(self) -> list[str]:
        """Groups, and the features of the rules."""
        return [*as_columns(self.by), *self._features()]

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Learn means and deviations, and count what each rule marks.

        Returns
        -------
        polars.DataFrame
            One row a group and feature (``feature, centre, scale``), and one a group and rule (``rule, cells, flagged,
            undefined``).

        Raises
        ------
        SchemaError
            A column is missing, a feature holds no numbers, or a rule is not true or false.
        """
        require_polars(profiles, "FlagCells")
        schema = profiles.collect_schema()
        by, features = as_columns(self.by), self._features()
        require_columns(schema, self.columns(), "FlagCells")
        wrong = [name for name in features if not schema[name].is_numeric()]
        if wrong:
            raise SchemaError(f"FlagCells: features are numbers, but {listed(wrong)} hold {schema[wrong[0]]}.")
        require_rows(profiles, "FlagCells")
        moments = []
        for feature in features:
            finite = pl.col(feature).cast(pl.Float64).filter(pl.col(feature).is_finite())
            moments.append(
                profiles.lazy()
                .group_by(by, maintain_order=True)
                .agg(pl.lit(feature).alias("feature"), finite.mean().alias("centre"), finite.std(ddof=0).alias("scale"))
            )
        learned: pl.DataFrame = pl.concat(pl.collect_all(moments)).sort([*by, "feature"], nulls_last=True)
        flags = self._flags(profiles.lazy(), learned)
        counts = [
            flags.group_by(by, maintain_order=True).agg(
                pl.lit(flag.removeprefix(PREFIX)).alias("rule"),
                pl.len().cast(pl.Int64).alias("cells"),
                pl.col(flag).sum().cast(pl.Int64).alias("flagged"),
                pl.col(flag).null_count().cast(pl.Int64).alias("undefined"),
            )
            for flag in self._predicates()
        ]
        return pl.concat([learned, *pl.collect_all(counts)], how="diagonal")

    def _flags(self, profiles: pl.LazyFrame, learned: pl.DataFrame) -> pl.LazyFrame:
        """Groups and flags of every row, in order."""
        by, features = as_columns(self.by), self._features()
        # Not a number is missing: it would be the largest of all.
        numbers = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in features]
        chosen = profiles.select(*by, *numbers)
        if self.unit == "z":
            for feature in features:
                of_feature = learned.filter(pl.col("feature") == feature).select(*by, "centre", "scale")
                # Of a constant feature no cell is far from the mean, and none is near it: the score is undefined.
                score = (pl.col(feature) - pl.col("centre")) / pl.when(pl.col("scale") > 0).then(pl.col("scale"))
                chosen = (
                    chosen.join(of_feature.lazy(), on=by, how="left", nulls_equal=True, maintain_order="left")
                    .with_columns(score.alias(feature))
                    .drop("centre", "scale")
                )
        flags = chosen.select(*by, *(rule.alias(name) for name, rule in self._predicates().items()))
        types = flags.collect_schema()
        wrong = [name for name in self._predicates() if types[name] != pl.Boolean]
        if wrong:
            raise RecipeError(f"FlagCells: rule {wrong[0].removeprefix(PREFIX)!r} must be true or false of a cell")
        return flags

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Add a column a rule, true, false or null, by the means and deviations of a fit."""
        require_polars(profiles, "FlagCells")
        require_columns(profiles.collect_schema(), self.columns(), "FlagCells")
        learned = fit.filter(pl.col("feature").is_not_null())
        flags = self._flags(profiles.lazy(), learned).select(list(self._predicates()))
        if isinstance(profiles, pl.DataFrame):
            return profiles.with_columns(flags.collect().get_columns())
        kept = profiles.drop(list(self._predicates()), strict=False)
        return pl.concat([kept, flags], how="horizontal")


@dataclass(frozen=True)
class DropFlagged(Step):
    """Leave out cells that a flag marks. The fit says how many each flag marked; a null is no mark.

    Parameters
    ----------
    flags
        Columns, or patterns such as ``"Metadata_cqc*"``: columns of true and false. Scores that a pattern finds beside them
        (numbers, such as coSMicQC's ``cqc.<rule>.Z_Score.<feature>``) are no flags.

    Raises
    ------
    SchemaError
        No column has such a name, or one is not true or false.

    Examples
    --------
    >>> cells = pl.DataFrame({"Metadata_Plate": ["P", "P"], "Metadata_cqc_large": [True, None], "Nuclei_Area": [9.0, 1.0]})
    >>> DropFlagged()(cells)["Nuclei_Area"].to_list()
    [1.0]
    """

    name: ClassVar[str] = "drop_flagged"

    flags: str | Sequence[str] = ("Metadata_cqc*", "cqc.*")

    def _found(self, schema: pl.Schema) -> list[str]:
        patterns = as_columns(self.flags)
        found = [name for name in schema.names() if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
        found = [name for name in found if not schema[name].is_float() or name in patterns]
        wrong = [name for name in found if schema[name] != pl.Boolean]
        if not found or wrong:
            said = (
                f"{listed(wrong)} hold {schema[wrong[0]]}"
                if wrong
                else f"no column of flags is like {listed(patterns)}"
            )
            raise SchemaError(f"DropFlagged: {said}. Hint: flag_cells makes columns {PREFIX}..., true or false.")
        return found

    @property
    def scope(self) -> Scope:
        """A plate: what was left out is counted for each."""
        return Scope.PLATE

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Count, for each plate, the cells, those that each flag marks, and those that any does (``flag`` null)."""
        require_polars(profiles, "DropFlagged")
        schema = profiles.collect_schema()
        flags = self._found(schema)
        by = [name for name in (PLATE,) if name in schema]
        marked: list[tuple[str | None, pl.Expr]] = [(name, pl.col(name)) for name in flags]
        counts = []
        for name, flag in [*marked, (None, pl.any_horizontal(flags))]:
            told = [
                pl.lit(name, dtype=pl.String).alias("flag"),
                pl.len().cast(pl.Int64).alias("cells"),
                flag.fill_null(value=False).sum().cast(pl.Int64).alias("flagged"),
            ]
            lazy = profiles.lazy()
            counts.append(lazy.group_by(by, maintain_order=True).agg(told) if by else lazy.select(told))
        found: pl.DataFrame = pl.concat(pl.collect_all(counts))
        empty = found.filter(pl.col("flag").is_null() & (pl.col("cells") == pl.col("flagged")))
        if empty.height:
            warnings.warn(
                f"DropFlagged: every cell of {empty.height:,} plates is flagged, so nothing is left of them.",
                ProfileWarning,
                stacklevel=3,
            )
        return found

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:  # noqa: ARG002  (the fit only counts)
        """Leave the marked cells out."""
        require_polars(profiles, "DropFlagged")
        flags = self._found(profiles.collect_schema())
        return profiles.filter(~pl.any_horizontal(pl.col(flags).fill_null(value=False)))
