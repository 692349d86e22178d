import gzip

import polars as pl
import pytest

from cytofast import DataError, SchemaError
from cytofast.metadata_tables import prefixed, read_metadata_table


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_separators_and_missing_text(tmp_path, separator, ending):
    path = tmp_path / "map.txt"
    path.write_text(
        ending.join(separator.join(row) for row in (["well_position", "x"], ["A01", "NA"], ["A02", ""], ["A03", "1"])),
        newline="",
    )
    found = read_metadata_table(path)
    assert found.schema == {"Metadata_well_position": pl.String, "Metadata_x": pl.String}
    assert found["Metadata_x"].to_list() == [None, None, "1"]


def test_quotes_may_hold_the_separator(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text('well,name\nA01,"3,4-D"\n')
    assert read_metadata_table(path)["Metadata_name"].to_list() == ["3,4-D"]


def test_compressed_and_parquet(tmp_path):
    (tmp_path / "map.csv.gz").write_bytes(gzip.compress(b"well,x\nA01,1\n"))
    pl.DataFrame({"well": ["A01"], "x": ["1"]}).write_parquet(tmp_path / "map.parquet")
    assert read_metadata_table(tmp_path / "map.csv.gz").equals(read_metadata_table(tmp_path / "map.parquet"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"well,x\n", "a header but no rows"),
        (b"well,x\nA01,1\nA0", "line 3: 1 fields, but the header has 2"),
        (b"well,x\nA01,1,2\n", "line 2: 3 fields, but the header has 2"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, content, message):
    path = tmp_path / "map.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_metadata_table(path)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "broken.csv.gz").write_bytes(gzip.compress(b"well,x\nA01,1\n")[:-9])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        read_metadata_table(tmp_path / "broken.csv.gz")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_metadata_table(tmp_path / "broken.parquet")
    with pytest.raises(DataError, match="a folder, not a table"):
        read_metadata_table(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_metadata_table(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("well,conc (µM)\nA01,1\n".encode("latin-1"), r"line 1: not UTF-8 text \(byte 0xb5\).*save the file as UTF-8"),
        ("well,conc\nA01,1\nA02,1 µM\n".encode("latin-1"), r"line 3: not UTF-8 text.*save the file as UTF-8"),
        ("well,conc\nA01,1\n".encode("utf-16"), "save the file as UTF-8"),
        ("well,conc\nA01,1\n".encode("utf-16-le"), "NUL bytes.*save the file as UTF-8"),
        (b"well,c,c\nA01,1,2\n", "line 1: column 'c' stands more than once"),
        (b'well,c\nA01,"1\nA02,2\n', "is a quote left open"),
        (b"\nwell,c\nA01,1\n", "line 1, the header, is blank"),
    ],
)
def test_tables_that_would_be_guessed_at_are_refused(tmp_path, content, message):
    path = tmp_path / "map.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_metadata_table(path)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("well,conc (µM)\nA01,1\n", encoding="utf-8-sig")
    assert read_metadata_table(path).columns == ["Metadata_well", "Metadata_conc (µM)"]


def test_blank_lines_are_skipped(tmp_path):
    path = tmp_path / "map.csv"
    path.write_bytes(b"well,x\r\nA01,1\r\n\r\n  \r\nA02,2\r\n\r\n")
    assert read_metadata_table(path).rows() == [("A01", "1"), ("A02", "2")]
    path.write_bytes(b"well\nA01\n\nA02\n")
    assert read_metadata_table(path).rows() == [("A01",), ("A02",)]


def test_two_columns_do_not_become_one(tmp_path):
    table = pl.DataFrame({"well": ["A01"], "x": ["1"], "Metadata_x": ["2"]})
    table.write_csv(tmp_path / "map.csv")
    table.write_parquet(tmp_path / "map.parquet")
    for path in (tmp_path / "map.csv", tmp_path / "map.parquet"):
        with pytest.raises(SchemaError, match=rf"{path.name}: column 'x' and 'Metadata_x' would both be called"):
            read_metadata_table(path)
    with pytest.raises(SchemaError, match="would both be called 'Metadata_x'"):
        prefixed(table)
