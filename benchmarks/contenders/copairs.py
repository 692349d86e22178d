"""copairs, called as its documentation calls it."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pandas as pd
from copairs import compute
from copairs import map as copairs

from benchmarks.contenders import ACTIVITY, CONSISTENCY

warnings.filterwarnings("ignore")


def _profiles(source) -> tuple[pd.DataFrame, np.ndarray]:
    table = pd.read_parquet(source / "profiles.parquet")
    meta = table[[name for name in table.columns if name.startswith("Metadata")]].copy()
    return meta, np.ascontiguousarray(table.drop(columns=meta.columns).to_numpy())


def _map(ap: pd.DataFrame, out, shape) -> pd.DataFrame:
    # Its cache on disk would remember the nulls of the run before.
    shutil.rmtree(out / "nulls", ignore_errors=True)
    options = {"null_size": shape["null_size"], "threshold": 0.05, "seed": 0, "progress_bar": False}
    return copairs.mean_average_precision(ap, ["Metadata_pert"], cache_dir=out / "nulls", **options)


def activity(source, out, shape):
    meta, x = _profiles(source)
    # Its way of keeping controls from being queries: each is alone with its index.
    meta["Metadata_index"] = np.where(meta["Metadata_neg"] == 1, meta.index, -1)
    rule = {**ACTIVITY, "pos_sameby": ["Metadata_pert", "Metadata_index"]}

    def work():
        ap = copairs.average_precision(meta, x, **rule, progress_bar=False)
        return _map(ap[ap["Metadata_neg"] == 0], out, shape)

    return work


def consistency(source, out, shape):
    meta, x = _profiles(source)
    return lambda: _map(copairs.average_precision(meta, x, **CONSISTENCY, progress_bar=False), out, shape)


def average_precision(source, out, shape):
    meta, x = _profiles(source)
    return lambda: copairs.average_precision(meta, x, **CONSISTENCY, progress_bar=False)


def null_generation(source, out, shape):
    return lambda: compute.random_ap(shape["null_size"], shape["positives"], shape["total"], 0)


def configurations(source, out, shape):
    table = pd.read_parquet(source / "precisions.parquet")
    return lambda: _map(table, out, shape)
