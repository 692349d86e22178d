"""Fits of groups: saved, merged, reordered, of other tables; every step finds its own rows in them or says why not."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from cytofast.errors import DataError, RecipeError, SchemaError
from cytofast.steps.correct import TVN, CentreWells, MedianPolish, PrincipalComponents, Sphere
from cytofast.steps.normalize import RobustMAD
from cytofast.steps.transform import InverseNormal

pytestmark = pytest.mark.filterwarnings("ignore::cytofast.errors.ProfileWarning")
PLATE = "Metadata_Plate"
FEATURES = [f"Cells_A_f{i}" for i in range(4)]
STEPS = [
    Sphere(by=PLATE, epsilon=0.0),
    Sphere(by=PLATE, method="PCA-cor"),
    PrincipalComponents(by=PLATE, variance=1.0),
    TVN(by=PLATE, reference="Metadata_Well IS NOT NULL"),
    CentreWells(by=PLATE),
    InverseNormal(by=PLATE),
    MedianPolish(by=PLATE),
    RobustMAD(by=PLATE),
]
every_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)


def wells(n: int = 24) -> pl.DataFrame:
    rng = np.random.Generator(np.random.PCG64(5))
    x = rng.normal(size=(2 * n, 4)) @ rng.normal(size=(4, 4)) + 5
    head = {PLATE: ["P"] * n + ["Q"] * n, "Metadata_Well": [f"{'ABCD'[i % 4]}{i // 4 + 1:02d}" for i in range(n)] * 2}
    return pl.DataFrame(head).hstack(pl.DataFrame(x, schema=FEATURES))


def numbers(frame: pl.DataFrame) -> np.ndarray:
    return frame.drop(pl.selectors.starts_with("Metadata_") | pl.selectors.string()).to_numpy()


@every_step
def test_plates_whose_features_come_in_another_order(step):
    table = wells()
    parts = [table.filter(pl.col(PLATE) == "P"), table.filter(pl.col(PLATE) == "Q")]
    turned = parts[1].select(PLATE, "Metadata_Well", *FEATURES[::-1])
    fits = [step.fit(parts[0]), step.fit(turned)]
    if step.name == "tvn":  # learns from all plates together
        fits = [step.fit(table).filter(pl.col(PLATE) == "P"), step.fit(table).filter(pl.col(PLATE) == "Q").reverse()]
    got, expected = step.apply(table, step.merge(fits)), step(table)
    # A principal direction has no sign, and its sign is chosen by the first of equal entries.
    np.testing.assert_allclose(np.abs(numbers(got)), np.abs(numbers(expected)), atol=1e-9)


@every_step
def test_the_rows_of_a_fit_may_be_shuffled(step):
    table = wells()
    fit = step.fit(table)
    got = step.apply(table, fit.sample(fraction=1, shuffle=True, seed=3))
    assert got.columns == step(table).columns or set(got.columns) == set(step(table).columns)
    np.testing.assert_allclose(numbers(got.select(step(table).columns)), numbers(step(table)), atol=1e-12)


@every_step
def test_a_fit_must_have_every_feature_of_a_group_once(step):
    table = wells()
    fit = step.fit(table)
    lacking = fit.filter(~((pl.col(PLATE) == "Q") & (pl.col("feature") == FEATURES[1])))
    with pytest.raises(DataError, match=rf"the fit has 0 rows for 'Q/{FEATURES[1]}' instead of one"):
        step.apply(table, lacking)
    with pytest.raises(DataError, match=rf"the fit has 2 rows for 'P/{FEATURES[0]}' instead of one"):
        step.apply(table, step.merge([fit, fit.filter(pl.col(PLATE) == "P")]))
    with pytest.raises(DataError, match="the fit has no rows"):
        step.apply(table, fit.clear())
    with pytest.raises(SchemaError, match="the fit: no column"):
        step.apply(table, pl.DataFrame())


@every_step
def test_a_fit_of_other_groups_is_refused(step):
    table = wells()
    with pytest.raises(DataError, match=f"made with by=None and is applied with by='{PLATE}'"):
        step.apply(table, step.fit(table).filter(pl.col(PLATE) == "P").drop(PLATE))
    other = replace(step, by="Metadata_Well")
    with pytest.raises(DataError, match="is applied with by='Metadata_Well'"):
        other.apply(table, step.fit(table))
    with pytest.raises(SchemaError, match=f"'{PLATE}' holds Int32 in the profiles and String in the fit"):
        step.apply(table.with_columns(pl.lit(1).alias(PLATE)), step.fit(table))
    with pytest.raises(DataError, match="the fit has no Metadata_Plate 'R'"):
        step.apply(table.with_columns(pl.lit("R").alias(PLATE)), step.fit(table))


@every_step
def test_keys_of_other_types_and_names(step):
    table = wells()
    expected = numbers(step(table))
    texts = [pl.Categorical(), pl.Enum(["Q", "P"])]
    for dtype in texts:
        cast = table.with_columns(pl.col(PLATE).cast(dtype))
        np.testing.assert_array_equal(
            numbers(step.apply(cast, step.fit(table)).with_columns(pl.col(PLATE).cast(pl.String))), expected
        )
    renamed = table.rename({PLATE: "fit row"})
    np.testing.assert_array_equal(numbers(replace(step, by="fit row")(renamed)), expected)
    with pytest.raises(RecipeError, match="by= cannot name 'feature'"):
        replace(step, by="feature")


@every_step
def test_a_table_without_rows_stays_one(step):
    table = wells()
    fit = step.fit(table)
    expected = step(table).schema
    assert step.apply(table.head(0), fit).schema == expected
    assert step.apply(table.head(0).lazy(), fit).collect().schema == expected
