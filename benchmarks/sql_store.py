"""SQL over a store of many cells: the store, and every task as SQL and as Polars.

All contenders read the same files. Cells know their well but not their compound: the platemaps lie beside them, and each
contender joins them where a task asks for it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

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


def make(source: Path, shape: dict) -> None:
    """Write ``{cells, plates}`` plate by plate to ``source/store``, and the compounds beside it."""
    import cytofast
    from cytofast.store.layout import PlateName
    from cytofast.store.manifest import Manifest

    store = cytofast.open_store(source / "store", create=True)
    cells, plates = shape["cells"], shape["plates"]
    for plate in range(plates):
        name = PlateName("B1", f"P{plate:05d}")
        count = cells // plates + (plate < cells % plates)
        manifest = Manifest("cells", name.batch, name.plate, "", 0, 0, "", f"{plate:012d}", {})
        store.write_partition("cells", name, f"{plate:012d}", [plate_cells(plate, count)], lambda m=manifest: m)
        store.write_annotation(name, platemap(plate))
    compounds().write_parquet(source / "compounds.parquet")


# --- tasks ---------------------------------------------------------------------------------------------------------

MEDIANS = ("Cells_AreaShape_Area", "Nuclei_AreaShape_Area", "Cells_Intensity_MeanIntensity_DNA")
FIVE = ("Metadata_Plate", "Metadata_Well", "Metadata_Site", "Cells_AreaShape_Area", "Nuclei_AreaShape_Area")
FILTERED = "BRD-000777"
KEYS = ("Metadata_Batch", "Metadata_Plate", "Metadata_Well")

TEXTS = {
    "open": "SELECT count(*) FROM plates",
    "count by plate": "SELECT Metadata_Plate, count(*) AS n FROM cells GROUP BY ALL",
    "well median of three": "SELECT Metadata_Plate, Metadata_Well, "
    + ", ".join(f"median({name})" for name in MEDIANS)
    + " FROM cells GROUP BY ALL",
    "join, count by target": "SELECT Metadata_target, count(*) AS n FROM cells "
    "JOIN compounds USING (Metadata_broad_sample) GROUP BY ALL",
    "filter, five columns": f"SELECT {', '.join(FIVE)} FROM cells WHERE Metadata_broad_sample = '{FILTERED}'",
}


def duckdb_text(source: Path, task: str) -> str:
    """The same query over files instead of views."""
    cells = f"read_parquet('{source}/store/level=cells/*/*/*.parquet', hive_partitioning = false)"
    maps = f"read_parquet('{source}/store/annotations/*/*.parquet', hive_partitioning = false)"
    if task == "open":
        files = f"parquet_file_metadata('{source}/store/level=cells/*/*/*.parquet')"
        return f"SELECT count(*) FROM (SELECT DISTINCT file_name FROM {files})"
    annotated = f"(SELECT * FROM {cells} AS c LEFT JOIN {maps} AS a USING ({', '.join(KEYS)}))"
    text = TEXTS[task].replace("FROM cells", f"FROM {annotated if 'broad' in TEXTS[task] else f'({cells})'}")
    return text.replace("JOIN compounds", f"JOIN '{source}/compounds.parquet'").replace(
        f"FROM ({cells})", f"FROM {cells}"
    )


def polars_query(source: Path, task: str) -> pl.DataFrame:
    cells = pl.scan_parquet(f"{source}/store/level=cells/*/*/*.parquet", hive_partitioning=False)
    maps = pl.scan_parquet(f"{source}/store/annotations/*/*.parquet", hive_partitioning=False)
    annotated = cells.join(maps, on=list(KEYS), how="left", nulls_equal=True)
    lazy = {
        "open": lambda: cells.select(pl.len()),
        "count by plate": lambda: cells.group_by("Metadata_Plate").len("n"),
        "well median of three": lambda: cells.group_by("Metadata_Plate", "Metadata_Well").agg(pl.col(MEDIANS).median()),
        "join, count by target": lambda: (
            annotated.join(pl.scan_parquet(source / "compounds.parquet"), on="Metadata_broad_sample")
            .group_by("Metadata_target")
            .len("n")
        ),
        "filter, five columns": lambda: annotated.filter(pl.col("Metadata_broad_sample") == FILTERED).select(FIVE),
    }[task]()
    return lazy.collect(engine="streaming")
