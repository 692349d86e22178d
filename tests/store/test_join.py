"""Joins count both sides, say what missing keys do, and equal Polars."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from cytofast import DataError, RecipeError, SchemaError, limits
from tests import toy

KEY = "Metadata_broad_sample"
COMPOUNDS = pl.DataFrame({KEY: ["BRD-1", "BRD-2", "BRD-99", None], "Metadata_target": ["A", "B", "C", "none"]})


@pytest.fixture
def store(tmp_path):
    return toy.make_store(tmp_path / "store")


@pytest.mark.parametrize("how", ["inner", "left", "right", "full", "semi", "anti"])
@pytest.mark.parametrize("nulls", ["match", "never"])
def test_a_join_equals_polars_and_its_counts(store, how, nulls):
    joined = store.join("cells", COMPOUNDS, on=KEY, how=how, nulls=nulls)
    left = store.scan("cells").collect()
    slow = left.join(
        COMPOUNDS, on=KEY, how=how, nulls_equal=nulls == "match", coalesce=None if how in ("semi", "anti") else True
    )
    mine = joined.collect()
    assert joined.counts["rows"] == mine.height == slow.height
    assert_frame_equal(mine.select(slow.columns), slow, check_row_order=False)
    matched = left.join(COMPOUNDS, on=KEY, how="semi", nulls_equal=nulls == "match").height
    assert joined.counts["profiles"] == 120
    assert joined.counts["profiles_unmatched"] == 120 - matched
    assert joined.counts["profiles_without_key"] == 40
    assert joined.counts["table_rows"] == 4
    assert joined.counts["table_rows_without_key"] == 1
    assert joined.counts["table_rows_unmatched"] == (1 if nulls == "match" else 2)


def test_keys_by_other_names_and_several_keys(store):
    table = pl.DataFrame({"barcode": ["P1", "P2"], "well": ["A01", "B06"], "note": ["x", "y"]})
    joined = store.join(
        "cells", table, on={"Metadata_Plate": "barcode", "Metadata_Well": "well"}, how="inner", columns=[]
    )
    assert joined.collect().unique().sort("note").rows() == [("P1", "A01", "x"), ("P2", "B06", "y")]
    assert repr(joined).startswith("Join(profiles: 120, profiles_unmatched: 110")


def test_repeated_keys_are_refused_unless_wanted(store):
    twice = pl.concat([COMPOUNDS, COMPOUNDS.head(1).with_columns(Metadata_target=pl.lit("D"))])
    with pytest.raises(DataError, match=r"1 keys more than once: \('BRD-1',\)"):
        store.join("cells", twice, on=KEY)
    joined = store.join("cells", twice, on=KEY, multiply=True)
    assert joined.counts["rows"] == joined.collect().height == 130


def test_missing_keys_may_repeat_where_they_never_match(store):
    table = pl.DataFrame({KEY: [None, None, "BRD-1"], "x": [1, 2, 3]}, schema_overrides={KEY: pl.String})
    assert store.join("cells", table, on=KEY, nulls="never").counts["rows"] == 120
    with pytest.raises(DataError, match="more than once"):
        store.join("cells", table, on=KEY)


def test_names_and_types_are_checked(store):
    clash = COMPOUNDS.with_columns(Metadata_control_type=pl.lit("x"))
    for table, options, error, message in [
        (COMPOUNDS, {"on": "Metadata_broad"}, SchemaError, "perhaps 'Metadata_broad_sample'"),
        (COMPOUNDS, {"on": {KEY: "x"}}, SchemaError, "the table to join: no column 'x'"),
        (COMPOUNDS, {"on": []}, RecipeError, "names no column"),
        (COMPOUNDS, {"on": KEY, "how": "outer"}, RecipeError, "unknown how 'outer'"),
        (COMPOUNDS, {"on": KEY, "nulls": "maybe"}, RecipeError, "unknown nulls"),
        (COMPOUNDS, {"on": KEY, "columns": ["Cells_x"]}, SchemaError, "no column 'Cells_x'"),
        (clash, {"on": KEY}, SchemaError, "both have 'Metadata_control_type'"),
        (clash, {"on": KEY, "suffix": ""}, SchemaError, "still taken"),
        (pl.DataFrame({KEY: [1, 2]}), {"on": KEY}, SchemaError, "is VARCHAR, and"),
        ({"a": 1}, {"on": KEY}, RecipeError, "not dict"),
    ]:
        with pytest.raises(error, match=message):
            store.join("cells", table, **options)
    joined = store.join("cells", clash, on=KEY, suffix="_table")
    assert {"Metadata_control_type", "Metadata_control_type_table"} <= set(joined.collect().columns)


def test_it_streams_to_a_file_and_reads_one(store, tmp_path):
    COMPOUNDS.write_csv(tmp_path / "compounds.csv")
    joined = store.join("cells", tmp_path / "compounds.csv", on=KEY)
    assert joined.write(tmp_path / "out.parquet") == 120
    assert_frame_equal(pl.read_parquet(tmp_path / "out.parquet"), joined.collect(), check_row_order=False)
    assert sum(batch.height for batch in joined.batches()) == 120
    empty = store.join("cells", COMPOUNDS, on=KEY, how="inner", columns=[], seconds=60)
    assert empty.write(tmp_path / "few.parquet") == empty.counts["rows"]
    nothing = store.join("cells", COMPOUNDS.clear(), on=KEY, how="inner")
    assert nothing.write(tmp_path / "none.parquet") == 0
    assert "Metadata_target" in pl.read_parquet(tmp_path / "none.parquet").columns


def test_a_join_larger_than_the_budget_spills(tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOFAST_SCRATCH", str(tmp_path))
    store = toy.make_store(tmp_path / "store")
    keys = 1_500_000
    table = pl.DataFrame({"Metadata_ObjectNumber": range(keys), "text": [f"{i:0100d}" for i in range(keys)]})
    with limits("300MB", 2):
        joined = store.join("cells", table, on="Metadata_ObjectNumber", how="right", columns=[])
        assert joined.counts["rows"] == keys - 5 + 120
        assert sum(batch.height for batch in joined.batches()) == joined.counts["rows"]


@pytest.mark.parametrize("key", ["n", "l", "r", "k0", "profiles"])
def test_a_key_may_have_any_name(store, key):
    table = pl.DataFrame({key: ["BRD-1", "BRD-2", "none such"], "target": ["A", "B", "C"]})
    joined = store.join("cells", table, on={"Metadata_broad_sample": key}, columns=["Metadata_Plate"])
    assert joined.counts["profiles_unmatched"] == joined.counts["profiles"] - 20
    assert joined.counts["table_rows_unmatched"] == 1
    assert joined.collect()["target"].drop_nulls().len() == 20
    with pytest.raises(DataError, match=r"1 keys more than once: \('BRD-1',\)"):
        store.join("cells", pl.concat([table, table[:1]]), on={"Metadata_broad_sample": key})
