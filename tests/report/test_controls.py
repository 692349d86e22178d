"""Controls are those that are asked for, usual, or those by which the recipe scaled plates."""

import polars as pl
import pytest

import cytofast
from cytofast import DataError, SchemaError, figures
from cytofast.report.controls import Controls, find_controls
from cytofast.report.sections_tasks import _beside
from tests.report.test_page import body

WELLS = pl.DataFrame(
    {
        "Metadata_Plate": ["P1"] * 4,
        "Metadata_Compound": ["DMSO", "DMSO", "x", None],
        "Metadata_dose": [0, 0, 0, 3],
    }
)
SCALED = {"step": "robust_mad", "parameters": {"reference": "Metadata_Compound = 'DMSO'"}}


def test_what_is_asked_for_comes_first():
    usual = WELLS.with_columns(pl.Series("Metadata_control_type", ["negcon", None, None, None]))
    found = find_controls(usual, "Metadata_Compound = 'DMSO'", [])
    assert found == Controls("Metadata_Compound = 'DMSO'", "as was asked for", ("Metadata_Compound", "DMSO"))
    assert found.parameters == {"column": "Metadata_Compound", "control": "DMSO"}
    assert find_controls(usual, None, [SCALED]).marker == ("Metadata_control_type", "negcon")


def test_the_recipe_knows_where_nothing_is_usual():
    useless = {"step": "standardize", "parameters": {"reference": "Metadata_absent = 'a'"}}
    everything = {"step": "standardize", "parameters": {"reference": "Metadata_Plate = 'P1'"}}
    none = {"step": "feature_select", "parameters": {"steps": []}}
    found = find_controls(WELLS, None, [SCALED, useless, everything, none])
    assert found.predicate == "Metadata_Compound = 'DMSO'"
    assert found.source == "the reference of robust_mad in the store's recipe"
    unmarked = WELLS.with_columns(pl.lit("trt").alias("Metadata_control_type"))
    assert find_controls(unmarked, None, [SCALED]).predicate == found.predicate
    assert find_controls(WELLS, None, [useless]) == Controls()


@pytest.mark.parametrize(
    "predicate", ["Metadata_Compound IN ('DMSO', 'x')", "Metadata_Compound = 'DMSO' AND Metadata_dose = 0"]
)
def test_several_values_are_known_but_no_marker(predicate):
    found = find_controls(WELLS, predicate, [])
    assert found.several
    assert found.parameters == {}
    assert find_controls(WELLS, "Metadata_dose = 3", []).marker == ("Metadata_dose", "3")


def test_predicates_that_are_no_controls():
    with pytest.raises(DataError, match="no well satisfies"):
        find_controls(WELLS, "Metadata_Compound = 'water'", [])
    with pytest.raises(DataError, match="every well satisfies"):
        find_controls(WELLS, "Metadata_Plate = 'P1'", [])
    with pytest.raises(SchemaError, match="Metadata_Compuond"):
        find_controls(WELLS, "Metadata_Compuond = 'DMSO'", [])


def test_a_report_on_controls_of_another_name(tmp_path, small_folder):
    """The same wells, marked otherwise: the same page, by the recipe's own reference and by what is asked for."""
    old = cytofast.open_store(small_folder / "store")
    wells = old.scan("wells").collect()
    renamed = wells.with_columns(
        pl.when(pl.col("Metadata_control_type") == "negcon")
        .then(pl.lit("water"))
        .otherwise("Metadata_broad_sample")
        .alias("Metadata_Compound")
    ).drop("Metadata_control_type", "Metadata_broad_sample")
    renamed.write_parquet(tmp_path / "wells.parquet")
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(tmp_path / "wells.parquet")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'source = "wells"\n[[profiles]]\nstep = "robust_mad"\nby = "Metadata_Plate"\n'
        "reference = \"Metadata_Compound = 'water'\"\n"
    )
    cytofast.run(recipe, store)
    made = cytofast.write_report(store, tmp_path / "r.html")
    text = body(made.path)
    assert made.sections["Retrieval"]
    assert "Metadata_Compound = 'water'; the reference of robust_mad in the store's recipe" in text
    assert "Drift of control wells" in text
    drift = store.ask("control_drift", column="Metadata_Compound", control="water")
    assert drift.equals(old.ask("control_drift"))
    several = "Metadata_Compound IN ('water', 'nothing else')"
    asked = cytofast.write_report(store, tmp_path / "r.html", controls=several)
    assert f"({several}; as was asked for)" in body(asked.path)
    with pytest.raises(DataError, match="no well satisfies"):
        cytofast.write_report(store, tmp_path / "r.html", controls="Metadata_Compound = 'air'")


def test_models_stand_side_by_side():
    rows = [
        ("detection", kind, time, model) for kind, time in (("a", 24), ("b", 48)) for model in ("final", "shuffled")
    ]
    summary = pl.DataFrame(rows, schema=["task", "kind", "time", "model"], orient="row").with_columns(
        n=pl.lit(9), fraction_retrieved=pl.lit(0.5), low=pl.lit(0.2), high=pl.lit(0.7), published=pl.lit(0.9)
    )
    assert _beside(summary, ("kind", "time", "model")) == "model"
    assert _beside(summary, ("kind", "time")) is None
    assert _beside(summary.filter(pl.col("model") == "final"), ("kind", "time", "model")) is None
    drawn = figures.fractions(summary, "model")
    assert [trace.name for trace in drawn.data] == ["final", "shuffled", "published"]
    assert drawn.layout.yaxis.ticktext == ("a, 24", "b, 48")
    final, shuffled, published = ([float(y) for y in trace.y] for trace in drawn.data)
    assert published == [0, 1]
    assert all(one < line < other for one, line, other in zip(final, published, shuffled, strict=True))
