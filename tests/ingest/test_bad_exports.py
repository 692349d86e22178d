"""Every kind of damage is refused with the file, the line and what to do; nothing is read half."""

import polars as pl
import pytest

from cytofast.errors import DataError
from cytofast.ingest.audit import Audit, summarize
from cytofast.ingest.cellprofiler import plan
from cytofast.ingest.discovery import discover
from tests.ingest.exports import csv, write_site


def read(folder, **options):
    (export,) = discover(folder, **options)
    audit = Audit()
    frames = list(plan(export).cells(audit))
    return (pl.concat(frames) if frames else None), audit.table()


def edit(path, old, new):
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new))


@pytest.fixture
def site(tmp_path):
    return write_site(tmp_path / "site")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("Cells", b"", r"Cells.csv: the file is empty \(0 bytes\)"),
        ("Image", b"", r"Image.csv: the file is empty \(0 bytes\)"),
        ("Nuclei", b"ImageNumber,ObjectNumber,AreaShape_Area\n", r"Nuclei.csv: a header and no rows, but .*counts 3"),
        ("Image", b"ImageNumber,Metadata_Well\n", r"Image.csv: a header and no rows"),
        ("Nuclei", b"ImageNumber,ObjectNumber,AreaShape_Area", "line 1: the header is cut off"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A,A\n1,1,2,3\n", "line 1: column 'A' stands more than once"),
        ("Nuclei", b"ObjectNumber,A\n1,1\n", "line 1: no column 'ImageNumber'"),
        ("Cytoplasm", b"ImageNumber,ObjectNumber,A\n1,1,1\n", "cannot be joined .* Parent_Cells"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,1,1\n1,2\n1,3,5\n", r"Nuclei.csv, line 3: 2 fields.*header has 3"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,1,1\n1,2,3,4\n1,3,5\n", r"Nuclei.csv, line 3: 4 fields"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,1,1\n1,2,3,4\n1,3\n", r"Nuclei.csv, line 3: 4 fields"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,1,1\n\n1,2,2\n", r"Nuclei.csv, line 3: 0 fields"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,1,1\n1,2,0.12", r"Nuclei.csv, line 3: the last line has no end"),
        (
            "Nuclei",
            b"ImageNumber,ObjectNumber,A\n1,1,1\n1,2,big\n",
            r"Nuclei.csv, line 3, column 'A': 'big' is not a nu",
        ),
        ("Nuclei", b'ImageNumber,ObjectNumber,A\n1,1,1\n1,2,"1,5"\n', r"Nuclei.csv, line 3, column 'A': '1,5' is not"),
        ("Nuclei", b'ImageNumber,ObjectNumber,A\n1,1,"1"\n1,2,"3",4\n', r"Nuclei.csv, line 3: 4 fields"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,1,1\n1,2,\xff\n", r"Nuclei.csv, line 3: not UTF-8"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,1,1\n1,2,\0\n", r"Nuclei.csv, line 3: holds NUL"),
        ("Nuclei", b"Image\xffNumber,ObjectNumber,A\n1,1,1\n", r"Nuclei.csv, line 1, byte 5: not UTF-8"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,,1\n", r"line 2, column 'ObjectNumber': is missing"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,1.5,1\n", r"line 2, column 'ObjectNumber': is 1.5"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,1,1\n2,1,1\n", r"line 3: ImageNumber 2 is not in the Image.csv"),
        ("Nuclei", b"ImageNumber,ObjectNumber,A\n1,1,1\n1,1,1\n", r"lines 2 and 3: both have ObjectNumber 1 in one im"),
        (
            "Nuclei",
            b"ImageNumber,ObjectNumber,TableNumber,A\n1,1,1,1\n",
            "has a column TableNumber and Image.csv does n",
        ),
        ("Image", b"Metadata_Well\nA01\n", "Image.csv, line 1: no column 'ImageNumber'"),
        ("Image", b"ImageNumber\n" + b"9" * 5000 + b"\n", r"row 1 .*'ImageNumber': '9{40}' is no whole number"),
        (
            "Nuclei",
            b'ImageNumber,ObjectNumber,A\n1,1,1\n1,2,"2\n',
            r"Nuclei.csv, line 3: a quote is opened and not clos",
        ),
        ("Image", b"ImageNumber,Metadata_Well\n1,Z99\n", r"Image.csv: column 'Metadata_Well': 'Z99' not wells"),
        ("Image", b"ImageNumber,Metadata_Well\n1,A01\n1,A02\n", "ImageNumber 1 stands more than once"),
        ("Image", b"ImageNumber,Metadata_Well\nx,A01\n", "column 'ImageNumber': 'x' is no whole number"),
        ("Image", b"ImageNumber,Metadata_Well\n1\n", "Image.csv, line 2: 1 fields"),
    ],
)
def test_damage_is_refused(site, name, content, message):
    (site / f"{name}.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read(site)
    assert "Hint:" in str(error.value) or "whole number" in str(error.value)


def test_two_cytoplasms_of_one_cell(site):
    edit(site / "Cytoplasm.csv", b"200.0,2,2", b"200.0,1,2")
    with pytest.raises(DataError, match=r"Cytoplasm.csv, lines 2 and 3: both have Parent_Cells 1"):
        read(site)


def test_a_missing_compartment(site):
    (site / "Nuclei.csv").unlink()
    with pytest.raises(DataError, match=r"'Nuclei.csv' is missing, but 'Cells', 'Cytoplasm' are there"):
        read(site)
    with pytest.raises(DataError, match=r"'Cytoplasm' cannot be joined|Hint"):
        read(site, compartments=["Cells", "Spots"])


def test_a_header_alone_without_a_count_is_refused(site):
    (site / "Image.csv").write_text("ImageNumber,Metadata_Well\n1,A01\n")
    (site / "Cells.csv").write_text("ImageNumber,ObjectNumber,AreaShape_Area,Parent_Nuclei\n")
    with pytest.raises(DataError, match=r"Cells.csv: a header and no rows, but Cytoplasm.csv has 3"):
        read(site)


def test_headers_alone_are_a_site_without_cells(tmp_path):
    write_site(tmp_path / "1", n=0)
    write_site(tmp_path / "2", image=2, well="A02")
    cells, audit = read(tmp_path)
    assert cells.height == 3
    image = summarize(audit).row(0, named=True)
    assert (image["rows_read"], image["rows_joined"], image["orphans"]) == (2, 1, 1)
    assert image["notes"] == ["no cells"]


def test_nuclei_without_cells_are_orphans_where_the_image_says_so(site):
    (site / "Image.csv").write_text("Count_Cells,Count_Cytoplasm,Count_Nuclei,ImageNumber\n0,0,3,1\n")
    for name in ("Cells", "Cytoplasm"):
        (site / f"{name}.csv").write_text((site / f"{name}.csv").read_text().splitlines(keepends=True)[0])
    cells, audit = read(site)
    assert cells is None
    assert dict(audit.select("compartment", "orphans").rows()) == {"Image": 1, "Cells": 0, "Cytoplasm": 0, "Nuclei": 3}


def test_no_compartment_on_the_whole_plate(site):
    for name in ("Cells", "Cytoplasm", "Nuclei"):
        (site / f"{name}.csv").unlink()
    with pytest.raises(DataError, match=r"plate 'P': 1 images, but none has Cells.csv, Cytoplasm.csv, Nuclei.csv"):
        read(site)


def test_the_same_image_twice(tmp_path):
    for name in ("1", "2"):
        folder = write_site(tmp_path / name)
        for path in folder.glob("*.csv"):
            header, *rows = path.read_text().splitlines()
            path.write_text(csv(f"TableNumber,{header}", *(f"7,{row}" for row in rows)))
    with pytest.raises(DataError, match="both hold TableNumber 7, ImageNumber 1"):
        read(tmp_path)


def test_what_is_fine(site):
    """Line ends of Windows, quotes, a byte-order mark, missing values, infinities, keys with a point."""
    (site / "Nuclei.csv").write_bytes(
        b'\xef\xbb\xbfImageNumber,ObjectNumber,A,FileName_X\r\n1.0,1,nan,"a, b.tif"\r\n1,"2",1e39,x\r\n1,3,-inf,\r\n'
    )
    cells, audit = read(site)
    assert cells["Nuclei_A"].to_list() == [None, float("inf"), float("-inf")]
    assert "Nuclei_FileName_X" not in cells.columns
    note = "1 text columns left out; 2 values are infinite, or too large for float32"
    assert audit["note"].to_list() == [None, None, None, note]


def test_a_well_that_nobody_names_is_null_and_reported(tmp_path):
    cells, audit = read(write_site(tmp_path / "flat", plate=None, well=None, site=None))
    assert cells["Metadata_Well"].null_count() == 3
    assert audit["note"][0] == "well not named; plate named by the folder's name"


@pytest.mark.parametrize("number", ["²", "\uff11", "x", "-", ""])
def test_an_image_number_is_written_in_plain_digits(tmp_path, number):
    site = write_site(tmp_path / "s")
    (site / "Image.csv").write_text(csv("ImageNumber,Metadata_Plate,Metadata_Well", (number, "P", "A01")))
    with pytest.raises(DataError, match=r"Image\.csv, row 1 after the header, column 'ImageNumber'.*no whole number"):
        discover(tmp_path)


def test_a_count_that_is_no_number_of_objects_is_not_compared(tmp_path):
    site = write_site(tmp_path / "s", n=1)
    (site / "Image.csv").write_text(csv("Count_Cells,ImageNumber,Metadata_Plate,Metadata_Well", ("inf", 1, "P", "A01")))
    (export,) = discover(tmp_path)
    assert pl.concat(plan(export).cells()).height == 1
