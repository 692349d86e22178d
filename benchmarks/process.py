"""Start a worker and watch it: its memory, its time, and how it ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = Path(__file__).parent / "environments.toml"
EVERY = 0.05
"""Seconds between two looks at the memory."""
CEILING = 21.5e9
"""Bytes: nine tenths of a machine of 24 GiB."""
LEFT = 0.4e9
"""Bytes that the machine must keep; below, the contender is ended before the system ends something else."""


def interpreters(given: list[str]) -> dict[str, str]:
    """Which Python runs a contender: ``NAME=PATH`` each, else ``environments.toml`` (``name = "path"``), else this one."""
    named = tomllib.loads(ENVIRONMENTS.read_text()) if ENVIRONMENTS.exists() else {}
    return named | dict(pair.split("=", 1) for pair in given)


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it ended between two looks
        return []
    return [pid, *(one for child in children for one in _tree(int(child)))]


def resident(pid: int) -> int:
    """Bytes that a process and its children hold."""
    total = 0
    for one in _tree(pid):
        try:
            pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


def available() -> int:
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def run(
    contender: str,
    task: str,
    source: Path,
    out: Path,
    shape: dict,
    *,
    repeats: int = 0,
    python: str = sys.executable,
    ceiling: float = CEILING,
    seconds: float = 3_600,
) -> dict:
    """What a worker measured, or ``{"failed": why}``; ``whole_peak`` is that of the process and its children together."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [
        python,
        "-m",
        "benchmarks.worker",
        contender,
        task,
        str(source),
        str(out),
        json.dumps(shape),
        str(repeats),
    ]
    begin, peak, failed = time.perf_counter(), 0, ""
    with (out / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        while process.poll() is None and not failed:
            peak = max(peak, resident(process.pid))
            if peak > ceiling:
                failed = f"out of memory at {peak / 1e9:.1f} GB"
            elif available() < LEFT:
                failed = f"out of memory at {peak / 1e9:.1f} GB, with the machine full"
            elif time.perf_counter() - begin > seconds:
                failed = f"stopped after {seconds:,.0f} s"
            time.sleep(EVERY)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the worker and what it started
        process.wait()
    if failed:
        return {"failed": failed}
    if not (out / "measured.json").exists():
        if process.returncode == -signal.SIGKILL:
            return {"failed": f"out of memory at {peak / 1e9:.1f} GB, ended by the system"}
        tail = (out / "log").read_text(errors="replace").strip().splitlines()[-1:]
        return {"failed": f"the process ended with {process.returncode}: {' '.join(tail)[:200]}"}
    found = json.loads((out / "measured.json").read_text())
    return found if "failed" in found else {**found, "whole_peak": max(peak, found["peak"])}
