"""Seeded plates in the shape of CPJUMP1, streamed to disk: nothing larger than a few wells is ever in memory.

384 wells, every sixth a negative control; a shift for every plate, an effect for every third compound, heavy tails, correlated
pairs, one feature in 50 with missing values, one in 200 constant. Four plates in a row share their compounds, as replicates do.
The same cells can be written in our layout (a store) and as others write Parquet: dictionaries, zstd, small row groups.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

import cytofast
from benchmarks.names import feature_names
from cytofast.store.layout import PlateName
from cytofast.store.manifest import Manifest

WELLS = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
BATCH = "synthetic"
WELLS_AT_ONCE = 8
EVERY_CONTROL = 6
SITES = 9


def plate_name(plate: int) -> str:
    return f"P{plate:03d}"


def compounds_of(plate: int) -> list[str | None]:
    """What is in each well; null is a control."""
    return [None if i % EVERY_CONTROL == 0 else f"BRD-{plate // 4:03d}-{i:03d}" for i in range(len(WELLS))]


def _effects(plate: int, features: int, seed: int) -> np.ndarray:
    """``float32[384, features]``: the same for a compound on each of its plates."""
    rng = np.random.Generator(np.random.PCG64([seed, 9, plate // 4]))
    effects = np.zeros((len(WELLS), features), np.float32)
    active = [i for i in range(len(WELLS)) if i % EVERY_CONTROL and i % 3 == 1]
    effects[active] = 0.5 * rng.standard_normal((len(active), features), np.float32)
    return effects


def cells_in_a_well(cells: int) -> int:
    """Cells of each well, so that there are at least as many as asked for."""
    return max(1, -(-cells // len(WELLS)))


def wells_of_cells(plate: int, cells: int, features: int, seed: int = 0) -> Iterator[pl.DataFrame]:
    """A plate's cells, eight wells at a time, sorted by well, site, image and object."""
    names = feature_names(features)
    rng = np.random.Generator(np.random.PCG64([seed, plate]))
    shift = rng.standard_normal(features, np.float32)
    effects = _effects(plate, features, seed)
    per_well = cells_in_a_well(cells)
    site = np.sort(np.arange(per_well) % SITES) + 1
    for start in range(0, len(WELLS), WELLS_AT_ONCE):
        rows = WELLS_AT_ONCE * per_well
        x = rng.standard_normal((features, rows), dtype=np.float32)
        x[1::2] += x[: len(x) - 1 : 2][: len(x[1::2])]
        x[9::10] = x[8:-1:10][: len(x[9::10])] + 0.2 * x[9::10]
        x *= 1 + 4 * (rng.random(rows, dtype=np.float32) < 0.01)  # some cells are far out in everything
        x += shift[:, None]
        x += np.repeat(effects[start : start + WELLS_AT_ONCE].T, per_well, axis=1)
        x[::200] = 7
        columns = [pl.Series(name, row) for name, row in zip(names, x, strict=True)]
        for i in range(3, features, 50):
            columns[i] = columns[i].set(pl.Series(rng.random(rows) < 0.02), None)
        well = np.repeat(np.arange(start, start + WELLS_AT_ONCE), per_well)
        sites = np.tile(site, WELLS_AT_ONCE)
        keys = {
            "Metadata_Batch": [BATCH] * rows,
            "Metadata_Plate": [plate_name(plate)] * rows,
            "Metadata_Well": pl.Series(WELLS).gather(well),
            "Metadata_Site": sites,
            "Metadata_TableNumber": np.zeros(rows, dtype=np.int64),
            "Metadata_ImageNumber": well * SITES + sites,
            "Metadata_ObjectNumber": np.tile(np.arange(per_well), WELLS_AT_ONCE),
        }
        yield pl.DataFrame([*(pl.Series(name, values) for name, values in keys.items()), *columns])


def platemap(plate: int) -> pl.DataFrame:
    compounds = compounds_of(plate)
    return pl.DataFrame(
        {
            "Metadata_Batch": [BATCH] * len(WELLS),
            "Metadata_Plate": [plate_name(plate)] * len(WELLS),
            "Metadata_Well": WELLS,
            "Metadata_broad_sample": compounds,
            "Metadata_control_type": ["negcon" if name is None else None for name in compounds],
        }
    )


def write_plate(folder: Path, plate: int, shape: dict) -> None:
    """One plate: into the store ``folder/store``, or as ``folder/cells/P000.parquet`` as others write it."""
    frames = wells_of_cells(plate, shape["cells"] // shape["plates"], shape["features"])
    if shape.get("layout", "ours") == "others":
        path = folder / "cells" / f"{plate_name(plate)}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = None
        for frame in frames:
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=True)
            writer.write_table(table)  # a row group
        writer.close()
        return
    store = cytofast.open_store(folder / "store", create=True)
    name = PlateName(BATCH, plate_name(plate))
    key = hashlib.sha256(repr((plate, sorted(shape.items()))).encode()).hexdigest()
    manifest = Manifest("cells", name.batch, name.plate, "", 0, 0, "", key, {})
    store.write_partition("cells", name, key, frames, lambda: manifest)
    store.write_annotation(name, platemap(plate))


def plates(folder: Path, shape: dict) -> None:
    """All plates of a shape ``{cells, features, plates, layout}`` and ``folder/platemap.parquet``."""
    folder.mkdir(parents=True, exist_ok=True)
    for plate in range(shape["plates"]):
        write_plate(folder, plate, shape)
    pl.concat(platemap(plate) for plate in range(shape["plates"])).write_parquet(folder / "platemap.parquet")
