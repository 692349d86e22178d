"""The README's Python runs, its commands exist, and every command has help with an example."""

import doctest
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cytofast.cli.app import app

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(command.name for command in app.registered_commands if command.name)


def test_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(
        str(ROOT / "README.md"), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert results.attempted > 5
    assert results.failed == 0


def test_the_readme_names_only_commands_that_exist():
    named = set(re.findall(r"(?:^    |`)cytofast ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named <= set(COMMANDS)
    assert set(COMMANDS) <= named, "every command stands in the README"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"], env={**os.environ, "COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0
    assert f"cytofast {command}" in " ".join(result.output.split("Example:")[1].split()[:6])
    assert max(map(len, result.output.splitlines())) <= 80
