"""Average precision by the names and arguments that users of copairs know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from cytofast.blocks import reference_mask
from cytofast.errors import DataError, SchemaError
from cytofast.retrieval.rule import Retrieval
from cytofast.schema import Features

REFERENCE_INDEX = "Metadata_Reference_Index"


def average_precision(
    profiles: pl.DataFrame | pl.LazyFrame,
    pos_sameby: Sequence[str],
    pos_diffby: Sequence[str] = (),
    neg_sameby: Sequence[str] = (),
    neg_diffby: Sequence[str] = (),
    *,
    controls: str | None = None,
    queries: str | None = None,
    metric: Literal["cosine", "abs_cosine", "correlation", "euclidean"] = "cosine",
    features: Features = None,
    tie: Literal["average", "optimistic"] = "average",
    multilabel: str | None = None,
    where: str | None = None,
) -> pl.DataFrame:
    """Average precision of each query profile: :meth:`cytofast.Retrieval.average_precision` as one call.

    The parameters are those of :class:`cytofast.Retrieval`.

    Examples
    --------
    >>> import polars as pl
    >>> wells = pl.DataFrame({"Metadata_pert": ["a", "a", "b", "b"], "Cells_x": [1.0, 1.1, -1.0, 0.2], "Cells_y": [0.1, 0, 1, 2]})
    >>> average_precision(wells, ["Metadata_pert"], neg_diffby=["Metadata_pert"])["n_total_pairs"].to_list()
    [3, 3, 3, 3]
    """
    rule = Retrieval(
        pos_sameby=pos_sameby,
        pos_diffby=pos_diffby,
        neg_sameby=neg_sameby,
        neg_diffby=neg_diffby,
        controls=controls,
        queries=queries,
        metric=metric,
        features=features,
        tie=tie,
        multilabel=multilabel,
        where=where,
    )
    return rule.average_precision(profiles)


def assign_reference_index(
    profiles: pl.DataFrame, condition: str, reference_col: str = REFERENCE_INDEX, default_value: int = -1
) -> pl.DataFrame:
    """Number the rows that satisfy a SQL predicate, controls say, each by its row; all others get ``default_value``.

    With this column in ``pos_sameby``, controls do not match each other.

    Raises
    ------
    DataError
        No row satisfies the predicate.
    SchemaError
        This is no DataFrame.
    """
    if not isinstance(profiles, pl.DataFrame):
        raise SchemaError(
            f"assign_reference_index: numbers rows, so it needs a polars DataFrame, not a {type(profiles).__name__}. "
            "Hint: collect() it first."
        )
    mask = reference_mask(profiles, condition, "assign_reference_index")
    if mask is None or not mask.any():
        raise DataError(
            f"assign_reference_index: no row satisfies {condition!r}. Hint: is the value written as in the table?"
        )
    return profiles.with_columns(pl.Series(reference_col, np.where(mask, np.arange(profiles.height), default_value)))
