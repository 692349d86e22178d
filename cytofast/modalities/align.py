"""Two tables of profiles of the same perturbations, as matched matrices, with an audit of what did not match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import require_polars, require_rows, require_unique, unused_name
from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.schema import Features, as_columns, is_metadata, require_columns, resolve_features
from cytofast.steps.consensus import Consensus

Doubles = NDArray[np.float64]
Level = Literal["treatment", "replicate"]
Missing = Literal["error", "drop"]
Quality = Literal["both", "either"]


@dataclass(frozen=True)
class Modality:
    """One side of a pair: a name, its features, and ``float64[n_rows, n_features]``."""

    name: str
    features: list[str]
    values: Doubles


@dataclass(frozen=True)
class Aligned:
    """The same perturbations seen twice; row i of one side belongs to row i of the other.

    Attributes
    ----------
    keys
        The columns that were matched on, one row a pair.
    metadata
        ``keys`` and the metadata that is constant within a perturbation, those of ``a`` first.
    a, b
        The two sides.
    audit
        ``modality, reason, key, n_rows``: every perturbation or feature that was left out, and why.
    """

    keys: pl.DataFrame
    metadata: pl.DataFrame
    a: Modality
    b: Modality
    audit: pl.DataFrame

    def __len__(self) -> int:
        return self.keys.height

    def side(self, name: str) -> Modality:
        """The side of this name."""
        for modality in (self.a, self.b):
            if modality.name == name:
                return modality
        raise RecipeError.unknown("modality", name, (self.a.name, self.b.name))

    def other(self, name: str) -> Modality:
        """The side that is not of this name."""
        return self.b if self.side(name) is self.a else self.a

    def only(self, rows: NDArray[np.int64]) -> Aligned:
        """Some of the rows, in this order."""
        a, b = (Modality(m.name, m.features, m.values[rows]) for m in (self.a, self.b))
        return Aligned(self.keys[rows], self.metadata[rows], a, b, self.audit)

    def summary(self) -> pl.DataFrame:
        """How many keys or features were left out, by side and reason."""
        return self.audit.group_by("modality", "reason", maintain_order=True).agg(
            pl.len().alias("n"), pl.col("n_rows").sum()
        )


def high_quality(a: pl.DataFrame, b: pl.DataFrame, on: str | Sequence[str], quality: Quality = "both") -> pl.DataFrame:
    """The perturbations whose replicates agree in both modalities, or in either.

    Parameters
    ----------
    a, b
        Tables of :func:`cytofast.replicate_correlation`, one a modality.
    on
        Columns that name the perturbation in both.
    quality
        ``"both"`` (the intersection) or ``"either"`` (the union of what both tables know). A perturbation with a single
        replicate has no correlation and is of no quality.

    Returns
    -------
    polars.DataFrame
        ``on`` columns, and the two flags as ``a`` and ``b``, sorted.
    """
    keys = as_columns(on)
    if {"a", "b"} & set(keys):
        raise RecipeError("high_quality: the flags are called 'a' and 'b'; a key cannot be. Hint: rename it.")
    if quality not in get_args(Quality):
        raise RecipeError.unknown("quality", quality, get_args(Quality))
    sides = []
    for table, name in ((a, "a"), (b, "b")):
        where = f"high_quality, table {name}"
        require_columns(table.schema, [*keys, "high_quality"], where)
        if table.schema["high_quality"] != pl.Boolean:
            raise SchemaError(
                f"{where}: column 'high_quality' holds {table.schema['high_quality']}, not true and false. "
                "Hint: give what replicate_correlation gave."
            )
        require_unique(table, keys, where)
        sides.append(table.select(*keys, pl.col("high_quality").fill_null(value=False).alias(name)))
    _require_alike(sides[0].select(keys).schema, sides[1].select(keys).schema, "high_quality: the two tables")
    joined = sides[0].join(sides[1], on=keys, how="inner")
    if not joined.height:
        raise DataError(
            f"high_quality: the two tables share no {'/'.join(keys)}: {listed(a[keys[0]].head(3))} against "
            f"{listed(b[keys[0]].head(3))}. Hint: are the names written alike?"
        )
    flags = pl.col("a") & pl.col("b") if quality == "both" else pl.col("a") | pl.col("b")
    return joined.filter(flags).sort(keys)


def align(
    a: pl.DataFrame | pl.LazyFrame,
    b: pl.DataFrame | pl.LazyFrame,
    on: str | Sequence[str],
    level: Level = "treatment",
    *,
    names: tuple[str, str] = ("a", "b"),
    a_features: Features = None,
    b_features: Features = None,
    keep: pl.DataFrame | pl.LazyFrame | None = None,
    missing: Missing = "error",
) -> Aligned:
    """Match two tables of profiles by perturbation (and dose).

    Parameters
    ----------
    a, b
        Normalized profiles: a DataFrame, a LazyFrame or a level of a store.
    on
        Columns that both have. The first names the perturbation; others, such as a dose, tell treatments apart.
        Rows with a null or NaN in one of them (controls without a name) are left out and counted.
    level
        ``"treatment"``: the mean of the replicates of a treatment on each side. ``"replicate"``: the first replicate of
        one side with the first of the other, and so on; what one side has more of is left out and counted.
    names
        What the sides are called.
    a_features, b_features
        As in every step: ``None``, a prefix or a list.
    keep
        Only these treatments: a table with ``on`` columns, such as that of :func:`cytofast.high_quality`.
    missing
        ``"error"``, or ``"drop"`` features with NaN, nulls or infinities among the matched rows, into the audit.

    Raises
    ------
    DataError
        No treatment is in both tables, or values are missing.

    Examples
    --------
    >>> a = pl.DataFrame({"Metadata_pert": ["x", "x", "y"], "Cells_A_a": [1.0, 3.0, 5.0]})
    >>> b = pl.DataFrame({"Metadata_pert": ["y", "x", "z"], "gene_1": [7.0, 8.0, 9.0]})
    >>> pair = align(a, b, "Metadata_pert", b_features="gene_")
    >>> pair.a.values[:, 0].tolist(), pair.b.values[:, 0].tolist(), pair.audit.rows()
    ([2.0, 5.0], [8.0, 7.0], [('b', 'only in b', 'z', 1)])
    """
    keys = as_columns(on)
    if not keys:
        raise RecipeError("align: on= names no column")
    if level not in get_args(Level):
        raise RecipeError.unknown("level", level, get_args(Level))
    if missing not in get_args(Missing):
        raise RecipeError.unknown("missing", missing, get_args(Missing))
    if len(set(names)) != 2:
        raise RecipeError(f"align: the two sides need two names, not {names[0]!r} twice")
    audit: list[tuple[str, str, str, int]] = []
    tables, features = [], []
    for profiles, name, chosen in ((a, names[0], a_features), (b, names[1], b_features)):
        table, found = _side(profiles, name, keys, chosen, keep, level, audit)
        tables.append(table)
        features.append(found)
    _require_alike(tables[0].select(keys).schema, tables[1].select(keys).schema, "align: the two sides")
    order = unused_name("pair order", keys)
    number = [order] if level == "replicate" else []
    if number:
        tables = [table.with_columns(pl.int_range(pl.len()).over(keys).alias(order)) for table in tables]
    for one, another, name in ((0, 1, names[0]), (1, 0, names[1])):
        only = tables[one].join(tables[another], on=[*keys, *number], how="anti")
        audit += [(name, f"only in {name}", text, n) for text, n in _counted(only, keys)]
    joined = tables[0].join(tables[1].select(*keys, *number), on=[*keys, *number], how="semi").sort([*keys, *number])
    if not joined.height:
        shown = [listed(_texts(table, keys), 3) for table in tables]
        raise DataError(
            f"align: {names[0]} and {names[1]} have no {'/'.join(keys)} in common: {shown[0]} against {shown[1]}. "
            "Hint: are the names and doses written alike?"
        )
    partner = joined.select(*keys, *number).join(tables[1], on=[*keys, *number], how="left", maintain_order="left")
    sides = [
        _modality(table, name, found, missing, audit)
        for table, name, found in zip((joined, partner), names, features, strict=True)
    ]
    metadata = joined.select(name for name in joined.columns if is_metadata(name) or name in keys)
    more = [name for name in partner.columns if is_metadata(name) and name not in metadata.columns]
    return Aligned(
        joined.select(keys),
        metadata.hstack(partner.select(more)),
        sides[0],
        sides[1],
        pl.DataFrame(
            audit,
            orient="row",
            schema={"modality": pl.String, "reason": pl.String, "key": pl.String, "n_rows": pl.Int64},
        ),
    )


def _side(
    profiles: pl.DataFrame | pl.LazyFrame,
    name: str,
    keys: list[str],
    chosen: Features,
    keep: pl.DataFrame | pl.LazyFrame | None,
    level: Level,
    audit: list[tuple[str, str, str, int]],
) -> tuple[pl.DataFrame, list[str]]:
    """The rows of one side that can be matched: replicates, or the means of treatments."""
    where = f"align, {name}"
    require_polars(profiles, where)
    schema = profiles.collect_schema()
    require_columns(schema, keys, where)
    features = resolve_features(schema, chosen, where, by=keys)
    columns = [*keys, *(n for n in schema.names() if is_metadata(n) and n not in keys and n not in features), *features]
    table = profiles.lazy().select(columns).collect()
    require_rows(table, where)
    table = table.with_columns(pl.col(key).fill_nan(None) for key in keys if schema[key].is_float())
    null = table.select(pl.any_horizontal(pl.col(keys).is_null())).to_series()
    if null.any():
        audit.append((name, "no key", f"null in {'/'.join(keys)}", int(null.sum())))
        table = table.filter(~null)
    if keep is not None:
        keep = keep.lazy().collect()
        require_columns(keep.schema, keys, "align: keep")
        _require_alike(keep.select(keys).schema, table.select(keys).schema, "align: keep= and the profiles")
        out = table.join(keep, on=keys, how="anti")
        audit += [(name, "not in keep", text, n) for text, n in _counted(out, keys)]
        table = table.join(keep.select(keys).unique(), on=keys, how="semi", maintain_order="left")
    if not table.height:
        raise DataError(f"{where}: no row is left. Hint: is {'/'.join(keys)} filled, and does keep= name it as here?")
    if level == "treatment":
        table = Consensus(keys, method="mean", features=features)(table)
    return table, features


def _require_alike(one: pl.Schema, other: pl.Schema, where: str) -> None:
    if one != other:
        raise SchemaError(
            f"{where} have keys of other types, {dict(one)} and {dict(other)}. Hint: cast one, for example to text."
        )


def require_values(*sides: Modality) -> None:
    """Refuse missing values in a pair that was made by hand; :func:`align` leaves none."""
    for side in sides:
        bad = np.flatnonzero(~np.isfinite(side.values).all(axis=0))
        if len(bad):
            raise DataError(
                f"{side.name}: {len(bad):,} features have NaN or infinities: {listed([side.features[i] for i in bad])}. "
                'Hint: align(..., missing="drop") leaves them out.'
            )


def _texts(table: pl.DataFrame, keys: list[str]) -> list[str]:
    return [" ".join(str(value) for value in row) for row in table.select(keys).rows()]


def _counted(table: pl.DataFrame, keys: list[str]) -> list[tuple[str, int]]:
    counts = table.group_by(keys).len().sort(keys)
    return list(zip(_texts(counts, keys), counts["len"].to_list(), strict=True))


def _modality(
    table: pl.DataFrame, name: str, features: list[str], missing: Missing, audit: list[tuple[str, str, str, int]]
) -> Modality:
    values = np.ascontiguousarray(table.select(pl.col(features).cast(pl.Float64)).to_numpy())
    broken = ~np.isfinite(values)
    count = broken.sum(axis=0)
    bad = [features[i] for i in np.flatnonzero(count)]
    if bad and missing == "error":
        raise DataError(
            f"align, {name}: {len(bad):,} of {len(features):,} features have NaN, nulls or infinities in "
            f"{int(broken.any(axis=1).sum()):,} of {table.height:,} matched rows: {listed(bad)}. "
            'Hint: select features first (DropMissing), or leave them out with missing="drop".'
        )
    audit += [(name, "missing values", features[i], int(count[i])) for i in np.flatnonzero(count)]
    kept = count == 0
    if not kept.any():
        raise DataError(f"align, {name}: every feature has missing values among the {table.height:,} matched rows.")
    return Modality(name, [n for n, good in zip(features, kept, strict=True) if good], values[:, kept])
