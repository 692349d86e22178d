"""Where a result comes from: machine, versions, commit; and how fast the machine was at that moment."""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
MEASURED = ("cytofast", "sql", "benchmarks/contenders")
"""What a result depends on."""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def code() -> str:
    """A digest of the code that is measured, with what is not committed: equal digests, equal code."""
    parts = [_git("rev-parse", f"HEAD:{folder}") for folder in MEASURED]
    text = "\n".join([*parts, _git("diff", "HEAD", "--", *MEASURED)])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def about() -> dict[str, object]:
    """Of this machine and this checkout."""
    commit = _git("rev-parse", "HEAD")
    return {
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": platform.system(),
        },
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("cytofast", "polars", "duckdb", "pyarrow", "numpy", "numba")},
        "commit": commit + (" with changes" if commit and _git("status", "--porcelain", "--", *MEASURED) else ""),
        "code": code(),
    }


def calibration() -> float:
    """Seconds of a fixed piece of work (sort, product, copy): a machine that is busy or slower takes longer.

    The same time divides what is compared between two runs, so that a change of the machine is not taken for one of the code.
    """
    x = np.random.Generator(np.random.PCG64(0)).standard_normal((1_000, 1_000), dtype=np.float32)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        np.sort(x, axis=1)
        x @ x
        np.concatenate([x] * 16)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
