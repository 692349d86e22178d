"""Annotation: what was in each well, joined to profiles without losing any."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import polars as pl

from cytofast.blocks import Profiles, require_polars, require_unique, take_columns
from cytofast.errors import ProfileWarning, RecipeError, SchemaError, listed
from cytofast.metadata_tables import name_plates_and_wells, prefixed, read_metadata_table
from cytofast.schema import PLATE, WELL, as_columns, is_metadata, normalize_wells, require_columns
from cytofast.sharing import Chunk
from cytofast.steps.step import Scope, Step

_LEFT: dict[str, Any] = {"how": "left", "nulls_equal": True, "maintain_order": "left"}


@dataclass(frozen=True)
class Annotate(Step):
    """Join a platemap, or any other metadata, to profiles; every profile stays, in its order.

    Null keys match null keys. (JUMP-Target-1 leaves the sample of its 64 DMSO wells empty and calls it ``NA`` in the metadata:
    a join that drops nulls finds no negative control at all.) Well names are compared as ``A01`` whatever they look like;
    other keys as they are: the plates ``"001"`` and ``1`` are two plates, 1 and 1.0 are one.
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
    version: ClassVar[int] = 2

    platemap: pl.DataFrame | pl.LazyFrame | str | Path | None = None
    on: str | Sequence[str] | None = None
    suffix: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.platemap, pl.LazyFrame):
            object.__setattr__(self, "platemap", self.platemap.collect())

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
            else read_metadata_table(Path(cast("str | Path", self.platemap)))
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
        require_polars(profiles, "Annotate")
        schema = profiles.collect_schema()
        require_columns(schema, keys, "Annotate: profiles")
        counted = profiles.lazy().select(keys).group_by(keys).len("profiles").collect()
        mine = _comparable(counted, keys, self.table)
        if WELL in keys:
            mine = mine.group_by(keys).agg(pl.col("profiles").sum())
        theirs = self._with_keys_as_in(schema).select(keys).with_columns(pl.lit(value=True).alias("annotated"))
        joined = mine.join(theirs, on=keys, how="full", nulls_equal=True, coalesce=True)
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
            A key column is missing or of a type that cannot be compared, or a column exists on both sides with different
            content and there is no suffix.
        """
        require_polars(profiles, "Annotate")
        self._report(fit)
        keys: list[str] = self._keys(self.table)
        added = [name for name in self.table.columns if name not in keys]
        schema: pl.Schema = profiles.collect_schema()
        require_columns(schema, keys, "Annotate: profiles")
        clashes = [name for name in added if name in schema]
        lazy = profiles.lazy()
        table: pl.DataFrame = self._with_keys_as_in(schema)
        if clashes:
            table = self._without_clashes(table, lazy, keys, clashes)
        if isinstance(profiles, pl.DataFrame):
            return self._joined(profiles, table, keys)
        written = _written_keys(lazy, keys, self.table.schema, "Annotate: profiles")
        renamed = {name: f"{name} to join" for name in keys}
        marked = lazy.with_columns(key.name.suffix(" to join") for key in written)
        joined = marked.join(table.lazy().rename(renamed), on=list(renamed.values()), **_LEFT)
        return joined.drop(renamed.values()).select(_metadata_first(schema.names(), table, keys))

    def _joined(self, profiles: pl.DataFrame, table: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
        """Only the keys are joined: a join of the whole frame would copy thousands of features."""
        written = _written_keys(profiles.lazy(), keys, self.table.schema, "Annotate: profiles")
        joined = profiles.hstack(profiles.select(written).join(table, on=keys, **_LEFT).drop(keys))
        return take_columns(joined, _metadata_first(profiles.columns, table, keys))

    def on_chunks(self, fit: pl.DataFrame, schema: pl.Schema) -> Callable[[Chunk], Chunk] | None:
        """As :meth:`apply`; features are not touched, and the annotation is prepared once."""
        keys = self._keys(self.table)
        if not all(is_metadata(name) for name in keys):
            return None
        if any(name in schema for name in self.table.columns if name not in keys):
            return lambda chunk: replace(chunk, metadata=self.apply(chunk.metadata, fit))
        self._report(fit)
        require_columns(schema, keys, "Annotate: profiles")
        table = self._with_keys_as_in(schema)
        return lambda chunk: replace(chunk, metadata=self._joined(chunk.metadata, table, keys))

    def settled(self, profiles: pl.DataFrame) -> Annotate:
        """The same step, its columns named as these profiles need it, for some of their rows or columns at a time."""
        keys = self._keys(self.table)
        clashes = [name for name in self.table.columns if name not in keys and name in profiles.columns]
        if not clashes or not set(keys) <= set(profiles.columns):
            return self
        table = self._without_clashes(self._with_keys_as_in(profiles.schema), profiles.lazy(), keys, clashes)
        return replace(self, platemap=table, on=keys)

    def _with_keys_as_in(self, schema: pl.Schema) -> pl.DataFrame:
        """The annotation, its keys written as they are compared with profiles of this schema."""
        keys = self._keys(self.table)
        written = self.table.with_columns(_written_keys(self.table.lazy(), keys, schema, self._where))
        require_unique(written, keys, self._where)
        return written

    def _without_clashes(
        self, table: pl.DataFrame, profiles: pl.LazyFrame, keys: list[str], clashes: list[str]
    ) -> pl.DataFrame:
        """Drop from the annotation what the profiles have already; rename or refuse what differs."""
        present = profiles.select([*keys, *clashes]).unique().collect()
        both = _comparable(present, keys, self.table).join(
            table, on=keys, how="inner", nulls_equal=True, suffix=" theirs"
        )
        different = [
            n for n in clashes if not both[n].cast(pl.String).eq_missing(both[f"{n} theirs"].cast(pl.String)).all()
        ]
        if different and not self.suffix:
            raise SchemaError(
                f"{self._where} and the profiles both have {listed(different)}, with different content. "
                "Hint: drop one of them, or give suffix= to keep both."
            )
        table = table.drop(name for name in clashes if name not in different)
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


def _metadata_first(names: list[str], table: pl.DataFrame, keys: list[str]) -> list[str]:
    """Metadata first, features after, each in the order it had."""
    names = list(dict.fromkeys([*names, *(name for name in table.columns if name not in keys)]))
    return [n for n in names if is_metadata(n)] + [n for n in names if not is_metadata(n)]


def _comparable(frame: pl.DataFrame, keys: list[str], table: pl.DataFrame) -> pl.DataFrame:
    """A frame with its keys written as they are compared."""
    return frame.with_columns(_written_keys(frame.lazy(), keys, table.schema, "Annotate: profiles"))


def _written_keys(frame: pl.LazyFrame, keys: list[str], other: pl.Schema, where: str) -> list[pl.Expr]:
    """Keys as they are compared with those of another table: wells as ``A01``, other types than there as text.

    Nothing is made to fit: ``"001"`` is not 1, 1.5 is not 1; only a whole number is the same whether it is an integer
    or a float.
    """
    schema = frame.collect_schema()
    written = []
    for name in keys:
        mine, theirs = schema[name], other[name]
        if name == WELL:
            # Outside the query, so that an error comes as it was raised.
            raw = frame.select(pl.col(name).cast(pl.String)).unique().collect()[name].sort()
            known = normalize_wells(raw)
            key = pl.col(name).cast(pl.String).replace_strict(raw, known, default=None, return_dtype=pl.String)
        elif mine == theirs and mine not in (pl.Enum, pl.Categorical):
            key = pl.col(name)
        elif _is_written(mine) and _is_written(theirs):
            key = _as_text(name, mine)
        else:
            raise SchemaError(
                f"{where}: column {name!r} holds {mine} and {theirs} on the other side, which cannot be compared. "
                "Hint: cast one of them."
            )
        written.append(key.alias(name))
    return written


def _is_written(dtype: pl.DataType) -> bool:
    """Whether values of a type are names or numbers, which compare as text."""
    return dtype in (pl.String, pl.Enum, pl.Categorical, pl.Null) or dtype.is_integer() or dtype.is_float()


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    text = pl.col(name).cast(pl.String)
    if not dtype.is_float():
        return text
    whole = pl.col(name).cast(pl.Int128, strict=False)
    return pl.when(pl.col(name) == pl.col(name).floor()).then(pl.coalesce(whole.cast(pl.String), text)).otherwise(text)
