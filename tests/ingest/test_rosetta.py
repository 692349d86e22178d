"""The published tables of the Rosetta data sets."""

import gzip

import pytest

from cytofast import DataError, ProfileWarning, RecipeError, read_rosetta

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
