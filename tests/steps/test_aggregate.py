import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast import Aggregate, DataError, ProfileWarning, RecipeError, SchemaError
from tests import oracle

FEATURES = ["Cells_AreaShape_Area", "Nuclei_AreaShape_Area"]
rows = st.lists(
    st.tuples(
        st.sampled_from(["P1", "P2", None]),
        st.sampled_from(["A01", "B02", "C03"]),
        st.floats(-1e6, 1e6, width=32) | st.just(float("nan")),
        st.floats(-1e6, 1e6, width=32) | st.none(),
    ),
    min_size=1,
    max_size=40,
)


def table(content: list[tuple]) -> pl.DataFrame:
    schema = {"Metadata_Plate": pl.String, "Metadata_Well": pl.String, FEATURES[0]: pl.Float32, FEATURES[1]: pl.Float32}
    return pl.DataFrame(content, schema=schema, orient="row")


@given(rows, st.sampled_from(["median", "mean", "std", "mad", "count"]), st.booleans())
def test_statistics_equal_pandas(content, statistic, lazy):
    cells = table(content)
    found = Aggregate(statistic=statistic)(cells.lazy()).collect() if lazy else Aggregate(statistic=statistic)(cells)
    plain = pd.DataFrame({name: cells[name].to_list() for name in cells.columns})
    expected = oracle.aggregate(plain, ["Metadata_Plate", "Metadata_Well"], FEATURES, statistic)
    assert found["Metadata_Well"].to_list() == expected["Metadata_Well"].tolist()
    for feature in FEATURES:
        exact = expected[feature].to_numpy(dtype=float)
        got = found[feature].cast(pl.Float64).to_numpy()
        if statistic in {"median", "count", "mad"}:
            # The twin's float64 result, rounded to float32 once, to the last bit.
            assert np.array_equal(got, exact.astype(np.float32).astype(float), equal_nan=True)
        else:
            assert np.allclose(got, exact, rtol=1e-6, atol=1e-3, equal_nan=True)


@given(rows, st.randoms(use_true_random=False))
def test_row_order_changes_nothing(content, random):
    shuffled = content.copy()
    random.shuffle(shuffled)
    assert Aggregate()(table(shuffled)).equals(Aggregate()(table(content)))


def test_rows_are_counted_and_null_keys_kept():
    found = Aggregate()(table([("P1", "A01", 1.0, None), (None, "A01", 2.0, 3.0), ("P1", "A01", float("nan"), None)]))
    assert found.rows() == [("P1", "A01", 2, 1.0, None), (None, "A01", 1, 2.0, 3.0)]


def test_metadata_that_is_constant_in_every_group_is_kept():
    cells = table([("P1", "A01", 1.0, 1.0), ("P1", "A01", 2.0, 2.0), ("P1", "B02", 1.0, 1.0)]).with_columns(
        pl.Series("Metadata_compound", [None, None, "drug"]),
        pl.Series("Metadata_Site", [1, 2, 1]),
        pl.Series("Metadata_ObjectNumber", [1, 2, 1]),
    )
    found = Aggregate()(cells)
    assert found.columns == ["Metadata_Plate", "Metadata_Well", "Metadata_compound", "Metadata_Object_Count", *FEATURES]
    assert found["Metadata_compound"].to_list() == [None, "drug"]


def test_types_follow_the_input():
    cells = table([("P1", "A01", 1.0, 1.0)]).with_columns(pl.col(FEATURES[1]).cast(pl.Int64))
    found = Aggregate()(cells)
    assert [found.schema[name] for name in FEATURES] == [pl.Float32, pl.Float64]
    assert Aggregate(statistic="count")(cells).schema[FEATURES[0]] == pl.Int64


def test_columns_that_are_neither_are_reported():
    cells = table([("P1", "A01", 1.0, 1.0)]).with_columns(pl.lit(1.0).alias("Image_Count"))
    with pytest.warns(
        ProfileWarning, match="1 columns are neither metadata nor features and are left out: 'Image_Count'"
    ):
        assert "Image_Count" not in Aggregate()(cells).columns


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Aggregate(statistic="mode"), RecipeError, "unknown statistic 'mode'"),
        (lambda: Aggregate(by=[]), RecipeError, "at least one column"),
        (lambda: Aggregate(by="Metadata_Wel"), SchemaError, "perhaps 'Metadata_Well'"),
        (lambda: Aggregate(features=["Cells_X"]), SchemaError, "no column 'Cells_X'"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()(table([("P1", "A01", 1.0, 1.0)]))


def test_an_empty_table_is_refused():
    with pytest.raises(DataError, match="no rows"):
        Aggregate()(table([]))


def test_text_in_a_feature_is_refused():
    cells = pl.DataFrame({"Metadata_Plate": ["P"], "Metadata_Well": ["A01"], "Cells_AreaShape_Area": ["many"]})
    with pytest.raises(SchemaError, match="'Cells_AreaShape_Area' are named like features but hold text"):
        Aggregate()(cells)


def test_columns_that_clash_are_refused():
    cells = table([("P1", "A01", 1.0, 1.0)])
    for by, features, message in (
        (("Metadata_Well", "Metadata_Well"), None, "'Metadata_Well' are named more than once"),
        ("Metadata_Well", [], "names no column"),
        (FEATURES[0], FEATURES, "cannot make the groups"),
        ("Metadata_Object_Count", None, "cannot name 'Metadata_Object_Count'"),
    ):
        with pytest.raises(RecipeError, match=message):
            Aggregate(by=by, features=features)(cells)


def test_a_feature_may_make_the_groups():
    cells = table([("P1", "A01", 1.0, 1.0), ("P1", "A01", 1.0, 3.0)])
    found = Aggregate(by=FEATURES[0])(cells)
    assert found.select(FEATURES).rows() == [(1.0, 2.0)]
    for name in ("feature", "group code"):
        assert Aggregate(by=name)(cells.rename({"Metadata_Well": name}))[name].to_list() == ["A01"]


def test_a_barcode_in_two_batches_is_told():
    cells = table([("P1", "A01", 1.0, 1.0), ("P1", "A01", 2.0, 2.0)]).with_columns(
        pl.Series("Metadata_Batch", ["B1", "B2"])
    )
    with pytest.warns(ProfileWarning, match="a barcode stands in more than one batch"):
        assert Aggregate()(cells).height == 1
    assert Aggregate(by=["Metadata_Batch", "Metadata_Plate", "Metadata_Well"])(cells).height == 2
