"""Every real file is ingested or refused with a reason, its audit balances, and formats of one plate agree on every value."""

import os
import sqlite3
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import cytofast
from cytofast import Choice, CytofastError, ProfileWarning
from cytofast.ingest.audit import summarize
from cytofast.ingest.mapping import ColumnMapping

DOCUMENT = Path(__file__).parents[2] / "docs" / "ingest.md"
BEGIN, END = "<!-- real files: begin -->\n", "<!-- real files: end -->\n"
IN_CARTA = ColumnMapping.from_toml(
    """
[metadata]
Metadata_Plate = {value = "Test"}
Metadata_Well = ["Row", "Column"]
Metadata_Site = "FOV"
Metadata_ImageNumber = "FOV"
Metadata_ObjectNumber = "OBJECT ID"
[objects]
"Primary Target" = "Nuclei"
"Cells" = "Cells"
"""
)

SOURCES: dict[str, Choice | None] = {
    "cpjump1_BR00116991-A01-1": None,
    "collate/analysis": None,
    "collate/backend/2021_04_20_Target2/BR00121431/BR00121431_main.csv": None,
    "ExampleHuman": None,
    "NF1/NF1_data.sqlite": None,
    "NF1/all_cellprofiler.sqlite": None,
    "NF1": None,
    "NF1 (first)": Choice(duplicates="first"),
    "SQ00014613/test_SQ00014613.sqlite": None,
    "SQ00014613/test_SQ00014613.csv.gz": None,
    "SQ00014613/test_SQ00014613.parquet": None,
    "cytominer_database/Cell-Health/test-SQ00014613.sqlite": None,
    "cytominer_database/data_a": None,
    "cytominer_database/data_a_sqlite/data_a.sqlite": None,
    "cytominer_database/data_a_munged": None,
    "cytominer_database/data_b": None,
    **{
        f"cytominer_database/data_b/{site}": None
        for site in ("A01-1", "A01-2", "B01-1", "B01-2", "E17-4", "J21-2", "N23-5")
    },
    "cytominer_database/data_b_sqlite/data_b.sqlite": None,
    "cytominer_database/data_c": None,
    "deepprofiler/A01_5.npz": None,
    "in_carta/colas-lab": None,
    **{
        f"in_carta/colas-lab/{name} (mapping)": Choice(mapping=IN_CARTA)
        for name in (
            "Test 0 Day0 Test Test_2024_Jan-01-12-12-12_Test.csv",
            "Test 0 Day1 Test Test_2024_Jan-02-13-12-12_Test.csv",
            "Test 0 Day2 Test Test_2024_Jan-03-14-12-12_Test.csv",
            "test 0 Day3 Test Test_2024_Jan-04-15-12-12_Test.csv",
        )
    },
}
# A file named here is read as a part of another source, or holds nothing to ingest.
BESIDE = {
    "ExampleHuman/Experiment.csv": "CellProfiler's settings",
    "cytominer_database/data_a/1/object.csv": "all objects once more, side by side",
    "cytominer_database/data_a/2/object.csv": "all objects once more, side by side",
}


def ingest(source, folder, choice=None):
    store = cytofast.open_store(folder, create=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProfileWarning)
        store.ingest(source, choice=choice or Choice())
    return store


def path_of(name):
    return name.removesuffix(" (first)").removesuffix(" (mapping)")


def outcome(root, name, folder):
    """One line of the table, and the files that were read."""
    try:
        store = ingest(root / path_of(name), folder, SOURCES[name])
    except CytofastError as error:
        reason = str(error).replace(f"{root}/", "").split(" Hint:")[0].replace("|", "\\|").replace("\n", " ")
        return f"| `{name}` | refused | | | {reason} |", None
    audit = store.audit()
    assert (audit["rows_read"] == audit["rows_joined"] + audit["orphans"]).all()
    assert (audit["orphans"] >= 0).all()
    (level,) = store.levels()
    rows = store.scan(level).select(pl.len()).collect().item()
    summary = summarize(audit)
    counts = {column: [] for column in ("rows_read", "orphans")}
    for column, told in counts.items():
        for compartment, number in (
            summary.group_by("compartment", maintain_order=True).agg(pl.col(column).sum()).rows()
        ):
            if column == "rows_read" or number:
                told.append(f"{compartment} {number:,}")
    return (
        f"| `{name}` | {rows:,} {level} | {', '.join(counts['rows_read'])} | {', '.join(counts['orphans'])} | |",
        audit,
    )


@pytest.fixture(scope="module")
def outcomes(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    root = real_data / "single_cell"
    return {name: outcome(root, name, folder / f"{number}") for number, name in enumerate(SOURCES)}


def test_the_document_shows_what_becomes_of_every_file(outcomes):
    """Written anew with CYTOFAST_WRITE_DOCS=1."""
    head = "| source | rows kept | rows read | set aside | refused because |\n|---|---|---|---|---|\n"
    table = head + "".join(f"{line}\n" for line, _ in outcomes.values())
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    if os.environ.get("CYTOFAST_WRITE_DOCS"):
        DOCUMENT.write_text(f"{before}{BEGIN}{table}{END}{after}")
        old = table
    assert old == table


def test_no_real_file_is_forgotten(real_data):
    root = real_data / "single_cell"
    files = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    known = [path_of(name) for name in SOURCES]
    forgotten = [
        file for file in files if file not in BESIDE and not any(file == k or file.startswith(f"{k}/") for k in known)
    ]
    assert forgotten == []


def test_orphans_are_those_that_sql_counts(real_data, outcomes):
    path = real_data / "single_cell" / "NF1" / "all_cellprofiler.sqlite"
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    joined = connection.execute(
        "SELECT count(*) FROM Per_Cytoplasm AS y "
        "JOIN Per_Cells AS c ON c.ImageNumber = y.ImageNumber AND c.Cells_Number_Object_Number = y.Cytoplasm_Parent_Cells "
        "JOIN Per_Nuclei AS n ON n.ImageNumber = y.ImageNumber AND n.Nuclei_Number_Object_Number = y.Cytoplasm_Parent_Nuclei"
    ).fetchone()[0]
    counts = {
        name: connection.execute(f"SELECT count(*) FROM Per_{name}").fetchone()[0]
        for name in ("Cells", "Cytoplasm", "Nuclei")
    }
    connection.close()
    audit = outcomes["NF1/all_cellprofiler.sqlite"][1]
    for name, count in counts.items():
        found = audit.filter(pl.col("compartment") == name)
        assert (found["rows_read"].sum(), found["rows_joined"].sum()) == (count, joined)
        assert found["orphans"].sum() == count - joined
    assert counts["Nuclei"] - joined == 191


def test_a_database_equals_its_merges_on_every_value(real_data, tmp_path):
    """SQ00014613: CellProfiler's SQLite, pycytominer's merge of it (csv.gz), CytoTable's Parquet."""
    folder = real_data / "single_cell" / "SQ00014613"
    stores = {e: ingest(folder / f"test_SQ00014613.{e}", tmp_path / e) for e in ("sqlite", "csv.gz", "parquet")}
    tables = {e: store.scan("cells").collect().sort("Metadata_ImageNumber") for e, store in stores.items()}
    mine = tables["sqlite"]
    keys = ["Metadata_Plate", "Metadata_Well", "Metadata_TableNumber", "Metadata_ImageNumber", "Metadata_ObjectNumber"]
    for ending in ("csv.gz", "parquet"):
        other = tables[ending]
        features = [name for name in other.columns if not name.startswith("Metadata_")]
        assert set(features) <= set(mine.columns)
        assert len(features) > 1700
        assert mine.select(keys).equals(other.select(keys))
        found, expected = mine.select(features).to_numpy(), other.select(features).to_numpy()
        assert np.array_equal(found, expected, equal_nan=True)
    raw = pl.read_parquet(folder / "test_SQ00014613.parquet").sort("Metadata_ImageNumber")
    assert np.array_equal(
        mine.select(features).to_numpy(), raw.select(features).to_numpy().astype(np.float32), equal_nan=True
    )
    # What the merges call Metadata, or left out: numbers of objects.
    more = {name for name in mine.columns if not name.startswith("Metadata_")} - set(features)
    assert {name.split("_", 1)[1] for name in more} <= {"Parent_Cells", "Parent_Nuclei", "Number_Object_Number"}


@pytest.mark.parametrize("name", ["data_a", "data_b"])
def test_databases_equal_the_csv_files_that_they_were_made_of(real_data, tmp_path, name):
    root = real_data / "single_cell" / "cytominer_database"
    mine = ingest(root / f"{name}_sqlite" / f"{name}.sqlite", tmp_path / "sqlite").scan("cells").collect()
    parts = {"data_a": ["data_a"], "data_b": [f"data_b/{site}" for site in ("A01-1", "A01-2", "B01-1", "B01-2")]}
    sources = [root / part for part in parts[name]]
    csv = pl.concat([ingest(s, tmp_path / s.name).scan("cells").collect() for s in sources], how="diagonal_relaxed")
    keys = ["Metadata_Well", "Metadata_Site", "Metadata_ImageNumber", "Metadata_ObjectNumber"]
    features = [c for c in csv.columns if not c.startswith("Metadata_")]
    assert mine.select(keys).equals(csv.sort(keys).select(keys))
    # cytominer-database reads CSV with pandas, whose parser may miss the last bit of a float64.
    found, expected = mine.select(features).to_numpy(), csv.sort(keys).select(features).to_numpy()
    assert np.allclose(found, expected, rtol=2e-7, atol=0, equal_nan=True)
