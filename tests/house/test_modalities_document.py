"""docs/modalities.md: its Python runs, and its commands have the options that it names."""

import doctest
import re
from pathlib import Path

from typer.main import get_command

from cytofast.cli.app import app

DOCUMENT = Path(__file__).parents[2] / "docs" / "modalities.md"


def test_its_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(str(DOCUMENT), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 30
    assert results.failed == 0


def test_its_commands_have_these_options():
    text = DOCUMENT.read_text()
    commands = get_command(app).commands
    for line in re.findall(r"^    cytofast (.*)$", text, re.MULTILINE):
        name, *words = line.split()
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known
    crossmodal = {option for parameter in commands["crossmodal"].params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= crossmodal
