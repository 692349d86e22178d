"""SQL over a store of many cells: seconds, peak memory and bytes read, next to plain DuckDB and plain Polars.

    python -m benchmarks.sql_store make /scratch/big          # 75,000,000 cells x 48 features over 107 plates, 15 GB
    python -m benchmarks.sql_store run /scratch/big           # every task by every contender, each in its own process
    python -m benchmarks.sql_store task /scratch/big TASK CONTENDER

All contenders read the same files. Cells know their well but not their compound: the platemaps lie beside them, and each
contender joins them where a task asks for it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

PLATES = 107
CELLS = 75_000_000
COMPOUNDS = 100_000
CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
FEATURES = [
    f"{compartment}_{group}_{channel}"
    for compartment in ("Cells", "Cytoplasm", "Nuclei")
    for group in ("Intensity_MeanIntensity", "Intensity_StdIntensity", "RadialDistribution_MeanFrac")
    for channel in CHANNELS
] + [f"{compartment}_AreaShape_Area" for compartment in ("Cells", "Cytoplasm", "Nuclei")]
WELLS = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
SITES = 9


def plate_cells(plate: int, cells: int) -> pl.DataFrame:
    """One plate, sorted by well, site and object; one value in two hundred is missing."""
    rng = np.random.Generator(np.random.PCG64(plate))
    image = np.sort(rng.integers(0, len(WELLS) * SITES, cells))
    starts = np.searchsorted(image, image, side="left")
    values = rng.standard_normal((len(FEATURES), cells), dtype=np.float32)
    values[rng.random((len(FEATURES), cells), dtype=np.float32) < 0.005] = np.nan
    well = image // SITES
    names = pl.Series(WELLS)
    return pl.DataFrame(
        {
            "Metadata_Batch": pl.repeat("B1", cells, eager=True),
            "Metadata_Plate": pl.repeat(f"P{plate:05d}", cells, eager=True),
            "Metadata_Well": names.gather(well),
            "Metadata_Site": image % SITES + 1,
            "Metadata_TableNumber": np.zeros(cells, np.int64),
            "Metadata_ImageNumber": image + 1,
            "Metadata_ObjectNumber": np.arange(cells) - starts + 1,
            **dict(zip(FEATURES, values, strict=True)),
        }
    )


def platemap(plate: int) -> pl.DataFrame:
    """64 negative controls, whose compound is null, and 320 compounds of 100,000."""
    rng = np.random.Generator(np.random.PCG64([plate, 1]))
    control = np.arange(len(WELLS)) % 6 == 0
    drawn = rng.integers(0, COMPOUNDS, len(WELLS))
    return pl.DataFrame(
        {
            "Metadata_Batch": ["B1"] * len(WELLS),
            "Metadata_Plate": [f"P{plate:05d}"] * len(WELLS),
            "Metadata_Well": WELLS,
            "Metadata_broad_sample": [None if c else f"BRD-{d:06d}" for c, d in zip(control, drawn, strict=True)],
            "Metadata_control_type": ["negcon" if c else None for c in control],
        }
    )


def compounds() -> pl.DataFrame:
    """A table of compounds and their targets, as JUMP's compound.csv.gz is."""
    return pl.DataFrame(
        {
            "Metadata_broad_sample": [f"BRD-{i:06d}" for i in range(COMPOUNDS)],
            "Metadata_target": [f"GENE{i % 1400}" for i in range(COMPOUNDS)],
        }
    )


def make(folder: Path, cells: int = CELLS, plates: int = PLATES) -> None:
    """Write the store plate by plate; a plate that is there is left alone."""
    import cytofast
    from cytofast.store.layout import PlateName
    from cytofast.store.manifest import Manifest

    store = cytofast.open_store(folder, create=True)
    for plate in range(plates):
        name = PlateName("B1", f"P{plate:05d}")
        if store.partition("cells", name) is not None:
            continue
        count = cells // plates + (plate < cells % plates)
        manifest = Manifest("cells", name.batch, name.plate, "", 0, 0, "", f"{plate:012d}", {})
        store.write_partition("cells", name, f"{plate:012d}", [plate_cells(plate, count)], lambda m=manifest: m)
        store.write_annotation(name, platemap(plate))
    compounds().write_parquet(folder.parent / "compounds.parquet")


if __name__ == "__main__":
    make(Path(sys.argv[2]))
