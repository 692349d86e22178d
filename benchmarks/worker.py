"""One library, one task, one shape, in a process of its own: what it took, as JSON.

    python -m benchmarks.worker CONTENDER TASK SOURCE OUT SHAPE REPEATS

Runs in the contender's own interpreter, which needs nothing of ours. Writes ``OUT/measured.json`` and the answer beside it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "cytofast",
    "polars",
    "duckdb",
    "pyarrow",
    "numpy",
    "numba",
    "pandas",
    "pycytominer",
    "copairs",
    "cytotable",
)
LONG = 30.0
"""Seconds: a call that took longer is not repeated in the same process."""


def status(name: str) -> int:
    """Bytes from ``/proc/self/status``. (``ru_maxrss`` would begin with what the parent held when it started us.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def _io() -> dict[str, int]:
    lines = (line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    named = {"rchar": "read", "wchar": "written", "read_bytes": "read_from_disk", "write_bytes": "written_to_disk"}
    return {named[key]: int(value) for key, value in lines if key in named}


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _age() -> float:
    """Seconds since this process was started."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _timed(work) -> tuple[object, dict[str, float]]:
    gc.collect()
    io, cpu, begin = _io(), _cpu(), time.perf_counter()
    answer = work()
    wall = time.perf_counter() - begin
    after = _io()
    return answer, {"wall": wall, "cpu": _cpu() - cpu, **{name: after[name] - io[name] for name in io}}


def _keep(answer: object, out: Path) -> None:
    if hasattr(answer, "to_parquet"):
        answer.to_parquet(out / "answer.parquet")
    elif hasattr(answer, "write_parquet"):
        answer.write_parquet(out / "answer.parquet")
    elif hasattr(answer, "tofile"):
        importlib.import_module("numpy").save(out / "answer.npy", answer)
    else:
        kept = {"path": str(answer)} if isinstance(answer, Path) else None if isinstance(answer, float) else answer
        (out / "answer.json").write_text(json.dumps(kept))


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def confine(shape: dict) -> None:
    """Give the process the cores and the budget of the shape, before any library starts its threads."""
    if "threads" in shape:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: shape["threads"]])
        for name in ("CYTOFAST", "NUMBA_NUM", "OMP_NUM", "OPENBLAS_NUM", "MKL_NUM"):
            os.environ[f"{name}_THREADS"] = str(shape["threads"])
        os.environ["POLARS_MAX_THREADS"] = str(shape["threads"])
    if "memory" in shape:
        os.environ["CYTOFAST_MEMORY"] = shape["memory"]


def measure(contender: str, task: str, source: Path, out: Path, shape: dict, repeats: int) -> dict[str, object]:
    """The first call, what a process costs up to its end, and further calls in the same process."""
    confine(shape)
    try:
        module = importlib.import_module(f"benchmarks.contenders.{contender}")
    except ModuleNotFoundError as error:
        return {"failed": f"{error.name} is not installed"}
    if not hasattr(module, task):
        return {"failed": "cannot do this"}
    work = getattr(module, task)(source, out, shape)
    before = status("VmRSS")
    answer, first = _timed(work)
    found = {"first": first, "process": _age(), "process_cpu": _cpu(), "peak": status("VmHWM"), "before": before}
    warm = []
    while len(warm) < repeats and first["wall"] < LONG:
        del answer
        answer, again = _timed(work)
        warm.append(again)
    _keep(answer, out)
    return {**found, "warm": warm, "versions": _versions(), "python": sys.version.split()[0]}


def main() -> None:
    contender, task, source, out, shape, repeats = sys.argv[1:]
    folder = Path(out)
    try:
        found = measure(contender, task, Path(source), folder, json.loads(shape), int(repeats))
    except MemoryError:
        found = {"failed": f"out of memory at {status('VmHWM') / 1e9:.1f} GB"}
    except Exception as error:  # noqa: BLE001  (a contender that cannot do it has that as its result)
        text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        memory = "out of memory" in text.lower() or "outofmemory" in text.lower() or "allocate" in text.lower()
        found = {"failed": f"out of memory at {status('VmHWM') / 1e9:.1f} GB ({text})" if memory else text}
    (folder / "measured.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
