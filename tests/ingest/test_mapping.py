"""Tables of other programs by a mapping file."""

import polars as pl
import pytest

from cytofast import ColumnMapping, DataError, RecipeError, SchemaError, open_store, read_mapped
from cytofast.ingest.choice import Choice

MAPPING = """
drop = ["Class Color"]

[metadata]
Metadata_Plate = "Plate ID"
Metadata_Well = ["Row", "Column"]
Metadata_Site = "FOV"
Metadata_ObjectNumber = "OBJECT ID"
Metadata_Day = { path = '(day[0-9]+)' }
Metadata_Batch = { value = "B7" }
Metadata_place = ["Row", "FOV"]

[objects]
"Primary Target" = "Nuclei"
"Primary" = "Primary"
"F Actin" = "Actin"

[channels]
wv1 = "DNA"
"""
TABLE = (
    '"OBJECT ID","Row","Column","FOV","WELL LABEL","Class Color","Primary Target Area wv1","Primary Form Factor wv2",'
    '"F Actin Org/Cell (MIN) wv1","F Actin2","Plate ID"\n'
    '1,"C",3,1,"C - 3",,10.5,1,,7,"00 DAY0"\n'
    '2,"C",3,1,"C - 3",,-0.1,2,,8,"00 DAY0"\n'
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "export day0" / "Plate 1.csv"
    path.parent.mkdir()
    path.write_text(TABLE)
    return path


def mapped(table, mapping=MAPPING):
    return read_mapped(table, ColumnMapping.from_toml(mapping)).collect()


def test_every_column_has_its_place(table):
    found = mapped(table)
    assert found.rows(named=True)[0] == {
        "Metadata_Plate": "00 DAY0",
        "Metadata_Well": "C03",
        "Metadata_Site": 1,
        "Metadata_ObjectNumber": 1,
        "Metadata_Day": "day0",
        "Metadata_Batch": "B7",
        "Metadata_place": "C_1",
        "Metadata_WELL_LABEL": "C - 3",
        "Metadata_F_Actin2": 7,
        "Nuclei_Area_DNA": 10.5,
        "Primary_Form_Factor_wv2": 1.0,
        "Actin_Org/Cell_(MIN)_DNA": None,
    }
    assert found.dtypes[-3:] == [pl.Float64] * 3
    assert mapped(table, MAPPING.replace("drop =", 'features = ["F Actin2"]\ndrop =')).columns[-4] == "F Actin2"


def test_patterns_and_l1000(tmp_path):
    path = tmp_path / "x.gct"
    path.write_text("#1.3\n2\t1\t0\t3\nid\ts1\ndet_plate\tX1\ndet_well\tA3\nqc\t1\n200814_at\t0.5\n2_s_at\t-1\n")
    mapping = """
        features = ["*_at"]
        drop = ["*_qc"]
        [metadata]
        Metadata_Plate = "Metadata_det_plate"
        Metadata_Well = "Metadata_det_well"
    """
    store = open_store(tmp_path / "store", create=True)
    store.ingest(path, choice=Choice(mapping=ColumnMapping.from_toml(mapping)))
    wells = store.scan("wells").collect()
    assert wells.select("Metadata_Plate", "Metadata_Well", "200814_at", "2_s_at").row(0) == ("X1", "A03", 0.5, -1.0)
    assert "Metadata_qc" not in wells.columns
    with pytest.raises(SchemaError, match=r"no column '\*_au'"):
        read_mapped(path, ColumnMapping.from_toml(mapping.replace("*_at", "*_au")))


def test_wells_as_they_are_written(table):
    assert mapped(table, MAPPING.replace('["Row", "Column"]', '"WELL LABEL"'))["Metadata_Well"].to_list() == ["C03"] * 2


def test_latin_1(table):
    table.write_bytes(TABLE.replace("DAY0", "\xb5").encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        mapped(table)
    assert mapped(table, 'encoding = "latin-1"\n' + MAPPING)["Metadata_Plate"][0] == "00 \xb5"


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("[metadata]", "[metadat]", RecipeError, "unknown key 'metadat'; did you mean 'metadata'"),
        ("[metadata]", "[metadata", RecipeError, "not valid TOML"),
        ("Metadata_Plate =", "Plate =", RecipeError, "names of metadata begin with Metadata_; write Metadata_Plate"),
        ('"Plate ID"', "7", RecipeError, "Metadata_Plate: give the name of a column"),
        ("'(day[0-9]+)'", "'day'", RecipeError, "must have one group in brackets"),
        ("'(day[0-9]+)'", "'(day'", RecipeError, "is no regular expression"),
        ('"Nuclei"', '"Metadata"', RecipeError, "'Metadata' cannot name a compartment"),
        ('"DNA"', "1", RecipeError, r"\[channels\]: 'wv1' must be text"),
        ("drop = [", 'encoding = "utf-16"\ndrop = [', RecipeError, "unknown encoding 'utf-16'"),
        ('["Class Color"]', '"Class Color"', RecipeError, "drop is a list of names"),
        ('"Class Color"', '"Class Colour"', SchemaError, "no column 'Class Colour'.*perhaps 'Class Color'"),
        ('"FOV"\n', '"FOW"\n', SchemaError, "no column 'FOW'"),
        ("(day[0-9]+)", "(week[0-9]+)", DataError, "its path does not match .*Metadata_Day"),
        (
            '"Primary Target" = "Nuclei"\n"Primary" = "Primary"\n"F Actin" = "Actin"',
            '"Nucleus" = "Nuclei"',
            SchemaError,
            "no column begins like the objects",
        ),
        (
            "[objects]",
            "Metadata_WELL_LABEL = { value = 1 }\n[objects]",
            SchemaError,
            "'Metadata_WELL_LABEL' would be the name of several columns",
        ),
        ('["Row", "Column"]', '"Row"', DataError, "not wells"),
        ('"Plate ID"', '"Plate ID"\nMetadata_x = []', RecipeError, "Metadata_x: give the name of a column"),
    ],
)
def test_mappings_that_make_no_sense(table, old, new, error, message):
    assert old in MAPPING
    changed = MAPPING.replace(old, new, 1)
    with pytest.raises((error, SchemaError), match=message):
        mapped(table, changed)


def test_text_in_a_feature_is_named_with_its_line(table):
    table.write_text(TABLE.replace("-0.1", "n.d."))
    with pytest.raises(DataError, match=r"line 3, column 'Primary Target Area wv1': 'n.d.' is not a number"):
        mapped(table)


def test_a_mapping_file(table, tmp_path):
    path = tmp_path / "carta.toml"
    path.write_text(MAPPING)
    assert ColumnMapping.read(path) == ColumnMapping.from_toml(MAPPING)
    assert hash(ColumnMapping.read(path)) == hash(ColumnMapping.from_toml(MAPPING))
    assert read_mapped(table, path).collect().height == 2
    with pytest.raises(RecipeError, match=r"none.toml: cannot be read"):
        ColumnMapping.read(tmp_path / "none.toml")


def test_ingest_by_a_mapping(table, tmp_path):
    store = open_store(tmp_path / "store", create=True)
    choice = Choice(mapping=ColumnMapping.from_toml(MAPPING))
    summary = store.ingest(table.parent, choice=choice)
    assert summary.select("plate", "rows_read", "rows_joined", "outcome").rows() == [("00 DAY0", 2, 2, "written")]
    cells = store.scan("cells").collect()
    assert cells.select("Metadata_Batch", "Metadata_Well", "Metadata_ObjectNumber").row(1) == ("B7", "C03", 2)
    assert cells["Nuclei_Area_DNA"].to_list() == pytest.approx([10.5, -0.1])
    assert cells.schema["Nuclei_Area_DNA"] == pl.Float32
    assert store.ingest(table.parent, choice=choice)["outcome"].to_list() == ["unchanged"]
    other = Choice(mapping=ColumnMapping.from_toml(MAPPING.replace('"DNA"', '"Hoechst"')))
    with pytest.raises(DataError, match="2 of the 3 features that the store has of this plate"):
        store.ingest(table.parent, choice=other)
    assert store.ingest(table.parent, choice=other, replace=True)["outcome"].to_list() == ["written"]
    assert "Nuclei_Area_Hoechst" in store.scan("cells").collect_schema()
