"""Is a contender's answer right? A sample of it against the oracle; raises AssertionError that says what differs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import sql_store
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


def _close(found, wanted, what: str, tolerance: float = 1e-4) -> None:
    a, b = np.asarray(found, float), np.asarray(wanted, float)
    assert a.shape == b.shape, f"{what}: {a.shape} values instead of {b.shape}"
    there = np.isfinite(b)
    assert there.any(), f"{what}: nothing to compare"
    worst = np.max(np.abs(a[there] - b[there]) / (1 + np.abs(b[there])))
    assert worst < tolerance, f"{what}: off by {worst:.2g}"


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
        _close(found[name], wanted[name], name)


def profile_wells(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    sample = _sampled(source)
    found, wanted = answer.select(*KEYS, *sample).sort(KEYS).collect(), _medians(source, sample)
    for name in sample:
        _close(found[name], _scaled(wanted, name), name)


def recipe(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    names = [name for name in answer.collect_schema().names() if is_feature(name)]
    sample = names[:: max(1, len(names) // SAMPLE)][:SAMPLE]
    found, wanted = answer.select(*KEYS, *sample).sort(KEYS).collect(), _medians(source, sample)
    for name in sample:
        _close(found[name], _scaled(wanted, name), name)


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
        _close(found[name], _scaled(cells, name), name)


def _wells(source: Path) -> tuple[pl.DataFrame, list[str]]:
    table = pl.read_parquet(source / "wells.parquet")
    return table, [name for name in table.columns if is_feature(name)]


def normalize_wells(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    table, names = _wells(source)
    for name in _some(names):
        _close(answer.select(name).collect()[name], _scaled(table, name), name)


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
        _close(
            found.filter(pl.col("Metadata_pert") == pert).select(names).row(0), wanted, pert, 5e-3
        )  # rounded weights


def sphere(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    x = answer.select(pl.selectors.starts_with("Cells")).collect().to_numpy().astype(float)
    covariance = np.cov(x, rowvar=False)
    _close(covariance, np.eye(len(covariance)), "covariance", 1e-3)


def select_and_sphere(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    part = (
        answer.select(pl.selectors.starts_with("Cells"))
        .select(pl.nth(range(SAMPLE)))
        .collect()
        .to_numpy()
        .astype(float)
    )
    _close(np.cov(part, rowvar=False), np.eye(SAMPLE), "covariance", 1e-2)


def _similarities(source: Path) -> tuple[pl.DataFrame, np.ndarray]:
    table = pl.read_parquet(source / "profiles.parquet")
    x = table.select(pl.selectors.starts_with("Cells")).to_numpy().astype(float)
    return table, x / np.linalg.norm(x, axis=1, keepdims=True)


def _maps(answer: pl.LazyFrame, wanted: dict[int, float]) -> None:
    found = dict(answer.select("Metadata_pert", "mean_average_precision").collect().rows())
    _close([found[pert] for pert in wanted], list(wanted.values()), "mAP", 1e-5)


def activity(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    table, x = _similarities(source)
    pert, plate, wanted = table["Metadata_pert"].to_numpy(), table["Metadata_Plate"].to_numpy(), {}
    for label in range(0, pert.max() + 1, max(1, pert.max() // 10)):
        rows = np.flatnonzero(pert == label)
        if len(rows) < 2:
            continue
        scores = [
            oracle.average_precision(x[rows[rows != q]] @ x[q], x[(pert < 0) & (plate == plate[q])] @ x[q])
            for q in rows
        ]
        wanted[label] = float(np.mean(scores))
    _maps(answer, wanted)


def _labels(source: Path) -> dict[int, list[float]]:
    table, x = _similarities(source)
    pert, wanted = table["Metadata_pert"].to_numpy(), {}
    for label in np.unique(pert)[:: max(1, len(np.unique(pert)) // 5)]:
        rows = np.flatnonzero(pert == label)
        if len(rows) > 1:
            similar = x[rows] @ x.T
            wanted[int(label)] = [
                oracle.average_precision(similar[i, rows[rows != q]], similar[i, pert != label])
                for i, q in enumerate(rows)
            ]
    return wanted


def consistency(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    _maps(answer, {label: float(np.mean(scores)) for label, scores in _labels(source).items()})


def average_precision(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    found = answer.select("Metadata_pert", "average_precision").collect()
    for label, scores in _labels(source).items():
        mine = found.filter(pl.col("Metadata_pert") == label)["average_precision"].sort()
        _close(mine, sorted(scores), f"label {label}", 1e-5)


def null_generation(answer: np.ndarray, source: Path, shape: dict) -> None:
    mean, error = answer.mean(), answer.std() / np.sqrt(len(answer))
    assert abs(mean - oracle.expected_null(shape["positives"], shape["total"])) < 6 * error, f"mean {mean}"


def configurations(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    p = answer.select("p_value").collect()["p_value"]
    assert len(p) == shape["configurations"], f"{len(p)} p-values"
    assert p.is_between(0, 1).all(), "not all p-values lie in [0, 1]"


def ingest(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    area = "Cells_AreaShape_Area"
    files = sorted((source / "export" / "analysis").rglob("Cells.csv"))
    cells = pl.concat(pl.read_csv(path, columns=["AreaShape_Area"]) for path in files)
    found = answer.select(area).collect()[area]
    assert len(found) == cells.height, f"{len(found)} cells of {cells.height}"
    _close([found.sum()], [cells["AreaShape_Area"].sum()], area, 1e-5)


def sql(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    """Against what Polars says of the same files, which reads them without the store."""
    table, query = answer.collect(), shape["query"]
    if query == "open":
        return
    wanted = sql_store.polars_query(source, query)
    assert table.height == wanted.height, f"{table.height} rows instead of {wanted.height}"
    if "n" in wanted.columns:
        assert table["n"].sum() == wanted["n"].sum(), f"{table['n'].sum()} cells instead of {wanted['n'].sum()}"


CHECKS = {
    **{f.__name__: f for f in (aggregate, profile_wells, recipe, recipe_to_map, normalize_cells, normalize_wells)},
    **{f.__name__: f for f in (select_correlated, modz, sphere, select_and_sphere, activity, consistency)},
    **{f.__name__: f for f in (average_precision, null_generation, configurations, sql)},
    "ingest_csv": ingest,
    "ingest_sqlite": ingest,
}
