"""GCT: what is read, what is refused, and what is written."""

import contextlib
import gzip
import re

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cytofast import CytofastError, DataError, RecipeError, SchemaError, limits, read_gct, read_profiles, write_profiles
from cytofast.ingest.gct import gct_features

TEXT = (
    "#1.3\n2\t3\t2\t2\n"
    "id\tpr_gene_symbol\tpr_is_lmark\tX1:A01\tX1:A02\tX2:B03\n"
    "det_plate\tna\tna\tX1\tX1\tX2\n"
    "pert_dose\tna\tna\t10\t-666\t2.5\n"
    "200814_at\tPSME1\t1\t0.5\t-1\t\n"
    "218597_s_at\tCISD1\t1\t1e-3\tNaN\t7\n"
)


@pytest.fixture
def wells():
    return pl.DataFrame(
        {
            "Metadata_Plate": ["0042", "0042", "43"],
            "Metadata_Well": ["A01", "B02", "P24"],
            "Metadata_compound": ['"x" µM', None, "a b"],
            "Metadata_dose": [0.5, None, 10.0],
            "Metadata_count": [3, 4, 5],
            "Cells_AreaShape_Area": pl.Series([0.1, 1 / 3, None], dtype=pl.Float32),
            "Nuclei_Texture_Contrast_DNA_3_00": pl.Series([float("inf"), -2.5e-30, 1e20], dtype=pl.Float32),
        }
    )


def test_what_a_file_says(tmp_path):
    path = tmp_path / "two.gct"
    path.write_text(TEXT)
    table = read_gct(path)
    assert table.to_dict(as_series=False) == {
        "Metadata_id": ["X1:A01", "X1:A02", "X2:B03"],
        "Metadata_det_plate": ["X1", "X1", "X2"],
        "Metadata_pert_dose": [10.0, None, 2.5],
        "200814_at": [0.5, -1.0, None],
        "218597_s_at": [0.001, None, 7.0],
    }
    assert read_gct(path, names="pr_gene_symbol").columns[-2:] == ["PSME1", "CISD1"]
    assert gct_features(path)["pr_is_lmark"].to_list() == ["1", "1"]
    assert read_profiles(path).collect().equals(table)
    with pytest.raises(RecipeError, match=r"unknown row metadata 'pr_gene_symbl'.*'pr_gene_symbol'"):
        read_gct(path, names="pr_gene_symbl")
    with pytest.raises(DataError, match="'1' stand more than once"):
        read_gct(path, names="pr_is_lmark")


def test_version_1_2_packed_in_latin_1_with_windows_line_ends(tmp_path):
    path = tmp_path / "old.gct.gz"
    text = "#1.2\r\n1\t2\r\nName\tDescription\ts1\ts2\r\n1007_s_at\t10 \xb5M \xe9\t1\t-2.5\r\n\r\n"
    path.write_bytes(gzip.compress(text.encode("latin-1")))
    assert read_gct(path).rows() == [("s1", 1.0), ("s2", -2.5)]
    assert gct_features(path).row(0) == ("1007_s_at", "10 \xb5M \xe9")


def test_names_that_look_like_numbers_stay_text(tmp_path):
    path = tmp_path / "x.gct"
    path.write_text("#1.3\n1\t2\t0\t3\nid\t7\t8\nPlate\t0042\t43\nsample\t007\t12\nsite\t1\t2\nDP_0\t1\t2\n")
    table = read_gct(path)
    assert table.row(0) == ("7", "0042", "007", 1, 1.0)


def changed(old, new):
    assert old in TEXT
    return TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("id\tx\n", "line 1: 'id.tx' instead of #1.2 or #1.3"),
        ("#1.3\n1\t1\n", "line 2: the file ends here"),
        (changed("2\t3\t2\t2", "2\t3\t2"), "line 2: .* has 4 whole numbers here"),
        (changed("2\t3\t2\t2", "2\t3\t2\tx"), "line 2: .* has 4 whole numbers here"),
        (changed("2\t3\t2\t2", "0\t3\t2\t2"), "line 2: 0 rows and 3 columns"),
        (changed("2\t3\t2\t2", "3\t3\t2\t2"), "line 7: the file ends early.*promises 3 rows .* 8 lines"),
        (changed("2\t3\t2\t2", "1\t3\t2\t2"), "line 7: the file goes on after the last row.*promises 1 rows"),
        (changed("2\t3\t2\t2", "2\t4\t2\t2"), "line 3: 6 fields, but its second line promises 7"),
        (changed("2\t3\t2\t2", "1\t3\t2\t3"), ""),
        (changed("-1\t\n", "-1\n"), "line 6: 5 fields, but the header has 6"),
        (changed("X1\tX1\tX2\n", "X1\tX1\n"), "line 4: 5 fields"),
        (changed("1e-3", "big"), "line 7, sample 1: 'big' is not a number"),
        (changed("218597_s_at", "200814_at"), "line 7: the id '200814_at' stands more than once"),
        (changed("218597_s_at", ""), "line 7: a row without an id"),
        (changed("pert_dose", "det_plate"), "line 5: column metadata 'det_plate' stand a second time"),
        (changed("pr_is_lmark", "pr_gene_symbol"), "line 3: row metadata 'pr_gene_symbol' stand more than once"),
        (changed("0.5", "0\0005"), "line 6: holds NUL bytes"),
        (changed("200814_at", "Metadata_x"), "'Metadata_x' are called like metadata"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, message):
    path = tmp_path / "x.gct"
    path.write_text(text)
    if text == changed("2\t3\t2\t2", "1\t3\t2\t3"):
        # One row taken for metadata of columns: nothing in the file contradicts it.
        assert read_gct(path).columns[-2:] == ["Metadata_200814_at", "218597_s_at"]
        return
    with pytest.raises(DataError, match=message) as caught:
        read_profiles(path).collect()
    assert str(path) in str(caught.value)


def test_a_packed_file_that_is_cut_off(tmp_path):
    path = tmp_path / "x.gct.gz"
    path.write_bytes(gzip.compress(TEXT.encode())[:-10])
    with pytest.raises(DataError, match="damaged or cut off"):
        read_gct(path)


def test_what_is_written_is_what_morpheus_and_pycytominer_expect(tmp_path, wells):
    path = tmp_path / "x.gct"
    write_profiles(wells, path, float_format="%.5g")
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert lines[:2] == [["#1.3"], ["2", "3", "1", "5"]]
    assert lines[2] == ["id", "cp_feature_name", "SAMPLE_0", "SAMPLE_1", "SAMPLE_2"]
    assert lines[3][:3] == ["Plate", "NA", "0042"]
    assert lines[8] == ["Cells_AreaShape_Area", "Cells_AreaShape_Area", "0.1", "0.33333", "NaN"]


@pytest.mark.parametrize("ending", [".gct", ".gct.gz"])
def test_values_and_metadata_come_back(tmp_path, wells, ending):
    path = tmp_path / f"x{ending}"
    assert write_profiles(wells.lazy(), path) == 3
    back = read_profiles(path).collect()
    assert back.cast(dict(wells.schema)).equals(wells)
    assert back.schema.names() == wells.columns
    assert [dtype for name, dtype in back.schema.items() if name.startswith("Metadata_")] == wells.dtypes[:5]
    first = path.read_bytes()
    with limits(memory="256MiB"):
        write_profiles(wells, path)
    assert path.read_bytes() == first


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_every_float32_comes_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("gct") / "x.gct"
    table = pl.DataFrame({"Cells_A_b": pl.Series(values, dtype=pl.Float32).fill_nan(None)})
    write_profiles(table, path)
    assert read_gct(path).cast(pl.Float32).equals(table)


def test_quotes_in_the_names_of_metadata(tmp_path):
    table = pl.DataFrame({'Metadata_"dose"': [1.5, 2.0], 'Metadata_a,"b"': ["x", "y"], "Cells_A_b": [1.0, 2.0]})
    write_profiles(table, tmp_path / "x.gct")
    assert read_gct(tmp_path / "x.gct").equals(table)


@example(0.375, b'"')
@given(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=2))
def test_no_changed_byte_ends_in_a_traceback(tmp_path_factory, place, change):
    path = tmp_path_factory.mktemp("gct") / "x.gct"
    content = bytearray(TEXT.encode())
    at = int(place * len(content))
    content[at : at + len(change)] = change
    path.write_bytes(bytes(content))
    with contextlib.suppress(CytofastError):
        read_profiles(path).collect()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Metadata_x": ["a\tb", "", ""]}, "'a.tb' holds a tab or a line end"),
        ({"Metadata_x": ["a\nb", "", ""]}, "column 'Metadata_x'.*holds a tab or a line end"),
        ({"Metadata_x": [[1], [2], []]}, "'Metadata_x' holds List.*which GCT cannot"),
        ({"dose": ["a", "b", "c"]}, "'Metadata_dose', 'dose' would have the name of another column"),
    ],
)
def test_what_gct_cannot_hold_is_refused(tmp_path, wells, change, message):
    with pytest.raises(SchemaError, match=message):
        write_profiles(wells.with_columns(**{k: pl.Series(v) for k, v in change.items()}), tmp_path / "x.gct")
    assert not list(tmp_path.iterdir())


def test_nothing_to_write(tmp_path, wells):
    with pytest.raises(SchemaError, match="no feature to write"):
        write_profiles(wells.select(pl.col("^Metadata_.*$")), tmp_path / "x.gct")
    with pytest.raises(DataError, match="no rows"):
        write_profiles(wells.clear(), tmp_path / "x.gct")
    with pytest.raises(RecipeError, match=re.escape("gctx files are read, not written")):
        write_profiles(wells, tmp_path / "x.gctx")
