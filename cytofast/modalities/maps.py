"""Tables to draw and to read: scores by feature group and channel, what predicts what, and gene sets."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.kernels.chance import benjamini_hochberg
from cytofast.modalities.result import CrossModalResult
from cytofast.schema import parse_features, require_columns

Doubles = NDArray[np.float64]
_OTHER = "other"
_NONE = "none"


def _places(names: list[str]) -> pl.DataFrame:
    """``feature, group, channel``: a feature of two channels stands under both; what no name tells is "other" or "none"."""
    table = parse_features(names).select("feature", "group", "channels").explode("channels", empty_as_null=True)
    return table.select(
        "feature", pl.col("group").fill_null(_OTHER), pl.col("channels").fill_null(_NONE).alias("channel")
    )


def score_map(result: CrossModalResult) -> pl.DataFrame:
    """How predictable targets are by feature group and channel, where the targets are CellProfiler features.

    Returns
    -------
    polars.DataFrame
        ``group, channel, n_targets, n_predictable, percent_predictable, median_r2, best_r2``; a feature of two channels
        (a correlation) counts under both.
    """
    table = _places(result.targets).join(result.summary().rename({"target": "feature"}), on="feature", how="left")
    return (
        table.drop_nulls("median_r2")
        .group_by("group", "channel")
        .agg(
            pl.len().alias("n_targets"),
            pl.col("predictable").sum().alias("n_predictable"),
            (100 * pl.col("predictable").mean()).alias("percent_predictable"),
            pl.col("median_r2").median(),
            pl.col("median_r2").max().alias("best_r2"),
        )
        .sort("group", "channel")
    )


def contribution_map(result: CrossModalResult, predictable_only: bool = True) -> pl.DataFrame:
    """Which feature groups and channels predict each target: shares of the absolute coefficients, mean over folds.

    Returns
    -------
    polars.DataFrame
        ``target``, and a column for each ``group channel`` of the source's features. A row adds up to 1 (a feature of two
        channels gives half to each). Rows and columns are in the order of a clustering (average linkage), so that the
        table can be drawn as it is. Targets without any coefficient are left out.

    Raises
    ------
    RecipeError
        The model has no coefficients.
    DataError
        No target is left.
    """
    if not result.coefficients.shape[2]:
        raise RecipeError(f"contribution_map: a {result.model} has no coefficients. Hint: use the lasso or ridge.")
    places = _places(result.features).with_columns((1 / pl.len().over("feature")).alias("part"))
    cells = places.select(pl.concat_str("group", "channel", separator=" ").alias("cell"))["cell"]
    names = cells.unique().sort().to_list()
    row = {name: i for i, name in enumerate(result.features)}
    weights = np.zeros((len(result.features), len(names)))
    column = {name: i for i, name in enumerate(names)}
    for feature, cell, part in zip(places["feature"], cells, places["part"], strict=True):
        weights[row[feature], column[cell]] += part
    strength = np.abs(result.coefficients).mean(axis=0)
    total = strength.sum(axis=1)
    keep = total > 0
    if predictable_only:
        keep &= result.summary()["predictable"].fill_null(value=False).to_numpy()
    if not keep.any():
        raise DataError(
            "contribution_map: no target is predictable. Hint: predictable_only=False shows what the models used all the same."
        )
    shares = strength[keep] @ weights / total[keep, None]
    rows, columns = clustered(shares), clustered(shares.T)
    targets = [name for name, k in zip(result.targets, keep, strict=True) if k]
    return pl.DataFrame({"target": [targets[i] for i in rows]}).hstack(
        pl.DataFrame(shares[np.ix_(rows, columns)], schema=[names[i] for i in columns])
    )


def clustered(rows: Doubles) -> NDArray[np.int64]:
    """The order of rows along a tree of average linkage in which neighbours are as near as can be."""
    from scipy.cluster import hierarchy

    if len(rows) < 3:
        return np.arange(len(rows))
    tree = hierarchy.linkage(rows, "average", optimal_ordering=len(rows) <= 2000)
    order: NDArray[np.int64] = hierarchy.leaves_list(tree).astype(np.int64)
    return order


def associate(
    result: CrossModalResult, gene_sets: pl.DataFrame, set_column: str = "set", gene_column: str = "gene"
) -> pl.DataFrame:
    """Are the genes of a set more often predictable than others? Fisher's exact test, one-sided, for each set.

    Parameters
    ----------
    gene_sets
        One row a set and gene; genes are written as the targets are. The universe is the targets that have a score.

    Returns
    -------
    polars.DataFrame
        ``set, n_genes`` (in the table), ``n_tested`` (that are targets), ``n_predictable, odds_ratio`` (infinite where no
        gene of the set is unpredictable), ``p_value, q_value`` (Benjamini and Hochberg over the sets with a tested gene),
        the smallest p first.

    Raises
    ------
    DataError
        No gene of the table is a target.
    """
    from scipy.stats import fisher_exact

    require_columns(gene_sets.schema, [set_column, gene_column], "associate: gene_sets")
    summary = result.summary().drop_nulls("predictable")
    predictable = dict(summary.select("target", "predictable").rows())
    sets = gene_sets.select(pl.col(set_column).alias("set"), pl.col(gene_column).alias("gene")).drop_nulls().unique()
    if sets.schema["gene"] != pl.String:
        raise SchemaError(
            f"associate: column {gene_column!r} holds {sets.schema['gene']}, and targets are named by text. Hint: cast it, "
            "and write genes as the targets are written."
        )
    known = sets.filter(pl.col("gene").is_in(list(predictable)))
    if not known.height:
        raise DataError(
            f"associate: no gene of the table is a target: {listed(sets['gene'].unique().sort().head(3))} against "
            f"{listed(result.targets, 3)}. Hint: write genes as the targets are written."
        )
    hits, total = sum(predictable.values()), len(predictable)
    sizes = dict(sets.group_by("set").len().rows())
    rows = []
    for (name,), part in known.group_by("set", maintain_order=False):
        n = part.height
        inside = sum(predictable[gene] for gene in part["gene"])
        table = [[inside, n - inside], [hits - inside, total - n - (hits - inside)]]
        odds, p = fisher_exact(table, alternative="greater")
        rows.append((name, sizes[name], n, inside, float(odds), float(p)))
    names = ["set", "n_genes", "n_tested", "n_predictable", "odds_ratio", "p_value"]
    found = pl.DataFrame(rows, schema=names, orient="row").sort("p_value", "set")
    q = benjamini_hochberg(found["p_value"].to_numpy())
    return found.with_columns(pl.Series("q_value", q), pl.col("odds_ratio").fill_nan(None))
