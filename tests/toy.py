"""Small stores for tests."""

from pathlib import Path

import numpy as np
import polars as pl

import cytofast
from cytofast.store.layout import PlateName
from cytofast.store.manifest import Manifest
from cytofast.store.profile_store import ProfileStore

FEATURES = [f"{c}_Intensity_MeanIntensity_{i}" for c in ("Cells", "Nuclei") for i in range(4)]
WELLS = [f"{row}{column:02d}" for row in "AB" for column in range(1, 7)]


def cells(plate: str, batch: str = "B1", per_well: int = 5, seed: int = 0) -> pl.DataFrame:
    """Twelve wells of random cells; the second feature has holes, the third is constant."""
    rng = np.random.Generator(np.random.PCG64([seed, *plate.encode()]))
    n = per_well * len(WELLS)
    values = rng.normal(size=(n, len(FEATURES))).astype(np.float32)
    values[rng.random(n) < 0.1, 1] = np.nan
    values[:, 2] = 7
    return pl.DataFrame(
        {
            "Metadata_Batch": [batch] * n,
            "Metadata_Plate": [plate] * n,
            "Metadata_Well": np.repeat(WELLS, per_well),
            "Metadata_Site": [1] * n,
            "Metadata_TableNumber": [0] * n,
            "Metadata_ImageNumber": np.repeat(range(1, len(WELLS) + 1), per_well),
            "Metadata_ObjectNumber": list(range(1, per_well + 1)) * len(WELLS),
            **{name: values[:, i] for i, name in enumerate(FEATURES)},
        }
    ).with_columns(pl.col(FEATURES).fill_nan(None))


def platemap(plate: str, batch: str = "B1") -> pl.DataFrame:
    """Every third well is a negative control, whose sample is null."""
    return pl.DataFrame(
        {
            "Metadata_Batch": [batch] * len(WELLS),
            "Metadata_Plate": [plate] * len(WELLS),
            "Metadata_Well": WELLS,
            "Metadata_broad_sample": [None if i % 3 == 0 else f"BRD-{i}" for i in range(len(WELLS))],
            "Metadata_control_type": ["negcon" if i % 3 == 0 else None for i in range(len(WELLS))],
        }
    )


def add_plate(store: ProfileStore, frame: pl.DataFrame, *, annotated: bool = True) -> None:
    """Put a plate of cells into a store."""
    batch, plate = frame.select("Metadata_Batch", "Metadata_Plate").row(0)
    name = PlateName(batch, plate)
    key = f"{frame.hash_rows(seed=1).sum():x}".rjust(16, "0")
    manifest = Manifest("cells", batch, plate, "", 0, 0, "", key, {})
    store.write_partition("cells", name, key, [frame], lambda: manifest)
    if annotated:
        store.write_annotation(name, platemap(plate, batch))


def make_store(path: Path, plates: tuple[str, ...] = ("P1", "P2"), *, annotated: bool = True) -> ProfileStore:
    """A store of some plates."""
    store = cytofast.open_store(path, create=True)
    for plate in plates:
        add_plate(store, cells(plate), annotated=annotated)
    return store
