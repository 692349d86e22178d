"""What is wanted of a source: less is read, the rest is counted, and a sample depends on nothing but its seed."""

import polars as pl
import pytest

from cytofast import DataError, RecipeError, SchemaError, resources
from cytofast.ingest import plan as plan_room
from cytofast.ingest.audit import Audit
from cytofast.ingest.choice import Choice
from cytofast.ingest.sources import find_plates
from tests.ingest.databases import change, write_database
from tests.ingest.exports import write_site
from tests.ingest.test_cells import assert_balanced


def read(source, **chosen):
    (found,) = find_plates(source, choice=Choice(**chosen))
    audit = Audit()
    frames = list(found.plan().cells(audit))
    assert_balanced(audit.table())
    return pl.concat(frames), audit.table()


@pytest.fixture
def sources(tmp_path):
    """Two wells of two sites, as CSV and as databases."""
    for number, (well, site) in enumerate([("A01", 1), ("A01", 2), ("B02", 1), ("B02", 2)], 1):
        write_site(tmp_path / "csv" / f"{number}", well=well, site=site, image=number, n=20)
        write_database(tmp_path / "dbs" / f"{number}.sqlite", tmp_path / "csv" / f"{number}")
    return [tmp_path / "csv", tmp_path / "dbs"]


def test_wells_sites_and_columns(sources):
    for source in sources:
        cells, audit = read(source, wells=["b2"], sites=["1"], columns=["Cells_AreaShape_*", "Nuclei_AreaShape_Area"])
        assert cells.height == 20
        assert cells.select("Metadata_Well", "Metadata_Site").unique().rows() == [("B02", 1)]
        assert [c for c in cells.columns if not c.startswith("Metadata_")] == [
            "Cells_AreaShape_Area",
            "Nuclei_AreaShape_Area",
        ]
        left = audit.filter(pl.col("note") == "not asked for, and not read")
        assert left.select("compartment", "orphans").unique().rows() == [("Image", 1)]
        assert left.height == 3


def test_joins_do_not_need_the_parents_as_columns(sources):
    for source in sources:
        whole, _ = read(source)
        some, _ = read(source, columns=["Nuclei_AreaShape_Area"])
        assert some["Nuclei_AreaShape_Area"].equals(whole["Nuclei_AreaShape_Area"])


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"wells": ["A03"]}, DataError, r"no well 'A03'. Hint: it has 'A01', 'B02'"),
        ({"sites": ["9"]}, DataError, r"no site '9'. Hint: it has '1', '2'"),
        ({"plates": ["Q"]}, DataError, r"no plate 'Q'. Hint: it has 'P'"),
        ({"columns": ["Cells_Nothing"]}, SchemaError, r"no column 'Cells_Nothing'"),
        ({"wells": "A01"}, RecipeError, r"give a list, such as \['A01'\]"),
        ({"wells": ["Z99"]}, RecipeError, r"'Z99' not wells"),
        ({"cells_per_well": 0}, RecipeError, r"at least one cell"),
        ({"seed": -1}, RecipeError, r"a whole number from 0"),
        ({"seed": "x"}, RecipeError, r"give a whole number"),
        ({"cells_per_well": 1.5}, RecipeError, r"give a whole number"),
        ({"duplicates": "frist"}, RecipeError, r"did you mean 'first'"),
    ],
)
def test_what_is_not_there_is_said(sources, chosen, error, message):
    for source in sources:
        with pytest.raises(error, match=message):
            read(source, **chosen)


def test_a_sample_depends_on_its_seed_alone(sources, monkeypatch):
    key = ["Metadata_Well", "Metadata_ImageNumber", "Metadata_ObjectNumber"]
    for source in sources:
        whole, _ = read(source)
        cells, audit = read(source, cells_per_well=7)
        assert cells.group_by("Metadata_Well").len().sort("Metadata_Well").rows() == [("A01", 7), ("B02", 7)]
        assert cells.equals(
            cells.sort("Metadata_Well", "Metadata_Site", "Metadata_ImageNumber", "Metadata_ObjectNumber")
        )
        assert cells.join(whole, on=cells.columns, how="semi", nulls_equal=True).height == 14
        sampled = audit.filter(pl.col("compartment") == "Sample")
        assert sampled.select("well", "rows_read", "rows_joined", "orphans").rows() == [
            ("A01", 40, 7, 33),
            ("B02", 40, 7, 33),
        ]
        with monkeypatch.context() as patch, resources.limits(threads=1):
            patch.setattr(plan_room, "_BATCH_BYTES", 1)
            assert read(source, cells_per_well=7)[0].equals(cells)
        fewer = read(source, cells_per_well=7, columns=["Cells_*"], wells=["B02"])[0]
        assert fewer.select(key).equals(cells.filter(pl.col("Metadata_Well") == "B02").select(key))
        assert not read(source, cells_per_well=7, seed=1)[0].select(key).equals(cells.select(key))
        assert read(source, cells_per_well=100)[0].equals(whole)


def test_duplicates_are_set_aside_and_counted(tmp_path):
    site = write_site(tmp_path / "s")
    path = write_database(tmp_path / "x.sqlite", site)
    change(path, "INSERT INTO Per_Cells SELECT * FROM Per_Cells WHERE Cells_Number_Object_Number = 2")
    change(path, "UPDATE Per_Cytoplasm SET Cytoplasm_Parent_Cells = 1 WHERE Cytoplasm_Number_Object_Number = 3")
    cells, audit = read(path, duplicates="first")
    assert cells["Metadata_ObjectNumber"].to_list() == [1, 2]
    assert cells["Cytoplasm_AreaShape_Area"].to_list() == [100, 200]
    notes = dict(audit.filter(pl.col("note").is_not_null()).select("compartment", "note").rows())
    assert notes["Cells"].endswith("1 rows of an object or parent that came before, set aside")
    assert notes["Cytoplasm"] == "1 rows of an object or parent that came before, set aside"
    assert dict(audit.select("compartment", "orphans").rows()) == {"Image": 0, "Cells": 2, "Cytoplasm": 1, "Nuclei": 1}


def test_a_cell_with_two_nuclei(tmp_path):
    """Nuclei that name their cell: refused, or the first is kept."""
    site = write_site(tmp_path / "s")
    header = "ImageNumber,ObjectNumber,AreaShape_Area"
    (site / "Cells.csv").write_text(f"{header}\n1,1,10\n1,2,20\n")
    (site / "Cytoplasm.csv").write_text(f"{header},Parent_Cells\n1,1,100,1\n1,2,200,2\n")
    (site / "Nuclei.csv").write_text(f"{header},Parent_Cells\n1,1,1000,1\n1,2,2000,1\n1,3,3000,2\n")
    (site / "Image.csv").write_text("ImageNumber,Metadata_Plate,Metadata_Well\n1,P,A01\n")
    with pytest.raises(DataError, match=r"'Nuclei' cannot be joined"):
        read(site)
    cells, audit = read(site, duplicates="first")
    assert cells["Nuclei_AreaShape_Area"].to_list() == [1000, 3000]
    assert audit.filter(pl.col("compartment") == "Nuclei")["orphans"].item() == 1
