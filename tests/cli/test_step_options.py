"""What single-step commands refuse, and how names are written."""

import sys

import polars as pl
import pytest

from cytofast.cli.app import main
from tests import toy


@pytest.fixture
def cytofast(monkeypatch, capfd):
    def call(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["cytofast", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        return status, " ".join(capfd.readouterr().err.split())

    return call


@pytest.fixture
def cells(tmp_path):
    path = tmp_path / "cells.parquet"
    toy.cells("P1").write_parquet(path)
    return path


def test_no_file_is_written_over_another_of_the_command(cytofast, tmp_path, cells):
    before = cells.read_bytes()
    out = tmp_path / "q.csv"
    (tmp_path / "x").mkdir()
    for arguments in (
        (cells, "-o", out, "--fit", out),
        (cells, "-o", out, "--fit", tmp_path / "x" / ".." / "q.csv"),
        (cells, "-o", cells),
        (cells, "-o", out, "--fit", cells),
    ):
        status, error = cytofast("normalize", *arguments)
        assert status == 2
        assert "would be overwritten" in error
    platemap = tmp_path / "platemap.csv"
    platemap.write_text("well_position,x\nA01,1\n")
    status, error = cytofast("annotate", cells, "--platemap", platemap, "-o", platemap)
    assert status == 2
    assert "is both the platemap and the output" in error
    assert cytofast("annotate", platemap, "--platemap", platemap, "--on", "Metadata_x", "-o", out)[0] == 1
    assert cells.read_bytes() == before
    assert not out.exists()


def test_spaces_around_names_do_not_matter(cytofast, tmp_path, cells):
    out = tmp_path / "wells.parquet"
    assert cytofast("aggregate", cells, "-o", out, "--by", "Metadata_Plate, Metadata_Well ")[0] == 0
    assert pl.read_parquet(out).columns[:2] == ["Metadata_Plate", "Metadata_Well"]
    status, error = cytofast("aggregate", cells, "-o", out, "--by", "Metadata_Plate,")
    assert status == 2
    assert "a name is missing" in error


def test_numbers_that_make_no_sense_are_refused(cytofast, tmp_path, cells):
    status, error = cytofast("normalize", cells, "-o", tmp_path / "x.csv", "--scale", "0")
    assert status == 2
    assert "scale must be a positive number" in error
