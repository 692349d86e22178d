"""Formats on real files: DeepProfiler, IN Carta, GCT, L1000, and exports of real profiles."""

import zipfile

import numpy as np
import polars as pl
import pytest

import cytofast
from cytofast import ColumnMapping, export, open_store, read_deepprofiler, read_gct, read_profiles, write_profiles
from cytofast.ingest.choice import Choice

IN_CARTA = """
[metadata]
Metadata_Plate = "Plate ID"
Metadata_Well = ["Row", "Column"]
Metadata_Site = "FOV"
Metadata_ObjectNumber = "OBJECT ID"

[objects]
"Primary Target" = "Nuclei"
"Cells" = "Cells"
"F Actin" = "Actin"
"Mitochondria" = "Mito"

[channels]
wv1 = "DNA"
wv2 = "Actin"
wv3 = "Mito"
"""


def test_deepprofiler_equals_numpy(real_data):
    path = real_data / "single_cell/deepprofiler/A01_5.npz"
    table = read_deepprofiler(path).collect()
    with np.load(path) as packed:
        features, locations = packed["features"], packed["locations"]
    values = table.select("^DP_.*$")
    assert values.width == features.shape[1] == 6_400
    assert set(values.dtypes) == {pl.Float32}
    np.testing.assert_array_equal(values.to_numpy(), features)
    np.testing.assert_array_equal(table.select("^Metadata_Location_.*$").to_numpy(), locations)
    said = table.select("Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Compound", "Metadata_Model")
    assert said.unique().rows() == [("SQ00014812", "A01", 5, "DMSO", "efficientnet")]


def test_deepprofiler_in_a_store(real_data, tmp_path):
    store = open_store(tmp_path / "store", create=True)
    summary = store.ingest(real_data / "single_cell/deepprofiler")
    assert summary.select("plate", "compartment", "rows_read", "rows_joined", "orphans").rows() == [
        ("SQ00014812", "Image", 1, 1, 0),
        ("SQ00014812", "Cells", 158, 158, 0),
    ]
    with np.load(real_data / "single_cell/deepprofiler/A01_5.npz") as packed:
        np.testing.assert_array_equal(store.scan("cells").select("^DP_.*$").collect().to_numpy(), packed["features"])


def test_a_real_site_cut_off(real_data, tmp_path):
    whole = (real_data / "single_cell/deepprofiler/A01_5.npz").read_bytes()
    for size in (100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "A01_5.npz").write_bytes(whole[:size])
        with pytest.raises(cytofast.DataError, match=r"A01_5.npz: cut off or damaged"):
            read_profiles(tmp_path / "A01_5.npz").collect()
    assert not zipfile.is_zipfile(tmp_path / "A01_5.npz")


def test_in_carta_by_a_mapping(real_data, tmp_path):
    folder = real_data / "single_cell/in_carta"
    store = open_store(tmp_path / "store", create=True)
    summary = store.ingest(folder, choice=Choice(mapping=ColumnMapping.from_toml(IN_CARTA)))
    files = sorted(folder.rglob("*.csv"))
    assert summary.height == len(files) == 4
    assert summary["rows_joined"].to_list() == [144] * 4
    cells = store.scan("cells").collect()
    assert cells.height == 576
    for path in files:
        raw = pl.read_csv(path)
        own = cells.filter(pl.col("Metadata_Plate") == raw["Plate ID"][0])
        assert set(own["Metadata_Well"]) == {
            f"{row}{column:02d}" for row, column in raw.select("Row", "Column").unique().rows()
        }
        raw = raw.sort("Row", "Column", "FOV", "OBJECT ID")
        features = [name for name in raw.columns if name.split()[-1] in {"wv1", "wv2", "wv3"}]
        mine = [name for name in own.columns if not name.startswith("Metadata_")]
        assert len(features) == len(mine) == 141
        for theirs, name in zip(features, mine, strict=True):
            expected = raw[theirs].cast(pl.Float64).cast(pl.Float32)
            assert own[name].equals(expected.alias(name)), (path, theirs)


def test_the_gct_of_bbbc021_is_its_csv(real_data, tmp_path):
    name = "bbbc021/BBBC021_feature_selected_mad_robustize"
    from_csv = read_profiles(real_data / f"{name}.csv").collect()
    from_gct = read_gct(real_data / f"{name}.gct")
    assert from_gct.schema == from_csv.schema
    assert from_gct.equals(from_csv)
    write_profiles(from_csv, tmp_path / "x.gct")
    assert read_gct(tmp_path / "x.gct").equals(from_csv)


def test_l1000_in_every_format(real_data, tmp_path):
    pytest.importorskip("h5py", reason="AnnData files need the package h5py")
    table = pl.read_parquet(real_data / "taorf_l1000/taorf_l1000_wells_x_genes.parquet")
    for ending in ("csv.gz", "gct", "h5ad", "parquet"):
        write_profiles(table, tmp_path / f"x.{ending}")
        back = read_profiles(tmp_path / f"x.{ending}").collect()
        assert set(back.columns) - {"Metadata_id"} == set(table.columns) - {"Metadata_id"}, ending
        genes = [name for name, dtype in table.schema.items() if dtype.is_float() and not name.startswith("Metadata_")]
        assert back.select(genes).cast(dict(table.select(genes).schema)).equals(table.select(genes)), ending


def test_real_wells_out_and_in_again(real_data, tmp_path):
    wells = read_profiles(real_data / "bbbc021/BBBC021_annotated_rebuilt.csv.gz").collect()
    store = open_store(tmp_path / "store", create=True)
    write_profiles(wells, tmp_path / "wells.parquet")
    store.ingest(tmp_path / "wells.parquet")
    plates = store.scan("wells").collect()["Metadata_Plate"].unique().sort()[:3].to_list()
    before = store.scan("wells", plates=plates).collect()
    export(store, tmp_path / "profiles", plates=plates)
    back = open_store(tmp_path / "back", create=True)
    back.ingest(tmp_path / "profiles")
    after = back.scan("wells").collect()
    assert after.schema == before.schema
    assert after.equals(before)
