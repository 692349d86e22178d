"""Run the benchmarks, one process a task, and keep what they say with machine, versions and commit.

    python -m benchmarks.run            a set of about ten minutes (make bench)
    python -m benchmarks.run --smoke    seconds: does every benchmark still run?
    python -m benchmarks.run --full     the sizes of the README's figures; hours where peers are slow

A task that needs a peer that is not installed (pip install '.[peers]') runs alone and says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("cytofast", "polars", "duckdb", "pyarrow", "numpy", "numba", "pycytominer", "copairs")

SMOKE = [
    "plates wells --cells 4000 --features 40",
    "plates cells --cells 4000 --features 40",
    "wells correlation --rows 300 --features 100 --repeats 1 --alone",
    "wells modz --rows 200 --features 50 --repeats 1 --alone",
    "retrieval activity --rows 1500 --features 20 --repeats 1 --alone",
    "retrieval consistency --rows 100 --features 20 --repeats 1 --alone",
    "planted --genes 12 --features 30 --controls 12 --null-size 200",
]
USUAL = [
    "plates wells --cells 100000 --features 2000 --repeats 3",
    "plates cells --cells 100000 --features 2000",
    "wells correlation --rows 5000 --features 2000",
    "wells gaps --rows 1000 --features 1000",
    "wells modz --rows 1500 --features 1000",
    "wells sphere --rows 5000",
    "retrieval activity --rows 3000",
    "retrieval consistency --rows 1000",
    "planted",
]
FULL = [
    "plates wells --repeats 3",
    "plates cells",
    "wells correlation",
    "wells gaps",
    "wells modz",
    "wells sphere",
    "wells outofcore --alone",
    "retrieval activity",
    "retrieval consistency",
    "retrieval consistency --null labels",
    "retrieval null",
    "retrieval configurations",
    "retrieval power",
    "planted",
]


def about() -> dict[str, object]:
    """Where this runs."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit or None,
    }


def run(line: str) -> dict[str, object]:
    """One benchmark: its JSON line, or why there is none."""
    module, *arguments = line.split()
    peer = {"wells": "pycytominer", "retrieval": "copairs"}.get(module)
    if peer and importlib.util.find_spec(peer) is None and "--alone" not in arguments:
        arguments.append("--alone")
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return {"command": line, "failed": done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]}
    return {"command": " ".join([module, *arguments]), **json.loads(done.stdout.strip().splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    chosen, name = (SMOKE, "smoke") if given.smoke else (FULL, "full") if given.full else (USUAL, "usual")
    results = []
    for line in chosen:
        begin = time.perf_counter()
        found = run(line)
        results.append(found)
        print(f"{time.perf_counter() - begin:7.1f} s  {json.dumps(found)}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**about(), "results": results}, indent=1) + "\n")
    if any("failed" in found for found in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
