"""One measurement: make what it begins with, run every contender in turn, check the answers, sum up."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import process
from benchmarks.checks import check
from benchmarks.machine import ROOT, calibration
from benchmarks.sets import Command, Measurement
from benchmarks.tasks import TASKS

PATIENCE = 120.0
"""Seconds: a peer whose first process took longer is measured once."""
FIELDS = ("wall", "cpu", "read", "written", "read_from_disk", "written_to_disk")


@dataclass(frozen=True)
class Setting:
    """How to measure."""

    scratch: Path
    pythons: dict[str, str] = field(default_factory=dict)
    ceiling: float = process.CEILING
    seconds: float = 3_600
    warm_up: bool = True


def source_of(measurement: Measurement, scratch: Path) -> Path:
    """Where what it begins with lies; measurements that begin with the same share it."""
    task, shape = TASKS[measurement.task], measurement.whole_shape
    chosen = {key: shape.get(key) for key in task.source}
    maker = f"{task.make.__module__}.{task.make.__qualname__}"
    digest = hashlib.blake2b(json.dumps([maker, chosen], sort_keys=True).encode(), digest_size=6).hexdigest()
    return scratch / f"source-{digest}"


def make(measurement: Measurement, scratch: Path) -> Path:
    """Make it, unless it is there."""
    folder = source_of(measurement, scratch)
    marker = folder.with_suffix(".made")
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        TASKS[measurement.task].make(folder, measurement.whole_shape)
        os.sync()  # what is still on its way to the disk would be paid by the first contender
        marker.touch()
    return folder


def _files(source: Path) -> list[Path]:
    return [path for path in source.rglob("*") if path.is_file()]


def into_cache(source: Path) -> None:
    for path in _files(source):
        with path.open("rb", buffering=0) as handle:
            while handle.read(1 << 24):
                pass


def out_of_cache(source: Path) -> None:
    for path in _files(source):
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def measure(measurement: Measurement, setting: Setting) -> dict:
    """All contenders, paired; see :func:`summary` for what a contender's entry holds."""
    begin = time.perf_counter()
    source = make(measurement, setting.scratch)
    made = time.perf_counter() - begin
    out, shape = setting.scratch / f"out-{measurement.name}", measurement.whole_shape
    paces = [calibration()]
    if setting.warm_up:
        _compile(measurement, setting)
    found: dict[str, dict] = {name: {"rounds": []} for name in measurement.who}
    for turn in range(measurement.rounds):
        for name in measurement.who[:: -1 if turn % 2 else 1]:
            entry = found[name]
            if "failed" in entry or (name != "cytofast" and _slow(entry)):
                continue
            if measurement.cold:
                out_of_cache(source)
            elif setting.warm_up:
                into_cache(source)  # anew, for a contender that took all memory pushed it out
            python = setting.pythons.get(name, sys.executable)
            options = {"repeats": measurement.repeats, "ceiling": setting.ceiling, "seconds": setting.seconds}
            one = process.run(name, measurement.task, source, out, shape, python=python, **options)
            if "failed" in one:
                entry["failed"] = one["failed"]
                continue
            if turn == 0:
                entry["answer"] = _judged(measurement, source, shape, out)
            entry.update(versions=one.pop("versions"), python=one.pop("python"))
            entry["rounds"].append(one)
            shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    paces.append(calibration())
    return {
        "task": measurement.task,
        "says": TASKS[measurement.task].says.format(**shape),
        "shape": shape,
        "cache": "cold" if measurement.cold else "warm",
        "contenders": summary(found),
        "calibration": statistics.mean(paces),
        "made_seconds": round(made, 1),
        "took_seconds": round(time.perf_counter() - begin, 1),
    }


def _compile(measurement: Measurement, setting: Setting) -> None:
    """Once at a size of seconds, so that compiled kernels are on disk; what a first user waits for is not repeated by anyone."""
    # Which null, or whether values are missing, may choose other kernels.
    ways = {key: value for key, value in measurement.shape.items() if isinstance(value, str) and key != "memory"}
    small = Measurement(measurement.task, {**TASKS[measurement.task].warm_up, **ways})
    done = setting.scratch / f"compiled-{small.name}"
    if "cytofast" in measurement.who and not done.exists():
        source = make(small, setting.scratch)
        process.run("cytofast", small.task, source, setting.scratch / "out-small", small.whole_shape)
        shutil.rmtree(setting.scratch / "out-small", ignore_errors=True)
        os.sync()
        done.touch()


def _slow(entry: dict) -> bool:
    return bool(entry["rounds"]) and entry["rounds"][0]["process"] > PATIENCE


def _judged(measurement: Measurement, source: Path, shape: dict, out: Path) -> str:
    try:
        return "right" if check(measurement.task, source, shape, out) else "none"
    except AssertionError as error:
        return f"wrong: {error}"


def summary(found: dict[str, dict]) -> dict[str, dict]:
    """Medians over the rounds, and for each other contender how many times ours it took, as medians over pairs of rounds."""
    entries = {}
    for name, entry in found.items():
        rounds = entry.pop("rounds")
        kept = {key: value for key, value in entry.items() if rounds or key == "failed"}
        if rounds:
            kept["rounds"] = len(rounds)
            kept["first"] = {key: statistics.median(one["first"][key] for one in rounds) for key in FIELDS}
            for key in ("process", "process_cpu", "peak", "whole_peak", "before"):
                kept[key] = statistics.median(one[key] for one in rounds)
            kept["warm"] = statistics.median(_warm(one) for one in rounds)
            kept["first_seconds"] = [round(one["first"]["wall"], 4) for one in rounds]
        entries[name] = kept
        ours = found["cytofast"].get("rounds") if name != "cytofast" and "cytofast" in found else None
        entry["rounds"] = rounds
        if rounds and ours:
            entries[name]["times_cytofast"] = {
                key: round(statistics.median(of(b) / of(a) for a, b in zip(ours, rounds, strict=False)), 3)
                for key, of in RATIOS.items()
            }
    return entries


def _warm(one: dict) -> float:
    """Seconds of a further call in the same process; of the first where there was no other."""
    return statistics.median(again["wall"] for again in one["warm"]) if one["warm"] else one["first"]["wall"]


RATIOS = {
    "first": lambda one: one["first"]["wall"],
    "warm": _warm,
    "process": lambda one: one["process"],
    "peak": lambda one: one["whole_peak"],
}


def run_command(command: Command) -> dict:
    """A benchmark that stands by itself: its own line of JSON."""
    begin = time.perf_counter()
    line = [sys.executable, "-m", f"benchmarks.{command.module}", *command.arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    said = json.loads(lines[-1]) if done.returncode == 0 and lines else {"failed": done.stderr.strip()[-300:]}
    took = round(time.perf_counter() - begin, 1)
    return {"task": command.module, "says": " ".join(line[1:]), "answer": said, "took_seconds": took}
