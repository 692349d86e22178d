import gzip

import polars as pl
import pytest

from cytofast import DataError
from cytofast.metadata_tables import read_metadata_table


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
