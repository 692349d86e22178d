import polars as pl
import pytest

from cytofast.errors import DataError, SchemaError
from cytofast.ingest.platemap import read_platemaps


def negative_controls(table):
    return table.filter(pl.col("Metadata_control_type") == "negcon").height


def test_jump_target_1_has_64_negative_controls(real_data):
    metadata = real_data / "cpjump1" / "metadata"
    platemap = metadata / "JUMP-Target-1_compound_platemap.txt"
    for targets in ("JUMP-Target-1_compound_metadata_targets.tsv", "JUMP-Target/JUMP-Target-1_compound_metadata.tsv"):
        table = read_platemaps(platemap, ["P1", "P2"], external=metadata / targets)
        assert table.height == 768
        assert table.columns[:2] == ["Metadata_Plate", "Metadata_Well"]
        assert [negative_controls(part) for part in table.partition_by("Metadata_Plate")] == [64, 64]


def test_jump_barcodes(real_data):
    metadata = real_data / "cpjump1" / "metadata"
    every = read_platemaps(metadata)
    assert every.group_by("Metadata_Plate").len()["len"].to_list() == [384] * 51
    one = read_platemaps(metadata, ["BR00116991"])
    assert one["Metadata_Plate_Map_Name"].unique().to_list() == ["JUMP-Target-1_compound_platemap"]
    with pytest.raises(DataError, match=r"barcode_platemap.csv: no line for plate 'BR1'"):
        read_platemaps(metadata, ["BR00116991", "BR1"])


@pytest.fixture
def gallery(tmp_path):
    """Two batches, as the Cell Painting Gallery keeps them."""
    for batch, plate, sample in (("B1", "P1", "x"), ("B2", "P2", "y")):
        folder = tmp_path / "metadata" / "platemaps" / batch
        (folder / "platemap").mkdir(parents=True)
        (folder / "barcode_platemap.csv").write_text(f"Assay_Plate_Barcode,Plate_Map_Name\n{plate},map\n")
        (folder / "platemap" / "map.txt").write_text(f"well_position\tbroad_sample\na1\t{sample}\nA02\t\n")
    return tmp_path / "metadata"


def test_platemaps_of_several_batches(gallery):
    table = read_platemaps(gallery, ["P1", "P2"])
    assert table.select("Metadata_Plate", "Metadata_Well", "Metadata_broad_sample").rows() == [
        ("P1", "A01", "x"),
        ("P1", "A02", None),
        ("P2", "A01", "y"),
        ("P2", "A02", None),
    ]
    assert "Metadata_Batch" not in table.columns
    assert read_platemaps(gallery / "platemaps" / "B2").height == 2


def test_one_barcode_in_two_batches_keeps_the_batch(gallery):
    path = gallery / "platemaps" / "B2" / "barcode_platemap.csv"
    path.write_text("Assay_Plate_Barcode,Plate_Map_Name\nP1,map\n")
    table = read_platemaps(gallery, ["P1"])
    assert table.select("Metadata_Batch", "Metadata_Well", "Metadata_broad_sample").rows() == [
        ("B1", "A01", "x"),
        ("B1", "A02", None),
        ("B2", "A01", "y"),
        ("B2", "A02", None),
    ]


def test_a_single_external_table_of_the_gallery_is_joined(gallery):
    (gallery / "external_metadata").mkdir()
    (gallery / "external_metadata" / "compounds.tsv").write_text(
        "broad_sample\tcontrol_type\nx\tNA\ny\tposcon\nNA\tnegcon\n"
    )
    table = read_platemaps(gallery, ["P1", "P2"])
    assert table["Metadata_control_type"].to_list() == [None, "negcon", "poscon", "negcon"]


@pytest.mark.parametrize("plate_column", ["Metadata_Plate", "Assay_Plate_Barcode", "plate", "Plate"])
@pytest.mark.parametrize("well_column", ["well_position", "Metadata_well_position", "Metadata_Well", "Well", "well"])
def test_one_table_with_plates(tmp_path, plate_column, well_column):
    path = tmp_path / "all.csv"
    path.write_text(f"{plate_column};{well_column};dose\n0042;b3;1.50\n0043;B03;\n")
    table = read_platemaps(path, ["0042"])
    assert table.rows() == [("0042", "B03", "1.50")]
    assert table.columns == ["Metadata_Plate", "Metadata_Well", "Metadata_dose"]
    with pytest.raises(DataError, match="no rows for plate '42'; it has '0042', '0043'"):
        read_platemaps(path, ["42"])


def write(tmp_path, text, name="map.txt"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_well_stands_once(tmp_path):
    path = write(tmp_path, "well_position\tsample\nA01\tx\nA02\ty\na1\tz\n")
    with pytest.raises(DataError, match=r"map.txt: well A01 stands more than once \(lines 2 and 4\)"):
        read_platemaps(path, ["P"])
    path = write(tmp_path, "plate,well,sample\nP,A01,x\nQ,A01,x\nP,A1,z\n", "all.csv")
    with pytest.raises(DataError, match=r"plate P, well A01 stands more than once \(lines 2 and 4\)"):
        read_platemaps(path)


def test_bad_platemaps(tmp_path):
    with pytest.raises(SchemaError, match="no column of wells; the columns are 'Metadata_sample'"):
        read_platemaps(write(tmp_path, "sample\nx\n"), ["P"])
    with pytest.raises(DataError, match="line 3: no well"):
        read_platemaps(write(tmp_path, "well\tsample\nA01\tx\n\ty\n"), ["P"])
    with pytest.raises(SchemaError, match=r"map.txt: .*'Q99' not wells"):
        read_platemaps(write(tmp_path, "well\tsample\nQ99\tx\n"), ["P"])
    with pytest.raises(DataError, match="names no plate"):
        read_platemaps(write(tmp_path, "well\tsample\nA01\tx\n"))
    with pytest.raises(DataError, match="no such file"):
        read_platemaps(tmp_path / "absent.txt", ["P"])


def test_bad_folders(tmp_path, gallery):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no barcode_platemap.csv here or below"):
        read_platemaps(tmp_path / "empty", ["P"])
    folder = gallery / "platemaps" / "B1"
    (folder / "platemap" / "map.txt").unlink()
    with pytest.raises(DataError, match=r"platemap 'map' of plate P1 was not found as map.txt"):
        read_platemaps(folder, ["P1"])
    (folder / "barcode_platemap.csv").write_text("Assay_Plate_Barcode,Plate_Map_Name\nP1,../../x\n")
    with pytest.raises(DataError, match="is a path"):
        read_platemaps(folder, ["P1"])
    (folder / "barcode_platemap.csv").write_text("Assay_Plate_Barcode,Plate_Map_Name\nP1,a\nP1,b\n")
    with pytest.raises(DataError, match=r"plate P1 stands more than once \(lines 2 and 3\)"):
        read_platemaps(folder, ["P1"])


def test_external_tables_keep_every_well_or_say_why_not(tmp_path):
    platemap = write(tmp_path, "well\tsample\nA01\tx\nA02\t\nA03\tz\n")
    table = read_platemaps(platemap, ["P"], external=write(tmp_path, "sample,gene\nx,G\nNA,none\n", "genes.csv"))
    assert table["Metadata_gene"].to_list() == ["G", "none", None]
    with pytest.raises(DataError, match=r"genes.csv: sample x stands more than once \(lines 2 and 3\)"):
        read_platemaps(platemap, ["P"], external=write(tmp_path, "sample,gene\nx,G\nx,H\n", "genes.csv"))
    with pytest.raises(SchemaError, match="no column in common"):
        read_platemaps(platemap, ["P"], external=write(tmp_path, "name,gene\nx,G\n", "genes.csv"))
    with pytest.raises(DataError, match="none of its Metadata_sample"):
        read_platemaps(platemap, ["P"], external=write(tmp_path, "sample,gene\nq,G\n", "genes.csv"))
