"""Splits for training and testing that do not leak: what belongs together stays together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from cytofast.blocks import group_rows, reference_mask, require_polars, require_rows
from cytofast.errors import DataError, ProfileWarning, RecipeError, SchemaError, listed
from cytofast.kernels.rng import key_of
from cytofast.retrieval.profiles import whole_number
from cytofast.schema import PLATE, WELL, as_columns, is_metadata, require_columns

TWINS = ("BVT-948", "dexamethasone", "thiostrepton")
"""Compounds that stand in JUMP-Target-1 and JUMP-Target-2 twice, with two sample identifiers under one name."""
NAMES = ("Metadata_pert_iname", "Metadata_Compound", "Metadata_compound", "Metadata_compound_name")
"""Columns that usually hold a compound's name."""
INCHIKEY = "Metadata_InChIKey"
TARGETS = ("Metadata_target_list",)
"""Columns that hold several labels as one text, with ``|`` in between."""
SPLIT = "Metadata_Split"
_BETWEEN = "\x1f"
"""Between the columns of a key, so that ``P 1``, ``A`` is not ``P``, ``1 A``."""

USUAL: tuple[str | tuple[str, ...], ...] = (
    "Metadata_broad_sample",
    "Metadata_JCP2022",
    "Metadata_pert_id",
    "Metadata_gene",
    *NAMES,
    INCHIKEY,
    (PLATE, WELL),
)
"""What :func:`check_split` looks at unless told: replicates, guides of a gene, names, molecules, cells of a well."""

Key = str | Sequence[str]


def make_splits(
    metadata: pl.DataFrame | pl.LazyFrame,
    keep_together: Sequence[Key],
    balance_by: str | Sequence[str] | None = None,
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    *,
    controls: str | None = None,
    twins: Sequence[str] = TWINS,
    multilabel: Sequence[str] = TARGETS,
    column: str = SPLIT,
) -> pl.DataFrame:
    """Divide rows (cells, wells, perturbations) into splits, so that no two that belong together are apart.

    Rows that are equal in one of the keys belong together, and so do those that are linked through others: guides of a
    gene, two samples of a compound, cells of a well. Groups are shared out, the largest first, to where they are
    missed most. The split of a row depends on the seed and on what is in the table, not on the order of rows.

    Parameters
    ----------
    metadata
        A table with the key columns.
    keep_together
        Keys: a column, or several columns that make one key together, such as ``["Metadata_Plate", "Metadata_Well"]``. A
        null or blank text is no key. Of ``Metadata_InChIKey`` the first block counts, so that stereoisomers stay together.
    balance_by
        Columns whose values should be shared out in the same fractions: modality, target class, cell type.
    fractions
        Name of each split and its share; by default 0.7 ``train``, 0.15 ``validation``, 0.15 ``test``. Scaled to sum 1.
    seed
        Another seed, another split.
    controls
        SQL predicate for negative controls. They are in every split: only keys of several columns hold them together.
    twins
        Names of compounds that stand twice under two identifiers; they stay together wherever a column of names shows them.
    multilabel
        Columns of several labels with ``|`` in between: as keys, ``EGFR|ERBB2`` and ``ERBB2`` belong together. Chains of shared
        labels make large groups: compounds of many targets may all be one.
    column
        The column that is added.

    Returns
    -------
    polars.DataFrame
        The table with ``Metadata_Split``.

    Raises
    ------
    RecipeError
        Keys, fractions or the column's name make no sense.
    DataError
        There are fewer groups than splits, or they are so large that a split stays empty.

    Warns
    -----
    ProfileWarning
        A split is further than 5 % of all rows from its fraction, because groups are large.

    Examples
    --------
    >>> guides = pl.DataFrame({"Metadata_broad_sample": ["g1", "g2", "g3", "g4"], "Metadata_gene": ["A", "A", "B", "B"]})
    >>> split = make_splits(guides, ["Metadata_broad_sample", "Metadata_gene"], fractions={"train": 0.5, "test": 0.5})
    >>> split["Metadata_Split"].n_unique(), check_split(split).height
    (2, 0)
    """
    require_polars(metadata, "make_splits")
    table = metadata.lazy().collect()
    shares = _checked_fractions(fractions or {"train": 0.7, "validation": 0.15, "test": 0.15})
    keys = [tuple(as_columns(key)) for key in keep_together]
    _check_keys(keep_together, "make_splits")
    seed = whole_number("seed", seed, 0, "make_splits")
    balance = as_columns(balance_by)
    require_columns(table.schema, [*(name for key in keys for name in key), *balance], "make_splits")
    require_rows(table, "make_splits")
    if column in table.columns:
        raise RecipeError(
            f"make_splits: the table has a column {column!r} already; drop it, or name another with column="
        )
    groups, texts = _groups(table, keys, controls, twins, _names_of(multilabel, "make_splits"))
    count = len(texts)
    if count < len(shares):
        raise DataError(
            f"make_splits: {table.height:,} rows make {count:,} groups that must stay together, too few for {len(shares)} "
            f"splits. Hint: does one of the keys {listed(keys)} hold everything together? Name negative controls with controls=."
        )
    strata, _ = group_rows(table, balance)
    sizes = np.zeros((count, int(strata.max()) + 1))
    np.add.at(sizes, (groups, strata), 1.0)
    chosen = _shared_out(sizes, np.array(list(shares.values())), [key_of("split", seed, text) for text in texts])
    names = list(shares)
    found = np.bincount(chosen[groups], minlength=len(names)) / table.height
    apart = [
        f"{n}: {f:.1%} instead of {s:.1%}"
        for n, f, s in zip(names, found, shares.values(), strict=True)
        if abs(f - s) > 0.05
    ]
    largest = f"the largest of {count:,} groups has {np.bincount(groups).max():,} of {table.height:,} rows"
    empty = [name for name, share in zip(names, found, strict=True) if not share]
    if empty:
        raise DataError(
            f"make_splits: nothing is left for {listed(empty)}; {largest}. Hint: give it a larger fraction, or name fewer keys."
        )
    if apart:
        warnings.warn(
            f"make_splits: {'; '.join(apart)}; {largest}",
            ProfileWarning,
            stacklevel=2,
        )
    return table.with_columns(pl.Series(column, names)[chosen[groups]].alias(column))


def check_split(
    table: pl.DataFrame | pl.LazyFrame,
    split: str = SPLIT,
    keep_together: Sequence[Key] | None = None,
    *,
    controls: str | None = None,
    twins: Sequence[str] = TWINS,
    multilabel: Sequence[str] = TARGETS,
) -> pl.DataFrame:
    """Find what stands in two splits and should not, in anybody's split.

    Parameters
    ----------
    table
        A table with the split and the keys.
    split
        Column of the split; rows without one are in none.
    keep_together
        Keys as in :func:`make_splits`; ``None`` looks at those of the usual columns that the table has: samples,
        genes, names, molecules, and wells.
    controls, twins, multilabel
        As in :func:`make_splits`. A label that two splits share is a leak, whatever stands beside it.

    Returns
    -------
    polars.DataFrame
        One row a leak, the largest first: ``key`` (columns), ``value``, ``splits``, ``n_rows``. Empty where nothing leaks.

    Raises
    ------
    SchemaError
        A column is missing.
    RecipeError
        No key was given and the table has none of the usual ones.

    Examples
    --------
    >>> table = pl.DataFrame({"Metadata_pert_iname": ["dexamethasone", "Dexamethasone"], "Metadata_Split": ["train", "test"]})
    >>> check_split(table).rows()
    [('Metadata_pert_iname', 'dexamethasone', 'test, train', 2)]
    """
    require_polars(table, "check_split")
    whole = table.lazy().collect()
    require_columns(whole.schema, [split], "check_split")
    if keep_together is not None:
        _check_keys(keep_together, "check_split")
    usual = [as_columns(key) for key in USUAL]
    keys = (
        [key for key in usual if set(key) <= set(whole.columns)]
        if keep_together is None
        else [as_columns(key) for key in keep_together]
    )
    if not keys:
        raise RecipeError(f"check_split: the table has none of {listed(USUAL, 12)}. Hint: give keep_together=.")
    require_columns(whole.schema, [name for key in keys for name in key], "check_split")
    whole = whole.filter(pl.col(split).is_not_null())
    texts = _key_texts(whole, [tuple(key) for key in keys], controls, twins)
    several = _names_of(multilabel, "check_split")
    leaks = [
        texts.select(
            pl.lit(name).alias("key"),
            (_labels_of(name) if name in several else pl.concat_list(name)).alias("value"),
            whole[split].cast(pl.String).alias("split"),
        )
        .explode("value")
        .filter(pl.col("value").is_not_null())
        .group_by("key", "value")
        .agg(
            pl.col("split").unique().sort().str.join(", ").alias("splits"),
            pl.len().cast(pl.Int64).alias("n_rows"),
            pl.col("split").n_unique().alias("n"),
        )
        .filter(pl.col("n") > 1)
        .drop("n")
        .with_columns(pl.col("value").str.replace_all(_BETWEEN, " "))
        for name in texts.columns
    ]
    return pl.concat(leaks).sort(["n_rows", "key", "value"], descending=[True, False, False])


def _checked_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    values = list(fractions.values()) if isinstance(fractions, Mapping) else []
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 and np.isfinite(v) for v in values)
    if len(values) < 2 or not numbers:
        raise RecipeError(f"make_splits: fractions= are at least two positive numbers by name, not {fractions!r}")
    return {name: value / sum(values) for name, value in fractions.items()}


def _check_keys(keys: Sequence[Key], where: str) -> None:
    if isinstance(keys, str) or not keys or not all(as_columns(key) for key in keys):
        raise RecipeError(
            f"{where}: keep_together= is a list of at least one key, not {keys!r}, and each names a column"
        )


def _key_texts(
    table: pl.DataFrame, keys: Sequence[tuple[str, ...]], controls: str | None, twins: Sequence[str]
) -> pl.DataFrame:
    """Each key as one text a row, null where it has none; a last column tells twins that no key shows."""
    mask = reference_mask(table, controls, "controls")
    treated = pl.lit(value=True) if mask is None else pl.Series(~mask)
    texts: dict[str, pl.Expr] = {}
    nested = [name for key in keys for name in key if table.schema[name].is_nested()]
    if nested:
        raise SchemaError(
            f"keep_together= names {listed(nested)}, which holds lists. Hint: give a row for each entry, or one text."
        )
    for key in keys:
        known = [pl.col(name).fill_nan(None) if table.schema[name].is_float() else pl.col(name) for name in key]
        parts = [part.cast(pl.String).str.strip_chars().replace("", None) for part in known]
        if key == (INCHIKEY,):
            parts = [parts[0].str.split("-").list.first()]
        elif len(key) == 1 and key[0] in NAMES:
            parts = [parts[0].str.to_lowercase()]
        text = pl.concat_str(parts, separator=_BETWEEN)
        texts[" ".join(key)] = text if len(key) > 1 else pl.when(treated).then(text)
    wanted = [name.lower() for name in twins]
    for name in NAMES:
        if name in table.columns and name not in texts and wanted:
            text = pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase()
            texts[name] = pl.when(text.is_in(wanted)).then(text)
    return table.select(text.alias(name) for name, text in texts.items())


def _names_of(multilabel: Sequence[str], where: str) -> Sequence[str]:
    if isinstance(multilabel, str):
        raise RecipeError(f"{where}: multilabel= is a list of columns, such as {[multilabel]!r}, not {multilabel!r}")
    return multilabel


def _labels_of(name: str) -> pl.Expr:
    """The distinct labels of each text; null where there is none."""
    parts = pl.col(name).str.split("|").list.eval(pl.element().str.strip_chars().replace("", None)).list.drop_nulls()
    return parts.list.unique(maintain_order=True)


def _groups(
    table: pl.DataFrame,
    keys: Sequence[tuple[str, ...]],
    controls: str | None,
    twins: Sequence[str],
    several: Sequence[str],
) -> tuple[NDArray[np.int64], list[str]]:
    """Number of the group of each row, and a text for each group that does not depend on the order of rows."""
    texts = _key_texts(table, keys, controls, twins)
    lonely = pl.all_horizontal(pl.col(name).is_null() for name in texts.columns)
    # What is linked depends on the keys alone: rows that are equal in all of them are one; rows without any stay by themselves.
    marked = texts.with_columns(_lonely_texts(table, texts.select(lonely).to_series()).alias("row without a key"))
    which, distinct = group_rows(marked, marked.columns)
    rows, columns, size = [], [], distinct.height
    for name in texts.columns:
        each = distinct.select(
            pl.int_range(pl.len()).alias("row"), _labels_of(name) if name in several else pl.col(name)
        )
        each = (each.explode(name) if name in several else each).drop_nulls(name)
        codes, values = group_rows(each, [name])
        rows.append(each["row"].to_numpy())
        columns.append(size + codes)
        size += values.height
    joined = np.concatenate(rows), np.concatenate(columns)
    graph = csr_array((np.ones(len(joined[0]), dtype=np.int8), joined), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][: distinct.height]
    _, labels = np.unique(labels, return_inverse=True)
    said = distinct.select(pl.concat_str(pl.all().cast(pl.String).fill_null(""), separator="\t").alias("text"))
    first = said.with_columns(pl.Series("group", labels)).group_by("group").agg(pl.col("text").min()).sort("group")
    groups: NDArray[np.int64] = labels.astype(np.int64)[which]
    return groups, first["text"].to_list()


def _lonely_texts(table: pl.DataFrame, lonely: pl.Series) -> pl.Series:
    """What tells a row without keys from the others, wherever it stands: all but its measurements; null for other rows."""
    told = [name for name, dtype in table.schema.items() if is_metadata(name) or not dtype.is_float()]
    said = pl.Series("text", [repr(row) for row in table.select(told).filter(lonely).rows()], dtype=pl.String)
    # Of rows that are told by nothing, the first is the first.
    each = said.to_frame().select(pl.concat_str("text", pl.int_range(pl.len()).over("text"), separator=_BETWEEN))
    out: NDArray[np.object_] = np.full(table.height, None, dtype=object)
    out[lonely.to_numpy()] = each["text"].to_numpy()
    return pl.Series(out.tolist(), dtype=pl.String)


def _shared_out(sizes: NDArray[np.float64], shares: NDArray[np.float64], order: list[int]) -> NDArray[np.int64]:
    """The split of each group: the largest first (of equals, at random), each to where its rows are missed most."""
    wanted = shares[:, None] * sizes.sum(axis=0)[None, :]
    have = np.zeros_like(wanted)
    chosen = np.zeros(len(sizes), dtype=np.int64)
    for group in sorted(range(len(sizes)), key=lambda g: (-sizes[g].sum(), order[g])):
        size = sizes[group]
        cost = (size * (2 * (have - wanted) + size) / np.maximum(wanted, 1e-12)).sum(axis=1)
        chosen[group] = int(np.argmin(cost))
        have[chosen[group]] += size
    return chosen
