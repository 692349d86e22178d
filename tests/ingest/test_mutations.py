"""Bytes that are not what they were: an error that names the file, or rows that are all there; never a traceback."""

import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cytofast
from cytofast import Choice, CytofastError, DataError
from cytofast.ingest.audit import Audit
from cytofast.ingest.sources import find_plates
from tests.ingest.databases import write_database
from tests.ingest.exports import write_site
from tests.ingest.test_cells import HEADERS, assert_balanced, random_exports, write_export

CHECKED = {"csv.gz", "npz"}
"""Formats with a checksum: what is read of a damaged file is what was in it."""


def read(source, **chosen):
    frames, audits = [], []
    for plate in find_plates(source, choice=Choice(**chosen)):
        audit = Audit()
        frames += plate.plan().cells(audit)
        audits.append(audit.table())
    return pl.concat(frames, how="diagonal_relaxed"), pl.concat(audits)


def read_or_error(source):
    try:
        return read(source)
    except CytofastError as error:
        return error


def write_file(folder: Path, kind: str) -> Path:
    site = write_site(folder / "site", n=12)
    if kind in HEADERS or kind == "Image":
        return site / f"{kind}.csv"
    if kind == "sqlite":
        return write_database(folder / "P.sqlite", site)
    if kind == "npz":
        path = folder / "P" / "A01_1.npz"
        path.parent.mkdir()
        values = np.arange(60, dtype=np.float32).reshape(12, 5)
        np.savez(path, features=values, locations=values[:, :2].astype(float))
        return path
    cells, _ = read(site)
    path = folder / f"P.{kind}"
    if kind == "gct":
        cells = cells.head(1)
    cytofast.write_profiles(cells.with_columns(pl.lit('a "µ", b').alias("Metadata_compound")), path)
    return path


def mutated(content: bytes, drawn: random.Random) -> bytes:
    """A bit flipped, bytes changed, zeroed, left out or doubled, or the end cut off; ends and beginnings more often."""
    changed = bytearray(content)
    at = drawn.choice([drawn.randrange(len(content)), drawn.randrange(min(200, len(content))), len(content) - 1])
    kind = drawn.choice(["flip", "flip", "byte", "cut", "zero", "double", "lose"])
    if kind == "flip":
        changed[at] ^= 1 << drawn.randrange(8)
    elif kind == "byte":
        changed[at] = drawn.randrange(256)
    elif kind == "cut":
        del changed[at:]
    elif kind == "zero":
        changed[at : at + 64] = bytes(len(changed[at : at + 64]))
    elif kind == "double":
        changed[at:at] = changed[at : at + drawn.randrange(1, 200)]
    else:
        del changed[at : at + drawn.randrange(1, 50)]
    return bytes(changed)


@pytest.mark.parametrize("kind", ["sqlite", "parquet", "csv", "csv.gz", "gct", "npz", "Image", *HEADERS])
def test_damage_is_an_error_or_harmless(tmp_path, kind):
    file = write_file(tmp_path, kind)
    of_export = kind in HEADERS or kind == "Image"
    source = file.parent if of_export else file
    whole, _ = read(source)
    content = file.read_bytes()
    drawn = random.Random(kind)
    refused = 0
    for _ in range(60):
        file.write_bytes(mutated(content, drawn))
        if file.read_bytes() == content:
            continue
        found = read_or_error(source)
        if isinstance(found, CytofastError):
            # What is wrong with one file may be told of its neighbour, whose rows then lack theirs.
            assert str(file.parent if of_export else file.name) in str(found)
            refused += 1
            continue
        cells, audit = found
        assert_balanced(audit)
        joined = audit.filter(pl.col("compartment").is_in(["Cells", "Table"]))["rows_joined"].sum()
        assert joined == cells.height
        if kind in CHECKED:
            assert cells.select(whole.columns).equals(whole)
        elif kind != "csv":
            # In a table of text a row may be doubled with another number in its keys; nothing else makes cells.
            assert cells.height <= whole.height
    assert refused > 20


@pytest.mark.parametrize("kind", ["sqlite", "parquet", "csv", "csv.gz", "gct", "npz", "Image", *HEADERS])
def test_a_file_that_is_cut_off_anywhere(tmp_path, kind):
    """A table of text that ends with a line is whole as far as anyone can tell; of an export its orphans are counted."""
    file = write_file(tmp_path, kind)
    of_export = kind in HEADERS or kind == "Image"
    source = file.parent if of_export else file
    content = file.read_bytes()
    for length in sorted({0, 1, len(content) - 1, *range(0, len(content), max(1, len(content) // 40))}):
        file.write_bytes(content[:length])
        at_line_end = content[:length].endswith(b"\n") and kind not in ("sqlite", "parquet", "csv.gz", "npz")
        found = read_or_error(source)
        if isinstance(found, CytofastError):
            assert str(file.parent if of_export else file.name) in str(found)
        else:
            assert at_line_end, length
            assert kind == "csv" or found[1]["orphans"].sum()
            if of_export:
                with pytest.raises(DataError, match=r"Image\.csv counts 12 .*, but there are"):
                    read(source, strict=True)


@pytest.mark.parametrize("kind", ["h5ad", "gctx"])
def test_hdf5_files_that_are_cut_off(tmp_path, kind):
    pytest.importorskip("h5py", reason="h5py (the extra anndata or l1000) is not installed")
    if kind == "gctx":
        pytest.skip("GCTX is not written; its damage is tested where it is read")
    cells, _ = read(write_site(tmp_path / "site"))
    path = tmp_path / "P.h5ad"
    cytofast.write_profiles(cells, path)
    content = path.read_bytes()
    for length in range(1, len(content), len(content) // 12):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"P\.h5ad"):
            read(path)


# --- duplicates and samples against a plain twin ---------------------------------------------------------------------


def first_cells(tables):
    """Cells of an image under duplicates="first": ``(cell, cytoplasm, nucleus)`` numbers."""
    firsts = {}
    for name, rows in tables.items():
        numbers = {}
        for row in rows:
            numbers.setdefault(row[1], row)
        firsts[name] = numbers
    found = [
        (row[3], number, row[4])
        for number, row in sorted(firsts["Cytoplasm"].items())
        if row[3] in firsts["Cells"] and row[4] in firsts["Nuclei"]
    ]
    for place in (0, 2):
        taken, kept = set(), []
        for cell in found:
            if cell[place] not in taken:
                taken.add(cell[place])
                kept.append(cell)
        found = kept
    return sorted(found)


@st.composite
def untidy_exports(draw):
    """Exports in which rows stand twice and several cytoplasms name one cell or nucleus."""
    images = draw(random_exports())
    for _, _, _, tables in images:
        for rows in tables.values():
            if rows and draw(st.booleans()):
                rows.append(draw(st.sampled_from(rows)))
        if tables["Cytoplasm"] and draw(st.booleans()):
            row = draw(st.sampled_from(tables["Cytoplasm"]))
            tables["Cytoplasm"].append((row[0], draw(st.integers(40, 43)), *row[2:]))
    return images


@settings(max_examples=30, deadline=None)
@given(untidy_exports(), st.sampled_from(["csv", "sqlite"]), st.integers(1, 4))
def test_duplicates_and_samples_are_those_of_a_plain_twin(images, kind, most):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_export(folder / "csv" / "x", images)
        source = folder / "csv"
        if kind == "sqlite":
            source = write_database(folder / "x.sqlite", folder / "csv" / "x")
            shutil.rmtree(folder / "csv")
        twin = {image[0]: first_cells(image[3]) for image in images}
        total = sum(map(len, twin.values()))
        (plate,) = find_plates(source, choice=Choice(duplicates="first"))
        audit = Audit()
        frames = list(plate.plan().cells(audit))
        table = audit.table()
        assert_balanced(table)
        found = [
            row for frame in frames for row in frame.select("Metadata_ImageNumber", "Metadata_ObjectNumber").rows()
        ]
        assert sorted(found) == sorted((number, cell[0]) for number, cells in twin.items() for cell in cells)
        for compartment in HEADERS:
            counted = dict(
                table.filter(pl.col("compartment") == compartment).select("image_number", "rows_read").rows()
            )
            assert counted == {image[0]: len(image[3][compartment]) for image in images}
            joined = table.filter(pl.col("compartment") == compartment)["rows_joined"].sum()
            assert joined == total
        (plate,) = find_plates(source, choice=Choice(duplicates="first", cells_per_well=most))
        audit = Audit()
        sampled = sum(frame.height for frame in plate.plan().cells(audit))
        wells = {}
        for number, well, *_ in images:
            wells[well] = wells.get(well, 0) + len(twin[number])
        assert sampled == sum(min(most, count) for count in wells.values())
        kept = audit.table().filter(pl.col("compartment") == "Sample")
        assert_balanced(kept)
        assert (kept["rows_read"].sum(), kept["rows_joined"].sum()) == (total, sampled)


def test_a_database_whose_table_number_stands_in_two_files(tmp_path):
    """A copy of a file is set aside like any second export, also where it names its export itself."""
    for name in ("one", "two"):
        write_database(tmp_path / "all" / f"{name}.sqlite", write_site(tmp_path / name), style="plain", table=5)
    with pytest.raises(DataError, match="both hold TableNumber 5, ImageNumber 1"):
        read(tmp_path / "all")
    cells, audit = read(tmp_path / "all", duplicates="first")
    assert cells.height == 3
    assert audit.filter(pl.col("note").str.contains("the same image as in one.sqlite", literal=True)).height == 1
