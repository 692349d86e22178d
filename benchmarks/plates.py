"""Single cells of whole plates, from a store of ours: well medians and their normalization, or normalized cells.

    python -m benchmarks.plates TASK [--cells N] [--features F] [--plates P] [--memory 2GB] [--threads T] [--folder DIR]

Tasks: ``wells`` (the default recipe: medians of wells, annotated, robust z-scores), ``cells`` (every cell as a robust z-score).
Prints one JSON line: wall and CPU seconds, ns a value, peak memory, and the same for the floor: the bytes of the features read
once, and one selection with numpy's partition. A few features are checked against numpy in the same run.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

import cytofast
from benchmarks.shapes import feature_names, make_store

RECIPES = {"wells": "default", "cells": "single_cells"}


def once(task: str, folder: Path, memory: str, threads: int | None) -> dict[str, float]:
    """In a process of its own: the run, and what it took."""
    begin = time.perf_counter()
    cytofast.run(RECIPES[task], folder, memory=memory, threads=threads)
    wall = time.perf_counter() - begin
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_gib": usage.ru_maxrss / 2**20}


def check(task: str, folder: Path, features: int) -> None:
    """Compare some features with numpy on the cells themselves."""
    store = cytofast.open_store(folder)
    for name in feature_names(features)[1 :: max(1, features // 5)]:  # not the constant ones, which have no answer
        cells = store.scan(
            "cells", columns=["Metadata_Plate", "Metadata_Well", "Metadata_control_type", name]
        ).collect()
        values = cells.with_columns(pl.col(name).fill_nan(None).cast(pl.Float64))
        by = ["Metadata_Plate", "Metadata_Well"]
        if task == "wells":
            expected = values.group_by(by).agg(pl.col(name).median()).sort(by)[name].cast(pl.Float32)
            found = store.scan("wells", columns=[*by, name]).collect().sort(by)[name]
        else:
            controls = pl.col(name).filter(pl.col("Metadata_control_type") == "negcon")
            scaled = (pl.col(name) - controls.median()) / (1.4826 * (controls - controls.median()).abs().median())
            expected = values.with_columns(scaled.over("Metadata_Plate"))[name]
            found = store.scan("cells_normalized", columns=[name]).collect()[name]
        a, b = found.cast(pl.Float64).to_numpy(), expected.cast(pl.Float64).to_numpy()
        finite = np.isfinite(b)
        assert finite.any(), name
        assert np.allclose(a[finite], b[finite], rtol=1e-5, atol=1e-5), name


def floor(folder: Path) -> float:
    """Seconds a value of reading the file once and of one selection, on one thread."""
    path = next((folder / "level=cells").rglob("*.parquet"))
    begin = time.perf_counter()
    read = 0
    with path.open("rb", buffering=0) as handle:
        while chunk := handle.read(1 << 25):
            read += len(chunk)
    reading = (time.perf_counter() - begin) / (read / 4)
    x = np.random.Generator(np.random.PCG64(0)).standard_normal((256, 2_000), dtype=np.float32)
    best = min(_clock(lambda: np.partition(x, 1_000, axis=1)) for _ in range(5)) / x.size
    return reading + best


def _clock(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=RECIPES)
    parser.add_argument("--cells", type=int, default=700_000)
    parser.add_argument("--features", type=int, default=5_792)
    parser.add_argument("--plates", type=int, default=1)
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--once", action="store_true", help="run on a store that is there, in this process")
    given = parser.parse_args()
    if given.once:
        print(json.dumps(once(given.task, given.folder, given.memory, given.threads)))
        return
    folder = given.folder or Path(tempfile.mkdtemp(prefix="cytofast-plates-"))
    try:
        store = make_store(folder, given.cells, given.features, given.plates)
        rows = store.describe()["levels"]["cells"]["rows"]
        runs = []
        for _ in range(given.repeats):
            for made in ("wells", "profiles", "cells_normalized"):
                shutil.rmtree(folder / f"level={made}", ignore_errors=True)
            command = [sys.executable, "-m", "benchmarks.plates", given.task, "--once"]
            command += ["--folder", str(folder), "--memory", given.memory]
            command += ["--threads", str(given.threads)] if given.threads else []
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        check(given.task, folder, given.features)
        values = rows * given.features
        middle = sorted(runs, key=lambda run: run["wall"])[len(runs) // 2]
        shape = {"cells": rows, "features": given.features, "plates": given.plates, "memory": given.memory}
        ns = {"ns_a_value": middle["wall"] / values * 1e9, "floor_ns_one_thread": floor(folder) * 1e9}
        print(json.dumps({"task": f"plates {given.task}", **shape, **middle, **ns, "repeats": given.repeats}))
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
