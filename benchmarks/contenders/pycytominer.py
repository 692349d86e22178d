"""pycytominer, called as its documentation and the profiling recipe call it; pandas reads its files."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pycytominer as pc

from benchmarks.contenders import KEYS, cell_files, is_feature

warnings.filterwarnings("ignore")
NEGCON = "Metadata_control_type == 'negcon'"
MAD = {"method": "mad_robustize", "samples": NEGCON}
MAP = ["Metadata_broad_sample", "Metadata_control_type"]


def _cells(source) -> list[pd.DataFrame]:
    return [pd.read_parquet(path) for path in cell_files(source)]


def _annotated(profiles: pd.DataFrame, source) -> pd.DataFrame:
    platemap = pd.read_parquet(source / "platemap.parquet")
    return profiles.merge(platemap[[*KEYS, *MAP]], on=KEYS, how="left")


def aggregate(source, out, shape):
    def work():
        frames = [pc.aggregate(cells) for cells in _cells(source)]
        pd.concat(frames).to_parquet(out / "wells.parquet")
        return out / "wells.parquet"

    return work


def profile_wells(source, out, shape):
    def work():
        plates = (_annotated(pc.aggregate(pd.read_parquet(path)), source) for path in cell_files(source))
        pd.concat([pc.normalize(plate, **MAD) for plate in plates]).to_parquet(out / "profiles.parquet")
        return out / "profiles.parquet"

    return work


def normalize_cells(source, out, shape):
    def work():
        platemap = pd.read_parquet(source / "platemap.parquet")
        for path in cell_files(source):
            cells = pd.read_parquet(path)
            # Looked up and not merged, which would copy the whole table.
            of_plate = platemap[platemap["Metadata_Plate"] == cells["Metadata_Plate"].iloc[0]]
            cells["Metadata_control_type"] = cells["Metadata_Well"].map(
                of_plate.set_index("Metadata_Well")["Metadata_control_type"]
            )
            (out / "normalized").mkdir(exist_ok=True)
            pc.normalize(cells, **MAD, output_file=str(out / "normalized" / path.name), output_type="parquet")
        return out / "normalized"

    return work


def recipe(source, out, shape):
    made = profile_wells(source, out, shape)

    def work():
        rules = ["frequency_threshold", "correlation_threshold", "drop_na_columns", "blocklist"]
        selected = pc.feature_select(pd.read_parquet(made()), operation=rules)
        selected.to_parquet(out / "selected.parquet")
        return out / "selected.parquet"

    return work


# --- wells: in memory, as float64, which it casts to ---------------------------------------------------------------


def _wells(source) -> tuple[pd.DataFrame, list[str]]:
    table = pd.read_parquet(source / "wells.parquet")
    features = [name for name in table.columns if is_feature(name)]
    table[features] = table[features].astype(np.float64)
    return table, features


def normalize_wells(source, out, shape):
    table, features = _wells(source)
    plates = [plate for _, plate in table.groupby("Metadata_Plate")]
    head = [name for name in table.columns if name not in set(features)]
    return lambda: pd.concat([pc.normalize(plate, features=features, meta_features=head, **MAD) for plate in plates])


def select_correlated(source, out, shape):
    table, features = _wells(source)

    def work():
        kept = pc.feature_select(table, features=features, operation="correlation_threshold")
        return sorted(name for name in kept.columns if is_feature(name))

    return work


def modz(source, out, shape):
    table, features = _wells(source)
    return lambda: pc.consensus(table, replicate_columns=["Metadata_pert"], operation="modz", features=features)


def sphere(source, out, shape):
    table, features = _wells(source)
    return lambda: pc.normalize(table, features=features, meta_features=["Metadata_Plate"], method="spherize")


# --- ingest --------------------------------------------------------------------------------------------------------


def ingest_sqlite(source, out, shape):
    """Its reader of SQLite, which newer versions call deprecated."""
    from pycytominer.cyto_utils.cells import SingleCells

    def work():
        columns = ["TableNumber", "ImageNumber", "Image_Metadata_Plate", "Image_Metadata_Well"]
        cells = SingleCells(
            f"sqlite:///{source / 'EX00100001.sqlite'}",
            strata=["Image_Metadata_Plate", "Image_Metadata_Well"],
            image_cols=columns,
            fields_of_view_feature="Image_Metadata_Site",
        )
        cells.merge_single_cells().to_parquet(out / "cells.parquet")
        return out / "cells.parquet"

    return work
