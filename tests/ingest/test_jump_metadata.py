"""JUMP's tables of wells, plates, compounds and genes, as a platemap."""

import gzip

import polars as pl
import pytest

import cytofast
from cytofast import DataError
from cytofast.ingest.platemap import read_platemaps


@pytest.fixture
def folder(tmp_path):
    tables = {
        "well": "Metadata_Source,Metadata_Plate,Metadata_Well,Metadata_JCP2022\n"
        "source_4,P1,A01,JCP2022_1\nsource_4,P1,A02,JCP2022_9\nsource_4,P1,A03,\nsource_4,P2,A01,JCP2022_8\n",
        "plate": "Metadata_Source,Metadata_Batch,Metadata_Plate,Metadata_PlateType\n"
        "source_4,B1,P1,COMPOUND\nsource_4,B2,P2,ORF\n",
        "compound": "Metadata_JCP2022,Metadata_InChIKey\nJCP2022_1,AAA\n",
        "crispr": "Metadata_JCP2022,Metadata_NCBI_Gene_ID,Metadata_Symbol\nJCP2022_8,7,ABC\n",
    }
    for name, text in tables.items():
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_every_well_stays_and_perturbations_are_described(folder):
    table = read_platemaps(folder, ["P1", "P2"])
    assert table.select(
        "Metadata_Plate", "Metadata_Well", "Metadata_InChIKey", "Metadata_Symbol", "Metadata_Plate_Batch"
    ).rows() == [
        ("P1", "A01", "AAA", None, "B1"),
        ("P1", "A02", None, None, "B1"),
        ("P1", "A03", None, None, "B1"),
        ("P2", "A01", None, "ABC", "B2"),
    ]


def test_an_absent_plate_and_doubled_keys_are_named(folder):
    with pytest.raises(DataError, match=r"well\.csv\.gz: no rows for plate 'P9'"):
        read_platemaps(folder, ["P9"])
    (folder / "compound.csv.gz").write_bytes(gzip.compress(b"Metadata_JCP2022,Metadata_x\nJCP2022_1,A\nJCP2022_1,B\n"))
    with pytest.raises(DataError, match=r"compound\.csv\.gz: 'JCP2022_1' stands more than once"):
        read_platemaps(folder, ["P1"])
    (folder / "well.csv").write_text("x")
    (folder / "well.csv.gz").write_bytes(
        gzip.compress(b"Metadata_Plate,Metadata_Well,Metadata_JCP2022\nP1,A01,J\nP1,A1,K\n")
    )
    with pytest.raises(DataError, match=r"plate P1, well A01 stands more than once"):
        read_platemaps(folder, ["P1"])


def test_a_table_of_jump_with_its_metadata(folder, tmp_path):
    wells = pl.DataFrame(
        {"Metadata_Plate": ["P1"] * 3, "Metadata_Well": ["A01", "A02", "A03"], "Cells_A": [1.0, 2.0, 3.0]}
    )
    file = tmp_path / "profiles" / "B1" / "P1" / "P1.parquet"
    file.parent.mkdir(parents=True)
    wells.write_parquet(file)
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(tmp_path / "profiles", platemap=folder)
    found = store.annotations()
    assert found["Metadata_JCP2022"].to_list() == ["JCP2022_1", "JCP2022_9", None]
    assert found["Metadata_Batch"].unique().to_list() == ["B1"]
