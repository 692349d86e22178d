"""Which perturbations can be asked about at all: those whose replicates agree in both modalities, or in either."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from cytofast.blocks import require_polars
from cytofast.errors import DataError
from cytofast.modalities.align import Quality, high_quality
from cytofast.retrieval.replication import replicate_correlation
from cytofast.schema import Features, as_columns, require_columns, resolve_features


def agreeing(
    a: pl.DataFrame | pl.LazyFrame,
    b: pl.DataFrame | pl.LazyFrame,
    on: str | Sequence[str],
    quality: Quality = "both",
    *,
    a_features: Features = None,
    b_features: Features = None,
    null_size: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """The treatments whose replicates correlate better than strangers do, in both modalities or in either.

    :func:`cytofast.replicate_correlation` of each table, over its features without missing values, and
    :func:`cytofast.high_quality` of both. Rows with a null in ``on`` are left out.

    Raises
    ------
    DataError
        No treatment has two replicates on a side, or none is left.
    """
    keys = as_columns(on)
    found = []
    for profiles, features, name in ((a, a_features, "a"), (b, b_features, "b")):
        where = f"quality, table {name}"
        require_polars(profiles, where)
        schema = profiles.collect_schema()
        require_columns(schema, keys, where)
        names = resolve_features(schema, features, where, by=keys)
        named = (pl.col(key).fill_nan(None) if schema[key].is_float() else pl.col(key) for key in keys)
        table = profiles.lazy().select(*named, *names).drop_nulls(keys).collect()
        whole = table.select(pl.col(names).cast(pl.Float64).is_finite().all(ignore_nulls=False)).row(0, named=True)
        complete = [feature for feature, finite in whole.items() if finite]
        if not complete:
            raise DataError(f"{where}: every feature has missing values. Hint: select features first (DropMissing).")
        scores = replicate_correlation(table, keys, complete, null_size, seed)
        if scores["replicate_correlation"].null_count() == scores.height:
            raise DataError(
                f"{where}: no {'/'.join(keys)} has two replicates, so nothing tells which ones agree. "
                "Hint: give replicates, not their means, or leave quality out."
            )
        found.append(scores)
    kept = high_quality(found[0], found[1], keys, quality)
    if not kept.height:
        raise DataError(
            f"quality: the replicates of no {'/'.join(keys)} agree in {'both tables' if quality == 'both' else 'either'}. "
            "Hint: are the profiles normalized per plate?"
        )
    return kept
