import re

import polars as pl
import pytest

import cytofast
from cytofast import DataError, Recipe, RecipeError, SchemaError
from cytofast.recipe.convert import convert_profiling_recipe
from cytofast.recipe.explain import explain_feature
from cytofast.recipe.recipe import shipped_text
from tests import toy

SHIPPED = ["default", "bbbc021", "single_cells", "cpjump1", "jump-compound", "jump-orf", "jump-crispr", "rosetta"]


@pytest.fixture(scope="module")
def example_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("example")
    cytofast.write_example(folder / "experiment", plates=3, wells=48)
    store = cytofast.open_store(folder / "store", create=True)
    store.ingest(folder / "experiment" / "analysis", platemap=folder / "experiment" / "metadata")
    return store


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_are_read(name):
    assert Recipe.read(name).levels
    assert shipped_text(name).startswith("#"), "a recipe says what it is for"


def test_cpjump1_runs_and_every_dropped_feature_has_its_reason(example_store):
    summary = cytofast.run("cpjump1", example_store)
    assert set(summary["outcome"]) == {"written"}
    assert set(cytofast.run("cpjump1", example_store)["outcome"]) == {"unchanged"}
    assert example_store.levels() == ["cells", "wells", "normalized", "profiles"]
    before = set(example_store.scan("normalized").collect_schema().names())
    after = set(example_store.scan("profiles").collect_schema().names())
    dropped = sorted(before - after)
    assert len(dropped) > 10
    for feature in dropped:
        fates = explain_feature(example_store, feature).filter(pl.col("level") == "profiles")["fate"].to_list()
        assert any(": dropped" in fate for fate in fates), feature
        assert fates[-1] == "not there"


def test_rules_with_and_without_groups_are_told_apart(example_store):
    rules = [cytofast.DropMissing(), cytofast.DropLowVariance(by="Metadata_Plate")]
    recipe = Recipe({"selected": [cytofast.FeatureSelect(rules)]}, source="wells")
    cytofast.run("cpjump1", example_store)
    cytofast.run(recipe, example_store)
    fates = (
        explain_feature(example_store, "Cells_AreaShape_Area").filter(pl.col("level") == "selected")["fate"].to_list()
    )
    assert fates[0].startswith("drop_missing: kept: share missing 0")
    assert fates[1].startswith("drop_low_variance: kept in 'EX00100001': variance")
    assert len(fates) == 5


def test_a_level_made_anew_shows_only_its_own_fits(example_store):
    cytofast.run("cpjump1", example_store)
    assert list(example_store.fits("profiles")) == ["feature_select"]
    cytofast.run("default", example_store)
    assert list(example_store.fits("profiles")) == ["robust_mad"]


def test_a_feature_that_nobody_knows(example_store):
    with pytest.raises(SchemaError, match="perhaps 'Cells_AreaShape_Area'"):
        explain_feature(example_store, "Cells_AreaShape_Aera")


def test_consensus_over_plates_is_one_partition(tmp_path):
    store = toy.make_store(tmp_path / "s")
    levels = {
        "wells": [cytofast.Aggregate(), cytofast.Annotate()],
        "consensus": [cytofast.Consensus(by="Metadata_broad_sample")],
    }
    summary = cytofast.run(Recipe(levels), store)
    assert summary.filter(pl.col("level") == "consensus").select("batch", "plate", "rows").rows() == [
        ("__all__", "__all__", 9)
    ]
    assert set(cytofast.run(Recipe(levels), store)["outcome"]) == {"unchanged"}
    expected = cytofast.Consensus(by="Metadata_broad_sample")(store.scan("wells").collect())
    assert store.scan("consensus").collect().equals(expected)


CONFIG = """
pipeline: 2020_11_04_CPJUMP1
compartments: [cells, cytoplasm, nuclei]
aggregate: {perform: true, plate_column: Metadata_Plate, well_column: Metadata_Well, method: median, fields: all}
annotate:
  perform: true
  well_column: Metadata_Well
  external: {perform: true, file: JUMP-Target-1_compound_metadata.tsv, merge_column: broad_sample}
normalize: {perform: true, method: mad_robustize, features: infer, mad_robustize_fudge_factor: 0}
normalize_negcon: {perform: true, method: mad_robustize, features: infer, mad_robustize_fudge_factor: 0, min_cells: 10}
feature_select_negcon:
  perform: true
  features: infer
  level: batch
  gct: true
  operations: [variance_threshold, correlation_threshold, drop_na_columns, blocklist, noise_removal]
options: {compression: gzip, float_format: "%.5g"}
---
batch: 2020_11_04_CPJUMP1
plates:
  - {name: BR00116991, process: true}
process: true
"""


def test_a_profiling_recipe_is_converted_and_what_is_lost_is_said(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text(CONFIG)
    text, lost = convert_profiling_recipe(path)
    assert Recipe.from_toml(text).levels == Recipe.read("cpjump1").levels
    said = "\n".join(lost)
    for what in (
        "min_cells = 10",
        "gct",
        "noise_removal",
        "float_format",
        "1 plates",
        "external metadata",
        "normalize beside",
    ):
        assert what in said


def test_what_is_no_profiling_recipe(tmp_path):
    path = tmp_path / "config.yml"
    for content, error in (("a: [", DataError), ("- 1", DataError), ("", DataError), ("pipeline: x", RecipeError)):
        path.write_text(content)
        with pytest.raises(error, match=r"config\.yml"):
            convert_profiling_recipe(path)
    with pytest.raises(DataError, match="no such file"):
        convert_profiling_recipe(tmp_path / "nothing.yml")


NORMALIZE = "normalize: {perform: true, method: mad_robustize}\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("aggregate:\nannotate: {perform: true, external: }\n", '[[augmented]]\nstep = "annotate"'),
        ("feature_select: {perform: true, operations: }\n", '[[normalized]]\nstep = "robust_mad"'),
        ("feature_select: {perform: true, operations: blocklist}\n", 'steps = [{ step = "drop_listed" }]'),
        (
            "aggregate: {perform: true, plate_column: Metadata_Pl\u00e4te, well_column: 'Metadata_\U0001f600'}\n",
            'by = ["Metadata_Pl\u00e4te", "Metadata_\U0001f600"]',
        ),
        ("aggregate: {perform: true, plate_column: Plate}\n", '[[normalized]]\nstep = "robust_mad"\nby = "Plate"'),
        ("---\nbatch: b\nplates:\n", "robust_mad"),
    ],
)
def test_odd_but_clear_configurations(tmp_path, content, expected):
    path = tmp_path / "config.yml"
    path.write_text(NORMALIZE + content, encoding="utf-8")
    text, _ = convert_profiling_recipe(path)
    assert expected in text
    assert Recipe.from_toml(text).levels


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("compartments: [cells, nuclei]\n", "compartments = .'cells', 'nuclei'."),
        ("batch_correction: {perform: true}\n", "batch_correction = "),
        ("options: {samples: \"Metadata_x == 'a'\"}\n", "options: samples"),
        ("feature_select: {perform: true, operations: [{blocklist: 1}, 3]}\n", "operation {'blocklist': 1}"),
        ("---\nplates: [P1, {name: P2, process: false}]\n", "list of 2 plates: .* also the 1 that say process: false"),
        ("---\nplates: [{name: P2}]\nprocess: false\n", "also the 1 that say process: false"),
        ("normalize_negcon: {perform: true}\nfeature_select: {perform: true}\n", "feature_select of normalize: here"),
        (
            "feature_select: {perform: true}\nfeature_select_negcon: {perform: true, operations: [blocklist]}\n",
            "feature_select beside feature_select_negcon",
        ),
    ],
)
def test_whatever_is_lost_is_said(tmp_path, content, said):
    path = tmp_path / "config.yml"
    path.write_text(NORMALIZE + content)
    assert re.search(said, "\n".join(convert_profiling_recipe(path)[1]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("aggregate: [1]", "aggregate: must hold keys and values"),
        ("normalize: true", "normalize: must hold"),
        ('normalize: {perform: "no"}', "normalize: perform must be true or false, not 'no'"),
        ("normalize: {perform: true, method: spherize}", "unknown normalization method 'spherize'"),
        ("normalize: {perform: true, method: mad_robustize, mad_robustize_fudge_factor: abc}", "must be a number"),
        ("normalize: {perform: true, method: mad_robustize, mad_robustize_fudge_factor: .inf}", "positive number"),
        ("aggregate: {perform: true, well_column: 3}", "by= must be text"),
    ],
)
def test_values_of_another_kind_are_refused(tmp_path, content, message):
    path = tmp_path / "config.yml"
    path.write_text(content)
    with pytest.raises(RecipeError, match=rf"config\.yml.*{message}"):
        convert_profiling_recipe(path)
