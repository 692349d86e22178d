"""Types that a file cannot hold, and numbers too long to be numbers."""

import polars as pl
import pytest

from cytofast import RecipeError, SchemaError
from cytofast.ingest.profiles import read_profiles, write_profiles


def test_numbers_of_twenty_digits_are_text(tmp_path):
    path = tmp_path / "wells.csv"
    path.write_text("Metadata_Barcode,Metadata_Site,Cells_A_b\n018446744073709551615,1,18446744073709551615\n7,2,3\n")
    found = read_profiles(path).collect()
    assert found["Metadata_Barcode"].to_list() == ["018446744073709551615", "7"]
    assert found.schema["Metadata_Site"] == pl.Int64
    assert found["Cells_A_b"].to_list() == [18446744073709551615.0, 3.0]
    write_profiles(found, tmp_path / "wells.parquet")
    assert read_profiles(tmp_path / "wells.parquet").collect().equals(found)


@pytest.mark.parametrize(
    ("ending", "dtype", "message"),
    [
        (".parquet", pl.Int128, "'Metadata_x' hold Int128, which Parquet cannot"),
        (".csv", pl.Duration("us"), "'Metadata_x' hold Duration.*, which CSV cannot"),
        (".csv", pl.List(pl.Int64), "'Metadata_x' hold lists, which CSV cannot"),
        (".csv.gz", pl.Binary, "'Metadata_x' hold Binary, which CSV cannot"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tmp_path, ending, dtype, message):
    table = pl.DataFrame({"Metadata_x": [None]}, schema={"Metadata_x": dtype})
    with pytest.raises(SchemaError, match=message):
        write_profiles(table.lazy(), tmp_path / f"x{ending}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["%q", "{:.3f}", "%d", "%s", "%", "", "%.3f%.3f"])
def test_a_format_that_is_none_is_refused(tmp_path, text):
    with pytest.raises(RecipeError, match="is no format of numbers; write for example"):
        write_profiles(pl.DataFrame({"Cells_A_b": [1.0]}), tmp_path / "x.csv", float_format=text)
    assert not list(tmp_path.iterdir())


def test_frames_of_pandas_are_refused(tmp_path):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(SchemaError, match="not a pandas DataFrame"):
        write_profiles(pandas.DataFrame({"a": [1]}), tmp_path / "x.csv")
