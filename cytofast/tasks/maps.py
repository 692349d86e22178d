"""Maps: profiles as points in a plane, by principal components or by UMAP."""

from __future__ import annotations

import importlib
import warnings
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import require_polars, require_rows, to_matrix
from cytofast.errors import DataError, ProfileWarning, RecipeError
from cytofast.retrieval.profiles import Policy, report_dropped, rows_shown, whole_number
from cytofast.schema import Features, is_metadata, resolve_features
from cytofast.steps.components import PrincipalComponents


def map_profiles(
    profiles: pl.DataFrame | pl.LazyFrame,
    method: Literal["pca", "umap"] = "pca",
    components: int = 2,
    features: Features = None,
    *,
    on_invalid: Policy = "error",
    neighbors: int = 15,
    metric: str = "cosine",
    seed: int = 0,
) -> pl.DataFrame:
    """Place profiles of any level (cells, wells, consensus) on a map; what is similar lies close.

    Parameters
    ----------
    profiles
        A DataFrame, a LazyFrame or a level of a store. It is read into memory.
    method
        ``"pca"``: principal components, where distances mean what they seem to. ``"umap"``: needs the extra
        ``cytofast[umap]``; close neighbours mean something, distances between clouds do not.
    components
        Dimensions of the map.
    features, on_invalid
        As in :class:`cytofast.Retrieval`.
    neighbors, metric, seed
        Of UMAP: a larger neighbourhood shows more of the whole and less detail.

    Returns
    -------
    polars.DataFrame
        The metadata, then ``PC_1``, ``PC_2``, ... or ``UMAP_1``, ``UMAP_2``, ... in the order of the table. The feature with
        the largest weight on a component points to its positive side, so that a map does not flip from run to run.

    Raises
    ------
    DataError
        Too few profiles, missing values, or no variance.
    RecipeError
        The method is unknown, or UMAP is not installed.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Well": ["A01", "A02", "A03"], "Cells_x": [1.0, 2.0, 4.0], "Cells_y": [1.0, 2.0, 4.5]})
    >>> map_profiles(wells, components=1).with_columns(pl.col("PC_1").round(2)).rows()
    [('A01', -2.01), ('A02', -0.6), ('A03', 2.6)]
    """
    where = "map_profiles"
    require_polars(profiles, where)
    if method not in ("pca", "umap"):
        raise RecipeError(f"{where}: {RecipeError.unknown('method', method, ('pca', 'umap'))}")
    if on_invalid not in ("error", "drop"):
        raise RecipeError(f"{where}: {RecipeError.unknown('on_invalid', on_invalid, ('error', 'drop'))}")
    components = whole_number("components", components, 1, where)
    neighbors, seed = whole_number("neighbors", neighbors, 2, where), whole_number("seed", seed, 0, where)
    names = resolve_features(profiles.collect_schema(), features, where)
    chosen = set(names)
    kept = [name for name in profiles.collect_schema().names() if name not in chosen and is_metadata(name)]
    table = profiles.lazy().select([*kept, *names]).collect()
    require_rows(table, where)
    finite = np.isfinite(to_matrix(table, names)).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        if on_invalid == "error":
            raise DataError(
                f"{where}: {bad.size:,} of {table.height:,} profiles have missing or infinite features: "
                f'{rows_shown(table, bad)}. Hint: impute or select features first, or say on_invalid="drop".'
            )
        report_dropped(bad.size, table.height, "missing or infinite features")
        table = table.filter(pl.Series(finite))
    if table.height <= components or len(names) < components:
        raise DataError(
            f"{where}: {table.height:,} profiles of {len(names):,} features are too few for {components} components."
        )
    if method == "pca":
        return _principal(table, kept, names, components)
    return _umap(table, kept, names, components, min(neighbors, table.height - 1), metric, seed)


def _principal(table: pl.DataFrame, kept: list[str], names: list[str], components: int) -> pl.DataFrame:
    step = PrincipalComponents(1.0, features=names)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ProfileWarning
        )  # that all components are needed for all of the variance is no news
        fit = step.fit(table)
    weights = np.stack(fit["weights"].to_list())[:, :components]
    if weights.shape[1] < components:
        raise DataError(f"map_profiles: the profiles vary in {weights.shape[1]} directions only, not in {components}.")
    largest = np.abs(weights).argmax(axis=0)
    weights = weights * np.sign(weights[largest, np.arange(components)])
    scores = (to_matrix(table, names).astype(np.float64) - fit["mean"].to_numpy()) @ weights
    return _placed(table.select(kept), scores, "PC")


def _umap(
    table: pl.DataFrame, kept: list[str], names: list[str], components: int, neighbors: int, metric: str, seed: int
) -> pl.DataFrame:
    try:
        reducer = importlib.import_module("umap").UMAP
    except ImportError as error:
        raise RecipeError(
            'map_profiles: method="umap" needs umap-learn. Hint: pip install "cytofast[umap]", or take method="pca".'
        ) from error
    matrix = np.ascontiguousarray(to_matrix(table, names), dtype=np.float32)
    found = reducer(
        n_components=components, n_neighbors=neighbors, metric=metric, random_state=seed, n_jobs=1
    ).fit_transform(matrix)
    return _placed(table.select(kept), np.asarray(found, dtype=np.float64), "UMAP")


def _placed(metadata: pl.DataFrame, scores: NDArray[np.float64], prefix: str) -> pl.DataFrame:
    return metadata.with_columns(pl.Series(f"{prefix}_{k + 1}", scores[:, k]) for k in range(scores.shape[1]))
