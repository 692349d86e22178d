"""Seeded tables of wells and of profiles, and CellProfiler exports: what the tasks after single cells begin with."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import polars as pl

import cytofast

CHUNK = 5_000


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


def sqlite_export(folder: Path, shape: dict) -> None:
    """The same plate as one CellProfiler SQLite file, ``folder/EX00100001.sqlite``: tables Image, Cells, Cytoplasm, Nuclei."""
    csv_export(folder, shape)
    sites = sorted((folder / "export" / "analysis").rglob("Image.csv"))
    connection = sqlite3.connect(folder / "EX00100001.sqlite")
    for table in ("Image", "Cells", "Cytoplasm", "Nuclei"):
        frames = [_prefixed(pl.read_csv(path.parent / f"{table}.csv", infer_schema_length=None, null_values="nan"), table)
                  for path in sites if (path.parent / f"{table}.csv").exists()]  # fmt: skip
        whole = pl.concat(frames, how="vertical_relaxed")
        names = ", ".join(f'"{name}" {_sql_type(whole[name])}' for name in whole.columns)
        connection.execute(f"CREATE TABLE {table} ({names})")
        marks = ", ".join("?" * whole.width)
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", whole.iter_rows())
    connection.commit()
    connection.close()


def _prefixed(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    """Columns as cytominer-database names them."""
    own = {"ImageNumber", "ObjectNumber"}
    image = {f"Metadata_{key}": f"Image_Metadata_{key}" for key in ("Plate", "Well", "Site")}
    new = image if table == "Image" else {name: f"{table}_{name}" for name in frame.columns if name not in own}
    return frame.rename(new).select(pl.lit(1).alias("TableNumber"), pl.all())


def _sql_type(column: pl.Series) -> str:
    return "INTEGER" if column.dtype.is_integer() else "REAL" if column.dtype.is_float() else "TEXT"
