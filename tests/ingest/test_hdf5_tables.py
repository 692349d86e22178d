"""AnnData and GCTX: HDF5 files, read some rows at a time."""

import contextlib

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytofast import (
    CytofastError,
    DataError,
    RecipeError,
    SchemaError,
    limits,
    read_anndata,
    read_gctx,
    read_profiles,
    write_profiles,
)
from cytofast.ingest import lazily

h5py = pytest.importorskip("h5py", reason="AnnData and GCTX files need the package h5py")


@pytest.fixture
def wells():
    return pl.DataFrame(
        {
            "Metadata_Plate": ["0042", "0042", "43"],
            "Metadata_Well": ["A01", None, "P24"],
            "Metadata_none": pl.Series([None] * 3, dtype=pl.String),
            "Metadata_dose": [0.5, None, 10.0],
            "Metadata_count": [3, None, 5],
            "Metadata_site": pl.Series([1, 2, 3], dtype=pl.Int32),
            "Metadata_control": [True, None, False],
            "Metadata_whole": [True, True, False],
            "Cells_AreaShape_Area": pl.Series([0.1, 1 / 3, None], dtype=pl.Float32),
            "Nuclei_Intensity/Bckg": pl.Series([float("inf"), -2.5e-30, 1e20], dtype=pl.Float32),
        }
    )


def test_anndata_keeps_values_and_types(tmp_path, wells):
    path = tmp_path / "x.h5ad"
    assert write_profiles(wells.lazy(), path) == 3
    back = read_profiles(path)
    assert back.collect_schema() == wells.schema
    assert back.collect().equals(wells)
    picked = back.filter(pl.col("Metadata_count") == 3).select("Metadata_Well", "Cells_AreaShape_Area")
    assert picked.collect().rows() == [("A01", pytest.approx(0.1))]
    assert back.head(2).collect().equals(wells.head(2))


def test_anndata_of_doubles_and_with_ids(tmp_path, wells):
    table = wells.with_columns(pl.col("Cells_AreaShape_Area").cast(pl.Float64)).select(
        pl.Series("Metadata_id", ["a", "b", "c"]), pl.all()
    )
    write_profiles(table, tmp_path / "x.h5ad")
    back = read_anndata(tmp_path / "x.h5ad").collect()
    assert back.equals(table.cast({"Nuclei_Intensity/Bckg": pl.Float64}))


def test_anndata_in_many_chunks_has_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(lazily, "_MOST_BYTES", 1)
    rng = np.random.Generator(np.random.PCG64(0))
    values = rng.normal(size=(2_000, 300)).astype(np.float32)
    table = pl.DataFrame({"Metadata_Well": [f"w{i}" for i in range(2_000)]}).hstack(
        pl.from_numpy(values, schema=[f"Cells_A_{i}" for i in range(300)])
    )
    write_profiles(table, tmp_path / "1.h5ad")
    with limits(memory="256MiB"):
        table.write_parquet(tmp_path / "x.parquet", row_group_size=300)
        write_profiles(pl.scan_parquet(tmp_path / "x.parquet"), tmp_path / "2.h5ad")
    assert (tmp_path / "1.h5ad").read_bytes() == (tmp_path / "2.h5ad").read_bytes()
    assert read_anndata(tmp_path / "2.h5ad").collect().equals(table)


def test_sparse_values_and_foreign_names(tmp_path):
    path = tmp_path / "x.h5ad"
    with h5py.File(path, "w") as root:
        x = root.create_group("X")
        x.attrs["encoding-type"], x.attrs["shape"] = "csr_matrix", [2, 3]
        x["data"], x["indices"], x["indptr"] = np.array([1.5, 2, 3], dtype="f4"), [0, 2, 1], [0, 2, 3]
        obs, var = root.create_group("obs"), root.create_group("var")
        obs.attrs["_index"] = var.attrs["_index"] = "names"
        obs.attrs["column-order"] = np.array(["plate"], dtype=h5py.string_dtype())
        obs["names"], var["names"] = ["cell-a", "cell-b"], ["g1", "g2", "g3"]
        obs["plate"] = np.array([b"P\xe9", b"Q"])
    assert read_profiles(path).collect().to_dict(as_series=False) == {
        "Metadata_id": ["cell-a", "cell-b"],
        "Metadata_plate": ["P\xe9", "Q"],
        "g1": [1.5, 0.0],
        "g2": [0.0, 3.0],
        "g3": [2.0, 0.0],
    }
    with h5py.File(path, "a") as root:
        root["X"].attrs["encoding-type"] = "csc_matrix"
    with pytest.raises(DataError, match="X is stored as 'csc_matrix'"):
        read_anndata(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: root.__delitem__("X"), "no 'X', so this is no AnnData file"),
        (lambda root: root["var"].__setitem__("_index", ["a"]) if root["var"].pop("_index") else None, "X is .*var 1"),
        (
            lambda root: root["obs/Metadata_Well"].attrs.__setitem__("encoding-type", "odd"),
            "'Metadata_Well' has the encoding 'odd'",
        ),
        (lambda root: root["obs/Metadata_Well/codes"].__setitem__(0, 7), "codes outside of its 2 categories"),
    ],
)
def test_spoilt_anndata_files(tmp_path, wells, spoil, message):
    path = tmp_path / "x.h5ad"
    write_profiles(wells, path)
    with h5py.File(path, "a") as root:
        spoil(root)
    with pytest.raises(DataError, match=message) as caught:
        read_anndata(path).collect()
    assert str(path) in str(caught.value)


def test_damaged_hdf5_files(tmp_path, wells):
    write_profiles(wells, tmp_path / "x.h5ad")
    whole = (tmp_path / "x.h5ad").read_bytes()
    for ending in ("h5ad", "gctx"):
        path = tmp_path / f"cut.{ending}"
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=r"not a readable .*copied whole"):
            read_profiles(path).collect()
        path.write_bytes(b"no HDF5")
        with pytest.raises(DataError, match="not a readable"):
            read_profiles(path)


def test_a_changed_value_is_found(tmp_path, wells):
    path = tmp_path / "x.h5ad"
    write_profiles(wells, path)
    whole = path.read_bytes()
    at = whole.index(np.float32(-2.5e-30).tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(DataError, match="not a readable AnnData file"):
        read_anndata(path).collect()


# The same bytes each time: of some damage to its heap of texts the HDF5 library itself never comes back.
@pytest.mark.parametrize("ending", ["h5ad", "gctx"])
@settings(derandomize=True, max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_no_changed_byte_ends_in_a_traceback(tmp_path_factory, ending, place, value):
    path = tmp_path_factory.mktemp("hdf5") / f"x.{ending}"
    if ending == "gctx":
        write_gctx(path)
    else:
        write_profiles(pl.DataFrame({"Metadata_Well": ["A01", None], "Cells_A_b": [1.5, None]}), path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(bytes(content))
    with contextlib.suppress(CytofastError):
        read_profiles(path).collect()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.Series("Metadata_x", [[1], [2], [3]]), "'Metadata_x' holds List"),
        (pl.Series("Metadata_a/b", [1, 2, 3]), "holds a slash"),
    ],
)
def test_what_anndata_cannot_hold(tmp_path, wells, column, message):
    with pytest.raises(SchemaError, match=message):
        write_profiles(wells.with_columns(column), tmp_path / "x.h5ad")
    assert not list(tmp_path.iterdir())
    with pytest.raises(RecipeError, match="AnnData holds numbers"):
        write_profiles(wells, tmp_path / "x.h5ad", float_format="%.5g")


def write_gctx(path, shape=None):
    with h5py.File(path, "w") as root:
        root.attrs["version"] = "GCTX1.0"
        root["0/DATA/0/matrix"] = np.arange(6, dtype="f4").reshape(shape or (3, 2))
        root["0/META/COL/id"] = np.array([b"X1:A01", b"X1:A02", b"X2:\xb5"])
        root["0/META/COL/pert_dose"] = np.array([10, -666, 2.5])
        root["0/META/COL/det_plate"] = np.array([b"X1", b"X1", b"-666"])
        root["0/META/COL/pert_time"] = np.array([24, 24, -666])
        root["0/META/ROW/id"] = np.array([b"200814_at", b"218597_s_at"])
        root["0/META/ROW/pr_gene_symbol"] = np.array([b"PSME1", b"CISD1"])


def test_gctx(tmp_path, monkeypatch):
    path = tmp_path / "x.gctx"
    write_gctx(path)
    table = read_profiles(path).collect()
    assert table.to_dict(as_series=False) == {
        "Metadata_id": ["X1:A01", "X1:A02", "X2:\xb5"],
        "Metadata_det_plate": ["X1", "X1", None],
        "Metadata_pert_dose": [10.0, None, 2.5],
        "Metadata_pert_time": [24, 24, None],
        "200814_at": [0.0, 2.0, 4.0],
        "218597_s_at": [1.0, 3.0, 5.0],
    }
    assert table.dtypes[-2:] == [pl.Float32, pl.Float32]
    assert read_gctx(path, names="pr_gene_symbol").select("CISD1").tail(1).collect().item() == 5
    write_gctx(path, (2, 3))
    with pytest.raises(DataError, match="the matrix is 2 x 3, but there are 3 samples and 2 features"):
        read_gctx(path)
    with h5py.File(path, "a") as root:
        del root["0/META/ROW/id"]
    with pytest.raises(DataError, match="no '0/META/ROW/id', so this is no GCTX file"):
        read_gctx(path)


def test_without_h5py_it_is_said_what_to_install(tmp_path, wells, monkeypatch):
    monkeypatch.setattr(lazily, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"writing .h5ad needs the package h5py.*cytofast\[anndata\]"):
        write_profiles(wells, tmp_path / "x.h5ad")
    (tmp_path / "x.gctx").write_bytes(b"x")
    with pytest.raises(RecipeError, match=r"reading .gctx needs the package h5py.*cytofast\[l1000\]"):
        read_profiles(tmp_path / "x.gctx")
