"""cytofast, called as its users call it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl

import cytofast as cf
from benchmarks.contenders import ACTIVITY, CONSISTENCY, cell_files
from benchmarks.sql_store import TEXTS

NEGCON = "Metadata_control_type = 'negcon'"


def _per_plate():
    """Made by those who call it: an ingest begins without the kernels, as it does for a user."""
    return cf.RobustMAD(by="Metadata_Plate", reference=NEGCON)


# --- single cells: from file to file -------------------------------------------------------------------------------


def _lazy(source):
    if (source / "store").is_dir():
        return cf.open_store(source / "store").scan("cells")
    return pl.concat(cf.read_profiles(path) for path in cell_files(source))


def _from_store(source, recipe: str, levels: list[str]):
    """A recipe from the cells on; what an earlier run made is taken away, which is no part of the first call."""

    def clear() -> None:
        for level in levels:
            shutil.rmtree(source / "store" / f"level={level}", ignore_errors=True)

    def work() -> Path:
        clear()
        cf.run(recipe, source / "store")
        return source / "store" / f"level={levels[-1]}"

    clear()
    return work


def aggregate(source, out, shape):
    """A level of a store from the one before; others' files as a lazy query."""
    if (source / "store").is_dir():
        chain = out / "wells.toml"
        chain.write_text('source = "cells"\n\n[[wells]]\nstep = "aggregate"\n')
        return _from_store(source, str(chain), ["wells"])

    def work():
        cf.write_profiles(cf.Aggregate()(_lazy(source)), out / "wells.parquet")
        return out / "wells.parquet"

    return work


def profile_wells(source, out, shape):
    """From a store with its recipe; others' files step by step."""
    if (source / "store").is_dir():
        return _from_store(source, "default", ["wells", "profiles"])

    def work():
        wells = cf.Aggregate()(_lazy(source)).collect()
        annotated = cf.Annotate(pl.read_parquet(source / "platemap.parquet"))(wells)
        cf.write_profiles(_per_plate()(annotated), out / "profiles.parquet")
        return out / "profiles.parquet"

    return work


def normalize_cells(source, out, shape):
    return _from_store(source, "single_cells", ["cells_normalized"])


def recipe(source, out, shape):
    return _from_store(source, "cpjump1", ["wells", "normalized", "profiles"])


def recipe_to_map(source, out, shape):
    """From cells to the mAP of every compound."""
    made = recipe(source, out, shape)

    def work():
        made()
        profiles = cf.open_store(source / "store").scan("profiles").collect()
        rule = cf.activity(profiles.columns)
        return rule.mean_average_precision(profiles, null_size=shape.get("null_size", 10_000))

    return work


def profiles_to_map(source, out, shape):
    """From the normalized wells of many plates, one file each, to selected profiles and the mAP of every compound."""

    def work():
        lazy = pl.scan_parquet(source / "profiles" / "*.parquet", hive_partitioning=False)
        rules = [cf.DropLowFrequency(), cf.DropCorrelated(0.9), cf.DropMissing(0.0), cf.DropListed()]
        selected = cf.FeatureSelect(rules)(lazy).collect()
        rule = cf.activity(selected.columns)
        return rule.mean_average_precision(selected, null_size=shape.get("null_size", 10_000))

    return work


# --- wells: in memory ----------------------------------------------------------------------------------------------


def _step_on_wells(source, step):
    table = pl.read_parquet(source / "wells.parquet")
    return lambda: step(table)


def normalize_wells(source, out, shape):
    return _step_on_wells(source, _per_plate())


def select_correlated(source, out, shape):
    work = _step_on_wells(source, cf.DropCorrelated(0.9))
    return lambda: sorted(name for name in work().columns if name.startswith("Cells"))


def modz(source, out, shape):
    return _step_on_wells(source, cf.Consensus("Metadata_pert", method="modz"))


def sphere(source, out, shape):
    return _step_on_wells(source, cf.Sphere())


def select_and_sphere(source, out, shape):
    """Out of core: wells of many files, selected and sphered into one."""

    def work():
        lazy = pl.scan_parquet(source / "wells" / "*.parquet")
        rules = [cf.DropMissing(), cf.DropLowFrequency(), cf.DropCorrelated(0.9)]
        selected = cf.FeatureSelect(rules)(lazy)
        cf.write_profiles(cf.Sphere()(selected), out / "sphered.parquet")
        return out / "sphered.parquet"

    return work


# --- retrieval -----------------------------------------------------------------------------------------------------


def _profiles(source):
    return pl.read_parquet(source / "profiles.parquet")


def activity(source, out, shape):
    table, rule = _profiles(source), cf.Retrieval(**ACTIVITY, queries="Metadata_neg = 0")
    return lambda: rule.mean_average_precision(table, null=shape["null"], null_size=shape["null_size"])


def consistency(source, out, shape):
    table, rule = _profiles(source), cf.Retrieval(**CONSISTENCY)
    return lambda: rule.mean_average_precision(table, null=shape["null"], null_size=shape["null_size"])


def average_precision(source, out, shape):
    table = _profiles(source)
    return lambda: cf.average_precision(table, **CONSISTENCY)


def null_generation(source, out, shape):
    from cytofast.kernels.chance import draw_means

    drawn = np.empty(shape["null_size"])

    def work():
        draw_means([(shape["positives"], shape["total"])], 1, 0, drawn)
        return drawn

    return work


def configurations(source, out, shape):
    table = pl.read_parquet(source / "precisions.parquet")
    return lambda: cf.mean_average_precision(table, "Metadata_pert", null_size=shape["null_size"])


# --- ingest --------------------------------------------------------------------------------------------------------


def _ingested(export, out, **options):
    def work():
        shutil.rmtree(out / "ingested", ignore_errors=True)
        cf.open_store(out / "ingested", create=True).ingest(export, **options)
        return out / "ingested" / "level=cells"

    return work


def ingest_csv(source, out, shape):
    return _ingested(source / "export" / "analysis", out)


ingest_sites = ingest_csv


def ingest_sqlite(source, out, shape):
    return _ingested(source / "EX00100001.sqlite", out)


# --- SQL -----------------------------------------------------------------------------------------------------------


def sql(source, out, shape):
    store = source / "store"

    def work():
        opened, query = cf.open_store(store), shape["query"]
        tables = {"compounds": pl.read_parquet(source / "compounds.parquet")} if "join" in query else None
        return opened.sql(TEXTS[query], tables=tables)

    return work
