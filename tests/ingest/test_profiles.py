import gzip
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from cytofast import resources
from cytofast.errors import DataError, RecipeError, SchemaError, StoreError
from cytofast.ingest.profiles import read_profiles, write_profiles

ENDINGS = [".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz"]


@pytest.fixture
def wells():
    return pl.DataFrame(
        {
            "Metadata_Plate": ["110000106828", "0042", None],
            "Metadata_Well": ["A01", "b2", "C03"],
            "Metadata_pert_iname": ["a, b", 'say "x"', None],
            "Metadata_Object_Count": [3, 4, None],
            "Cells_AreaShape_Area": [0.1, 1 / 3, None],
            "Nuclei_Intensity_Mean_DNA": [1e-300, float("inf"), -2.5],
        }
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read(tmp_path, wells, ending):
    path = tmp_path / f"wells{ending}"
    assert write_profiles(wells, path) == 3
    assert read_profiles(path).collect().equals(wells)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_profiles_are_the_same_bytes_however_they_come(tmp_path, ending):
    draw = np.random.default_rng(0)
    table = pl.DataFrame({f"Cells_F_{i}": draw.normal(size=3_000).astype(np.float32) for i in range(30)})
    table = table.with_columns(Metadata_Well=pl.Series([f"A{i % 24 + 1:02d}" for i in range(3_000)]))
    first, second = tmp_path / f"1{ending}", tmp_path / f"2{ending}"
    write_profiles(table, first)
    time.sleep(0.01)
    with resources.limits(memory="256MiB"):
        table.write_parquet(tmp_path / "source")
        write_profiles(pl.scan_parquet(tmp_path / "source"), second)
    assert first.read_bytes() == second.read_bytes()
    assert read_profiles(first).collect().select(table.columns).cast(dict(table.schema)).equals(table)


def test_float32_keeps_its_type_and_nan_becomes_null(tmp_path):
    table = pl.DataFrame({"Cells_A": pl.Series([1.5, float("nan")], dtype=pl.Float32), "Cells_B": [1.0, float("nan")]})
    write_profiles(table, tmp_path / "x.parquet")
    assert read_profiles(tmp_path / "x.parquet").collect_schema() == table.schema
    assert read_profiles(tmp_path / "x.parquet").collect().null_count().row(0) == (1, 1)
    write_profiles(table, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "Cells_A,Cells_B\n1.5,1.0\n,\n"


def test_float_format(tmp_path, wells):
    write_profiles(wells, tmp_path / "x.csv", float_format="%.3g")
    assert (tmp_path / "x.csv").read_text().splitlines()[2].endswith(",0.333,inf")
    with pytest.raises(RecipeError, match="is for CSV"):
        write_profiles(wells, tmp_path / "x.parquet", float_format="%.3g")


def test_types_of_metadata_and_features(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("Metadata_Well,Metadata_Dose,Metadata_Site,Cells_A_B,Cells_Empty_X,Gene_symbol\nA01,NA,1,2,,TP53\n")
    table = read_profiles(path).collect()
    assert dict(table.schema) == {
        "Metadata_Well": pl.String,
        "Metadata_Dose": pl.String,
        "Metadata_Site": pl.Int64,
        "Cells_A_B": pl.Float64,
        "Cells_Empty_X": pl.Float64,
        "Gene_symbol": pl.String,
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "the file is empty"),
        ("x.parquet", b"", "the file is empty"),
        ("x.parquet", b"PAR1 and no more", "not a readable Parquet file"),
        ("x.csv", b"Metadata_Well,Cells_A_B\n", "a header but no rows"),
        ("x.csv", b"Metadata_Well,Cells_A_B\nA01,1\nA02\n", "line 3: 1 fields, but the header has 2"),
        ("x.csv", b"Metadata_Well,Cells_A_B\nA01,1\nA02,2,3\n", "line 3: 3 fields"),
        ("x.csv", b"Metadata_Well,Cells_A_B\nA01,1\nA02,2.3", "line 3: the last line has no end"),
        ("x.csv", b"Metadata_Well,Cells_A_B\nA01,1\nA02,big\n", "line 3, column 'Cells_A_B': 'big' is not a number"),
        ("x.csv", b"Metadata_Well,Cells_A_B,Cells_A_B\nA01,1,2\n", "'Cells_A_B' stands more than once"),
        ("x.csv", b'Metadata_Well,Cells_A_B\n"A\n01",1\nA02,2,3\n', "line 4: 3 fields"),
        ("x.csv.gz", gzip.compress(b"Metadata_Well,Cells_A_B\nA01,1\n", mtime=0)[:-9], "damaged or cut off"),
        ("x.csv.gz", b"Metadata_Well,Cells_A_B\nA01,1\n", "damaged, or not packed with gzip"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_profiles(tmp_path / name).collect()


def test_bad_paths(tmp_path, wells):
    with pytest.raises(DataError, match="no such file"):
        read_profiles(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="a folder"):
        read_profiles(tmp_path)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(StoreError, match="a folder"):
        write_profiles(wells, tmp_path / "d.csv")
    with pytest.raises(RecipeError, match="what kind of file"):
        write_profiles(wells, tmp_path / "x.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_profiles(wells, tmp_path / "file" / "x.csv")


def test_levels_are_checked_on_request(tmp_path, wells):
    write_profiles(wells, tmp_path / "x.parquet")
    read_profiles(tmp_path / "x.parquet", level="wells")
    with pytest.raises(SchemaError, match="Metadata_ObjectNumber"):
        read_profiles(tmp_path / "x.parquet", level="cells")
    with pytest.raises(RecipeError, match="unknown level"):
        read_profiles(tmp_path / "x.parquet", level="well")


def test_a_table_without_rows_is_written_with_its_columns(tmp_path, wells):
    for ending in (".parquet", ".csv"):
        assert write_profiles(wells.clear().lazy(), tmp_path / f"x{ending}") == 0
        with pytest.raises(DataError, match="no rows"):
            read_profiles(tmp_path / f"x{ending}")


_FULL = """
import resource, signal, sys
import polars as pl
from cytofast.errors import StoreError
from cytofast.ingest.profiles import write_profiles
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
table = pl.DataFrame({f"Cells_F_{i}": [(x * 7919 + i) % 10007 / 7 for x in range(9000)] for i in range(20)})
try:
    write_profiles(table, sys.argv[1])
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".csv.gz"])
def test_a_full_disk_leaves_the_old_file(tmp_path, ending):
    assert hasattr(resource, "RLIMIT_FSIZE")
    assert hasattr(signal, "SIGXFSZ")
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout, done.stderr
    assert "File too large" in done.stdout
    assert path.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "mark", "message"),
    [
        ("a.csv", ";", "separated by semicolons, but a file of this name by commas.*with commas"),
        ("a.csv", "\t", "separated by tabs, but a file of this name by commas.*call it .tsv"),
        ("a.tsv", ",", "separated by commas, but a file of this name by tabs.*call it .csv"),
    ],
)
def test_a_file_separated_by_something_else_than_its_name_says(tmp_path, name, mark, message):
    path = tmp_path / name
    path.write_text("\n".join(mark.join(row) for row in (["Metadata_Well", "Cells_A_B"], ["A01", "1"])) + "\n")
    with pytest.raises(DataError, match=message):
        read_profiles(path)
