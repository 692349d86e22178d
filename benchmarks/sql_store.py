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


# --- tasks ---------------------------------------------------------------------------------------------------------

MEDIANS = ("Cells_AreaShape_Area", "Nuclei_AreaShape_Area", "Cells_Intensity_MeanIntensity_DNA")
FIVE = ("Metadata_Plate", "Metadata_Well", "Metadata_Site", "Cells_AreaShape_Area", "Nuclei_AreaShape_Area")
KEYS = ("Metadata_Batch", "Metadata_Plate", "Metadata_Well")

CYTOFAST = {
    "open": "SELECT count(*) FROM plates",
    "count by plate": "SELECT Metadata_Plate, count(*) AS n FROM cells GROUP BY ALL",
    "well median of three": "SELECT Metadata_Plate, Metadata_Well, "
    + ", ".join(f"median({name})" for name in MEDIANS)
    + " FROM cells GROUP BY ALL",
    "join, count by target": "SELECT Metadata_target, count(*) AS n FROM cells "
    "JOIN compounds USING (Metadata_broad_sample) GROUP BY ALL",
    "filter, five columns": f"SELECT {', '.join(FIVE)} FROM cells WHERE Metadata_broad_sample = 'BRD-000777'",
}


def by_cytofast(folder: Path, task: str) -> pl.DataFrame:
    import cytofast

    store = cytofast.open_store(folder)
    tables = {"compounds": pl.read_parquet(folder.parent / "compounds.parquet")} if "join" in task else None
    with cytofast.limits("2GB"):
        return store.sql(CYTOFAST[task], tables=tables)


def by_duckdb(folder: Path, task: str) -> pl.DataFrame:
    import duckdb

    connection = duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(folder.parent / "spill")})
    cells = f"read_parquet('{folder}/level=cells/*/*/*.parquet', hive_partitioning = false)"
    maps = f"read_parquet('{folder}/annotations/*/*.parquet', hive_partitioning = false)"
    annotated = f"{cells} AS c LEFT JOIN {maps} AS a USING ({', '.join(KEYS)})"
    text = CYTOFAST[task].replace(
        "FROM cells", f"FROM ({'SELECT * FROM ' + (annotated if 'broad' in CYTOFAST[task] else cells)})"
    )
    if task == "open":
        files = f"parquet_file_metadata('{folder}/level=cells/*/*/*.parquet')"
        text = f"SELECT count(*) FROM (SELECT DISTINCT file_name FROM {files})"
    return connection.sql(text.replace("JOIN compounds", f"JOIN '{folder.parent}/compounds.parquet'")).pl()


def by_polars(folder: Path, task: str) -> pl.DataFrame:
    cells = pl.scan_parquet(f"{folder}/level=cells/*/*/*.parquet", hive_partitioning=False)
    maps = pl.scan_parquet(f"{folder}/annotations/*/*.parquet", hive_partitioning=False)
    annotated = cells.join(maps, on=list(KEYS), how="left", nulls_equal=True)
    lazy = {
        "open": lambda: cells.select(pl.len()),
        "count by plate": lambda: cells.group_by("Metadata_Plate").len(),
        "well median of three": lambda: cells.group_by("Metadata_Plate", "Metadata_Well").agg(pl.col(MEDIANS).median()),
        "join, count by target": lambda: (
            annotated.join(pl.scan_parquet(folder.parent / "compounds.parquet"), on="Metadata_broad_sample")
            .group_by("Metadata_target")
            .len()
        ),
        "filter, five columns": lambda: annotated.filter(pl.col("Metadata_broad_sample") == "BRD-000777").select(FIVE),
    }[task]()
    return lazy.collect(engine="streaming")


CONTENDERS = {"cytofast": by_cytofast, "DuckDB": by_duckdb, "Polars": by_polars}


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def one(folder: Path, task: str, contender: str) -> dict[str, object]:
    """Measure one task in this process."""
    before, begun = bytes_read(), time.perf_counter()
    try:
        answer = CONTENDERS[contender](folder, task)
    except Exception as error:  # noqa: BLE001  (a contender that cannot do it has that as its result)
        return {"failed": str(error).splitlines()[0][:120]}
    rows = answer.height
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak": peak, "read": bytes_read() - before, "rows": rows}


def run(folder: Path) -> None:
    """Each task by each contender in a process of its own, and a table of it."""
    print("| task | contender | seconds | peak memory, MB | read, MB | rows |\n|---|---|---:|---:|---:|---:|")
    for task in CYTOFAST:
        for contender in CONTENDERS:
            command = [sys.executable, "-m", "benchmarks.sql_store", "task", str(folder), task, contender]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
            try:
                found = json.loads(done.stdout)
            except ValueError:
                found = {"failed": f"the process ended with {done.returncode}"}
            if "failed" in found:
                print(f"| {task} | {contender} | failed: {found['failed']} | | | |", flush=True)
            else:
                print(
                    f"| {task} | {contender} | {found['seconds']:.2f} | {found['peak'] / 1e6:,.0f} "
                    f"| {found['read'] / 1e6:,.0f} | {found['rows']:,} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["make", "run", "task"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("rest", nargs="*")
    given = parser.parse_args()
    folder = given.folder.absolute()
    if given.action == "make":
        make(folder)
    elif given.action == "run":
        run(folder)
    else:
        print(json.dumps(one(folder, *given.rest)))


if __name__ == "__main__":
    main()
