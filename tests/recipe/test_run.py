import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import cytofast
from cytofast import (
    Aggregate,
    Annotate,
    DataError,
    Recipe,
    RecipeError,
    RobustMAD,
    SchemaError,
    Standardize,
    StoreError,
)
from tests import toy

REFERENCE = "Metadata_control_type = 'negcon'"


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def by_hand() -> pl.DataFrame:
    cells = pl.concat([toy.cells("P1"), toy.cells("P2")])
    wells = Annotate(pl.concat([toy.platemap("P1"), toy.platemap("P2")]).drop("Metadata_Batch"))(Aggregate()(cells))
    with pytest.warns(cytofast.ProfileWarning, match="no spread"):
        return RobustMAD(reference=REFERENCE)(wells)


def test_a_run_equals_the_steps_by_hand(tmp_path):
    store = toy.make_store(tmp_path / "s")
    summary = cytofast.run("default", store)
    assert summary.select("level", "plate", "rows", "outcome").rows() == [
        ("wells", "P1", 12, "written"),
        ("wells", "P2", 12, "written"),
        ("profiles", "P1", 12, "written"),
        ("profiles", "P2", 12, "written"),
    ]
    assert summary["notes"][2] == "robust_mad: 1 zero spread"
    expected = by_hand()
    assert store.scan("profiles", columns=expected.columns).collect().equals(expected)


@pytest.fixture
def cramped(monkeypatch):
    """Pretend that a plate does not fit into memory, and that a block holds three features."""
    monkeypatch.setattr("cytofast.recipe.passes._fits_in_memory", lambda _partition: False)
    monkeypatch.setattr("cytofast.recipe.passes.block_width", lambda *_args, **_kw: 3)
    monkeypatch.setattr("cytofast.recipe.passes._SMALLEST_CHUNK", 17)
    # Chunks of a matrix are parts of a row group.
    monkeypatch.setattr("cytofast.recipe.passes.row_group_rows", lambda _schema: 17)
    monkeypatch.setattr("cytofast.resources.Resources.working_bytes", 1)


@pytest.mark.parametrize(
    "levels",
    [
        {"wells": [Aggregate(), Annotate()], "profiles": [RobustMAD(reference=REFERENCE)]},
        {"cells_normalized": [Annotate(), RobustMAD(reference=REFERENCE)]},
        {"wells": [Annotate(), Standardize(reference=REFERENCE), RobustMAD(features="Cells_"), Aggregate()]},
        {"cells_normalized": [RobustMAD(features=[toy.FEATURES[0], toy.FEATURES[5]])]},
    ],
)
def test_blocks_and_chunks_give_the_bytes_of_the_whole(tmp_path, request, levels):
    whole = toy.make_store(tmp_path / "whole")
    cytofast.run(Recipe(levels), whole)
    request.getfixturevalue("cramped")
    cut = toy.make_store(tmp_path / "cut")
    cytofast.run(Recipe(levels), cut)
    for level in levels:
        assert cut.scan(level).collect().equals(whole.scan(level).collect())
    # Row groups follow the budget, which is pretended too; fits and manifests must not.
    same = [name for name in bytes_of(whole.path) if "fits/" in name or name.endswith("manifest.json")]
    assert all(bytes_of(cut.path)[name] == bytes_of(whole.path)[name] for name in same)


def test_a_step_over_all_plates_learns_from_all(tmp_path):
    store = toy.make_store(tmp_path / "s")
    cytofast.run(Recipe({"wells": [Aggregate()], "profiles": [Standardize(by=None)]}), store)
    expected = Standardize(by=None, zero_scale="null")
    with pytest.warns(cytofast.ProfileWarning):
        whole = expected(store.scan("wells").collect())
    assert store.scan("profiles").collect().equals(whole)
    assert store.fits("profiles")["standardize"].height == len(toy.FEATURES)


def test_what_is_done_is_not_done_again(tmp_path):
    store = toy.make_store(tmp_path / "s")
    cytofast.run("default", store)
    before = bytes_of(store.path)
    assert set(cytofast.run("default", store)["outcome"]) == {"unchanged"}
    assert bytes_of(store.path) == before
    toy.add_plate(store, toy.cells("P2", seed=3))
    outcome = cytofast.run("default", store)
    assert outcome.filter(pl.col("outcome") == "written")["plate"].to_list() == ["P2", "P2"]


def test_a_new_platemap_or_parameter_makes_profiles_anew(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    cytofast.run("default", store)
    changed = toy.platemap("P1").with_columns(pl.lit("negcon").alias("Metadata_control_type"))
    store.write_annotation(cytofast.store.layout.PlateName("B1", "P1"), changed)
    assert set(cytofast.run("default", store)["outcome"]) == {"written"}
    recipe = Recipe({"wells": [Aggregate(), Annotate()], "profiles": [RobustMAD(reference=REFERENCE, scale=1.0)]})
    assert cytofast.run(recipe, store)["outcome"].to_list() == ["unchanged", "written"]


KILLED = """
import os, sys, cytofast
from tests import toy
cytofast.run("default", sys.argv[1])
"""


def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(tmp_path):
    plates = tuple(f"P{i}" for i in range(6))
    whole = toy.make_store(tmp_path / "whole", plates)
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", KILLED, str(whole.path)], check=True, cwd=Path.cwd())
    took = time.monotonic() - start
    killed = toy.make_store(tmp_path / "killed", plates)
    moments = np.random.Generator(np.random.PCG64()).uniform(0.4, 1.0, size=4) * took
    for moment in moments:
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(killed.path)], cwd=Path.cwd())
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    cytofast.run("default", killed)
    assert bytes_of(killed.path) == bytes_of(whole.path), f"killed after {moments}"


def test_what_cannot_run_is_said_with_the_plate(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",), annotated=False)
    with pytest.raises(StoreError, match=r"plate B1/P1.* has no platemap in this store.*--platemap"):
        cytofast.run("default", store)
    with pytest.raises(SchemaError, match=r"plate B1/P1, level 'profiles'.*no column 'Metadata_control_type'"):
        cytofast.run(Recipe({"wells": [Aggregate()], "profiles": [RobustMAD(reference=REFERENCE)]}), store)
    with pytest.raises(DataError, match=r"plate B1/P1, level 'w'.*no reference row"):
        cytofast.run(Recipe({"w": [RobustMAD(reference="Metadata_Well = 'P24'")]}), store)
    with pytest.raises(StoreError, match="starts from level 'wholes', which is not in the store"):
        cytofast.run(Recipe({"x": [Aggregate()]}, source="wholes"), store)


def test_a_full_disk_leaves_no_half(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    before = bytes_of(store.path)
    code = (
        "import resource, signal, sys, cytofast\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))\n"
        "try:\n    cytofast.run('default', sys.argv[1])\n"
        "except cytofast.StoreError as error:\n    print(error); sys.exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "cannot be written (File too large)" in done.stdout
    assert bytes_of(store.path) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[wells]]\nstep = 'aggregat'", r"\[\[wells\]\] 1: unknown step 'aggregat'; did you mean 'aggregate'"),
        (
            "[[wells]]\nstep = 'aggregate'\nstatistc = 'mean'",
            "unknown key of step 'aggregate' 'statistc'; did you mean 'statistic'",
        ),
        ("[[wells]]\nstep = 'aggregate'\nstatistic = 'mode'", "unknown statistic 'mode'"),
        ("[[wells]]\nby = 'x'", "a step needs step ="),
        ("sourse = 'cells'\n[[wells]]\nstep = 'aggregate'", "unknown key 'sourse'"),
        ("[[Wells]]\nstep = 'aggregate'", "'Wells' cannot name a level"),
        ("[[cells]]\nstep = 'aggregate'", "made of itself or made twice"),
        ("[[wells]", "not valid TOML"),
        ("", "makes no level"),
        ("source = 3\n[[wells]]\nstep = 'aggregate'", "source must be the name of a level"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        Recipe.read(path)


def test_shipped_recipes_are_read_by_name():
    assert list(Recipe.read("default").levels) == ["wells", "profiles"]
    with pytest.raises(RecipeError, match="no recipe file 'defalt'; shipped recipes are bbbc021, cpjump1, default"):
        Recipe.read("defalt")


def batches_with_one_barcode(path):
    store = cytofast.open_store(path, create=True)
    toy.add_plate(store, toy.cells("P", "B1"))
    toy.add_plate(store, toy.cells("P", "B2", seed=1).with_columns(pl.col(toy.FEATURES) + 5))
    return store


def test_a_neighbour_that_looks_across_plates_changes_no_step_of_one_plate(tmp_path):
    store = batches_with_one_barcode(tmp_path / "s")
    wells = {"wells": [Aggregate(), Annotate()]}
    alone = [Standardize(by="Metadata_Plate", zero_scale="one")]
    cytofast.run(Recipe({**wells, "profiles": alone}), store)
    expected = store.scan("profiles").collect()
    with_neighbour = [*alone, Standardize(by="Metadata_Well", features=toy.FEATURES[:1])]
    cytofast.run(Recipe({**wells, "profiles": with_neighbour}), store)
    found = store.scan("profiles").collect()
    assert found.drop(toy.FEATURES[0]).equals(expected.drop(toy.FEATURES[0]))


def test_a_level_holds_only_what_it_makes_now(tmp_path):
    store = toy.make_store(tmp_path / "s")
    cytofast.run(Recipe({"wells": [Aggregate(by="Metadata_Well")]}), store)
    summary = cytofast.run(Recipe({"wells": [Aggregate()]}), store)
    assert summary.select("plate", "outcome").rows() == [("P1", "written"), ("P2", "written"), ("__all__", "removed")]
    assert store.scan("wells").collect().height == 24
    cytofast.run(Recipe({"wells": [Aggregate(by="Metadata_Well")]}), store)
    assert store.scan("wells").collect().height == 12


def test_plates_with_other_features_across_plates(tmp_path):
    store = toy.make_store(tmp_path / "s")
    toy.add_plate(store, toy.cells("P2").with_columns(pl.col(toy.FEATURES[0]).alias("Nuclei_New_F")))
    cytofast.run(Recipe({"wells": [Aggregate()], "profiles": [Standardize(by=None, zero_scale="one")]}), store)
    found = store.scan("profiles").collect()
    new = found.filter(pl.col("Metadata_Plate") == "P1")["Nuclei_New_F"]
    assert new.null_count() == new.len()


def test_a_path_with_wildcards_is_just_a_path(tmp_path):
    toy.make_store(tmp_path / "scr1", ("P1",))
    store = toy.make_store(tmp_path / "scr[1]", ("P2",))
    cytofast.run("default", store)
    assert store.scan("profiles").collect()["Metadata_Plate"].unique().to_list() == ["P2"]


def test_the_type_of_a_platemap_is_part_of_what_it_is(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    for dose in ([1] * 12, ["1"] * 12):
        table = pl.DataFrame({"Metadata_Well": toy.WELLS, "dose": dose})
        outcome = cytofast.run(Recipe({"wells": [Aggregate(), Annotate(table)]}), store)["outcome"].to_list()
        assert outcome == ["written"]


def test_choosing_rows_by_a_feature(tmp_path, request):
    steps = [RobustMAD(features="Nuclei_", reference=f"{toy.FEATURES[0]} > 0"), Aggregate()]
    whole = toy.make_store(tmp_path / "whole", ("P1",))
    cytofast.run(Recipe({"wells": steps}), whole)
    request.getfixturevalue("cramped")
    cut = toy.make_store(tmp_path / "cut", ("P1",))
    cytofast.run(Recipe({"wells": steps}), cut)
    assert cut.scan("wells").collect().equals(whole.scan("wells").collect())
    with pytest.raises(RecipeError, match="a feature that a step before it may change"):
        cytofast.run(Recipe({"w2": [Standardize(), *steps]}), cut)


def test_a_level_older_than_its_source_is_counted(tmp_path):
    store = toy.make_store(tmp_path / "s")
    cytofast.run("default", store)
    assert {level["outdated"] for level in store.describe()["levels"].values()} == {0}
    toy.add_plate(store, toy.cells("P2", seed=8))
    assert [level["outdated"] for level in store.describe()["levels"].values()] == [0, 1, 0]
    cytofast.run(Recipe({"wells": [Aggregate(), Annotate()]}), store)
    assert [level["outdated"] for level in store.describe()["levels"].values()] == [0, 0, 1]


def test_plates_held_in_memory_and_read_again_give_the_same(tmp_path, monkeypatch):
    levels = {
        "wells": [Aggregate()],
        "profiles": [RobustMAD(zero_scale="one"), Standardize(by=None, zero_scale="one"), RobustMAD(zero_scale="one")],
    }
    held = toy.make_store(tmp_path / "held")
    cytofast.run(Recipe(levels), held)
    monkeypatch.setattr("cytofast.recipe.run._COPIES_HELD", 10**12)
    again = toy.make_store(tmp_path / "again")
    cytofast.run(Recipe(levels), again)
    assert bytes_of(held.path) == bytes_of(again.path)


def test_a_truncated_level_is_made_anew(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    cytofast.run("default", store)
    path = store.partitions("wells")[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    assert cytofast.run("default", store)["outcome"].to_list() == ["written", "unchanged"]
    assert path.read_bytes() == whole


def test_a_recipe_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "r.toml").write_bytes("# µm\n".encode("latin-1"))
    with pytest.raises(RecipeError, match="cannot be read as TOML in UTF-8"):
        Recipe.read(tmp_path / "r.toml")
