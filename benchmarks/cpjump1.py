"""CPJUMP1 at its size, made up: 107 plates of 700,000 cells x 5,792 features, or all 75,000,000 cells at once.

    python -m benchmarks.cpjump1 --plates 4    plates one after the other: generate to scratch, process, delete; then select, mAP
    python -m benchmarks.cpjump1 --tall        75,000,000 cells x 48 features of 107 plates, cells to mAP in one command
    python -m benchmarks.cpjump1 --tall --smoke      either one, in seconds; keeps nothing

Each writes one file to benchmarks/results. A plate is 16 GB on disk, the tall store 15 GB. What is timed runs in a process of its
own, and its answer is checked.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks import process, shapes
from benchmarks.checks import check
from benchmarks.machine import calibration
from benchmarks.measuring import Setting, measure, out_of_cache
from benchmarks.run import keep, line, ours_failed
from benchmarks.sets import Measurement
from benchmarks.tasks import filled

TALL = {"cells": 75_000_000, "features": 48, "plates": 107, "memory": "2GB"}
SMALL_TALL = {"cells": 30_000, "features": 48, "plates": 4, "memory": "2GB", "null_size": 1_000}
WIDE = {"cells": 700_000, "features": 5_792, "memory": "2GB"}
SMALL_WIDE = {"cells": 3_000, "features": 60, "memory": "2GB"}


def tall(scratch: Path, shape: dict, *, warm_up: bool) -> dict:
    """All cells at once."""
    return measure(Measurement("recipe_to_map", shape, rounds=1, repeats=0), Setting(scratch, warm_up=warm_up))


def plate_by_plate(scratch: Path, count: int, shape: dict) -> dict:
    """Plates that are never on disk together; what is left of each are its profiles and its figures."""
    begin, pace = time.perf_counter(), calibration()
    one = filled("profile_wells", shape)
    kept, figures, made = scratch / "profiles-of-all" / "profiles", [], []
    kept.mkdir(parents=True)
    for plate in range(count):
        source = scratch / "plate"
        generating = time.perf_counter()
        shapes.write_plate(source, plate, one)
        shapes.platemap(plate).write_parquet(source / "platemap.parquet")
        made.append(time.perf_counter() - generating)
        out_of_cache(source)  # as it would be: a plate is read once
        found = process.run("cytofast", "profile_wells", source, scratch / "out", one)
        if "failed" in found:
            return {"failed": found["failed"]}
        check("profile_wells", source, one, scratch / "out")
        for path in (source / "store" / "level=profiles").rglob("*.parquet"):
            shutil.copy(path, kept / f"{shapes.plate_name(plate)}.parquet")
        shutil.rmtree(source)
        figures.append(found)
        print(
            f"plate {plate}: {found['process']:.1f} s, {found['peak'] / 1e9:.2f} GB, made in {made[-1]:.0f} s",
            flush=True,
        )
    last = process.run("cytofast", "profiles_to_map", kept.parent, scratch / "out", {"memory": shape["memory"]})
    if "failed" in last:
        return {"failed": last["failed"]}
    rows = sum(pl.scan_parquet(path).select(pl.len()).collect().item() for path in kept.iterdir())
    return {
        "seconds": [round(found["process"], 2) for found in figures],
        "cpu_seconds": [round(found["process_cpu"], 2) for found in figures],
        "median_seconds": statistics.median(found["process"] for found in figures),
        "peak": max(found["peak"] for found in figures),
        "read": statistics.median(found["first"]["read"] for found in figures),
        "made_seconds": [round(seconds, 1) for seconds in made],
        "select_and_map_seconds": last["process"],
        "select_and_map_peak": last["peak"],
        "wells": rows,
        "calibration": pace,
        "took_seconds": time.perf_counter() - begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--plates", type=int, metavar="N")
    which.add_argument("--tall", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="sizes of seconds; keeps nothing")
    parser.add_argument("--cells", type=int, help="in all (--tall) or of a plate (--plates)")
    parser.add_argument("--features", type=int)
    parser.add_argument("--memory", help="the budget; 2GB")
    parser.add_argument("--scratch", type=Path, help="default: a temporary folder; what is made in it is deleted")
    given = parser.parse_args()
    if given.plates is not None and given.plates < 2:
        parser.error("--plates: a compound needs two plates to have a replicate")
    asked = {name: getattr(given, name) for name in ("cells", "features", "memory") if getattr(given, name) is not None}
    if given.scratch is not None:
        given.scratch.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="cytofast-cpjump1-", dir=given.scratch))
    try:
        if given.tall:
            result = tall(scratch, {**(SMALL_TALL if given.smoke else TALL), **asked}, warm_up=not given.smoke)
            failed, shown = ours_failed(result), line(result)
        else:
            shape = {**(SMALL_WIDE if given.smoke else WIDE), **asked, "plates": 1}
            answer = plate_by_plate(scratch, given.plates, shape)
            says = f"{given.plates} plates of {shape['cells']:,} cells x {shape['features']:,}, one after the other"
            result = {"task": "cpjump1_plates", "says": says, "shape": shape, "plates": given.plates, "answer": answer}
            failed, shown = "failed" in answer, line(result)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(shown)
    if not given.smoke and not failed:
        keep("cpjump1-tall" if given.tall else "cpjump1-plates", result, "full")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
