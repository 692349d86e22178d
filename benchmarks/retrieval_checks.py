"""Are answers about retrieval right? A few perturbations of each against the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.contenders import oracle


def _similarities(source: Path) -> tuple[pl.DataFrame, np.ndarray]:
    table = pl.read_parquet(source / "profiles.parquet")
    x = table.select(pl.selectors.starts_with("Cells")).to_numpy().astype(float)
    return table, x / np.linalg.norm(x, axis=1, keepdims=True)


def _maps(answer: pl.LazyFrame, wanted: dict[int, float]) -> None:
    found = dict(answer.select("Metadata_pert", "mean_average_precision").collect().rows())
    oracle.close([found[pert] for pert in wanted], list(wanted.values()), "mAP", 1e-3)


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
        oracle.close(mine, sorted(scores), f"label {label}", 1e-3)


def null_generation(answer: np.ndarray, source: Path, shape: dict) -> None:
    mean, error = answer.mean(), answer.std() / np.sqrt(len(answer))
    assert abs(mean - oracle.expected_null(shape["positives"], shape["total"])) < 6 * error, f"mean {mean}"


def configurations(answer: pl.LazyFrame, source: Path, shape: dict) -> None:
    p = answer.select("p_value").collect()["p_value"]
    assert len(p) == shape["configurations"], f"{len(p)} p-values"
    assert p.is_between(0, 1).all(), "not all p-values lie in [0, 1]"
