"""CellProfiler's SQLite files: the same cells and the same audit as from CSV, whatever the order and the names of tables."""

import os
import sqlite3
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cytofast
from cytofast import DataError, SchemaError
from cytofast.ingest import plan as plan_room
from cytofast.ingest import sqlite_reading
from cytofast.ingest.audit import Audit
from cytofast.ingest.choice import Choice
from cytofast.ingest.sources import find_plates
from tests.ingest.databases import change, make_table, write_database
from tests.ingest.exports import write_site
from tests.ingest.test_cells import assert_balanced, random_exports, write_export

COUNTED = ["well", "site", "image_number", "compartment", "rows_read", "rows_joined", "orphans", "columns_missing"]


def read(source, **options):
    (found,) = find_plates(source, **options)
    planned = found.plan()
    audit = Audit()
    frames = list(planned.cells(audit))
    assert all(frame.schema == planned.schema for frame in frames)
    return pl.concat(frames) if frames else pl.DataFrame(schema=planned.schema), audit.table()


@pytest.fixture
def site(tmp_path):
    return write_site(tmp_path / "csv" / "s")


@settings(max_examples=25)
@given(random_exports(), st.randoms(use_true_random=False), st.sampled_from(["per", "plain"]), st.integers(1, 40))
def test_a_database_gives_the_cells_and_the_audit_of_the_csv_files(images, random, style, most):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_export(folder / "csv" / "x", images)
        shuffled = lambda rows: random.sample(rows, len(rows))  # noqa: E731
        path = write_database(folder / "x.sqlite", folder / "csv" / "x", style=style, order=shuffled, prefix="My_")
        cells, audit = read(folder / "csv")
        before = sqlite_reading._AT_ONCE
        sqlite_reading._AT_ONCE = most * 8 * 12
        try:
            found, found_audit = read(path)
        finally:
            sqlite_reading._AT_ONCE = before
        assert_balanced(found_audit)
        # CellProfiler's CSV files have the column Number_Object_Number too; these are too small for it.
        own = [name for name in found.columns if not name.endswith("_Number_Object_Number")]
        assert found.select(own).drop("Metadata_TableNumber").equals(cells.drop("Metadata_TableNumber"))
        assert found_audit.select(COUNTED).equals(audit.select(COUNTED))
        assert found_audit["digest"].n_unique() == 1


def test_exports_whose_image_numbers_repeat_are_told_apart(tmp_path):
    """JUMP's source_3 has 9 ImageNumbers and 384 TableNumbers in one file."""
    path = tmp_path / "plate.sqlite"
    for number, well in ((7, "A01"), ("88ac13033d9baf49fda78c3458bef89e", "A02")):
        write_database(path, write_site(tmp_path / well, well=well, n=2 + (well == "A02")), style="plain", table=number)
    with pytest.raises(DataError, match=r"column 'TableNumber': .* is no whole number"):
        read(path)
    change(
        path,
        *(
            f"UPDATE {name} SET TableNumber = '8' WHERE TableNumber LIKE '88%'"
            for name in ("Image", "Cells", "Cytoplasm", "Nuclei")
        ),
    )
    cells, audit = read(path)
    assert_balanced(audit)
    assert cells.group_by("Metadata_Well", "Metadata_TableNumber", maintain_order=True).len().rows() == [
        ("A01", 7, 2),
        ("A02", 8, 3),
    ]
    assert cells["Nuclei_AreaShape_Area"].to_list() == [1000.0, 2000.0, 1000.0, 2000.0, 3000.0]


def test_digests_name_exports(tmp_path, site):
    cells, _ = read(
        write_database(tmp_path / "x.sqlite", site, style="plain", table="88ac13033d9baf49fda78c3458bef89e")
    )
    assert cells["Metadata_TableNumber"].n_unique() == 1
    assert cells["Metadata_TableNumber"][0] > 1 << 32


def test_objects_side_by_side_in_one_table(tmp_path, site):
    path = tmp_path / "x.sqlite"
    connection = sqlite3.connect(path)
    make_table(
        connection, "My_Per_Image", ["ImageNumber", "Image_Metadata_Plate", "Image_Metadata_Well"], [(1, "P", "A01")]
    )
    columns = ["ImageNumber", "ObjectNumber"]
    columns += [
        f"{name}_{what}" for name in ("Cells", "Cytoplasm", "Nuclei") for what in ("Number_Object_Number", "Area")
    ]
    rows = [(1, 1, 1, 10, 1, 100, 1, 1000), (1, 2, None, None, None, None, 2, 2000), (1, 3, 3, 30, 3, 300, 3, 3000)]
    make_table(connection, "My_Per_Object", columns, rows)
    connection.commit()
    connection.close()
    cells, audit = read(path)
    assert cells.select("Metadata_ObjectNumber", "Cells_Area", "Cytoplasm_Area", "Nuclei_Area").rows() == [
        (1, 10, 100, 1000),
        (3, 30, 300, 3000),
    ]
    assert dict(audit.select("compartment", "orphans").rows()) == {"Image": 0, "Cells": 0, "Cytoplasm": 0, "Nuclei": 1}
    assert_balanced(audit)


def test_text_that_says_missing_and_text_that_does_not(tmp_path, site):
    path = write_database(tmp_path / "x.sqlite", site)
    change(path, "UPDATE Per_Nuclei SET Nuclei_AreaShape_Area = 'nan' WHERE Nuclei_Number_Object_Number = 2")
    change(path, "UPDATE Per_Cells SET Cells_AreaShape_Area = 0.1234567890123 WHERE Cells_Number_Object_Number = 1")
    change(path, "UPDATE Per_Cells SET Cells_AreaShape_Area = '-NaN' WHERE Cells_Number_Object_Number = 3")
    cells, _ = read(path)
    assert cells["Nuclei_AreaShape_Area"].to_list() == [1000, None, 3000]
    assert cells["Cells_AreaShape_Area"].to_list() == pl.Series([0.1234567890123, 20, None], dtype=pl.Float32).to_list()
    change(path, "UPDATE Per_Cells SET Cells_AreaShape_Area = 'big' WHERE Cells_Number_Object_Number = 3")
    with pytest.raises(
        DataError, match=r"x\.sqlite, table Per_Cells, row 3, column 'Cells_AreaShape_Area': 'big' is not"
    ):
        read(path)
    change(path, "UPDATE Per_Cells SET Cells_AreaShape_Area = x'00ff' WHERE Cells_Number_Object_Number = 3")
    with pytest.raises(DataError, match=r"row 3, column 'Cells_AreaShape_Area': 'binary data' is not a number"):
        read(path)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DROP TABLE Per_Nuclei", r"x\.sqlite: no table of 'Nuclei' beside"),
        ("DROP TABLE Per_Image", r"x\.sqlite: no export of CellProfiler.*it has 'Per_Cells'"),
        ("UPDATE Per_Cells SET ImageNumber = 5", r"table Per_Cells, row 1: ImageNumber 5 is not in table Per_Image"),
        ("UPDATE Per_Cells SET ImageNumber = 1.5", r"table Per_Cells, row 1: its ImageNumber .* no whole number"),
        ("UPDATE Per_Cells SET Cells_Number_Object_Number = NULL", r"table Per_Cells, row 1, column 'Cells_Number_Obj"),
        (
            "UPDATE Per_Cells SET Cells_Number_Object_Number = 1",
            r"table Per_Cells, rows 1 and 2: both have ObjectNumber 1",
        ),
        (
            "UPDATE Per_Cytoplasm SET Cytoplasm_Parent_Cells = 1",
            r"Per_Cytoplasm, rows 1 and 2: both have Parent_Cells 1",
        ),
        ("DELETE FROM Per_Nuclei", r"Per_Nuclei: a header and no rows, but .*Per_Image, counts 3 Nuclei"),
        ("DELETE FROM Per_Image", r"table Per_Image: a header and no rows"),
        (
            "UPDATE Per_Image SET Image_Metadata_Well = 'Z99'",
            r"table Per_Image: column 'Metadata_Well': 'Z99' not wells",
        ),
        ("CREATE TABLE Cells (x)", r"tables Per_Cells and Cells are both of Cells"),
        ("ALTER TABLE Per_Cells RENAME COLUMN Cells_Parent_Nuclei TO x", None),
        ("ALTER TABLE Per_Cytoplasm RENAME COLUMN Cytoplasm_Parent_Cells TO x", r"cannot be joined"),
    ],
)
def test_damage_is_named(tmp_path, site, statement, message):
    path = change(write_database(tmp_path / "x.sqlite", site), statement)
    if message is None:
        assert read(path)[0].height == 3
        return
    with pytest.raises(DataError, match=message):
        read(path)


def test_what_is_no_database(tmp_path, site):
    path = write_database(tmp_path / "x.sqlite", site)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        DataError,
        match=r"x\.sqlite: .* no whole number of pages; it was cut off",
    ):
        read(path)
    path.write_bytes(b"not this")
    with pytest.raises(DataError, match=r"x\.sqlite: no SQLite file"):
        read(path)
    path.write_bytes(whole)
    (tmp_path / "x.sqlite-wal").write_bytes(b"something")
    with pytest.raises(DataError, match=r"x\.sqlite-wal lies beside it"):
        read(path)


def test_names_that_need_quoting(tmp_path, site):
    path = write_database(tmp_path / "a ?#%\n\"é'.sqlite", site)
    change(path, """ALTER TABLE Per_Cells RENAME COLUMN Cells_AreaShape_Area TO "Cells_a ""b"" c" """)
    assert read(path)[0]['Cells_a "b" c'].to_list() == [10, 20, 30]
    assert len(list(tmp_path.glob("a *"))) == 1


def test_a_file_that_changes_while_it_is_read(tmp_path, site, monkeypatch):
    monkeypatch.setattr(plan_room, "_BATCH_BYTES", 1)
    path = write_database(tmp_path / "x.sqlite", site)
    (found,) = find_plates(path)
    cells = found.plan().cells(Audit())
    next(cells)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match=r"x\.sqlite: changed while it was read"):
        list(cells)


def test_two_files_of_one_plate(tmp_path):
    for well in ("A01", "A02"):
        write_database(tmp_path / "dbs" / f"{well}.db", write_site(tmp_path / well, well=well))
    change(tmp_path / "dbs" / "A02.db", "ALTER TABLE Per_Nuclei ADD COLUMN Nuclei_New FLOAT")
    cells, audit = read(tmp_path / "dbs")
    assert cells["Metadata_Well"].to_list() == ["A01"] * 3 + ["A02"] * 3
    assert cells["Nuclei_New"].null_count() == 6
    assert audit.filter(pl.col("columns_missing") > 0).select("file", "compartment").rows() == [("A01.db", "Nuclei")]
    with pytest.raises(SchemaError, match=r"A02\.db: other columns than .*A01\.db: has besides 'Nuclei_New'"):
        read(tmp_path / "dbs", choice=Choice(strict=True))


def test_one_image_in_two_files_is_refused_or_counted(tmp_path, site):
    for name in ("one", "two"):
        write_database(tmp_path / "dbs" / f"{name}.sqlite", site)
    with pytest.raises(
        DataError, match=r"both hold well A01, site 1 as ImageNumber 1: two exports, or two segmentations"
    ):
        read(tmp_path / "dbs")
    cells, audit = read(tmp_path / "dbs", choice=Choice(duplicates="first"))
    assert cells.height == 3
    assert_balanced(audit)
    assert audit["note"].drop_nulls().to_list() == ["the same image as in one.sqlite, set aside"]


def test_csv_files_and_a_database_in_one_folder(tmp_path, site):
    write_database(tmp_path / "csv" / "x.sqlite", site)
    with pytest.raises(DataError, match=r"holds CellProfiler's CSV files .* and SQLite files"):
        find_plates(tmp_path / "csv")


def test_tables_beside_a_database_are_told(tmp_path, site):
    write_database(tmp_path / "backend" / "P.sqlite", site)
    (tmp_path / "backend" / "P.csv").write_text("Metadata_Plate,Metadata_Well,Cells_A\nP,A01,1\n")
    with pytest.warns(cytofast.ProfileWarning, match=r"1 tables beside them are not read \('P\.csv'\)"):
        assert read(tmp_path / "backend")[0].height == 3


def test_a_store_knows_the_file_and_its_content(tmp_path, site):
    path = write_database(tmp_path / "x.sqlite", site)
    store = cytofast.open_store(tmp_path / "store", create=True)
    assert store.ingest(path)["outcome"].unique().to_list() == ["written"]
    assert store.ingest(path)["outcome"].unique().to_list() == ["unchanged"]
    some = Choice(columns=["Cells_*"])
    with pytest.raises(DataError, match=r"6 of the 9 features that the store has .* would be lost: 'Cytoplasm_N"):
        store.ingest(path, choice=some)
    assert store.ingest(path, choice=some, replace=True)["outcome"].unique().to_list() == ["written"]
    assert [name for name in store.scan("cells").collect_schema() if not name.startswith("Metadata_")] == [
        "Cells_Number_Object_Number",
        "Cells_AreaShape_Area",
        "Cells_Parent_Nuclei",
    ]
    change(path, "UPDATE Per_Cells SET Cells_AreaShape_Area = 11 WHERE Cells_Number_Object_Number = 1")
    assert store.ingest(path)["outcome"].unique().to_list() == ["written"]
    assert store.scan("cells").collect()["Cells_AreaShape_Area"].to_list() == [11, 20, 30]
