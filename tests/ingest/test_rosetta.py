"""The published tables of the Rosetta data sets."""

import gzip

import polars as pl
import pytest

from cytofast import DataError, ProfileWarning, RecipeError, align, read_rosetta

PAINTED = (
    "Unnamed: 0,Metadata_Plate,Metadata_Well,x_mutation_status,pert_name,Metadata_pert_name,Cells_A_b,Nuclei_A_b\n"
    "0,0041,A01,EGFR_WT,x,y,1,2.5\n1,0041,A02,EGFR_L858R,x,y,1.5,\n"
)
EXPRESSED = "id,det_plate,det_well,allele,dose,200814_at,218597_s_at\nx,41,A01,EGFR_WT,10 \xb5M,1,2.5\n"


@pytest.fixture
def luad(tmp_path):
    folder = tmp_path / "LUAD-BBBC043-Caicedo"
    for name, text in (
        ("CellPainting/replicate_level_cp_normalized.csv.gz", PAINTED),
        ("L1000/replicate_level_l1k.csv.gz", EXPRESSED),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(gzip.compress(text.encode("latin-1")))
    return folder


def test_both_modalities_name_plates_and_treatments_alike(luad):
    painted = read_rosetta(luad, "cell_painting")
    assert painted.columns == [
        "Metadata_Plate",
        "Metadata_Well",
        "Metadata_x_mutation_status",
        "Metadata_pert_name_unprefixed",
        "Metadata_pert_name",
        "Metadata_perturbation",
        "Cells_A_b",
        "Nuclei_A_b",
    ]
    assert painted.select("Metadata_Plate", "Metadata_perturbation", "Cells_A_b", "Nuclei_A_b").rows() == [
        ("0041", "EGFR_WT", 1.0, 2.5),
        ("0041", "EGFR_L858R", 1.5, None),
    ]
    expressed = read_rosetta(luad, "l1000")
    assert expressed.select("Metadata_Plate", "Metadata_Well", "Metadata_perturbation", "Metadata_dose").row(0) == (
        "41",
        "A01",
        "EGFR_WT",
        "10 \xb5M",
    )
    assert expressed.columns[-2:] == ["200814_at", "218597_s_at"]


def test_rows_without_a_treatment_are_told(luad):
    path = luad / "CellPainting/replicate_level_cp_normalized.csv.gz"
    path.write_bytes(gzip.compress(PAINTED.replace("EGFR_WT", "").encode()))
    with pytest.warns(ProfileWarning, match="1 of 2 rows name no treatment"):
        assert read_rosetta(luad, "cell_painting").height == 2


def test_a_probe_set_is_never_metadata(luad):
    """Neither one without a value, nor one with a stray word; other columns may end so."""
    path = luad / "L1000/replicate_level_l1k.csv.gz"
    lines = [line.replace("dose", "made_at,1007_s_at") for line in EXPRESSED.splitlines()]
    path.write_bytes(gzip.compress(("\n".join([lines[0], lines[1].replace("10 \xb5M", "June,")]) + "\n").encode()))
    table = read_rosetta(luad, "l1000")
    assert table["1007_s_at"].to_list() == [None]
    assert table["Metadata_made_at"].to_list() == ["June"]
    assert table.select("1007_s_at", "200814_at").dtypes == [pl.Float64, pl.Float64]
    path.write_bytes(gzip.compress(("\n".join([lines[0], lines[1].replace("10 \xb5M", "June,n.d.")]) + "\n").encode()))
    with pytest.raises(DataError, match=r"column '1007_s_at' holds 'n.d.' in row 1, and in 1 of 1 rows"):
        read_rosetta(luad, "l1000")


KEYS = {
    "LUAD-BBBC043-Caicedo": ("x_mutation_status", "allele"),
    "TA-ORF-BBBC037-Rohban": ("Metadata_broad_sample", "pert_id"),
    "LINCS-Pilot1": ("Metadata_pert_id_dose", "pert_id_dose"),
    "CDRPBIO-BBBC036-Bray": ("Metadata_Sample_Dose", "pert_sample_dose"),
    "CDRP-BBBC047-Bray": ("Metadata_Sample_Dose", "pert_sample_dose"),
}


@pytest.mark.parametrize("name", KEYS)
def test_each_data_set_names_its_treatments_otherwise(name, tmp_path):
    painted, expressed = KEYS[name]
    for path, text in (
        ("CellPainting/replicate_level_cp_normalized.csv.gz", f"Metadata_Plate,{painted},Cells_A_b\n1,x,1\n1,y,2\n"),
        ("L1000/replicate_level_l1k.csv.gz", f"det_plate,{expressed},200814_at\n7,y,3\n7,x,4\n"),
    ):
        (tmp_path / name / path).parent.mkdir(parents=True)
        (tmp_path / name / path).write_bytes(gzip.compress(text.encode()))
    sides = [read_rosetta(tmp_path / name, modality) for modality in ("cell_painting", "l1000")]
    pair = align(*sides, "Metadata_perturbation", b_features=["200814_at"])
    assert pair.keys["Metadata_perturbation"].to_list() == ["x", "y"]
    assert (pair.a.values[:, 0].tolist(), pair.b.values[:, 0].tolist()) == ([1.0, 2.0], [4.0, 3.0])


def test_what_is_not_there(luad, tmp_path):
    with pytest.raises(RecipeError, match="unknown modality 'l1k'"):
        read_rosetta(luad, "l1k")
    with pytest.raises(RecipeError, match="unknown processing 'raw'"):
        read_rosetta(luad, "cell_painting", "raw")
    with pytest.raises(DataError, match=r"replicate_level_cp_augmented.csv.gz: no such file"):
        read_rosetta(luad, "cell_painting", "augmented")
    with pytest.raises(RecipeError, match="which data set is this"):
        read_rosetta(tmp_path, "l1000")
    with pytest.raises(RecipeError, match="unknown data set 'LUADD'; did you mean 'LUAD'"):
        read_rosetta(luad, "l1000", dataset="LUADD")
    with pytest.raises(DataError, match="no column 'pert_id', which names the treatments of TA-ORF"):
        read_rosetta(luad, "l1000", dataset="TA-ORF")
