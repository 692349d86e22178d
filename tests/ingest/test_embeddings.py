"""DeepProfiler's sites, and embeddings of any name."""

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast import (
    Choice,
    CytofastError,
    DataError,
    ProfileWarning,
    RecipeError,
    SchemaError,
    open_store,
    read_deepprofiler,
    read_embeddings,
    read_profiles,
)
from cytofast.ingest.literals import NotPlainError, plain_object

RAN = Path("/tmp/cytofast-pickle-ran")
"""Would be there if a pickle had been loaded."""
CENTRE = ["Metadata_Location_Center_X", "Metadata_Location_Center_Y"]


def save_site(path, cells=3, width=4, seed=0, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.Generator(np.random.PCG64(seed))
    values = rng.normal(size=(cells, width)).astype(np.float32)
    arrays = {"features": values, "locations": rng.uniform(0, 1000, size=(cells, 2)), **more}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return values, arrays["locations"]


def described(**metadata):
    return {"metadata": np.array(metadata, dtype=object)}


def test_a_folder_of_sites_is_one_table_of_cells(tmp_path):
    said = {"Metadata_Plate": "P1", "Metadata_Well": "B02", "Metadata_Site": np.int64(1), "Compound": "x", "Dose": 0.5}
    saved = {
        ("P1", "A01", 2): save_site(tmp_path / "P1" / "A01_2.npz", 3, seed=1),
        ("P1", "A01", 10): save_site(tmp_path / "P1" / "A01_10.npz", 2, seed=2),
        ("P1", "B02", 1): save_site(tmp_path / "P1" / "b2_1.npz", 2, seed=3, **described(**said)),
        ("P1", "C01", 1): save_site(tmp_path / "P1" / "C01_1.npz", 0, seed=3),
        ("P2", "A01", 1): save_site(tmp_path / "P2" / "A01" / "1.npz", 1, seed=4),
    }
    table = read_deepprofiler(tmp_path)
    cells = table.collect()
    assert cells.schema == table.collect_schema()
    places = [(*key, i + 1) for key, (values, _) in saved.items() for i in range(len(values))]
    keys = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
    assert cells.select(*keys, "Metadata_ObjectNumber").rows() == places
    assert cells["Metadata_ImageNumber"].to_list() == [1, 1, 1, 2, 2, 3, 3, 1]
    features = [f"DP_{i}" for i in range(4)]
    assert cells.select(features).dtypes == [pl.Float32] * 4
    np.testing.assert_array_equal(cells.select(features).to_numpy(), np.concatenate([v for v, _ in saved.values()]))
    np.testing.assert_array_equal(cells.select(CENTRE).to_numpy(), np.concatenate([c for _, c in saved.values()]))
    assert (
        cells.filter(pl.col("Metadata_Well") == "B02").select("Metadata_Compound", "Metadata_Dose").rows()
        == [("x", 0.5)] * 2
    )
    assert table.filter(pl.col("Metadata_Plate") == "P2").select("DP_3").collect().height == 1
    assert table.head(4).collect().equals(cells.head(4))
    assert read_deepprofiler(tmp_path, prefix="Net").collect().columns[-1] == "Net_3"


def test_an_index_names_the_sites(tmp_path):
    save_site(tmp_path / "f" / "P1" / "A01_2.npz", metadata=np.array(Evil(), dtype=object))
    index = tmp_path / "index.csv"
    index.write_text("Metadata_Plate,Metadata_Well,Metadata_Site,Compound\nP1,A01,2,DMSO\nP1,A02,2,x\n")
    cells = read_deepprofiler(tmp_path / "f", index=index).collect()
    assert cells["Metadata_Compound"].to_list() == ["DMSO"] * 3
    save_site(tmp_path / "f" / "P1" / "A03_2.npz")
    with pytest.raises(DataError, match=r"A03_2.npz: plate P1, well A03, site 2 is not in .*index.csv"):
        read_deepprofiler(tmp_path / "f", index=index)


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {RAN}",)


def objects(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"features": objects([1.0], [2.0])}, "'features' is an array of pickled objects"),
        ({"features": objects(Evil())}, "'features' is an array of pickled objects"),
        ({"locations": objects(Evil(), 1)}, "'locations' is an array of pickled objects"),
        ({"metadata": objects(Evil())}, "its metadata hold .*system, which is no plain data and was not run"),
        ({"metadata": objects({}, {})}, "its metadata hold an array of 2 objects"),
        (described(Metadata_Plate=["P"]), "metadata 'Metadata_Plate' are no text or number"),
        (described(Metadata_Well="B01"), "say Metadata_Well 'B01', its name 'A01'"),
        (described(Metadata_Site=3), "say Metadata_Site 3, its name '1'"),
        (described(Metadata_Well="Z99"), "not wells of a 1536-well plate"),
        ({"features": None}, "no array 'features' in it"),
        ({"features": np.array([["a"]])}, "'features' holds <U1, not numbers"),
        ({"features": np.zeros((2, 3, 4))}, r"'features' has the shape \(2, 3, 4\)"),
        ({"locations": np.zeros((2, 2))}, r"3 cells, but 'locations' has the shape \(2, 2\)"),
        ({"features": np.zeros((0, 4)), "locations": None}, "no cells in this file"),
    ],
)
def test_sites_that_are_refused(tmp_path, more, message):
    path = tmp_path / "P1" / "A01_1.npz"
    save_site(path, **more)
    with pytest.raises(DataError, match=message) as caught:
        read_profiles(path).collect()
    assert str(path) in str(caught.value)
    assert not RAN.exists()


def test_folders_that_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no \.npz file in this folder"):
        read_deepprofiler(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        read_deepprofiler(tmp_path / "x")
    save_site(tmp_path / "P1" / "A01_1.npz")
    save_site(tmp_path / "P1" / "a1_01.npz")
    with pytest.raises(DataError, match=r"both hold the site P1 A01 0?1"):
        read_deepprofiler(tmp_path)
    (tmp_path / "P1" / "a1_01.npz").unlink()
    save_site(tmp_path / "P1" / "A02_1.npz", width=5)
    with pytest.raises(DataError, match=r"has 5 features and .* 4"):
        read_deepprofiler(tmp_path)
    save_site(tmp_path / "P1" / "mean.npz")
    with pytest.raises(DataError, match="neither its metadata nor its name tell Metadata_"):
        read_deepprofiler(tmp_path / "P1" / "mean.npz")
    with pytest.raises(RecipeError, match="cannot name features"):
        read_deepprofiler(tmp_path, prefix="a b")


def test_a_site_that_is_cut_off_anywhere(tmp_path):
    path = tmp_path / "P1" / "A01_1.npz"
    save_site(path, cells=5, width=20)
    whole = path.read_bytes()
    for size in range(1, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"A01_1.npz: cut off or damaged"):
            read_profiles(path).collect()


def test_a_byte_that_is_changed_is_found(tmp_path):
    path = tmp_path / "P1" / "A01_1.npz"
    values, _ = save_site(path, cells=5, width=20)
    whole = path.read_bytes()
    at = whole.index(values.tobytes()) + 17
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(DataError, match=r"cut off or damaged .*CRC"):
        read_profiles(path).collect()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(plain, st.integers(0, 5), st.booleans())
def test_plain_data_are_what_loading_would_give(value, protocol, packed):
    content = pickle.dumps(np.array({"k": value}, dtype=object) if packed else {"k": value}, protocol=protocol)
    assert plain_object(content) == {"k": value}


@given(st.binary(max_size=200))
def test_any_bytes_are_data_or_refused(content):
    with contextlib.suppress(NotPlainError):
        plain_object(content)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_pickle_never_runs_and_never_ends_in_a_traceback(at, value):
    content = bytearray(pickle.dumps(np.array({"Metadata_Plate": "P", "n": np.int64(3)}, dtype=object), protocol=2))
    content[at % len(content)] = value
    with contextlib.suppress(NotPlainError):
        plain_object(bytes(content))


@pytest.mark.parametrize("kind", ["npz", "npy"])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_no_changed_byte_ends_in_a_traceback_or_another_value(tmp_path_factory, kind, place, value):
    folder = tmp_path_factory.mktemp("arrays") / "P1"
    path = folder / "A01_1.npz"
    values, _ = save_site(path, **described(Metadata_Plate="P1", Dose=np.float32(0.5)))
    if kind == "npy":
        path = folder / "x.npy"
        np.save(path, values)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(bytes(content))
    with contextlib.suppress(CytofastError):
        table = read_profiles(path).collect()
        if kind == "npz":
            np.testing.assert_array_equal(table.select("^DP_.*$").to_numpy(), values)


def test_compressed_sites_and_wide_numbers(tmp_path):
    values = np.arange(6, dtype=np.float64).reshape(2, 3) / 3
    (tmp_path / "P").mkdir()
    np.savez_compressed(tmp_path / "P" / "A01_1.npz", features=values)
    table = read_profiles(tmp_path / "P" / "A01_1.npz").collect()
    assert table.columns[6:] == ["DP_0", "DP_1", "DP_2"]
    np.testing.assert_array_equal(table.select("^DP_.*$").to_numpy(), values)
    inside = io.BytesIO()
    np.save(inside, values)
    with zipfile.ZipFile(tmp_path / "P" / "A01_1.npz", "w") as packed:
        packed.writestr("other.npy", inside.getvalue())
    with pytest.raises(DataError, match="no array 'features' in it, only other"):
        read_profiles(tmp_path / "P" / "A01_1.npz")


def test_matrices_and_their_metadata(tmp_path):
    matrix = np.array([[0.5, np.nan], [2, 3]], dtype=np.float32)
    np.save(tmp_path / "x.npy", matrix)
    (tmp_path / "x.csv").write_text("plate,Metadata_Well\n0042,A01\n0042,A02\n")
    table = read_embeddings(tmp_path / "x.npy", metadata=tmp_path / "x.csv", prefix="Net").collect()
    assert table.columns == ["Metadata_plate", "Metadata_Well", "Net_0", "Net_1"]
    assert table.rows()[0][1:] == ("A01", 0.5, None)
    assert table.dtypes[2:] == [pl.Float32, pl.Float32]
    assert read_profiles(tmp_path / "x.npy").collect().columns == ["Embedding_0", "Embedding_1"]
    (tmp_path / "y.csv").write_text("plate,Metadata_Well\n0042,A01\n")
    with pytest.raises(DataError, match=r"y.csv: 1 rows, but .*x.npy has 2"):
        read_embeddings(tmp_path / "x.npy", metadata=tmp_path / "y.csv")
    for array, message in (
        (np.array([[Evil()]], dtype=object), "pickled objects, which are never loaded"),
        (np.zeros(3), r"float64 of the shape \(3,\)"),
        (np.array([["a"]]), "<U1 of the shape"),
    ):
        np.save(tmp_path / "bad.npy", array)
        with pytest.raises(DataError, match=message):
            read_embeddings(tmp_path / "bad.npy")
    (tmp_path / "bad.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-3])
    with pytest.raises(DataError, match=r"bad.npy: not a readable matrix"):
        read_embeddings(tmp_path / "bad.npy")
    assert not RAN.exists()


def test_tables_of_embeddings(tmp_path):
    frame = pl.DataFrame({"plate": ["P"], "well": ["a1"], "emb_0": [1.0], "emb_1": [2.0], "area": [3.0]})
    frame.write_csv(tmp_path / "x.csv")
    frame.with_columns(pl.concat_list("emb_0", "emb_1").alias("vector")).drop("emb_0", "emb_1", "area").write_parquet(
        tmp_path / "x.parquet"
    )
    by_prefix = read_embeddings(tmp_path / "x.csv", features="emb_").collect()
    assert by_prefix.columns == ["Metadata_Plate", "Metadata_Well", "emb_0", "emb_1", "Metadata_area"]
    assert read_embeddings(tmp_path / "x.csv").collect().columns[-1] == "area"
    assert read_embeddings(tmp_path / "x.parquet").collect().rows() == [("P", "a1", 1.0, 2.0)]
    pl.DataFrame({"0": [1], "1": [2]}).write_csv(tmp_path / "n.csv")
    assert read_embeddings(tmp_path / "n.csv").collect().to_dicts() == [{"Embedding_0": 1.0, "Embedding_1": 2.0}]
    pl.DataFrame({"v": [[1.0], [1.0, 2.0]]}).write_parquet(tmp_path / "r.parquet")
    with pytest.raises(DataError, match="column 'v': its lists differ in length"):
        read_embeddings(tmp_path / "r.parquet")
    with pytest.raises(SchemaError, match="no feature found"):
        read_embeddings(tmp_path / "x.csv", features="dim_")
    with pytest.raises(SchemaError, match="features 'well' hold String"):
        read_embeddings(tmp_path / "x.csv", features="well")


@pytest.fixture
def screen(tmp_path):
    """Two plates; a site without cells; DeepProfiler's own index beside them."""
    folder = tmp_path / "features"
    for number, name in enumerate(["P1/A01_1", "P1/A01_2", "P1/B02_1", "P2/A01_1"]):
        save_site(folder / f"{name}.npz", 5, seed=number)
    save_site(folder / "P1" / "C03_1.npz", 0)
    return folder


def test_sites_become_plates_of_a_store(screen, tmp_path):
    store = open_store(tmp_path / "store", create=True)
    summary = store.ingest(screen, batch="B7")
    assert summary.select("batch", "plate", "compartment", "rows_read", "rows_joined", "orphans").rows() == [
        ("B7", "P1", "Image", 4, 3, 1),
        ("B7", "P1", "Cells", 15, 15, 0),
        ("B7", "P2", "Image", 1, 1, 0),
        ("B7", "P2", "Cells", 5, 5, 0),
    ]
    cells = store.scan("cells").collect()
    assert cells.drop("Metadata_Batch").equals(read_deepprofiler(screen).collect())
    assert cells["Metadata_ImageNumber"].unique().sort().to_list() == [1, 2, 3]
    assert store.ingest(screen, batch="B7")["outcome"].unique().to_list() == ["unchanged"]
    save_site(screen / "P1" / "A01_1.npz", 5, seed=9)
    assert store.ingest(screen, batch="B7")["outcome"].unique().sort().to_list() == ["unchanged", "written"]
    (screen / "P1" / "A01_1.npz").unlink()
    with pytest.raises(DataError, match="1 of the 3 images with cells that the store has of this plate are not among"):
        store.ingest(screen, batch="B7")


def test_a_part_of_the_sites(screen, tmp_path):
    store = open_store(tmp_path / "store", create=True)
    choice = Choice(plates=("P1",), wells=("a1",), columns=("DP_1", "DP_3"), cells_per_well=4)
    summary = store.ingest(screen, choice=choice)
    assert summary.filter(pl.col("compartment") == "Sample").select("rows_read", "rows_joined").rows() == [(10, 4)]
    cells = store.scan("cells").collect()
    assert [name for name in cells.columns if name.startswith("DP_")] == ["DP_1", "DP_3"]
    every = read_deepprofiler(screen).collect()
    keys = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_ObjectNumber"]
    assert cells.select(*keys, "DP_3").equals(cells.select(keys).join(every, on=keys, how="left").select(*keys, "DP_3"))
    with pytest.raises(DataError, match="no well 'H12'"):
        store.ingest(screen, choice=Choice(wells=("H12",)))


def test_names_that_are_asked_for(tmp_path):
    path = tmp_path / "somewhere" / "A01_1.npz"
    save_site(path)
    store = open_store(tmp_path / "store", create=True)
    assert store.ingest(path, plate="P9")["plate"].unique().to_list() == ["P9"]
    save_site(path, **described(Metadata_Plate="P1", Metadata_Batch="B1"))
    with pytest.raises(DataError, match="its plate is 'P1', but 'P9' was asked for"):
        store.ingest(path, plate="P9")
    with pytest.raises(DataError, match="its batch is 'B1', but 'B2' was asked for"):
        store.ingest(path, batch="B2")
    with pytest.raises(RecipeError, match="holds single cells"):
        store.ingest(path, level="wells")


def test_tables_beside_the_sites_are_told(screen, tmp_path):
    (screen / "index.csv").write_text("Metadata_Plate,Metadata_Well,Metadata_Site\nP1,A01,1\n")
    with pytest.warns(ProfileWarning, match=r"5 DeepProfiler's .npz files are ingested; 1 tables beside them"):
        open_store(tmp_path / "store", create=True).ingest(screen)
