"""Who stands next to whom: nearest neighbours, and the similarity matrices that people plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import predicate_columns, reference_mask
from cytofast.errors import DataError, RecipeError
from cytofast.kernels.similarity import products
from cytofast.retrieval.profiles import Comparable, Policy, collect, comparable, metric_code, whole_number
from cytofast.schema import Features

Metric = Literal["cosine", "abs_cosine", "correlation", "euclidean"]

_TILE_BYTES = 64 << 20


def prepared(
    profiles: pl.DataFrame | pl.LazyFrame,
    metric: str,
    features: Features,
    keys: list[str],
    where: str,
    on_invalid: Policy = "error",
    looked_at: Sequence[str] = (),
) -> Comparable:
    """Profiles ready to be compared."""
    code = metric_code(metric)
    table, names = collect(profiles, features, keys, where, looked_at=looked_at)
    return comparable(table, names, code, where, on_invalid, looked_at)


def nearest(ready: Comparable, queries: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The ``k`` most similar other profiles of each query, best first (of equals, the earlier row), and their similarities."""
    n = len(ready.units)
    rough = ready.rough
    rows = np.empty((len(queries), k), dtype=np.int64)
    values = np.empty((len(queries), k))
    height = max(16, _TILE_BYTES // (8 * n))
    for start in range(0, len(queries), height):
        tile = queries[start : start + height]
        similarities = products(rough[tile], rough, ready.metric)
        similarities[np.arange(len(tile)), tile] = -np.inf
        found = (
            np.argpartition(-similarities, k - 1, axis=1)[:, :k] if k < n - 1 else np.tile(np.arange(n), (len(tile), 1))
        )
        best = np.take_along_axis(similarities, found, axis=1)
        order = np.lexsort((found, -best), axis=1)[:, :k]
        rows[start : start + len(tile)] = np.take_along_axis(found, order, axis=1)
        values[start : start + len(tile)] = np.take_along_axis(best, order, axis=1)
    return rows, np.asarray(ready.shown(values), dtype=np.float64)


def neighbors(
    profiles: pl.DataFrame | pl.LazyFrame,
    k: int = 10,
    metric: Metric = "cosine",
    features: Features = None,
    queries: str | None = None,
    on_invalid: Policy = "error",
) -> pl.DataFrame:
    """The ``k`` nearest other profiles of each profile.

    Parameters
    ----------
    profiles
        A DataFrame, a LazyFrame or a level of a store.
    k
        How many; at most the number of other profiles.
    metric, features, on_invalid
        As in :class:`cytofast.Retrieval`. Euclidean similarities are ``1 / (1 + distance)``.
    queries
        SQL predicate: whose neighbours are wanted.

    Returns
    -------
    polars.DataFrame
        ``k`` rows a query, in the order of the table: metadata of the query, ``rank`` from 1, ``similarity``, and the
        metadata of the neighbour with ``_neighbor`` behind each name.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Well": ["A01", "A02", "A03"], "Cells_x": [1.0, 1.0, -1.0], "Cells_y": [0.0, 0.1, 0.2]})
    >>> neighbors(wells, k=1)["Metadata_Well_neighbor"].to_list()
    ['A02', 'A01', 'A02']
    """
    ready = prepared(profiles, metric, features, [], "neighbors", on_invalid, predicate_columns(queries))
    n = len(ready.units)
    k = whole_number("k", k, 0, "neighbors")
    if not 1 <= k < n:
        raise RecipeError(f"neighbors: k must lie between 1 and {n - 1}, the number of other profiles, not {k}")
    mask = reference_mask(ready.metadata, queries, "neighbors: queries")
    asking = np.arange(n) if mask is None else np.flatnonzero(mask)
    if not len(asking):
        raise DataError(
            f"neighbors: no profile satisfies queries={queries!r}. Hint: is the value written as in the table?"
        )
    rows, values = nearest(ready, asking, k)
    left = ready.metadata[np.repeat(asking, k)]
    middle = pl.DataFrame({"rank": np.tile(np.arange(1, k + 1), len(asking)), "similarity": values.ravel()})
    right = ready.metadata[rows.ravel()]
    return left.hstack(middle).hstack(right.rename({name: f"{name}_neighbor" for name in right.columns}))


def similarity(
    profiles: pl.DataFrame | pl.LazyFrame,
    names: str | None = None,
    metric: Metric = "cosine",
    features: Features = None,
    on_invalid: Policy = "error",
) -> pl.DataFrame:
    """The similarity of every profile with every other, as a wide table for a heat map.

    Parameters
    ----------
    profiles, metric, features, on_invalid
        As in :func:`cytofast.neighbors`.
    names
        A metadata column with a distinct value a profile, to name the columns by; ``None`` numbers them from 0.

    Returns
    -------
    polars.DataFrame
        The metadata, then a float32 column a profile, in the order of the table.

    Raises
    ------
    DataError
        The matrix does not fit into the memory budget, or ``names`` does not tell profiles apart.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Well": ["A01", "A02"], "Cells_x": [1.0, 1.0], "Cells_y": [0.0, 1.0]})
    >>> [round(value, 3) for value in similarity(wells, names="Metadata_Well")["A02"]]
    [0.707, 1.0]
    """
    ready = prepared(profiles, metric, features, [names] if names else [], "similarity", on_invalid)
    n = len(ready.units)
    if 8 * n * n > resources.current().working_bytes:
        raise DataError(
            f"similarity: a matrix of {n:,} profiles does not fit into the memory budget. Hint: aggregate or filter the "
            "profiles, raise the budget with cytofast.limits, or ask for neighbors(k=...) instead."
        )
    columns = [str(i) for i in range(n)]
    if names is not None:
        columns = [str(value) for value in ready.metadata[names].to_list()]
        clashes = set(columns) & set(ready.metadata.columns)
        if len(set(columns)) < n or clashes:
            raise DataError(
                f"similarity: the values of {names!r} do not tell {n:,} profiles apart, or are names of metadata columns."
            )
    matrix = np.asfortranarray(ready.shown(products(ready.rough, ready.rough, ready.metric)), dtype=np.float32)
    return ready.metadata.hstack(pl.DataFrame(matrix, schema=columns, orient="row"))
