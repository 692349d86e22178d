"""Every file of sql/: its header is true, it runs, its rows are what its grain says; answers equal pandas."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sqlglot

import cytofast
from cytofast import RecipeError
from cytofast.store.queries import queries, question, read_query
from tests import oracle_sql as oracle
from tests import toy

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "sql").rglob("*.sql"))
EVERY = [(kind, name) for kind in ("views", "questions", "macros") for name in queries(kind)]


def given(store, name: str) -> dict:
    sample = "Metadata_broad_sample"
    known = sorted(set(store.scan("profiles").select(sample).collect()[sample].drop_nulls()))
    plates = sorted(p.name.plate for p in store.partitions("cells"))
    return {
        "nearest_perturbations": {"perturbation": known[0]},
        "same_phenotype": {"column": "Metadata_Plate", "first": plates[0], "second": plates[1]},
        "compounds_without_replicates": {"wells": 99},
        "cell_count_outliers": {"cutoff": 1.5},
        "edge_effect": {"wells": 96},
    }.get(name, {})


def test_the_files_are_the_queries():
    assert {(path.parent.name, path.stem) for path in FILES} == set(EVERY)
    assert len(queries("questions")) >= 12


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_declared_parameters_are_those_used(kind, name):
    query = queries(kind)[name]
    body = "\n".join(line for line in query.text.splitlines() if not line.startswith("--"))
    assert set(re.findall(r"\$(\w+)", body)) == {p.name for p in query.parameters}
    assert ";" not in body, "one file, one query"
    assert query.doc.endswith(".")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_another_parser_reads_it(path):
    parsed = sqlglot.parse(path.read_text(), dialect="duckdb")
    assert len(parsed) == 1
    assert not list(parsed[0].find_all(sqlglot.exp.Command)), "not understood, only kept as text"


@pytest.mark.parametrize("name", list(queries("questions")))
def test_a_question_answers_with_its_grain(asked, name):
    answer = asked.ask(name, **given(asked, name))
    assert answer.height > 0
    assert not answer.select(question(name).grain).is_duplicated().any()


@pytest.mark.parametrize("name", list(queries("views")))
def test_a_view_has_rows_with_its_grain(asked, name):
    view = asked.sql(
        f"FROM {name}" if name != "cells_long" else "FROM cells_long WHERE feature LIKE 'Nuclei_AreaShape%'"
    )
    assert view.height > 0
    assert not view.select(queries("views")[name].grain).is_duplicated().any()


@pytest.mark.parametrize("name", list(queries("questions")))
def test_an_empty_store_gives_an_empty_answer(tmp_path, name):
    store = cytofast.open_store(tmp_path / "empty", create=True)
    values = {p.name: "x" for p in question(name).parameters if p.required}
    assert store.ask(name, **values).height == 0


@pytest.mark.parametrize("name", list(queries("questions")))
def test_a_store_without_platemaps_or_profiles_does_not_fail(tmp_path, name):
    store = toy.make_store(tmp_path / "s", annotated=False)
    values = {p.name: "x" for p in question(name).parameters if p.required}
    answer = store.ask(name, **values)
    assert not answer.select(question(name).grain).is_duplicated().any()


# --- answers against pandas ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frames(asked_folder):
    store = cytofast.open_store(asked_folder)
    # Differences of float32 medians lose digits; SQL widens first, so does pandas here.
    levels = ("cells", "wells", "profiles")
    return {level: store.scan(level).cast({pl.Float32: pl.Float64}).collect().to_pandas() for level in levels}


def test_control_drift(asked, frames):
    mine = asked.ask("control_drift").sort("plate").to_pandas()
    slow = oracle.control_drift(frames["wells"]).sort_values("plate")
    for column in ("plate", "control_wells", "features"):
        assert mine[column].tolist() == slow[column].tolist()
    for column in ("median_drift", "largest_drift"):
        np.testing.assert_allclose(mine[column], slow[column], rtol=1e-5)


def test_coverage_and_missing_wells(asked, frames):
    coverage = asked.ask("plate_coverage").sort("plate")
    counted = frames["cells"].groupby("Metadata_Plate")
    assert coverage["cells"].to_list() == counted.size().tolist()
    assert coverage["wells_present"].to_list() == counted["Metadata_Well"].nunique().tolist()
    missing = asked.ask("missing_wells")
    assert coverage["wells_missing"].sum() == missing.height == 1
    seen = set(zip(frames["cells"]["Metadata_Plate"], frames["cells"]["Metadata_Well"], strict=True))
    every = set(asked.sql("SELECT Metadata_Plate, Metadata_Well FROM platemaps").rows())
    assert set(missing.select("plate", "well").rows()) == every - seen
    assert asked.ask("plate_coverage", batch="none such").height == 0


def test_control_cell_counts(asked, frames):
    cells = frames["cells"]
    slow = cells[cells["Metadata_control_type"] == "negcon"].groupby(["Metadata_Plate", "Metadata_Well"]).size()
    mine = asked.ask("control_cell_counts").sort("plate")
    assert mine["median_cells"].to_list() == slow.groupby("Metadata_Plate").median().tolist()
    assert mine["control_wells"].to_list() == slow.groupby("Metadata_Plate").size().tolist()


@pytest.mark.parametrize("cutoff", [1.0, 2.0, 3.0])
def test_cell_count_outliers(asked, frames, cutoff):
    mine = asked.ask("cell_count_outliers", cutoff=cutoff)
    assert set(mine.select("plate", "well").rows()) == oracle.cell_count_outliers(frames["cells"], cutoff)


def test_edge_effect(asked, frames):
    slow = oracle.edge_effect(frames["wells"], rows=8, columns=12)
    mine = dict(asked.ask("edge_effect", wells=96).select("feature", "median_shift").rows())
    assert mine.keys() == slow.keys()
    np.testing.assert_allclose([mine[f] for f in slow], list(slow.values()), rtol=1e-5, atol=1e-9)


def test_replicates(asked, frames):
    slow = frames["wells"].groupby("Metadata_broad_sample").size()
    mapped = asked.sql("SELECT Metadata_broad_sample AS s, count(*) AS n FROM platemaps WHERE s IS NOT NULL GROUP BY s")
    mine = dict(asked.ask("replicate_counts").select("perturbation", "wells").rows())
    assert mine == dict(mapped.rows())
    assert all(mine[name] >= n for name, n in slow.items())
    assert asked.ask("compounds_without_replicates").height == 0
    assert set(asked.ask("compounds_without_replicates", wells=99)["perturbation"]) == set(mine)


def test_nearest_perturbations(asked, frames):
    by = "Metadata_broad_sample"
    name = frames["profiles"][by].dropna().iloc[0]
    mine = asked.ask("nearest_perturbations", perturbation=name, n=5)
    slow = oracle.nearest(frames["profiles"], name, by)[:5]
    assert mine["perturbation"].to_list() == [other for other, _ in slow]
    np.testing.assert_allclose(mine["similarity"], [value for _, value in slow], rtol=1e-6)


def test_wells_of_a_barcode_in_two_batches_are_two(tmp_path):
    store = toy.make_store(tmp_path / "s", plates=("P1",))
    toy.add_plate(store, toy.cells("P1", batch="B2", seed=1))
    cytofast.run("default", store)
    found = store.ask("nearest_perturbations", perturbation="BRD-1")
    assert set(found["wells"]) == {2}


def test_mechanism_hits(asked, frames):
    mine = dict(asked.ask("mechanism_hits").select("mechanism", "hits").rows())
    assert mine == oracle.mechanism_hits(frames["profiles"], "Metadata_broad_sample", "Metadata_moa")


def test_same_phenotype(asked, frames):
    plates = sorted(frames["profiles"]["Metadata_Plate"].unique())
    mine = asked.ask("same_phenotype", column="Metadata_Plate", first=plates[0], second=plates[1])
    slow = oracle.same_phenotype(frames["profiles"], "Metadata_broad_sample", "Metadata_Plate", *plates)
    found = dict(mine.select("perturbation", "similarity").rows())
    assert found.keys() == slow.keys()
    np.testing.assert_allclose([found[k] for k in slow], list(slow.values()), rtol=1e-6)


def test_dropped_and_constant_features(asked, frames):
    dropped = set(asked.ask("dropped_feature_reasons", level="profiles")["feature"])
    before, after = (set(oracle.features(frames[level])) for level in ("wells", "profiles"))
    assert dropped == before - after
    constant = set(asked.ask("zero_spread_features")["feature"])
    controls = frames["wells"][frames["wells"]["Metadata_control_type"] == "negcon"]
    slow = {f for f in before for _, part in controls.groupby("Metadata_Plate") if oracle.mad(part[f]) == 0}
    assert constant == slow


def test_shared_features(tmp_path):
    store = toy.make_store(tmp_path / "s", plates=("P1",))
    toy.add_plate(store, toy.cells("P2", batch="B2").drop(toy.FEATURES[0]))
    answer = store.ask("shared_features", level="cells")
    assert answer.filter(~pl.col("in_every_plate"))["feature"].to_list() == [toy.FEATURES[0]]
    assert store.ask("shared_features", level="cells", shared=True).height == len(toy.FEATURES) - 1
    assert answer["of_batches"].unique().to_list() == [2]


def test_losses_and_unmatched(asked):
    losses = asked.ask("ingest_losses").sort("batch", "plate", "compartment")
    summary = asked.audit_summary().sort("batch", "plate", "compartment")
    for column in ("images", "rows_read", "rows_joined", "orphans", "images_without_rows", "columns_missing"):
        assert losses[column].to_list() == summary[column].to_list()
    assert losses["orphans"].sum() > 0
    assert asked.ask("unmatched_wells")["status"].to_list() == ["only in annotation"]


# --- headers and parameters ----------------------------------------------------------------------------------------


def test_parameters_are_checked(asked):
    for name, values, message in [
        ("control_drif", {}, "did you mean 'control_drift'"),
        ("control_drift", {"bach": "x"}, "did you mean 'batch'"),
        ("nearest_perturbations", {}, "needs a value for 'perturbation'"),
        ("edge_effect", {"wells": "many"}, "is a INTEGER"),
        ("edge_effect", {"wells": 1.5}, "is a INTEGER"),
        ("edge_effect", {"wells": True}, "is a INTEGER"),
        ("cell_count_outliers", {"cutoff": float("nan")}, "is a DOUBLE"),
        ("shared_features", {"shared": "perhaps"}, "is a BOOLEAN"),
        ("control_drift", {"batch": ["a"]}, "is a VARCHAR"),
    ]:
        with pytest.raises(RecipeError, match=message):
            asked.ask(name, **values)
    assert question("edge_effect").values({"wells": "96"})["wells"] == 96


@pytest.mark.parametrize(
    "text", ["SELECT 1", "-- A sentence.\nSELECT 1", "-- A.\n-- param x\n-- grain a\nSELECT 1", "-- grain a\nSELECT 1"]
)
def test_a_file_without_a_proper_header_is_refused(text):
    with pytest.raises(RecipeError, match="header"):
        read_query("q", "questions", text)


def test_the_documentation_is_generated_from_the_headers():
    from tests.house.sql_documentation import document

    assert (ROOT / "docs" / "sql.md").read_text() == document()
