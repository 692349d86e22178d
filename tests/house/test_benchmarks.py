"""Every benchmark still runs, at sizes that say nothing about speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.run import SMOKE

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("line", SMOKE)
def test_a_benchmark_runs_and_checks_its_answer(line):
    module, *arguments = line.split()
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "task" in json.loads(done.stdout.strip().splitlines()[-1])
