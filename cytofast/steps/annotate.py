"""Annotation: what was in each well, joined to profiles without losing any."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from cytofast.blocks import Profiles, require_unique
from cytofast.errors import ProfileWarning, RecipeError, SchemaError, listed
from cytofast.metadata_tables import name_plates_and_wells, prefixed, read_metadata_table
from cytofast.schema import PLATE, WELL, as_columns, normalize_wells, require_columns
from cytofast.steps.step import Scope, Step


@dataclass(frozen=True)
class Annotate(Step):
    """Join a platemap, or any other metadata, to profiles; every profile stays, in its order.

    Null keys match null keys. (JUMP-Target-1 leaves the sample of its 64 DMSO wells empty and calls it ``NA`` in the metadata:
    a join that drops nulls finds no negative control at all.) Well names are compared as ``A01`` whatever they look like.
    What finds no partner, on either side, is counted and listed by :meth:`fit` and in a warning; pycytominer drops such wells.

    Parameters
    ----------
    platemap
        A file (csv, tsv, txt, parquet; ``.gz`` too) or a frame. Columns get the prefix ``Metadata_`` unless they have it;
        ``well_position`` and ``Assay_Plate_Barcode`` are understood as the well and the plate.
        In a recipe, leave it out to use the platemaps given at ingest.
    on
        Key columns, of both sides. ``None``: the plate, if the platemap names it, and the well.
    suffix
        Added to columns that both sides have with different content; without it, such columns are an error.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Plate": ["P", "P"], "Metadata_Well": ["A01", "A02"], "Cells_AreaShape_Area": [1.0, 2.0]})
    >>> platemap = pl.DataFrame({"well_position": ["a1", "a2"], "broad_sample": ["BRD-1", None]})
    >>> Annotate(platemap)(wells)["Metadata_broad_sample"].to_list()
    ['BRD-1', None]
    """

    name: ClassVar[str] = "annotate"

    platemap: pl.DataFrame | str | Path | None = None
    on: str | Sequence[str] | None = None
    suffix: str | None = None

    @property
    def scope(self) -> Scope:
        """A row by itself."""
        return Scope.ROW

    @cached_property
    def table(self) -> pl.DataFrame:
        """The annotation, one row a key, its columns prefixed and its wells normalized."""
        if self.platemap is None:
            raise RecipeError(
                "Annotate: no platemap. Hint: give a file or a frame; only a run over a store knows those given at ingest."
            )
        table = (
            prefixed(self.platemap)
            if isinstance(self.platemap, pl.DataFrame)
            else read_metadata_table(Path(self.platemap))
        )
        if self.on is None:
            table = name_plates_and_wells(table, self._where)
            if WELL not in table.columns:
                raise SchemaError.missing_columns(
                    [WELL], table.columns, f"{self._where} has no column of wells; give on="
                )
        else:
            require_columns(table.schema, as_columns(self.on), self._where)
        if WELL in self._keys(table):
            table = table.with_columns(normalize_wells(table[WELL]))
        require_unique(table, self._keys(table), self._where)
        return table

    @property
    def _where(self) -> str:
        return "Annotate: the platemap" if isinstance(self.platemap, pl.DataFrame) else f"Annotate: {self.platemap}"

    def _keys(self, table: pl.DataFrame) -> list[str]:
        return as_columns(self.on) or [name for name in (PLATE, WELL) if name in table.columns]

    def columns(self) -> list[str]:
        """The key columns."""
        return self._keys(self.table)

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Which keys match: the key columns, ``profiles`` (how many have this key) and ``status``.

        ``status`` is ``matched``, ``only in profiles`` or ``only in annotation``.
        """
        keys = self._keys(self.table)
        require_columns(profiles.collect_schema(), keys, "Annotate: profiles")
        counted = profiles.lazy().select(keys).group_by(keys).len("profiles").collect()
        theirs = self.table.select(keys).with_columns(pl.lit(value=True).alias("annotated"))
        joined = _comparable(counted, keys, theirs).join(theirs, on=keys, how="full", nulls_equal=True, coalesce=True)
        status = (
            pl.when(pl.col("profiles").is_null())
            .then(pl.lit("only in annotation"))
            .when(pl.col("annotated").is_null())
            .then(pl.lit("only in profiles"))
            .otherwise(pl.lit("matched"))
        )
        return joined.select(*keys, pl.col("profiles").fill_null(0), status.alias("status")).sort(keys, nulls_last=True)

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Add the columns of the annotation; ``fit`` says what to report as unmatched.

        Raises
        ------
        DataError
            The annotation has two rows for one key.
        SchemaError
            A key column is missing, or a column exists on both sides with different content and there is no suffix.
        """
        self._report(fit)
        keys: list[str] = self._keys(self.table)
        added = [name for name in self.table.columns if name not in keys]
        schema: pl.Schema = profiles.collect_schema()
        clashes = [name for name in added if name in schema]
        lazy = profiles.lazy()
        table: pl.DataFrame = self.table
        if clashes:
            table = self._without_clashes(lazy, keys, clashes)
        theirs = table.schema
        written = [_key(name, schema[name], theirs[name]).alias(name) for name in keys]
        options: dict[str, Any] = {"on": keys, "how": "left", "nulls_equal": True, "maintain_order": "left"}
        if isinstance(profiles, pl.DataFrame):
            # Only the keys are joined: a join of the whole frame would copy thousands of features.
            joined = profiles.hstack(profiles.select(written).join(table, **options).drop(keys)).lazy()
        else:
            renamed = {name: f"{name} to join" for name in keys}
            marked = lazy.with_columns(key.name.suffix(" to join") for key in written)
            options["on"] = list(renamed.values())
            joined = marked.join(table.lazy().rename(renamed), **options).drop(renamed.values())
        # Metadata first, features after, each in the order it had.
        names = list(dict.fromkeys([*schema.names(), *(name for name in table.columns if name not in keys)]))
        ordered = [n for n in names if n.startswith("Metadata_")] + [n for n in names if not n.startswith("Metadata_")]
        result = joined.select(ordered)
        return result if isinstance(profiles, pl.LazyFrame) else result.collect()

    def _without_clashes(self, profiles: pl.LazyFrame, keys: list[str], clashes: list[str]) -> pl.DataFrame:
        """Drop from the annotation what the profiles have already; rename or refuse what differs."""
        present = profiles.select([*keys, *clashes]).unique().collect()
        both = _comparable(present, keys, self.table).join(
            self.table, on=keys, how="inner", nulls_equal=True, suffix=" theirs"
        )
        different = [
            n for n in clashes if not both[n].cast(pl.String).eq_missing(both[f"{n} theirs"].cast(pl.String)).all()
        ]
        if different and not self.suffix:
            raise SchemaError(
                f"{self._where} and the profiles both have {listed(different)}, with different content. "
                "Hint: drop one of them, or give suffix= to keep both."
            )
        table = self.table.drop(name for name in clashes if name not in different)
        return table.rename({name: f"{name}{self.suffix}" for name in different})

    def _report(self, fit: pl.DataFrame) -> None:
        keys = self._keys(self.table)
        lines = []
        for status in ("only in profiles", "only in annotation"):
            rows = fit.filter(fit["status"] == status).select(keys)
            if rows.height:
                shown = listed(["/".join(map(str, row)) for row in rows.head(4).rows()], 3)
                lines.append(f"{rows.height:,} {'/'.join(keys)} {status} ({shown})")
        if lines:
            warnings.warn(f"{self._where}: {'; '.join(lines)}. Nothing was dropped.", ProfileWarning, stacklevel=4)


def _key(name: str, mine: pl.DataType, theirs: pl.DataType) -> pl.Expr:
    """A key of the profiles as the annotation writes it: wells as ``A01``, numbers as text where the annotation has text."""
    if name == WELL:
        return pl.col(name).cast(pl.String).map_batches(normalize_wells, return_dtype=pl.String)
    return pl.col(name) if mine == theirs else pl.col(name).cast(theirs)


def _comparable(frame: pl.DataFrame, keys: list[str], table: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(_key(name, frame.schema[name], table.schema[name]) for name in keys)
