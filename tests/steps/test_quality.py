"""Cells are marked and counted, and only then left out; a run over a store does the same as a table in memory."""

import numpy as np
import polars as pl
import pytest

import cytofast
from cytofast import DropFlagged, FlagCells, ProfileWarning, RecipeError, SchemaError, resources
from tests.ingest.exports import write_site

RULES = ["small: Nuclei_Area < -1 AND Nuclei_Form < -1", "large: Nuclei_Area > 2"]


@pytest.fixture
def cells():
    drawn = np.random.default_rng(3)
    values = drawn.normal(100, 20, 400)
    values[:5] = np.nan
    form = np.where(values < 85, 0.2, 0.9) + drawn.normal(0, 0.01, 400)
    return pl.DataFrame({"Metadata_Plate": ["P", "Q"] * 200, "Nuclei_Area": values, "Nuclei_Form": form}).with_columns(
        pl.when(pl.col("Metadata_Plate") == "Q")
        .then(pl.col("Nuclei_Area") * 10)
        .otherwise("Nuclei_Area")
        .alias("Nuclei_Area")
    )


def plain(cells):
    """Each plate's z-scores by numpy."""
    flags = []
    for plate, area, form in cells.rows():
        of = cells.filter(pl.col("Metadata_Plate") == plate)
        z = []
        for value, name in ((area, "Nuclei_Area"), (form, "Nuclei_Form")):
            all_values = of[name].to_numpy()
            all_values = all_values[np.isfinite(all_values)]
            z.append((value - all_values.mean()) / all_values.std())
        missing = np.isnan(z[0])
        small = None if missing and z[1] < -1 else bool(z[0] < -1 and z[1] < -1)
        flags.append((small, None if missing else bool(z[0] > 2)))
    return flags


@pytest.mark.parametrize("lazy", [False, True])
def test_rules_are_over_the_z_scores_of_each_plate(cells, lazy):
    step = FlagCells(RULES)
    found = step(cells.lazy()).collect() if lazy else step(cells)
    assert found.drop("Metadata_cqc_small", "Metadata_cqc_large").equals(cells)
    assert found.select("Metadata_cqc_small", "Metadata_cqc_large").rows() == plain(cells)
    fit = step.fit(cells)
    report = fit.filter(pl.col("rule") == "large").sort("Metadata_Plate")
    for row in report.iter_rows(named=True):
        of = found.filter(pl.col("Metadata_Plate") == row["Metadata_Plate"])["Metadata_cqc_large"]
        assert (row["cells"], row["flagged"], row["undefined"]) == (200, of.sum(), of.null_count())


def test_marked_cells_are_left_out_and_counted(cells):
    marked = FlagCells(RULES)(cells)
    step = DropFlagged()
    fit = step.fit(marked)
    left = step.apply(marked, fit)
    any_flag = [bool(small) or bool(large) for small, large in plain(cells)]
    assert left.height == len(any_flag) - sum(any_flag)
    assert fit.filter(pl.col("flag").is_null())["flagged"].sum() == sum(any_flag)
    assert step(marked.lazy()).collect().equals(left)


def test_values_as_they_are(cells):
    found = FlagCells(["a: Nuclei_Area > 1000"], unit="value")(cells)
    area = cells["Nuclei_Area"].to_numpy()
    assert found["Metadata_cqc_a"].fill_null(value=False).to_list() == (np.nan_to_num(area) > 1000).tolist()


def test_a_constant_feature_marks_nothing():
    cells = pl.DataFrame({"Metadata_Plate": ["P"] * 3, "Nuclei_A": [1.0] * 3})
    assert FlagCells(["x: Nuclei_A > 1"])(cells)["Metadata_cqc_x"].to_list() == [None] * 3


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], "at least one"),
        (["Nuclei_A > 1"], "is no rule"),
        (["x y: Nuclei_A > 1"], "is no rule"),
        (["x:"], "is no rule"),
        (["x: Nuclei_A >"], "not a SQL predicate"),
        (["x: Nuclei_A > 1", "x: Nuclei_A < 1"], "more than once"),
        (["x: Nuclei_A > MAX(Nuclei_A)"], "each cell by itself"),
        (["x: Nuclei_A > (SELECT 1)"], "each cell by itself"),
        (["x: 1 > 0"], "each cell by itself"),
    ],
)
def test_what_is_no_rule(rules, message):
    with pytest.raises(RecipeError, match=message):
        FlagCells(rules)


def test_tables_without_the_columns(cells):
    with pytest.raises(SchemaError, match="no column 'Nuclei_Ara'"):
        FlagCells(["x: Nuclei_Ara > 1"])(cells)
    with pytest.raises(SchemaError, match="features are numbers, but 'Metadata_Plate'"):
        FlagCells(["x: Metadata_Plate > 1"])(cells)
    with pytest.raises(RecipeError, match="must be true or false"):
        FlagCells(["x: Nuclei_Area + 1"])(cells)
    with pytest.raises(SchemaError, match="no column of flags is like"):
        DropFlagged()(cells)
    with pytest.warns(ProfileWarning, match="every cell of 1 plates is flagged"):
        assert DropFlagged("f")(pl.DataFrame({"f": [True]})).height == 0


def test_flags_of_cosmicqc_are_used_as_they_are_called(tmp_path):
    """Flags, and scores beside them, of a Parquet file or of what pandas writes as text."""
    cells = pl.DataFrame(
        {
            "Metadata_Plate": ["P"] * 4,
            "Metadata_Well": ["A01"] * 4,
            "Metadata_ObjectNumber": [1, 2, 3, 4],
            "Cells_A": [1.0, 2.0, 3.0, 4.0],
            "cqc.large_nuclei.is_outlier": [True, False, None, False],
            "cqc.large_nuclei.Z_Score.Nuclei_AreaShape_Area": [3.0, 0.0, 0.0, 0.0],
        }
    )
    assert DropFlagged()(cells)["Metadata_ObjectNumber"].to_list() == [2, 3, 4]
    (tmp_path / "text").mkdir()
    cells.write_parquet(tmp_path / "P.parquet")
    text = cells.write_csv().replace("true", "True").replace("false", "False")
    (tmp_path / "text" / "P.csv").write_text(text)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('source = "cells"\n[[kept]]\nstep = "drop_flagged"\n')
    for number, source in enumerate((tmp_path / "P.parquet", tmp_path / "text")):
        store = cytofast.open_store(tmp_path / f"store{number}", create=True)
        store.ingest(source)
        schema = store.scan("cells").collect_schema()
        assert schema["Metadata_cqc.large_nuclei.is_outlier"] == pl.Boolean
        # A score is no feature.
        assert [name for name in schema if not name.startswith("Metadata_")] == ["Cells_A"]
        cytofast.run(recipe, store)
        assert store.scan("kept").collect()["Metadata_ObjectNumber"].to_list() == [2, 3, 4]


def test_flags_that_are_neither_true_nor_false_are_named():
    cells = pl.DataFrame(
        {"Metadata_cqc_x": [True, False], "Metadata_cqc_y": ["yes", "no"], "Metadata_cqc_z": [0.1, 3.0]}
    )
    with pytest.raises(SchemaError, match="'Metadata_cqc_y' hold String"):
        DropFlagged()(cells)
    assert DropFlagged()(cells.drop("Metadata_cqc_y")).height == 1


def test_a_recipe_marks_reports_and_leaves_out(tmp_path):
    for number in (1, 2):
        write_site(tmp_path / "csv" / f"{number}", well=f"A0{number}", image=number, n=40)
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(tmp_path / "csv")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'source = "cells"\n[[kept]]\nstep = "flag_cells"\nrules = ["large: Nuclei_AreaShape_Area > 1.5"]\n'
        '[[kept]]\nstep = "drop_flagged"\n[[wells]]\nstep = "aggregate"\nstatistic = "count"\n'
    )
    cytofast.run(recipe, store)
    cells = store.scan("cells").collect()
    expected = DropFlagged()(FlagCells(["large: Nuclei_AreaShape_Area > 1.5"])(cells))
    assert 0 < expected.height < 80
    assert store.scan("kept").collect().equals(expected)
    assert store.fits("kept")["drop_flagged"].filter(pl.col("flag").is_null())["flagged"].item() == 80 - expected.height
    assert store.scan("wells").collect()["Metadata_Object_Count"].sum() == expected.height


def test_a_plate_that_does_not_fit_into_memory(tmp_path, monkeypatch):
    from cytofast.recipe import passes

    write_site(tmp_path / "csv", n=3000)
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(tmp_path / "csv")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'source = "cells"\n[[kept]]\nstep = "flag_cells"\nrules = ["large: Nuclei_AreaShape_Area > 1.5"]\n'
        '[[kept]]\nstep = "drop_flagged"\n[[wells]]\nstep = "aggregate"\n'
    )
    cytofast.run(recipe, store)
    before = {level: store.scan(level).collect() for level in ("kept", "wells")}
    monkeypatch.setattr(passes, "_fits_in_memory", lambda _: False)
    other = cytofast.open_store(tmp_path / "other", create=True)
    other.ingest(tmp_path / "csv")
    with resources.limits(memory="256MiB"):
        cytofast.run(recipe, other)
    for level, frame in before.items():
        assert other.scan(level).collect().equals(frame)
