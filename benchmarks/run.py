"""Run the benchmarks and keep what they say, one JSON file a measurement, in benchmarks/results.

    python -m benchmarks.run             a set of about ten minutes (make bench)
    python -m benchmarks.run --full      the README's figures; hours where peers are slow (make bench-full)
    python -m benchmarks.run --smoke     seconds: does every benchmark still run? Keeps nothing.
    python -m benchmarks.run --full --only modz sphere        some tasks of a set
    python -m benchmarks.run --task modz rows=5000 features=500 --rounds 3    one task at any size

What was measured already with the same code is not measured again unless --again is given, so a run that was ended goes on
where it was. Peers may live in environments of their own: --python copairs=PATH, or lines such as copairs = "PATH" in
benchmarks/environments.toml. A result is compared with the committed one of the same name, as ratios to a fixed piece of work
timed in both runs. Then write the README's tables: python -m benchmarks.table --write
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from benchmarks import process
from benchmarks.machine import ROOT, about, code
from benchmarks.measuring import Setting, measure, run_command, source_of
from benchmarks.sets import SETS, Command, Measurement
from benchmarks.tasks import TASKS

RESULTS = Path(__file__).parent / "results"
MOVED = 1.25
"""A ratio beyond this, or below its inverse, is worth a look."""


def folder(chosen: str) -> Path:
    """What is asked for singly is not quoted, and not committed."""
    return RESULTS / "single" if chosen == "single" else RESULTS


def kept(name: str, chosen: str) -> dict | None:
    path = folder(chosen) / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def baseline(name: str) -> dict | None:
    """The committed result of the same name."""
    shown = f"HEAD:benchmarks/results/{name}.json"
    done = subprocess.run(["git", "show", shown], cwd=ROOT, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def moved(new: dict, old: dict) -> list[str]:
    """What our own figures did since the baseline: seconds against the calibration of each run, memory as it is."""
    ours, before = (result.get("contenders", {}).get("cytofast", {}) for result in (new, old))
    if "first" not in ours or "first" not in before:
        return []
    pace = new["calibration"] / old["calibration"]
    ratios = {
        "first call": ours["first"]["wall"] / before["first"]["wall"] / pace,
        "warm call": ours["warm"] / before["warm"] / pace,
        "peak memory": ours["whole_peak"] / before["whole_peak"],
    }
    return [f"{what} x {ratio:.2f}" for what, ratio in ratios.items() if not 1 / MOVED < ratio < MOVED]


def line(result: dict) -> str:
    """A result in a line."""
    if "contenders" not in result:
        return f"{result['says']}: {json.dumps(result['answer'])[:160]}"
    parts = []
    for name, entry in result["contenders"].items():
        if "failed" in entry:
            parts.append(f"{name} {entry['failed']}")
            continue
        times = entry.get("times_cytofast")
        ratio = f", {times['first']:.3g}x first, {times['warm']:.3g}x warm" if times else ""
        wrong = f", {entry['answer'].upper()[:120]}" if entry["answer"].startswith("wrong") else ""
        parts.append(f"{name} {entry['first']['wall']:.3g} s, {entry['whole_peak'] / 1e9:.2f} GB{ratio}{wrong}")
    return f"{result['says']}: " + "; ".join(parts)


def keep(name: str, result: dict, chosen: str) -> None:
    folder(chosen).mkdir(parents=True, exist_ok=True)
    rounded = json.loads(json.dumps({"name": name, "set": chosen, **result, **about()}), parse_float=_short)
    (folder(chosen) / f"{name}.json").write_text(json.dumps(rounded, indent=1) + "\n")


def _short(text: str) -> float:
    return float(f"{float(text):.5g}")


def ours_failed(result: dict) -> bool:
    entry = result.get("contenders", {}).get("cytofast", result.get("answer", {}))
    return "failed" in entry or str(entry.get("answer", "")).startswith("wrong")


def run(todo: list[Measurement | Command], setting: Setting, chosen: str, *, again: bool, keep_sources: bool) -> bool:
    """One after the other; whether all of ours were right."""
    good, now = True, code()
    for number, one in enumerate(todo):
        present = kept(one.name, chosen)
        if present and present["code"] == now and not again:
            print(f"[{number + 1}/{len(todo)}] as before  {line(present)}", flush=True)
            continue
        result = run_command(one) if isinstance(one, Command) else measure(one, setting)
        keep(one.name, result, chosen)
        print(f"[{number + 1}/{len(todo)}] {result['took_seconds']:6.0f} s  {line(result)}", flush=True)
        old = baseline(one.name)
        for change in moved(result, old) if old else []:
            print(f"{'':12}since {old['commit'][:9]}: {change}", flush=True)
        good &= not ours_failed(result)
        if not keep_sources and not isinstance(one, Command):
            _forget(one, todo[number + 1 :], setting.scratch)
    return good


def _forget(one: Measurement, rest: list[Measurement | Command], scratch: Path) -> None:
    """Delete what a measurement began with, unless another one needs it."""
    source = source_of(one, scratch)
    if source not in {source_of(other, scratch) for other in rest if isinstance(other, Measurement)}:
        shutil.rmtree(source, ignore_errors=True)
        source.with_suffix(".made").unlink(missing_ok=True)


def smoke(todo: list[Measurement], setting: Setting) -> bool:
    """Two at a time, each with a source of its own: their times say nothing."""
    with ThreadPoolExecutor(2) as pool:
        own = [replace(setting, scratch=setting.scratch / one.name) for one in todo]
        results = list(pool.map(measure, todo, own))
    for result in results:
        print(line(result))
    return not any(ours_failed(result) for result in results)


def _value(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _asked(given: argparse.Namespace) -> tuple[str, list[Measurement | Command]]:
    if given.task:
        name, *pairs = given.task
        shape = {key: _value(value) for key, value in (pair.split("=", 1) for pair in pairs)}
        who = tuple(given.contenders or ())
        return "single", [Measurement(name, shape, who, given.rounds or 3, given.repeats, given.cold)]
    chosen = "smoke" if given.smoke else "full" if given.full else "usual"
    only = set(given.only or ())
    return chosen, [one for one in SETS[chosen] if not only or {one.name, getattr(one, "task", one.name)} & only]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--smoke", action="store_true")
    which.add_argument("--full", action="store_true")
    which.add_argument("--task", nargs="+", metavar="TASK [KEY=VALUE]", help=f"one of: {', '.join(TASKS)}")
    parser.add_argument("--only", nargs="+", metavar="TASK", help="these tasks or names of the set")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="with --task")
    parser.add_argument("--rounds", type=int, help="with --task")
    parser.add_argument("--repeats", type=int, default=2, help="with --task: further calls in each process")
    parser.add_argument("--cold", action="store_true", help="with --task: files out of the page cache")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help="interpreter of a contender")
    parser.add_argument("--again", action="store_true", help="also what was measured with the same code")
    parser.add_argument("--ceiling", type=float, default=process.CEILING / 1e9, metavar="GB", help="ends a contender")
    parser.add_argument("--seconds", type=float, default=3_600, help="ends a contender")
    parser.add_argument("--scratch", type=Path, help="where sources are made, and kept; default: a temporary folder")
    parser.add_argument("--list", action="store_true", help="names of what would be measured")
    given = parser.parse_args()
    chosen, todo = _asked(given)
    if given.list:
        print("\n".join(one.name for one in todo))
        return
    begin = time.perf_counter()
    scratch = (given.scratch or Path(tempfile.mkdtemp(prefix="cytofast-benchmarks-"))).absolute()
    pythons = process.interpreters(given.python)
    try:
        if chosen == "smoke":
            good = smoke(todo, Setting(scratch, pythons, warm_up=False))
        else:
            setting = Setting(scratch, pythons, given.ceiling * 1e9, given.seconds)
            good = run(todo, setting, chosen, again=given.again, keep_sources=given.scratch is not None)
    finally:
        if given.scratch is None:
            shutil.rmtree(scratch, ignore_errors=True)
    print(f"{time.perf_counter() - begin:.0f} s in all")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
