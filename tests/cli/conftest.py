"""The command line, called in this process."""

import sys

import pytest

from cytofast.cli.app import main


@pytest.fixture
def cytofast(monkeypatch, capfd):
    """Run the command line in this process: ``cytofast("describe", path) -> (status, stdout, stderr)``."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cytofast", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return call
