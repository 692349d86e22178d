"""Cells against the plain twin, and the laws of the audit."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytofast import resources
from cytofast.errors import DataError
from cytofast.ingest import line_index, reading
from cytofast.ingest import plan as plan_room
from cytofast.ingest.audit import Audit, summarize
from cytofast.ingest.cellprofiler import plan
from cytofast.ingest.discovery import discover
from tests.ingest.exports import csv, write_site
from tests.oracle_ingest import joined_cells


def read(folder, **options):
    (export,) = discover(folder, **options)
    planned = plan(export)
    audit = Audit()
    frames = list(planned.cells(audit))
    assert all(frame.schema == planned.schema for frame in frames)
    return pl.concat(frames) if frames else pl.DataFrame(schema=planned.schema), audit.table()


def assert_balanced(audit):
    assert (audit["rows_read"] == audit["rows_joined"] + audit["orphans"]).all()
    assert (audit["orphans"] >= 0).all()


def assert_equals_oracle(cells, folder):
    expected = joined_cells(folder)
    assert cells["Metadata_ImageNumber"].to_list() == expected.pop("ImageNumber").to_list()
    assert cells["Metadata_ObjectNumber"].to_list() == expected.pop("ObjectNumber").to_list()
    features = [name for name in cells.columns if not name.startswith("Metadata_")]
    assert set(features) == set(expected.columns)
    assert set(cells.select(features).dtypes) <= {pl.Float32}
    ours = cells.select(features).to_numpy()
    theirs = expected[features].to_numpy()
    assert np.array_equal(ours, theirs, equal_nan=True), f"{np.sum(ours != theirs)} values differ"


def test_collate(real_data):
    cells, audit = read(real_data / "single_cell" / "collate")
    assert cells.height == 125
    assert cells.group_by("Metadata_Well", maintain_order=True).len().rows() == [("A01", 89), ("A02", 36)]
    assert set(cells["Metadata_Plate"]) == {"BR00121431"}
    assert set(cells["Metadata_Batch"]) == {"2021_04_20_Target2"}
    empty = audit.filter(pl.col("compartment") == "Image", pl.col("orphans") == 1)
    assert empty.select("well", "site").rows() == [("A01", "2"), ("A02", "2")]
    assert empty["note"][0] == "no files of objects, but Image.csv counts 188 Cells, 188 Cytoplasm, 188 Nuclei"
    assert_balanced(audit)
    for folder in sorted((real_data / "single_cell" / "collate").rglob("*-1")):
        assert_equals_oracle(cells.filter(pl.col("Metadata_Well") == folder.name[-5:-2]), folder)


@pytest.mark.parametrize(("name", "rows"), [("cpjump1_BR00116991-A01-1", 109), ("ExampleHuman", 289)])
def test_one_site(real_data, name, rows):
    folder = real_data / "single_cell" / name
    cells, audit = read(folder)
    assert cells.height == rows
    assert_balanced(audit)
    assert_equals_oracle(cells, folder)


def test_an_attached_object_adds_columns_and_no_rows(real_data):
    folder = real_data / "single_cell" / "ExampleHuman"
    with_ph3, audit = read(folder, compartments=("Cells", "Cytoplasm", "Nuclei", "PH3"))
    without, _ = read(folder)
    assert with_ph3.select(without.columns).equals(without)
    assert_balanced(audit)
    ph3 = audit.row(by_predicate=pl.col("compartment") == "PH3", named=True)
    assert (ph3["rows_read"], ph3["rows_joined"]) == (22, 22 - ph3["orphans"])
    assert with_ph3["PH3_Location_Center_X"].is_not_null().sum() == ph3["rows_joined"]
    nuclei, _ = read(folder, compartments=("Nuclei",))
    assert nuclei.height == 289


def test_damaged_exports_are_each_refused_with_a_reason(real_data):
    damaged = real_data / "single_cell" / "cytominer_database"
    for name in ("A01-1", "A01-2", "B01-1", "B01-2"):
        assert read(damaged / "data_b" / name)[0].height == 10
        assert_equals_oracle(read(damaged / "data_b" / name)[0], damaged / "data_b" / name)
    reasons = {
        "data_b/E17-4": r"E17-4/Cells.csv: the file is empty",
        "data_b/J21-2": r"J21-2/Cells.csv, line 2: 564 fields, but the header has 586",
        "data_b/N23-5": r"N23-5/Image.csv: a header and no rows",
        "data_b": r"N23-5/Image.csv: a header and no rows",
        "data_c": "8 images, but none has Cells.csv",
        "data_a_munged": "but no Image.csv",
    }
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=reason):
            read(damaged / name)


def test_several_images_in_one_file(real_data):
    source = real_data / "single_cell" / "cytominer_database" / "data_a"
    cells, audit = read(source)
    assert cells.height == 40
    assert cells["Metadata_Plate"].unique().to_list() == ["110000106828"]
    assert cells.select("Metadata_Well", "Metadata_Site").unique(maintain_order=True).rows() == [
        (well, site) for well in ("A01", "A02", "A10", "A11") for site in (1, 2)
    ]
    assert_balanced(audit)
    assert_equals_oracle(cells.filter(pl.col("Metadata_Well").is_in(["A01", "A02"])), source / "1")


# --- laws over random exports ---------------------------------------------------------------------------------------

values = st.floats(allow_nan=False, width=64, min_value=-1e30, max_value=1e30) | st.floats(0, 1)


@st.composite
def random_exports(draw):
    """A few images: objects with numbers in any order, some cytoplasms without a cell or nucleus."""
    images = []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        cells = draw(st.lists(st.integers(1, 20), unique=True, max_size=6))
        nuclei = draw(st.lists(st.integers(1, 20), unique=True, max_size=6))
        n = draw(st.integers(0, 6))
        cell_of = draw(st.permutations([*cells, *range(21, 28)]))[:n]
        nucleus_of = draw(st.permutations([*nuclei, *range(31, 38)]))[:n]
        well = draw(st.sampled_from(["A01", "A02", "B10"]))
        tables = {
            "Cells": [(number, c, draw(values), draw(values)) for c in cells],
            "Cytoplasm": [
                (number, i + 1, draw(values), *pair) for i, pair in enumerate(zip(cell_of, nucleus_of, strict=False))
            ],
            "Nuclei": [(number, c, draw(values)) for c in nuclei],
        }
        images.append((number, well, draw(st.integers(1, 3)), tables))
    return images


HEADERS = {
    "Cells": "ImageNumber,ObjectNumber,AreaShape_Area,Intensity_Mean_DNA",
    "Cytoplasm": "ImageNumber,ObjectNumber,AreaShape_Area,Parent_Cells,Parent_Nuclei",
    "Nuclei": "ImageNumber,ObjectNumber,AreaShape_Area",
}


def write_export(folder, images, order=lambda rows: rows):
    folder.mkdir(parents=True)
    rows = [
        (*(len(tables[name]) for name in HEADERS), number, "P", well, site) for number, well, site, tables in images
    ]
    header = "Count_Cells,Count_Cytoplasm,Count_Nuclei,ImageNumber,Metadata_Plate,Metadata_Well,Metadata_Site"
    (folder / "Image.csv").write_text(csv(header, *rows))
    for name, columns in HEADERS.items():
        every = [row for image in images for row in image[3][name]]
        (folder / f"{name}.csv").write_text(csv(columns, *order(every)))


@settings(max_examples=40, deadline=None)
@given(random_exports(), st.randoms(use_true_random=False))
def test_the_audit_balances_and_order_and_splitting_do_not_matter(images, random):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_export(folder / "whole" / "x", images)
        write_export(folder / "mixed" / "x", images, order=lambda rows: random.sample(rows, len(rows)))
        for image in images:
            write_export(folder / "split" / f"{image[0]}", [image])
        cells, audit = read(folder / "whole")
        assert_balanced(audit)
        mixed, mixed_audit = read(folder / "mixed")
        assert mixed.equals(cells)
        assert mixed_audit.drop("digest").equals(audit.drop("digest"))
        split, split_audit = read(folder / "split")
        assert_balanced(split_audit)
        key = ["Metadata_Well", "Metadata_Site", "Metadata_ImageNumber", "Metadata_ObjectNumber"]
        assert split.drop("Metadata_TableNumber").sort(key).equals(cells.drop("Metadata_TableNumber").sort(key))
        counted = ["compartment", "image_number", "rows_read", "rows_joined", "orphans", "note"]
        assert split_audit.select(counted).sort(counted).equals(audit.select(counted).sort(counted))
        if cells.height:
            ordered = cells.sort("Metadata_ImageNumber", "Metadata_ObjectNumber")
            assert_equals_oracle(ordered, folder / "whole" / "x")


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_a_big_flat_file_is_read_image_by_image(tmp_path, monkeypatch, chunk):
    """However the scan is cut, and although the lines of an image lie in several places."""
    images = [
        (
            i,
            f"A{9 - i:02d}",
            1,
            {n: [(i, j, j / 3, j, j)[: 3 + 2 * (n == "Cytoplasm")] for j in (1, 2)] for n in HEADERS},
        )
        for i in range(1, 6)
    ]
    for image in images:
        image[3]["Cells"] = [(*row, 0.5) for row in image[3]["Cells"]]
        write_export(tmp_path / "sites" / f"{image[0]}", [image])
    write_export(tmp_path / "flat" / "all", images, order=lambda rows: sorted(rows, key=lambda row: (row[1], row[0])))
    line_index._index_lines.cache_clear()
    monkeypatch.setattr(line_index, "_CHUNK", chunk)
    flat, audit = read(tmp_path / "flat")
    sites, _ = read(tmp_path / "sites")
    assert flat.drop("Metadata_TableNumber").equals(sites.drop("Metadata_TableNumber"))
    assert flat["Metadata_Well"].unique(maintain_order=True).to_list() == ["A04", "A05", "A06", "A07", "A08"]
    assert_balanced(audit)
    index = line_index.index_lines(tmp_path / "flat" / "all" / "Cells.csv")
    assert index.rows == 10
    assert len(index.runs[None, 1]) == 2
    (tmp_path / "flat" / "all" / "Cells.csv").write_text(HEADERS["Cells"] + "\n1,1,1,1\n1,2,3")
    with pytest.raises(DataError, match="the last line has no end"):
        read(tmp_path / "flat")


def test_errors_in_a_flat_file_name_its_own_lines(tmp_path):
    images = [(i, "A01", i, {n: [(i, 1, 1.0, 1, 1)[: len(HEADERS[n].split(","))]] for n in HEADERS}) for i in (1, 2, 3)]
    write_export(tmp_path / "x", images)
    path = tmp_path / "x" / "Nuclei.csv"
    path.write_text(HEADERS["Nuclei"] + "\n1,1,1\n2,1,1\n3,1,oops\n")
    with pytest.raises(DataError, match=r"Nuclei.csv, line 4, column 'AreaShape_Area': 'oops'"):
        read(tmp_path)
    path.write_text(HEADERS["Nuclei"] + "\n1,1,1\n2,1,1\n9,1,1\n")
    with pytest.raises(DataError, match=r"Nuclei.csv, line 4: ImageNumber 9 is not in the Image.csv"):
        read(tmp_path)
    path.write_text(HEADERS["Nuclei"] + "\n1,1,1\n2,1,1\n\n")
    with pytest.raises(DataError, match=r"Nuclei.csv, line 4, column 'ImageNumber': '' is no whole number"):
        read(tmp_path)


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    images = [(i, "A01", i, {n: [(i, 1, 1.0, 1, 1)[: len(HEADERS[n].split(","))]] for n in HEADERS}) for i in (1, 2, 3)]
    write_export(tmp_path / "x", images)
    (export,) = discover(tmp_path)
    with resources.limits(threads=1):
        monkeypatch.setattr(plan_room, "_BATCH_BYTES", 1)
        monkeypatch.setattr(reading, "_AT_ONCE", 1)
        cells = plan(export).cells()
        next(cells)
        with (tmp_path / "x" / "Nuclei.csv").open("a") as stream:
            stream.write("3,2,1\n")
        with pytest.raises(DataError, match=r"Nuclei.csv: changed while it was read"):
            list(cells)


def test_two_plates_in_one_file(tmp_path):
    folder = write_site(tmp_path / "both")
    for name in ("Cells", "Cytoplasm", "Nuclei"):
        text = (folder / f"{name}.csv").read_text()
        (folder / f"{name}.csv").write_text(text + "".join(f"2{r[1:]}\n" for r in text.splitlines()[1:3]))
    (folder / "Image.csv").write_text("ImageNumber,Metadata_Plate,Metadata_Well\n1,P,A01\n2,Q,B02\n")
    exports = discover(tmp_path)
    assert [(e.plate, pl.concat(plan(e).cells()).height) for e in exports] == [("P", 3), ("Q", 2)]


def test_image_numbers_that_repeat_do_not_collide(tmp_path):
    for name, well in (("1", "A01"), ("2", "A02")):
        write_site(tmp_path / name, well=well)
    cells, _ = read(tmp_path)
    keys = ["Metadata_TableNumber", "Metadata_ImageNumber", "Metadata_ObjectNumber"]
    assert not cells.select(keys).is_duplicated().any()
    for name in ("1", "2"):
        for path in (tmp_path / name).glob("*.csv"):
            header, *rows = path.read_text().splitlines()
            path.write_text(csv(f"{header},TableNumber", *(f"{row},4{name}" for row in rows)))
    assert read(tmp_path)[0]["Metadata_TableNumber"].unique(maintain_order=True).to_list() == [41, 42]


def test_columns_that_differ_are_filled_and_counted(tmp_path):
    write_site(tmp_path / "1")
    folder = write_site(tmp_path / "2", image=2, well="A02")
    (folder / "Nuclei.csv").write_text("ImageNumber,ObjectNumber,New,AreaShape_Area\n2,1,5,6\n2,2,5,6\n2,3,5,6\n")
    cells, audit = read(tmp_path)
    assert cells.columns[-2:] == ["Nuclei_AreaShape_Area", "Nuclei_New"]
    assert cells["Nuclei_New"].to_list() == [None] * 3 + [5.0] * 3
    assert cells["Nuclei_AreaShape_Area"].to_list() == [1000.0, 2000.0, 3000.0, 6.0, 6.0, 6.0]
    assert summarize(audit).filter(pl.col("compartment") == "Nuclei")["columns_missing"].item() == 1


def test_sites_that_are_no_numbers_are_text(tmp_path):
    write_site(tmp_path / "1", site="f10")
    write_site(tmp_path / "2", site=2, image=2)
    cells, _ = read(tmp_path)
    assert cells["Metadata_Site"].unique(maintain_order=True).to_list() == ["2", "f10"]


def test_threads_and_budget_change_nothing_and_bound_what_is_ahead(tmp_path, monkeypatch):
    for i in range(12):
        write_site(tmp_path / f"{i}", image=i + 1, site=i + 1)
    with resources.limits(threads=1):
        one = read(tmp_path)
    with resources.limits(threads=4):
        four = read(tmp_path)
    assert one[0].equals(four[0])
    assert one[1].equals(four[1])
    monkeypatch.setattr(plan_room, "_BATCH_BYTES", 1)
    monkeypatch.setattr(reading, "_AT_ONCE", 1)
    parsed = []
    original = reading._read_sites
    monkeypatch.setattr(reading, "_read_sites", lambda *given: parsed.append(1) or original(*given))
    (export,) = discover(tmp_path)
    with resources.limits(threads=2):
        cells = plan(export).cells()
        next(cells)
        assert len(parsed) <= 3
        cells.close()
        assert len(parsed) <= 3


def test_what_is_read_together_is_what_is_read_one_by_one(tmp_path, monkeypatch):
    for i in range(9):
        write_site(tmp_path / f"{i}", image=i + 1, site=i + 1, n=i % 4)
    path = tmp_path / "3" / "Nuclei.csv"
    path.write_text("ImageNumber,ObjectNumber,New,AreaShape_Area\n4,1,5,6\n4,2,5,6\n4,3,5,6\n")
    path = tmp_path / "6" / "Cells.csv"  # quotes are left to the parser, file by file
    path.write_text(path.read_text().replace("10.0", '"10.0"', 1))
    for name in ("Cells", "Cytoplasm", "Nuclei"):
        (tmp_path / "7" / f"{name}.csv").unlink()
    together = read(tmp_path)
    monkeypatch.setattr(reading, "_AT_ONCE", 1)
    one_by_one = read(tmp_path)
    assert together[0].equals(one_by_one[0])
    assert together[1].equals(one_by_one[1])
    assert together[0].height == sum(i % 4 for i in range(9) if i != 7)


@pytest.mark.parametrize("at_once", [1, 64 << 20])
def test_of_several_faults_the_first_is_told(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(reading, "_AT_ONCE", at_once)
    for i in range(4):
        write_site(tmp_path / f"{i}", image=i + 1, site=i + 1)
    for i, name, old, new in (
        (1, "Nuclei", "3000.0", "oops"),
        (1, "Cytoplasm", "2,1,100.0", "2,2,100.0"),
        (2, "Cells", "3,1", "3,x"),
    ):
        path = tmp_path / f"{i}" / f"{name}.csv"
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=r"1/Nuclei.csv, line 4, column 'AreaShape_Area': 'oops'"):
        read(tmp_path)
    (tmp_path / "1" / "Nuclei.csv").write_text((tmp_path / "0" / "Nuclei.csv").read_text().replace("\n1,", "\n2,"))
    with pytest.raises(DataError, match=r"1/Cytoplasm.csv, lines 2 and 3: both have ObjectNumber 2"):
        read(tmp_path)


def test_the_audit_does_not_say_where_or_when(tmp_path):
    write_site(tmp_path / "a" / "1")
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "a")
    assert read(tmp_path / "a")[1].equals(read(tmp_path / "b" / "a")[1])
    assert not read(tmp_path / "a")[1]["file"].str.contains(str(tmp_path), literal=True).any()


def test_parents_that_contradict_each_other_are_counted(tmp_path):
    site = write_site(tmp_path / "s", n=3)
    (site / "Cells.csv").write_text(
        csv("ImageNumber,ObjectNumber,AreaShape_Area,Parent_Nuclei", (1, 1, 10, 2), (1, 2, 20, 2), (1, 3, 30, "nan"))
    )
    cells, audit = read(tmp_path)
    # The cytoplasm's own parent columns were used, as always.
    assert cells["Nuclei_AreaShape_Area"].to_list() == [1000, 2000, 3000]
    (noted,) = audit.filter(pl.col("compartment") == "Cells")["note"]
    assert noted == "2 cells: Parent_Nuclei contradicts that of Cytoplasm, which was used"
    assert summarize(audit).filter(pl.col("compartment") == "Cells")["notes"].to_list() == [[noted]]
