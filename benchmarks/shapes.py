"""Seeded plates in the shape of CPJUMP1, streamed into a store: nothing larger than a few wells is ever in memory.

64 controls of 384 wells, a shift for every plate, heavy tails, correlated neighbours, one feature in 50 with missing values,
one in 200 constant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

import cytofast
from cytofast.store.layout import PlateName
from cytofast.store.manifest import Manifest
from cytofast.store.profile_store import ProfileStore

WELLS = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito", "BFHigh", "BFLow", "Brightfield")
BATCH = "synthetic"


def feature_names(count: int) -> list[str]:
    """Names in CellProfiler's grammar."""
    names = [
        f"{compartment}_Texture_{measure}_{channel}_{scale}_{angle:02d}_256"
        for compartment in ("Cells", "Cytoplasm", "Nuclei")
        for channel in CHANNELS
        for measure in (
            "Contrast",
            "Correlation",
            "Entropy",
            "SumAverage",
            "SumEntropy",
            "Variance",
            "InfoMeas1",
            "InfoMeas2",
        )
        for scale in range(2, 10)
        for angle in range(4)
    ]
    assert count <= len(names), f"at most {len(names)} features"
    return names[:count]


def wells_of_cells(plate: int, cells: int, features: int, seed: int = 0) -> Iterator[pl.DataFrame]:
    """A plate's cells, eight wells at a time."""
    names = feature_names(features)
    rng = np.random.Generator(np.random.PCG64([seed, plate]))
    shift = rng.normal(size=features).astype(np.float32)
    per_well = max(1, cells // len(WELLS))
    for start in range(0, len(WELLS), 8):
        rows = 8 * per_well
        x = rng.standard_normal((features, rows), dtype=np.float32)
        x[1::2] += x[: len(x) - 1 : 2][: len(x[1::2])]
        x *= 1 + 4 * (rng.random(rows, dtype=np.float32) < 0.01)  # some cells are far out in everything
        x += shift[:, None]
        x[::200] = 7
        for column in range(3, features, 50):
            x[column, rng.random(rows) < 0.02] = np.nan
        keys = {
            "Metadata_Batch": [BATCH] * rows,
            "Metadata_Plate": [f"P{plate:03d}"] * rows,
            "Metadata_Well": np.repeat(WELLS[start : start + 8], per_well),
            "Metadata_Site": np.tile(np.arange(per_well) % 9 + 1, 8),
            "Metadata_TableNumber": np.zeros(rows, dtype=np.int64),
            "Metadata_ImageNumber": np.repeat(np.arange(start, start + 8), per_well),
            "Metadata_ObjectNumber": np.tile(np.arange(per_well), 8),
        }
        yield pl.DataFrame({**keys, **dict(zip(names, x, strict=True))})


def platemap(plate: int) -> pl.DataFrame:
    """Every sixth well is a negative control without a name."""
    control = [i % 6 == 0 for i in range(len(WELLS))]
    return pl.DataFrame(
        {
            "Metadata_Batch": [BATCH] * len(WELLS),
            "Metadata_Plate": [f"P{plate:03d}"] * len(WELLS),
            "Metadata_Well": WELLS,
            "Metadata_broad_sample": [None if c else f"BRD-{i:04d}" for i, c in enumerate(control)],
            "Metadata_control_type": ["negcon" if c else None for c in control],
        }
    )


def make_store(folder: Path, cells: int, features: int, plates: int = 1) -> ProfileStore:
    """A store of some plates; plates that are there already are left as they are."""
    store = cytofast.open_store(folder, create=True)
    for plate in range(plates):
        name = PlateName(BATCH, f"P{plate:03d}")
        key = hashlib.sha256(f"{cells} {features} {plate}".encode()).hexdigest()
        if (present := store.partition("cells", name)) is not None and present.manifest.key == key:
            continue
        manifest = Manifest("cells", name.batch, name.plate, "", 0, 0, "", key, {})
        store.write_partition("cells", name, key, wells_of_cells(plate, cells, features), lambda m=manifest: m)
        store.write_annotation(name, platemap(plate))
    return store
