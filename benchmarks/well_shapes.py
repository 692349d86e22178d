"""Seeded tables of wells and of profiles, and CellProfiler exports: what the tasks after single cells begin with."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

import cytofast

CHUNK = 5_000
REAL_DATA = Path(os.environ.get("CYTOFAST_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(list(key)))


def features(x: np.ndarray, prefix: str = "Cells_Intensity_f") -> pl.DataFrame:
    return pl.from_numpy(x, schema=[f"{prefix}{i}" for i in range(x.shape[1])])


def _block(seed: int, n: int, f: int) -> np.ndarray:
    """``float32[n, f]``: 60 shared factors and noise, and every tenth feature nearly its neighbour."""
    loadings = _generator(1).normal(size=(60, f)).astype(np.float32)
    rng = _generator(2, seed)
    x = rng.standard_normal((n, 60), np.float32) @ loadings + 3 * rng.standard_normal((n, f), np.float32)
    x[:, 1::10] = x[:, :-1:10][:, : x[:, 1::10].shape[1]] + x[:, 1::10] / 10
    return x


def _part(seed: int, start: int, n: int, shape: dict) -> pl.DataFrame:
    x = _block(seed, n, shape["features"])
    gaps = np.zeros(x.shape, bool)
    if shape.get("gaps"):  # in one column of twenty
        gaps[:, ::20] = _generator(3, seed).random(gaps[:, ::20].shape) < 0.02
        x[gaps] = np.nan
    at = np.arange(start, start + n)
    head = {
        "Metadata_Plate": [f"P{i // 384:04d}" for i in at],
        "Metadata_pert": [f"T{i % max(1, shape['rows'] // 4):05d}" for i in at],
        "Metadata_control_type": ["negcon" if i % 6 == 0 else "trt" for i in at],
    }
    return pl.DataFrame(head).hstack(features(x).fill_nan(None))


def nothing(folder: Path, shape: dict) -> None:
    """A task that begins with numbers alone."""
    folder.mkdir(parents=True, exist_ok=True)


def wells(folder: Path, shape: dict) -> None:
    """``{rows, features, gaps}``: plates of 384 wells, four replicates of each perturbation."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, shape["rows"], CHUNK)
    parts = [_part(seed, start, min(CHUNK, shape["rows"] - start), shape) for seed, start in enumerate(starts)]
    pl.concat(parts).write_parquet(folder / "wells.parquet", compression="uncompressed", row_group_size=65_536)


def many_wells(folder: Path, shape: dict) -> None:
    """The same, one file for 5,000 wells: more than fits into memory."""
    (folder / "wells").mkdir(parents=True, exist_ok=True)
    for seed, start in enumerate(range(0, shape["rows"], CHUNK)):
        part = _part(seed, start, min(CHUNK, shape["rows"] - start), shape)
        part.write_parquet(folder / "wells" / f"{seed:04d}.parquet", compression="uncompressed")


def activity(folder: Path, shape: dict) -> None:
    """``{rows, features}``: plates of 306 compounds and 64 controls; each compound is on four plates."""
    rng, f = _generator(1), shape["features"]
    n_plates = max(1, shape["rows"] // 370)
    plate, well = np.repeat(np.arange(n_plates), 370), np.tile(np.arange(370), n_plates)
    pert = np.where(well < 306, plate // 4 * 306 + well, -1)
    effects = 0.3 * rng.standard_normal((pert.max() + 2, f), np.float32)
    effects[-1] = 0
    x = effects[pert] + rng.standard_normal((len(pert), f), np.float32)
    head = pl.DataFrame({"Metadata_Plate": plate, "Metadata_pert": pert, "Metadata_neg": (pert < 0).astype(int)})
    folder.mkdir(parents=True, exist_ok=True)
    head.hstack(features(x, "Cells_f")).write_parquet(folder / "profiles.parquet")


def consistency(folder: Path, shape: dict) -> None:
    """``{rows, features}``: labels of 2 to 29 profiles each."""
    rng, n, f = _generator(0), shape["rows"], shape["features"]
    label = np.repeat(np.arange(n), rng.integers(2, 30, size=n))[:n]
    x = rng.standard_normal((n, f), np.float32) + 0.2 * rng.standard_normal((n, f), np.float32)[label]
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"Metadata_pert": label}).hstack(features(x, "Cells_f")).write_parquet(folder / "profiles.parquet")


def precisions(folder: Path, shape: dict) -> None:
    """``{configurations}``: average precisions of as many distinct (positives, total), four profiles each."""
    rng, wanted = _generator(3), shape["configurations"]
    pairs = zip(rng.integers(1, 30, 4 * wanted), rng.integers(60, 6_000, 4 * wanted), strict=True)
    distinct = sorted({(int(m), int(n)) for m, n in pairs})[:wanted]
    rows = [(i, m, n) for i, (m, n) in enumerate(distinct) for _ in range(4)]
    table = pl.DataFrame(rows, schema=["Metadata_pert", "n_pos_pairs", "n_total_pairs"], orient="row")
    folder.mkdir(parents=True, exist_ok=True)
    scores = pl.Series(rng.uniform(0.001, 0.05, len(rows)))
    table = table.with_columns(average_precision=scores, normalized_average_precision=scores)
    table.write_parquet(folder / "precisions.parquet")


def csv_export(folder: Path, shape: dict) -> None:
    """``{wells, sites, cells}``: a plate as CellProfiler's CSV folders."""
    each = max(1, shape["cells"] // (shape["wells"] * shape["sites"]))
    cytofast.write_example(folder / "export", plates=1, wells=shape["wells"], sites=shape["sites"], cells_per_site=each)


def site_copies(folder: Path, shape: dict) -> None:
    """``{copies, site}``: one site's CSV files as so many wells, with an ImageNumber each.

    ``site`` is the folder of a real site below ``single_cell/`` of $CYTOFAST_REAL_DATA, or ``example``, a made one.
    """
    if shape["site"] == "example":
        made = folder / "example"
        cytofast.write_example(made, plates=1, wells=6, sites=1, cells_per_site=20)
        site = min(path.parent for path in (made / "analysis").rglob("Cells.csv"))
    else:
        site = REAL_DATA / "single_cell" / shape["site"]
        if not site.is_dir():
            raise SystemExit(f"no folder {site}: set CYTOFAST_REAL_DATA to the folder of the real data")
    for number in range(1, shape["copies"] + 1):
        well = f"{'ABCDEFGHIJKLMNOP'[(number - 1) // 24]}{(number - 1) % 24 + 1:02d}"
        target = folder / "export" / "analysis" / "copies" / "PLATE1" / "analysis" / f"PLATE1-{well}-1"
        target.mkdir(parents=True)
        for path in sorted(site.glob("*.csv")):
            table = pl.read_csv(path, infer_schema=False).with_columns(ImageNumber=pl.lit(str(number)))
            if path.name == "Image.csv":
                table = table.with_columns(
                    Metadata_Plate=pl.lit("PLATE1"), Metadata_Well=pl.lit(well), Metadata_Site=pl.lit("1")
                )
            table.write_csv(target / path.name)


def sqlite_export(folder: Path, shape: dict) -> None:
    """``{cells, wells, features}``: a plate as one CellProfiler SQLite file, ``folder/EX00100001.sqlite``, as cytominer-database
    writes it: tables Image, Cells, Cytoplasm and Nuclei, one image a well, a third of the features in each compartment.

    ``Number_Object_Number`` and the images' file names, which CellProfiler writes, are what CytoTable joins by.
    """
    rng, wells, cells = _generator(5), shape["wells"], shape["cells"]
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "EX00100001.sqlite")

    def fill(table: str, columns: list[str], rows: Iterable[Sequence[object]]) -> None:
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)

    image = ["Image_Metadata_Plate TEXT", "Image_Metadata_Well TEXT", "Image_Metadata_Site INTEGER"]
    image += ["Image_Metadata_Row TEXT", "Image_FileName_DNA TEXT"]
    keys = ["TableNumber INTEGER", "ImageNumber INTEGER"]
    names = [f"{'ABCDEFGHIJKLMNOP'[well // 24]}{well % 24 + 1:02d}" for well in range(wells)]
    images = [(1, i + 1, "EX00100001", name, 1, name[0], f"{name}.tif") for i, name in enumerate(names)]
    fill("Image", [*keys, *image], images)
    image_number = np.sort(np.arange(cells) % wells) + 1
    object_number = np.arange(cells) - np.searchsorted(image_number, image_number) + 1
    for place, table in enumerate(("Cells", "Cytoplasm", "Nuclei")):
        count = shape["features"] // 3 + (place < shape["features"] % 3)
        features = [f"{table}_AreaShape_Area", *(f"{table}_Intensity_f{i}" for i in range(2, count))]
        own = [*keys, "ObjectNumber INTEGER", f"{table}_Number_Object_Number INTEGER"]
        parents = ["Cytoplasm_Parent_Cells", "Cytoplasm_Parent_Nuclei"] if table == "Cytoplasm" else []

        def rows(count: int = count, parents: list[str] = parents) -> Iterator[tuple[object, ...]]:
            for i, number in zip(image_number.tolist(), object_number.tolist(), strict=True):
                yield 1, i, number, number, *(number for _ in parents), *rng.standard_normal(count - 1).tolist()

        columns = [*own, *(f"{name} INTEGER" for name in parents), *(f"{name} REAL" for name in features)]
        fill(table, columns, rows())
    connection.commit()
    connection.close()
