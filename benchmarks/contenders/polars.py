"""Polars as one would write it: the whole table at once."""

from __future__ import annotations

import polars as pl

from benchmarks.contenders import KEYS, cell_files, is_feature
from benchmarks.sql_store import polars_query

PLATE = ["Metadata_Plate"]
NEGCON = pl.col("Metadata_control_type") == "negcon"


def _cells(source) -> tuple[pl.LazyFrame, list[str]]:
    lazy = pl.scan_parquet(cell_files(source), hive_partitioning=False)
    return lazy, [name for name in lazy.collect_schema().names() if is_feature(name)]


def _annotated(profiles: pl.LazyFrame, source) -> pl.LazyFrame:
    platemap = pl.scan_parquet(source / "platemap.parquet").drop("Metadata_Batch")
    return profiles.join(platemap, on=KEYS, how="left", maintain_order="left")


def robust(profiles: pl.LazyFrame, features: list[str]) -> pl.LazyFrame:
    """Every feature against the controls of its plate."""
    controls = profiles.filter(NEGCON).select(*PLATE, *features)
    centre = controls.group_by(PLATE).agg(pl.col(features).median())
    moved = controls.join(centre, on=PLATE, suffix="_c").select(
        *PLATE, *((pl.col(f) - pl.col(f + "_c")).abs() for f in features)
    )
    spread = moved.group_by(PLATE).agg(pl.col(features).median() * 1.4826)
    joined = profiles.join(centre, on=PLATE, suffix="_c", maintain_order="left")
    joined = joined.join(spread, on=PLATE, suffix="_s", maintain_order="left")
    scaled = joined.with_columns((pl.col(f) - pl.col(f + "_c")) / pl.col(f + "_s") for f in features)
    return scaled.select(profiles.collect_schema().names())


def aggregate(source, out, shape):
    def work():
        lazy, features = _cells(source)
        lazy.group_by(KEYS).agg(pl.col(features).median()).collect(engine="streaming").write_parquet(
            out / "wells.parquet"
        )
        return out / "wells.parquet"

    return work


def profile_wells(source, out, shape):
    def work():
        lazy, features = _cells(source)
        wells = lazy.group_by(KEYS).agg(pl.col(features).median()).collect(engine="streaming").lazy()
        robust(_annotated(wells, source), features).collect().write_parquet(out / "profiles.parquet")
        return out / "profiles.parquet"

    return work


def normalize_cells(source, out, shape):
    def work():
        lazy, features = _cells(source)
        robust(_annotated(lazy, source), features).sink_parquet(out / "cells.parquet")
        return out / "cells.parquet"

    return work


def normalize_wells(source, out, shape):
    table = pl.read_parquet(source / "wells.parquet")
    features = [name for name in table.columns if is_feature(name)]
    return lambda: robust(table.lazy(), features).collect()


def sql(source, out, shape):
    return lambda: polars_query(source, shape["query"])
