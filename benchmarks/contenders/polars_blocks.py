"""Polars by hand, 256 columns at a time: what one writes when the whole table does not fit."""

from __future__ import annotations

import polars as pl

from benchmarks.contenders import KEYS, blocks
from benchmarks.contenders.polars import _annotated, _cells, robust


def _wells(source) -> tuple[pl.DataFrame, list[str]]:
    lazy, features = _cells(source)
    parts = [lazy.group_by(KEYS).agg(pl.col(block).median()).sort(KEYS).collect() for block in blocks(features)]
    return pl.concat([parts[0], *(part.drop(KEYS) for part in parts[1:])], how="horizontal"), features


def aggregate(source, out, shape):
    def work():
        _wells(source)[0].write_parquet(out / "wells.parquet")
        return out / "wells.parquet"

    return work


def profile_wells(source, out, shape):
    def work():
        wells, features = _wells(source)
        robust(_annotated(wells.lazy(), source), features).collect().write_parquet(out / "profiles.parquet")
        return out / "profiles.parquet"

    return work
