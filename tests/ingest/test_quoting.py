"""Quotes tell text from numbers in CSV."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast import read_profiles, write_profiles
from cytofast.ingest.quoting import written_in_quotes
from cytofast.schema import MISSING_TEXT

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6).filter(
    lambda text: text not in MISSING_TEXT
)
like_numbers = st.sampled_from(["1", "007", "-2.5", "1e5", ".5", "true", "False", "inf", "+3", "12345678901234567890"])


@pytest.mark.parametrize("ending", [".csv", ".tsv.gz"])
@given(
    text=st.lists(st.none() | words, min_size=1, max_size=8),
    names=st.lists(st.none() | like_numbers, min_size=1, max_size=8),
    numbers=st.lists(st.none() | st.integers(-5, 5), min_size=1, max_size=8),
)
def test_text_and_numbers_come_back_as_they_were(tmp_path_factory, ending, text, names, numbers):
    rows = min(len(text), len(names), len(numbers))
    table = pl.DataFrame(
        {
            "Metadata_Well": ["A01"] * rows,
            "Metadata_text": pl.Series(text[:rows], dtype=pl.String),
            "Metadata_name": pl.Series(names[:rows], dtype=pl.String),
            "Metadata_number": pl.Series(numbers[:rows], dtype=pl.Int64),
            "Cells_A_b": pl.Series(numbers[:rows], dtype=pl.Float64),
        }
    )
    path = tmp_path_factory.mktemp("csv") / f"x{ending}"
    write_profiles(table, path)
    back = read_profiles(path).collect()
    expected = table
    if table["Metadata_number"].null_count() == rows:
        # Nothing in the file tells what a column without any value held.
        expected = table.cast({"Metadata_number": pl.String})
    assert back.equals(expected)
    assert back.schema == expected.schema


def test_digits_of_other_scripts_are_text(tmp_path):
    (tmp_path / "x.csv").write_text("Metadata_Well,Metadata_x,Cells_A_b\nA01,\u0e50,1\nA02,5,2\n", encoding="utf-8")
    assert read_profiles(tmp_path / "x.csv").collect()["Metadata_x"].to_list() == ["\u0e50", "5"]


def test_columns_with_commas_and_quotes_in_their_names(tmp_path):
    table = pl.DataFrame(
        {
            "Metadata_Well": ["A01"],
            'Metadata_a,"b"': ["x"],
            'Metadata_"n"': [7],
            "Cells_A_b": [1.0],
            'Cells_A_"c"': [2.5],
        }
    )
    write_profiles(table, tmp_path / "x.csv")
    assert read_profiles(tmp_path / "x.csv").collect().equals(table)


@pytest.mark.parametrize("name", ['Metadata_"a"', '"Metadata_""a"""', 'Metadata_a""b'])
def test_text_in_columns_with_quotes_in_their_names_stays_text(tmp_path, name):
    (tmp_path / "x.csv").write_text(f'Metadata_Well,{name},Metadata_n,Cells_A_b\nA01,"007",{2**70},1.5\n')
    assert read_profiles(tmp_path / "x.csv").collect().row(0) == ("A01", "007", str(2**70), 1.5)


def test_quotes_around_everything_say_nothing(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('"Metadata_Well","Metadata_Site","Cells_A_b"\n"A01","1","2.5"\n')
    assert read_profiles(path).collect().row(0) == ("A01", 1, 2.5)


def test_the_first_value_that_is_there_decides():
    data = b',,1\n"a\n,""b",2,1\n"3",4,\n'
    assert written_in_quotes(data, [0, 1, 2], ",") == {0}
    assert written_in_quotes(b"1,2\n", [0, 1], ",") == set()
