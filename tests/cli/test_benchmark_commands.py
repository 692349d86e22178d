"""``cytofast benchmark``: a whole grid in one command."""

import json

import polars as pl
import pytest

import cytofast as package
from cytofast.store.layout import PlateName
from cytofast.store.manifest import Manifest
from tests.tasks.screens import condition, directions, screen

PLATES = "Batch\tAssay_Plate_Barcode\tPerturbation\tCell_type\tTime\tDensity\tAntibiotics\tCell_line\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Profiles of compounds and guides as a store that knows wells, and a table that knows plates."""
    folder = tmp_path_factory.mktemp("benchmark")
    base = 6 * directions(6)
    parts = [
        ("compound", 24, screen(base, [f"G{i}" for i in range(6)], "c", controls=6)),
        (
            "crispr",
            96,
            screen(base.repeat(2, axis=0), [f"G{i // 2}" for i in range(12)], "g", controls=6, column="Metadata_gene"),
        ),
    ]
    store = package.open_store(folder / "store", create=True)
    lines = [PLATES]
    for kind, hours, wells in parts:
        placed = condition(wells, kind, hours).drop("Metadata_Perturbation", "Metadata_Cell_type", "Metadata_Time")
        for (plate,), frame in placed.partition_by("Metadata_Plate", as_dict=True).items():
            whole = frame.with_columns(pl.lit("B1").alias("Metadata_Batch"))
            manifest = Manifest("profiles", "B1", plate, "", 0, 0, "", plate, {})
            store.write_partition("profiles", PlateName("B1", plate), plate, [whole], lambda m=manifest: m)
            lines += [
                f"B1\t{plate}\t{kind}\tU2OS\t{hours}\t100\tabsent\tParental\n",
                f"B2\t{plate}\tother\tX\t1\t80\tno\tno\n",
            ]
    (folder / "plates.tsv").write_text("".join(lines))
    return folder


def test_the_grid_is_asked_written_and_kept(store, tmp_path, cytofast):
    command = ["benchmark", "cpjump1", "--store", store / "store", "--plates", store / "plates.tsv", "--null-size", 200]
    status, _, said = cytofast(*command, "-o", tmp_path / "out.csv")
    assert status == 0, said
    table = pl.read_csv(tmp_path / "out.csv")
    done = table.filter(pl.col("status") == "done")
    assert done["task"].to_list() == ["detection"] * 2 + [
        "sister_matching",
        "cross_matching",
        "percent_matching",
        "directionality",
    ]
    assert done["fraction_retrieved"][:2].to_list() == [1.0, 1.0]
    assert done["published"][:2].to_list() == [0.775, 0.669]
    assert "note: detection_same_well: no condition satisfies" in said
    assert "sister_matching: compound, U2OS, 24: no two of 6" in said
    kept = package.read_results(store / "store" / "benchmarks" / "cpjump1")
    assert kept.summary.height == table.height
    status, shown, _ = cytofast(*command, "--format", "json")
    assert status == 0
    assert [row["task"] for row in json.loads(shown)] == table["task"].to_list()
    status, shown, _ = cytofast(*command)
    assert "detection" in shown
    assert "0.775" in shown


def test_options_reach_every_task(store, tmp_path, cytofast):
    own = tmp_path / "own.toml"
    own.write_text('conditions = ["Metadata_Perturbation"]\n[[task]]\ntask = "detection"\n')
    command = [
        "benchmark",
        own,
        "--store",
        store / "store",
        "--plates",
        store / "plates.tsv",
        "--results",
        tmp_path / "r",
    ]
    status, shown, said = cytofast(
        *command, "--null", "ranks", "--by", "Metadata_Time", "--where", "Metadata_Time = '24'", "--format", "csv"
    )
    assert status == 0, said
    assert shown.splitlines()[0].startswith("task,Metadata_Perturbation,Metadata_Time,n,")
    assert len(shown.splitlines()) == 2
    methods = package.read_results(tmp_path / "r").perturbations["p_method"]
    assert methods.str.starts_with("ranks").all()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["cpjump"], 2, "did you mean 'cpjump1'"),
        (["own.toml"], 2, "cannot be read"),
        (["cpjump1"], 1, "Metadata_Perturbation"),
        (["cpjump1", "--level", "wells"], 1, "no level 'wells'"),
        (["cpjump1", "--null", "copair"], 2, "did you mean 'copairs'"),
        (["cpjump1", "--where", "Metadata_Plate ="], 2, "not a SQL predicate"),
        (["cpjump1", "--plates", "absent.tsv"], 1, "no such file"),
    ],
)
def test_wrong_commands_say_what_is_wrong(store, cytofast, arguments, status, said):
    found, _, err = cytofast("benchmark", *arguments, "--store", store / "store")
    assert found == status
    assert said in " ".join(err.split())


def test_an_empty_store_says_so(tmp_path, cytofast):
    package.open_store(tmp_path / "empty", create=True)
    status, _, said = cytofast("benchmark", "cpjump1", "--store", tmp_path / "empty")
    assert status == 1
    assert "no level 'profiles'" in said
    assert "it is empty" in said


def test_the_table_fits_a_terminal_and_doubtful_hits_are_told(store, tmp_path, cytofast, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command = ["benchmark", "cpjump1", "--store", store / "store", "--plates", store / "plates.tsv", "--null-size", 200]
    status, shown, said = cytofast(*command, "--results", tmp_path / "r")
    assert status == 0, said
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    cross = lines[next(i for i, line in enumerate(lines) if line.startswith("cross_matching")) :]
    assert cross[1].split() == ["condition", "n", "retrieved", "low", "high", "published"]
    # One line a condition, and numbers in one piece.
    assert cross[2].startswith("compound, U2OS, 24 \u00d7 crispr, 96 ")
    assert [float(text) for text in cross[2].split()[-5:]]
    # Three genes are few, and what hangs on that is said where the table is.
    labels = package.read_results(tmp_path / "r").labels
    doubtful = labels.filter(task="cross_matching")["doubtful"].sum()
    assert doubtful
    assert f"warning: cross_matching: {doubtful} of " in " ".join(said.split())


def test_what_cannot_be_written_is_refused_before_anything_is_asked(store, tmp_path, cytofast):
    command = ["benchmark", "cpjump1", "--store", store / "store", "--plates", store / "plates.tsv", "--null-size", 200]
    status, _, said = cytofast(*command, "-o", tmp_path / "out.xyz", "--results", tmp_path / "r")
    assert status == 2
    assert "what kind of file?" in said
    assert not (tmp_path / "r").exists()
    (tmp_path / "file").write_text("")
    status, _, said = cytofast(*command, "--results", tmp_path / "file")
    assert status == 1
    assert "is no folder" in said
