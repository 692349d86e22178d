"""Is a contender's answer right? A sample of it against the oracle; raises AssertionError that says what differs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import retrieval_checks, sql_store
from benchmarks.contenders import CELL_KEYS, KEYS, cell_files, is_feature, oracle

SAMPLE = 5


def load(out: Path) -> object:
    """What a worker kept of the answer; a frame that lies in files is scanned."""
    if (out / "answer.parquet").exists():
        return pl.scan_parquet(out / "answer.parquet", hive_partitioning=False)
    if (out / "answer.npy").exists():
        return np.load(out / "answer.npy")
    answer = json.loads((out / "answer.json").read_text())
    if isinstance(answer, dict) and "path" in answer:
        path = Path(answer["path"])
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        return pl.concat((pl.scan_parquet(file, hive_partitioning=False) for file in files), how="diagonal_relaxed")
    return answer


def check(task: str, source: Path, shape: dict, out: Path) -> bool:
    """Whether there is an answer (numpy's bare work has none); raises where it is wrong."""
    answer = load(out)
    if answer is not None:
        CHECKS[task](answer, source, shape)
    return answer is not None


def _some(names: list[str]) -> list[str]:
    """A few features, not the constant ones, which have no answer."""
    varied = [name for i, name in enumerate(names) if i % 200]
    return varied[:: max(1, len(varied) // SAMPLE)][:SAMPLE]


def _cells(source: Path, sample: list[str]) -> pl.DataFrame:
    cells = pl.concat(
        pl.scan_parquet(file, hive_partitioning=False).select(*CELL_KEYS, *sample) for file in cell_files(source)
    )
    platemap = pl.scan_parquet(source / "platemap.parquet").select(*KEYS, "Metadata_control_type")
    return cells.join(platemap, on=KEYS, how="left").sort(CELL_KEYS).collect()


def _sampled(source: Path) -> list[str]:
    return _some([name for name in pl.read_parquet_schema(cell_files(source)[0]) if is_feature(name)])


def _medians(source: Path, sample: list[str]) -> pl.DataFrame:
    cells = _cells(source, sample)
    wells = cells.select(*KEYS, "Metadata_control_type").unique().sort(KEYS)
    group = cells.select(pl.struct(KEYS).rank("dense")).to_series().to_numpy()
    return wells.with_columns(pl.Series(name, oracle.medians(cells[name].to_numpy(), group)) for name in sample)


def _scaled(table: pl.DataFrame, name: str) -> np.ndarray:
    """Robust z-scores of rows that are sorted by plate."""
    plates = table.partition_by("Metadata_Plate", maintain_order=True)
    control = [(plate["Metadata_control_type"] == "negcon").fill_null(False).to_numpy() for plate in plates]
    return np.concatenate([oracle.robust_z(p[name].to_numpy(), c) for p, c in zip(plates, control, strict=True)])


def aggregate(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    sample = _sampled(source)
    found, wanted = answer.select(*KEYS, *sample).sort(KEYS).collect(), _medians(source, sample)
    for name in sample:
        oracle.close(found[name], wanted[name], name)


def profile_wells(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    sample = _sampled(source)
    found, wanted = answer.select(*KEYS, *sample).sort(KEYS).collect(), _medians(source, sample)
    for name in sample:
        oracle.close(found[name], _scaled(wanted, name), name)


def recipe(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    names = [name for name in answer.collect_schema().names() if is_feature(name)]
    sample = names[:: max(1, len(names) // SAMPLE)][:SAMPLE]
    found, wanted = answer.select(*KEYS, *sample).sort(KEYS).collect(), _medians(source, sample)
    for name in sample:
        oracle.close(found[name], _scaled(wanted, name), name)


def recipe_to_map(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    table = answer.collect()
    active = table["Metadata_broad_sample"].str.slice(-3).cast(pl.Int64) % 3 == 1
    hit, missed = table.filter(active)["retrieved"].mean(), table.filter(~active)["retrieved"].mean()
    assert hit > missed, f"{hit:.2f} of the active compounds found, and {missed:.2f} of the others"


def normalize_cells(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    sample = _sampled(source)
    cells = _cells(source, sample)
    found = answer.select(*CELL_KEYS, *sample).sort(CELL_KEYS).collect()
    for name in sample:
        oracle.close(found[name], _scaled(cells, name), name)


def _wells(source: Path) -> tuple[pl.DataFrame, list[str]]:
    table = pl.read_parquet(source / "wells.parquet")
    return table, [name for name in table.columns if is_feature(name)]


def normalize_wells(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    table, names = _wells(source)
    for name in _some(names):
        oracle.close(answer.select(name).collect()[name], _scaled(table, name), name)


def select_correlated(answer: list[str], source: Path, shape: dict) -> None:
    table, names = _wells(source)
    wanted = oracle.kept_features(table.select(names).to_numpy().astype(float))
    kept = set(answer)
    wrong = [name for name, keep in zip(names, wanted, strict=True) if keep >= 0 and (name in kept) != bool(keep)]
    assert not wrong, f"{len(wrong)} features kept or dropped wrongly, {wrong[:3]}"


def modz(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    table, names = _wells(source)
    x = table.select(names).to_numpy().astype(float)
    found = answer.collect()
    for pert in table["Metadata_pert"].unique().sort().gather_every(max(1, shape["rows"] // 40)):
        wanted = oracle.modz(x[(table["Metadata_pert"] == pert).to_numpy()])
        oracle.close(
            found.filter(pl.col("Metadata_pert") == pert).select(names).row(0), wanted, pert, 2e-2
        )  # rounded weights


def sphere(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    x = answer.select(pl.selectors.starts_with("Cells")).collect().to_numpy().astype(float)
    covariance = np.cov(x, rowvar=False)
    oracle.close(covariance, np.eye(len(covariance)), "covariance", 2e-3)


def select_and_sphere(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    part = (
        answer.select(pl.selectors.starts_with("Cells"))
        .select(pl.nth(range(SAMPLE)))
        .collect()
        .to_numpy()
        .astype(float)
    )
    oracle.close(np.cov(part, rowvar=False), np.eye(SAMPLE), "covariance", 1e-2)


def ingest(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    area = "Cells_AreaShape_Area"
    files = sorted((source / "export" / "analysis").rglob("Cells.csv"))
    if files:
        wanted = pl.concat(pl.read_csv(path, columns=["AreaShape_Area"]) for path in files)["AreaShape_Area"].to_list()
    else:
        with closing(sqlite3.connect(source / "EX00100001.sqlite")) as connection:
            wanted = [value for (value,) in connection.execute(f"SELECT {area} FROM Cells")]
    found = answer.select(area).collect()[area].to_list()
    oracle.close(np.sort(found), np.sort(wanted), area, 1e-5)


def sql(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    """Against what Polars says of the same files, which reads them without the store."""
    table, query = answer.collect(), shape["query"]
    if query == "open":
        return
    if query == "well median of three":  # by value, on one plate: Polars would take 10 GB for all
        plate = pl.read_parquet(next((source / "store" / "level=cells").rglob("*.parquet")), hive_partitioning=False)
        found = table.filter(pl.col("Metadata_Plate") == plate["Metadata_Plate"][0]).sort("Metadata_Well")
        group = plate["Metadata_Well"].rank("dense").to_numpy()
        for name, median in zip(sql_store.MEDIANS, found.columns[2:], strict=True):
            oracle.close(found[median], oracle.medians(plate[name].to_numpy(), group), name)
        return
    wanted = sql_store.polars_query(source, query)
    assert table.height == wanted.height, f"{table.height} rows instead of {wanted.height}"
    if "n" in wanted.columns:
        assert table["n"].sum() == wanted["n"].sum(), f"{table['n'].sum()} cells instead of {wanted['n'].sum()}"


RETRIEVAL = ("activity", "consistency", "average_precision", "null_generation", "configurations")
CHECKS = {
    **{f.__name__: f for f in (aggregate, profile_wells, recipe, recipe_to_map, normalize_cells, normalize_wells)},
    **{f.__name__: f for f in (select_correlated, modz, sphere, select_and_sphere, sql)},
    **{name: getattr(retrieval_checks, name) for name in RETRIEVAL},
    "ingest_csv": ingest,
    "ingest_sites": ingest,
    "ingest_sqlite": ingest,
}
