"""The command that writes files for other tools."""

import json

import polars as pl
import pytest

import cytofast as package
from tests import toy


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = toy.make_store(tmp_path_factory.mktemp("store") / "s")
    package.run("default", made)
    return made.path


def test_a_store_becomes_files(cytofast, store, tmp_path):
    status, out, said = cytofast("export", store, "-o", tmp_path / "p", "--float-format", "%.5g", "--json")
    assert status == 0, said
    assert [row["file"].rsplit("/", 1)[1] for row in json.loads(out)] == [
        "P1_augmented.csv.gz",
        "P2_augmented.csv.gz",
        "P1_normalized_negcon.csv.gz",
        "P2_normalized_negcon.csv.gz",
    ]
    assert f"wrote 4 files below {tmp_path / 'p'}" in said
    status, out, said = cytofast(
        "export", store, "-o", tmp_path / "gct", "--level", "profiles", "--format", "gct", "--plate", "P2"
    )
    assert status == 0, said
    assert package.read_profiles(tmp_path / "gct/B1/B1_normalized_negcon.gct").collect().height == 12


def test_a_table_becomes_another_kind_of_file(cytofast, tmp_path):
    toy.cells("P1").write_parquet(tmp_path / "cells.parquet")
    status, _, said = cytofast("export", tmp_path / "cells.parquet", "-o", tmp_path / "cells.csv.gz")
    assert status == 0
    assert "60 rows x 15 columns" in said
    back = package.read_profiles(tmp_path / "cells.csv.gz", level="cells").collect()
    assert back.cast(dict(toy.cells("P1").schema)).equals(toy.cells("P1"))


def test_a_mapped_table(cytofast, tmp_path):
    (tmp_path / "x.csv").write_text("Plate,Well,Nucleus Area\nP,a1,2.5\n")
    (tmp_path / "x.toml").write_text(
        '[metadata]\nMetadata_Plate = "Plate"\nMetadata_Well = "Well"\n[objects]\nNucleus = "Nuclei"\n'
    )
    target = tmp_path / "x.parquet"
    assert cytofast("export", tmp_path / "x.csv", "--mapping", tmp_path / "x.toml", "-o", target)[0] == 0
    assert pl.read_parquet(target).row(0) == ("P", "A01", 2.5)
    status, out, said = cytofast(
        "ingest", tmp_path / "x.csv", "--mapping", tmp_path / "x.toml", "--store", tmp_path / "s", "--json"
    )
    assert status == 0, said
    assert json.loads(out)[0]["rows_joined"] == 1


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (("nowhere.csv", "-o", "x.csv"), "nowhere.csv: no such file", 1),
        (("STORE", "-o", "out", "--level", "selected"), "no level 'selected'", 1),
        (("STORE", "-o", "out", "--mapping", "x.toml"), "--mapping is for a table", 2),
        (("x.csv", "-o", "x.csv"), "is both the input and the output", 2),
        (("x.csv", "-o", "y.csv", "--level", "wells"), "are for stores", 2),
        (("x.csv", "-o", "y.xlsx"), "what kind of file", 2),
        (("x.csv", "-o", "y.csv", "--float-format", "five"), "is no format of numbers", 2),
        (("STORE", "-o", "out", "--format", "xlsx"), "xlsx", 2),
        (("x.csv",), "output", 2),
        ((".", "-o", "out"), "is not a profile store", 1),
    ],
)
def test_errors(cytofast, store, tmp_path, monkeypatch, arguments, message, status):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("Metadata_Well,Cells_A_b\nA01,1\n")
    found, out, said = cytofast("export", *(store if a == "STORE" else a for a in arguments))
    assert found == status, said
    assert message in " ".join(said.split())
    assert "Traceback" not in out + said
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
