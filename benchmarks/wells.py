"""Wells against pycytominer: both on the same table in one process, medians of ratios.

    python benchmarks/wells.py TASK [--rows N] [--features F] [--repeats R] [--alone]

Tasks: correlation, gaps, modz, sphere, outofcore. Prints one JSON line: seconds, ratios, peak memory in GiB.
``--alone`` leaves pycytominer out, where it would take minutes or does not fit; ``correlation`` compares with one symmetric
matrix product of the same shape.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl

warnings.filterwarnings("ignore")
SHAPES = {
    "correlation": (20_000, 5_792),
    "gaps": (5_000, 5_792),
    "modz": (20_000, 5_792),
    "sphere": (20_000, 500),
    "outofcore": (200_000, 2_000),
}


def block(seed: int, n: int, f: int) -> np.ndarray:
    """``float32[n, f]``: 60 shared factors and noise."""
    loadings = np.random.Generator(np.random.PCG64(1)).normal(size=(60, f)).astype(np.float32)
    rng = np.random.Generator(np.random.PCG64([2, seed]))
    return rng.standard_normal((n, 60), np.float32) @ loadings + 3 * rng.standard_normal((n, f), np.float32)


def table(n: int, f: int, gaps: bool = False) -> pl.DataFrame:
    parts = []
    for seed, start in enumerate(range(0, n, 5_000)):
        rows = min(5_000, n - start)
        x = block(seed, rows, f)
        if gaps:
            x[:, ::20][np.random.Generator(np.random.PCG64([3, seed])).random((rows, len(range(0, f, 20)))) < 0.02] = (
                np.nan
            )
        head = {
            "Metadata_Plate": [f"P{(start + i) // 384}" for i in range(rows)],
            "Metadata_pert": [f"T{(start + i) % (n // 4):05d}" for i in range(rows)],
        }
        features = pl.from_numpy(x, schema=[f"Cells_Intensity_f{i}" for i in range(f)])
        parts.append(pl.DataFrame(head).hstack(features))
    return pl.concat(parts, rechunk=True)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def clock(work) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def steps(task: str):
    from cytofast.steps.consensus import Consensus
    from cytofast.steps.correct import Sphere
    from cytofast.steps.select import DropCorrelated

    return {
        "correlation": DropCorrelated(0.9),
        "gaps": DropCorrelated(0.9),
        "modz": Consensus("Metadata_pert", method="modz"),
        "sphere": Sphere(),
    }[task]


def theirs(task: str, frame, features: list[str]):
    import pycytominer as pc

    return {
        "correlation": lambda: pc.feature_select(frame, features=features, operation="correlation_threshold"),
        "gaps": lambda: pc.feature_select(frame, features=features, operation="correlation_threshold"),
        "modz": lambda: pc.consensus(frame, replicate_columns=["Metadata_pert"], operation="modz", features=features),
        "sphere": lambda: pc.normalize(frame, features=features, meta_features=["Metadata_Plate"], method="spherize"),
    }[task]


def out_of_core(n: int, f: int) -> dict[str, object]:
    """Plates written as Parquet; selection and sphering read them in chunks."""
    from cytofast.steps.correct import Sphere
    from cytofast.steps.select import DropCorrelated, DropLowFrequency, DropMissing, FeatureSelect

    with tempfile.TemporaryDirectory() as folder:
        for seed, start in enumerate(range(0, n, 5_000)):
            rows = min(5_000, n - start)
            x = block(seed, rows, f)
            x[:, 1::10] = x[:, ::10] + x[:, 1::10] / 10
            names = [f"Cells_Intensity_f{i}" for i in range(f)]
            plate = pl.DataFrame({"Metadata_Plate": [f"P{seed:04d}"] * rows}).hstack(pl.from_numpy(x, schema=names))
            plate.write_parquet(Path(folder) / f"{seed:04d}.parquet", compression="uncompressed")
        del x, plate
        base = peak()
        wells = pl.scan_parquet(Path(folder) / "*.parquet")
        select = FeatureSelect([DropMissing(), DropLowFrequency(), DropCorrelated(0.9)])
        selecting, report = clock(lambda: select.fit(wells))
        selected = select.apply(wells, report)
        sphering, fit = clock(lambda: Sphere().fit(selected))

        def apply() -> int:
            done = Sphere().apply(selected, fit)
            done.sink_parquet(Path(folder) / "sphered.out")
            return (Path(folder) / "sphered.out").stat().st_size

        applying, size = clock(apply)
    return {
        "select_s": selecting,
        "sphere_fit_s": sphering,
        "sphere_apply_s": applying,
        "kept": len(fit),
        "bytes": size,
        "peak_gib": peak(),
        "peak_before_gib": base,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=SHAPES)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--features", type=int)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--alone", action="store_true")
    options = parser.parse_args()
    n, f = options.rows or SHAPES[options.task][0], options.features or SHAPES[options.task][1]
    found: dict[str, object] = {"task": options.task, "rows": n, "features": f}
    if options.task == "outofcore":
        found.update(out_of_core(n, f))
    else:
        frame = table(n, f, options.task == "gaps")
        step = steps(options.task)
        step(frame.head(64).select(frame.columns[:40]))  # compiles the kernels
        found["peak_before_gib"] = peak()
        ours = [clock(lambda: step(frame)) for _ in range(options.repeats)]
        found["peak_gib"] = peak()
        found["ours_s"] = statistics.median(t for t, _ in ours)
        if options.task == "correlation":
            for dtype in (np.float32, np.float64):
                x = frame.drop("Metadata_Plate", "Metadata_pert").to_numpy().astype(dtype)
                product = statistics.median(clock(lambda x=x: x.T @ x)[0] for _ in range(options.repeats))
                found[f"ratio_to_product_{dtype.__name__}"] = found["ours_s"] / product
                del x
        if not options.alone:
            features = [name for name in frame.columns if name.startswith("Cells")]
            pandas = frame.to_pandas()
            pandas[features] = pandas[features].astype(np.float64)
            peer = theirs(options.task, pandas, features)
            other = [clock(peer) for _ in range(options.repeats)]
            found["theirs_s"] = statistics.median(t for t, _ in other)
            found["times_faster"] = statistics.median(b / a for (a, _), (b, _) in zip(ours, other, strict=True))
            if options.task in {"correlation", "gaps"}:
                found["same_features"] = set(ours[0][1].columns) == set(other[0][1].columns)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
