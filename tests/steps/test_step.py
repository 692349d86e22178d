"""What every step has in common: its fields are checked whichever door they come through."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs
import pytest

import cytofast
from cytofast import Aggregate, Annotate, RecipeError, RobustMAD, SchemaError, Standardize
from cytofast.recipe.recipe import Recipe, load_steps
from cytofast.steps.select import DropCorrelated, DropMissing, FeatureSelect
from cytofast.steps.step import Step, _registry, step_class

load_steps()
SHIPPED = Path(cytofast.__file__).parent / "recipe" / "shipped"


@pytest.mark.parametrize(
    ("step", "key", "value", "message"),
    [
        ("robust_mad", "by", 3, "by= must be text or a list of text or None, not 3"),
        ("robust_mad", "by", [1], r"by= must be .*, not \[1\]"),
        ("robust_mad", "features", 5, "features= must be a list of text or text or None, not 5"),
        ("robust_mad", "features", {"a": 1}, "features= must be"),
        ("robust_mad", "scale", "x", "scale= must be a number, not 'x'"),
        ("robust_mad", "scale", True, "scale= must be a number, not True"),
        ("robust_mad", "scale", 0, "scale must be a positive number, not 0"),
        ("robust_mad", "scale", -1.0, "scale must be a positive number, not -1.0"),
        ("robust_mad", "scale", math.inf, "scale must be a positive number, not inf"),
        ("robust_mad", "epsilon", math.nan, "epsilon= must be a number, not nan"),
        ("robust_mad", "epsilon", -1e-9, "epsilon must be 0 or a positive number"),
        ("robust_mad", "reference", 5, "reference= must be text or Expr or None, not 5"),
        ("robust_mad", "zero_scale", 5, "zero_scale= must be one of 'null', 'one', 'divide', 'error', not 5"),
        ("robust_mad", "zero_scale", "nul", "unknown zero_scale 'nul'; did you mean 'null'"),
        ("standardize", "ddof", "1", "ddof= must be a whole number, not '1'"),
        ("standardize", "ddof", 0.5, "ddof= must be a whole number, not 0.5"),
        ("standardize", "ddof", -1, "ddof must be 0 or more, not -1"),
        ("robustize", "lower", math.nan, "lower= must be a number"),
        ("annotate", "platemap", 5, "platemap= must be .*, not 5"),
        ("annotate", "suffix", 5, "suffix= must be text or None, not 5"),
        ("feature_select", "steps", "drop_missing", "steps= must be a list, not 'drop_missing'"),
        (
            "feature_select",
            "steps",
            [{"step": "drop_missing", "infinite": 1}],
            "infinite= must be true or false, not 1",
        ),
        ("drop_correlated", "threshold", "0.9", "threshold= must be a number"),
        ("clip_outliers", "limit", "high", "limit= must be a number"),
        ("centre_wells", "by", 1, "by= must be"),
        ("regress_cell_count", "min_unique", "100", "min_unique= must be a whole number"),
        ("harmonize", "clusters", "300", "clusters= must be a whole number or None"),
        ("sphere", "epsilon", "1", "epsilon= must be a number"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(step, key, value, message):
    with pytest.raises(RecipeError, match=message) as caught:
        step_class(step).from_parameters({key: value}, "my.toml: [[profiles]] 1")
    assert str(caught.value).startswith("my.toml: [[profiles]] 1: ")


def test_python_callers_are_told_as_well():
    with pytest.raises(RecipeError, match="RobustMAD: by= must be"):
        RobustMAD(by=3)


def test_whole_numbers_numpy_numbers_and_any_list_of_names_pass():
    assert RobustMAD(scale=1, epsilon=np.float32(0.5)).scale == 1
    assert Standardize(ddof=np.int64(1)).ddof == 1
    assert Aggregate(by=np.array(["a", "b"])).by == ("a", "b")
    assert Aggregate(by=pl.Series(["a", "b"])).by == ("a", "b")
    assert FeatureSelect([{"step": "drop_missing", "cutoff": 0}, DropCorrelated(0.9)]).steps[0] == DropMissing(0)


@pytest.mark.parametrize("name", sorted(file.stem for file in SHIPPED.glob("*.toml")))
def test_every_shipped_recipe_passes(name):
    assert Recipe.read(name).levels


def test_steps_can_be_hashed_whatever_lists_they_were_given():
    step = RobustMAD(by=["Metadata_Plate"], features=["Cells_A_b"])
    assert hash(step) == hash(RobustMAD(by=("Metadata_Plate",), features=("Cells_A_b",)))
    assert step == RobustMAD(by=("Metadata_Plate",), features=("Cells_A_b",))


@pytest.mark.parametrize(
    "reference",
    [pl.col("^Metadata_.*$") == "negcon", cs.starts_with("Metadata_") == "negcon", cs.starts_with("Metadata_")],
)
def test_a_reference_by_pattern_is_refused(reference):
    with pytest.raises(RecipeError, match="takes columns by a pattern or several at once"):
        RobustMAD(reference=reference)


def test_frames_of_pandas_are_refused_with_the_way_out():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"Metadata_Plate": ["P"], "Metadata_Well": ["A01"], "Cells_A_b": [1.0]})
    for step in (RobustMAD(), Aggregate(), DropMissing()):
        with pytest.raises(SchemaError, match=r"not a pandas DataFrame. Hint: convert it with polars.from_pandas"):
            step(frame)
    for method in (RobustMAD().fit, Aggregate().fit):
        with pytest.raises(SchemaError, match="from_pandas"):
            method(frame)
    with pytest.raises(SchemaError, match="from_pandas"):
        RobustMAD().apply(frame, pl.DataFrame())
    with pytest.raises(RecipeError, match=r"platemap= must be .* pandas DataFrame. Hint: .*polars.from_pandas"):
        Annotate(frame)


NEEDED = {
    "consensus": {"by": "Metadata_Plate"},
    "drop_noisy": {"replicates": "Metadata_Plate"},
    "keep_listed": {"keep": ["Cells_A_b"]},
    "tvn": {"reference": "Metadata_Well = 'A01'"},
    "feature_select": {"steps": [DropMissing()]},
    "flag_cells": {"rules": ["small: Cells_A_b < -1"]},
}


@pytest.mark.parametrize("name", sorted(set(_registry) - {"annotate"}))
def test_every_step_refuses_frames_of_pandas_in_fit_and_apply(name):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"Metadata_Plate": ["P"], "Metadata_Well": ["A01"], "Cells_A_b": [1.0]})
    step = step_class(name)(**NEEDED.get(name, {}))
    fit = pl.DataFrame({"order": [0], "feature": ["Cells_A_b"], "kept": [True], "kind": ["overall"], "status": ["ok"]})
    learned = type(step).fit is not Step.fit
    for call in [lambda: step.fit(frame)] * learned + [lambda: step.apply(frame, fit)]:
        with pytest.raises(SchemaError, match=r"not a pandas DataFrame. Hint: convert it with polars.from_pandas"):
            call()
