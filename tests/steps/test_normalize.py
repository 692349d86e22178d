import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cytofast
from cytofast import DataError, ProfileWarning, RecipeError, Robustize, RobustMAD, SchemaError, Standardize
from tests import oracle

AREA, MEAN = "Cells_AreaShape_Area", "Nuclei_Intensity_MeanIntensity_DNA"


def wells(
    plates: int = 2, per_plate: int = 12, seed: int = 0, dtype: type[pl.DataType] | pl.DataType = pl.Float64
) -> pl.DataFrame:
    values = np.random.Generator(np.random.PCG64(seed)).normal(size=(plates * per_plate, 2))
    return pl.DataFrame(
        {
            "Metadata_Plate": [f"P{i // per_plate}" for i in range(plates * per_plate)],
            "Metadata_Well": [f"A{i % per_plate + 1:02d}" for i in range(plates * per_plate)],
            "Metadata_control_type": ["negcon" if i % 3 else None for i in range(plates * per_plate)],
            AREA: values[:, 0],
            MEAN: values[:, 1],
        }
    ).with_columns(pl.col(AREA, MEAN).cast(dtype))


REFERENCE = "Metadata_control_type = 'negcon'"


@pytest.mark.parametrize(
    ("step", "method", "options"),
    [
        (RobustMAD(reference=REFERENCE), "robust_mad", {}),
        (RobustMAD(reference=REFERENCE, scale=1.0), "robust_mad", {"scale": 1.0}),
        (Standardize(reference=REFERENCE), "standardize", {}),
        (Standardize(reference=REFERENCE, ddof=1), "standardize", {"ddof": 1}),
        (Robustize(reference=REFERENCE), "robustize", {}),
    ],
)
@pytest.mark.parametrize("dtype", [pl.Float32(), pl.Float64()])
def test_each_plate_is_scaled_by_its_own_reference(step, method, options, dtype):
    table = wells(dtype=dtype)
    found = step(table)
    for plate in ("P0", "P1"):
        here = table.filter(pl.col("Metadata_Plate") == plate)
        reference = here.filter(pl.col("Metadata_control_type") == "negcon")
        for feature in (AREA, MEAN):
            expected = oracle.normalize(
                here[feature].to_numpy().astype(float), reference[feature].to_numpy(), method, **options
            )
            got = found.filter(pl.col("Metadata_Plate") == plate)[feature]
            assert got.dtype == dtype
            assert np.allclose(got.to_numpy(), expected, rtol=1e-12 if dtype == pl.Float64 else 1e-6)


@given(st.permutations(range(24)), st.booleans())
def test_row_order_and_laziness_change_nothing(order, lazy):
    table, step = wells(), RobustMAD(reference=REFERENCE)
    expected = step(table)[list(order)]
    shuffled = table[list(order)]
    found = step(shuffled.lazy()).collect() if lazy else step(shuffled)
    assert found.equals(expected)


@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_scaling_and_shifting_a_feature_change_nothing(factor, shift):
    table = wells()
    moved = table.with_columns(pl.col(AREA) * factor + shift)
    assert np.allclose(RobustMAD()(moved)[AREA], RobustMAD()(table)[AREA], rtol=1e-6, atol=1e-9)


def test_a_small_memory_budget_changes_nothing():
    table = pl.concat(
        [wells(seed=i).select(pl.col(AREA).alias(f"Cells_AreaShape_F{i}")) for i in range(40)], how="horizontal"
    )
    table = wells().select("Metadata_Plate").hstack(table)
    whole = RobustMAD().fit(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytofast.blocks.block_width", lambda *_args, **_kw: 3)
        assert RobustMAD().fit(table).sort("Metadata_Plate", "feature").equals(whole.sort("Metadata_Plate", "feature"))


def test_missing_values_are_skipped_and_stay_missing():
    table = wells().with_columns(
        pl.when(pl.int_range(pl.len()) == 1).then(float("nan")).otherwise(pl.col(AREA)).alias(AREA)
    )
    without = RobustMAD(by=None)(table.filter(pl.col(AREA).is_not_nan()))
    found = RobustMAD(by=None)(table)
    assert found[AREA][1] is None
    assert found[AREA].drop_nulls().equals(without[AREA])


def flat() -> pl.DataFrame:
    return wells().with_columns(pl.lit(3.0).alias(AREA))


def test_zero_spread_becomes_null_and_is_reported():
    with pytest.warns(
        ProfileWarning, match="2 of 4 features x groups have no spread .* become null: 'P0/Cells_AreaShape_Area'"
    ):
        found = RobustMAD()(flat())
    assert found[AREA].null_count() == 24
    assert found[MEAN].null_count() == 0
    assert RobustMAD().fit(flat())["status"].to_list() == ["zero spread", "ok"] * 2


def test_rounding_noise_is_not_spread():
    noisy = wells().with_columns((0.1 + pl.Series(np.tile([0.0, 1e-17, -1e-17, 2e-17], 6))).alias(AREA))
    assert set(RobustMAD().fit(noisy).filter(pl.col("feature") == AREA)["status"]) == {"zero spread"}


def test_other_policies_for_zero_spread():
    with pytest.warns(ProfileWarning, match="only centred"):
        assert RobustMAD(zero_scale="one")(flat())[AREA].to_list() == [0.0] * 24
    shifted = flat().with_columns(pl.when(pl.int_range(pl.len()) == 0).then(4.0).otherwise(pl.col(AREA)).alias(AREA))
    assert RobustMAD(zero_scale="divide", epsilon=1e-18)(shifted)[AREA][0] == pytest.approx(1e18)
    with pytest.raises(DataError, match="2 of 4 spreads are zero or undefined"):
        RobustMAD(zero_scale="error")(flat())


def test_a_fit_goes_to_disk_and_to_a_new_plate(tmp_path):
    table = wells()
    step = RobustMAD(by=None)
    cytofast.write_profiles(step.fit(table), tmp_path / "fit.parquet")
    fit = cytofast.read_profiles(tmp_path / "fit.parquet").collect()
    assert step.apply(table, fit).equals(step(table))
    assert step.apply(table.head(3), fit).equals(step(table).head(3))


def test_a_plate_without_reference_is_named():
    table = wells().with_columns(
        pl.when(pl.col("Metadata_Plate") == "P1")
        .then(None)
        .otherwise(pl.col("Metadata_control_type"))
        .alias("Metadata_control_type")
    )
    with pytest.raises(DataError, match=r"1 of 2 groups Metadata_Plate have no reference row: 'P1'.*negcon"):
        RobustMAD(reference=REFERENCE)(table)
    with pytest.raises(DataError, match="no row is in the reference"):
        RobustMAD(by=None, reference="Metadata_control_type = 'poscon'")(table)


def test_a_plate_that_the_fit_does_not_know_is_named():
    fit = RobustMAD().fit(wells(plates=1))
    with pytest.raises(DataError, match="the fit has no Metadata_Plate 'P1'"):
        RobustMAD().apply(wells(), fit)


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (lambda: RobustMAD(by="Metadata_Plato"), SchemaError, "no column 'Metadata_Plato'.*perhaps 'Metadata_Plate'"),
        (lambda: RobustMAD(reference="Metadata_contro = 1"), SchemaError, "no column 'Metadata_contro'"),
        (lambda: RobustMAD(features=["Cells_AreaShape_Are"]), SchemaError, "perhaps 'Cells_AreaShape_Area'"),
        (lambda: RobustMAD(features="DP_"), SchemaError, "no column starts with 'DP_'"),
        (lambda: RobustMAD(features=["Metadata_Well"]), SchemaError, "must be numbers"),
        (lambda: RobustMAD(reference="Metadata_Well ="), RecipeError, "not a SQL predicate"),
        (lambda: RobustMAD(reference="Metadata_Well"), RecipeError, "must be true or false"),
        (lambda: RobustMAD(zero_scale="nul"), RecipeError, "did you mean"),
        (lambda: Robustize(lower=0.9, upper=0.1), RecipeError, "lower < upper"),
    ],
)
def test_what_makes_no_sense_is_refused(step, error, message):
    with pytest.raises(error, match=message):
        step()(wells())


def test_an_empty_table_is_refused():
    with pytest.raises(DataError, match="no rows"):
        RobustMAD()(wells().clear())


def test_references_may_be_polars_expressions():
    assert RobustMAD(reference=pl.col("Metadata_control_type") == "negcon")(wells()).equals(
        RobustMAD(reference=REFERENCE)(wells())
    )


def test_null_is_a_group_like_any_other():
    table = wells().with_columns(
        pl.when(pl.col("Metadata_Plate") == "P1").then(None).otherwise(pl.col("Metadata_Plate")).alias("Metadata_Plate")
    )
    assert RobustMAD()(table).drop("Metadata_Plate").equals(RobustMAD()(wells()).drop("Metadata_Plate"))


def test_a_single_feature_is_enough():
    table = wells().select("Metadata_Plate", AREA)
    assert RobustMAD()(table)[AREA].equals(RobustMAD()(wells())[AREA])


def test_a_fit_with_other_groups_is_refused():
    fit = RobustMAD().fit(wells())
    with pytest.raises(DataError, match="made with by='Metadata_Plate' and is applied with by=None"):
        RobustMAD(by=None).apply(wells(), fit)
    with pytest.raises(DataError, match="made with by=None and is applied with by='Metadata_Plate'"):
        RobustMAD().apply(wells(), RobustMAD(by=None).fit(wells()))


def test_a_fit_must_have_one_row_for_each_group_and_feature():
    fit = RobustMAD().fit(wells())
    with pytest.raises(DataError, match=r"the fit has 2 rows for 'P0/Cells_AreaShape_Area' instead of one \(1 groups"):
        RobustMAD().apply(wells(), pl.concat([fit, fit.head(1)]))
    with pytest.raises(DataError, match=r"the fit has 0 rows for 'P0/Cells_AreaShape_Area'.*1 are missing"):
        RobustMAD().apply(wells(), fit.slice(1))
    with pytest.raises(DataError, match="the fit has no rows"):
        RobustMAD().apply(wells(), fit.clear())
    with pytest.raises(SchemaError, match="the fit: no column 'scale'"):
        RobustMAD().apply(wells(), fit.drop("scale"))
    whole = RobustMAD(by=None).fit(wells())
    with pytest.raises(DataError, match="2 rows for 'Cells_AreaShape_Area'"):
        RobustMAD(by=None).apply(wells(), pl.concat([whole, whole]))


def test_an_infinite_value_in_the_reference_has_a_status_of_its_own():
    table = wells().with_columns(pl.when(pl.int_range(pl.len()) == 1).then(np.inf).otherwise(pl.col(AREA)).alias(AREA))
    fit = Standardize().fit(table)
    assert fit["status"].to_list() == ["undefined spread", "ok", "ok", "ok"]
    with pytest.warns(
        ProfileWarning, match=r"have no spread in their reference \(1 undefined spread\) and become null"
    ):
        assert Standardize().apply(table, fit)[AREA].null_count() == 12
    assert Standardize(by="Metadata_Well", ddof=1).fit(wells(plates=1))["status"].unique().to_list() == [
        "undefined spread"
    ]


def test_plates_of_another_type_are_not_compared():
    numbered = wells().with_columns(pl.col("Metadata_Plate").str.slice(1).cast(pl.Int64))
    fit = RobustMAD().fit(numbered)
    with pytest.raises(SchemaError, match="'Metadata_Plate' holds String in the profiles and Int64 in the fit"):
        RobustMAD().apply(wells(), fit)
    narrow = numbered.with_columns(pl.col("Metadata_Plate").cast(pl.UInt8))
    assert RobustMAD().apply(narrow, fit)[AREA].equals(RobustMAD()(wells())[AREA])
    with pytest.raises(DataError, match="the fit has no Metadata_Plate '-1'"):
        RobustMAD().apply(numbered.with_columns(-pl.col("Metadata_Plate")), RobustMAD().fit(narrow))
    categories = wells().with_columns(pl.col("Metadata_Plate").cast(pl.Categorical))
    assert RobustMAD().apply(categories, RobustMAD().fit(wells()))[AREA].equals(RobustMAD()(wells())[AREA])


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda: RobustMAD(by=("Metadata_Plate", "Metadata_Plate")), "'Metadata_Plate' are named more than once"),
        (lambda: RobustMAD(features=[]), "names no column"),
        (lambda: RobustMAD(by="feature"), "cannot name 'feature'"),
        (lambda: RobustMAD(by=AREA, features=[AREA]), "cannot make the groups"),
    ],
)
def test_columns_that_clash_are_refused(step, message):
    with pytest.raises(RecipeError, match=message):
        step()(wells())


def test_groups_may_be_called_anything():
    for name in ("group code", "fit row", "Cells_Number_Group"):
        table = wells().rename({"Metadata_Plate": name})
        found = RobustMAD(by=name)(table)
        assert found[name].equals(table[name])
        assert found[AREA].equals(RobustMAD()(wells())[AREA])
