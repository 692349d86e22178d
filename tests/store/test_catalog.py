"""The views are what the store is: the same rows as a scan, only the bytes that are asked for, and nothing kept."""

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import cytofast
from cytofast import RecipeError, SchemaError, StoreError
from cytofast.store.answering import Limits, prepare
from cytofast.store.layout import PlateName
from cytofast.store.manifest import Manifest
from cytofast.store.queries import queries
from cytofast.store.snapshot import Snapshot
from tests import toy


@pytest.fixture
def store(tmp_path):
    return toy.make_store(tmp_path / "store")


def test_cells_are_those_of_a_scan(store):
    assert_frame_equal(store.sql("FROM cells"), store.scan("cells").collect(), check_row_order=False)
    assert store.sql("FROM cells LIMIT 0").columns == store.scan("cells").collect_schema().names()


def test_plates_with_other_columns_are_joined_by_name(store):
    toy.add_plate(store, toy.cells("P3").drop(toy.FEATURES[0]).with_columns(Cells_New_X=pl.lit(1.0)))
    mine, scan = store.sql("FROM cells"), store.scan("cells").collect()
    assert_frame_equal(mine.select(scan.columns), scan, check_row_order=False)
    assert store.sql("SELECT plates FROM features WHERE feature = $f", {"f": toy.FEATURES[0]})["plates"].item() == 2


def test_missing_keys_of_platemaps_match_missing_keys(store):
    frame = toy.cells("P4").with_columns(
        Metadata_Well=pl.when(pl.col("Metadata_Well") == "A01").then(None).otherwise("Metadata_Well")
    )
    toy.add_plate(store, frame, annotated=False)
    mapped = toy.platemap("P4").with_columns(
        Metadata_Well=pl.when(pl.col("Metadata_Well") == "A01").then(None).otherwise("Metadata_Well")
    )
    store.write_annotation(PlateName("B1", "P4"), mapped)
    mine = store.sql(
        "SELECT Metadata_control_type AS c FROM cells WHERE Metadata_Plate = 'P4' AND Metadata_Well IS NULL"
    )
    assert mine["c"].to_list() == ["negcon"] * 5
    assert_frame_equal(store.sql("FROM cells"), store.scan("cells").collect(), check_row_order=False)


def joins_platemaps(store, query: str) -> bool:
    ready = prepare(Snapshot(store), query, None, Limits())
    return "cell_annotations" in ready.connection.sql(f"EXPLAIN {query}").fetchall()[0][1]


@pytest.mark.parametrize(
    ("query", "joined"),
    [
        ("SELECT count(*) FROM cells", False),
        ("SELECT Metadata_Plate, avg(Cells_Intensity_MeanIntensity_0) FROM cells GROUP BY ALL", False),
        ("SELECT Metadata_Well FROM (SELECT *, 1 AS one FROM cells)", False),
        ("SELECT count(Metadata_broad_sample) FROM cells", True),
        ("SELECT count(*) FROM cells WHERE Metadata_broad_sample IS NOT NULL", True),
        ("SELECT count(*) FROM cells WHERE Metadata_control_type = 'negcon'", True),
        ("SELECT count(*) FROM cells WHERE Metadata_control_type IS NULL", True),
        ("SELECT count(*) FROM (SELECT DISTINCT * FROM cells)", True),
        ("SELECT count(DISTINCT c) FROM cells AS c", True),
        ("SELECT count(*) FROM cells AS a JOIN cells AS b USING (Metadata_broad_sample)", True),
        ("SELECT count(*) FROM cells_long WHERE Metadata_control_type = 'negcon'", True),
        (
            "SELECT count(*) FROM cells WHERE EXISTS (SELECT 1 FROM controls WHERE control_type = Metadata_control_type)",
            True,
        ),
        ("SELECT Metadata_broad_sample, count(*) FROM cells GROUP BY 1 ORDER BY 1", True),
        ("SELECT count(*) FROM cells NATURAL JOIN (SELECT 'negcon' AS Metadata_control_type)", True),
    ],
)
def test_platemaps_are_joined_only_if_a_column_is_wanted(store, query, joined, monkeypatch):
    mine = store.sql(query)
    assert joins_platemaps(store, query) == joined
    monkeypatch.setattr("cytofast.store.answering._leave_out_platemaps", lambda *_: None)
    assert_frame_equal(mine, store.sql(query), check_row_order=False)


def wide(store, plates: int = 1, rows: int = 384, features: int = 5792) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    third = features // 3
    names = [f"{c}_Texture_Contrast_DNA_{i}" for c in ("Cells", "Cytoplasm", "Nuclei") for i in range(third)]
    names += [f"Nuclei_Extra_{i}" for i in range(features - len(names))]
    for plate in range(plates):
        frame = pl.DataFrame(
            {
                "Metadata_Batch": ["B"] * rows,
                "Metadata_Plate": [f"W{plate}"] * rows,
                "Metadata_Well": [f"w{i}" for i in range(rows)],
            }
        ).hstack(pl.from_numpy(rng.normal(size=(rows, features)).astype(np.float32), schema=names))
        manifest = Manifest("profiles", "B", f"W{plate}", "", 0, 0, "", f"{plate:012d}", {})
        store.write_partition("profiles", PlateName("B", f"W{plate}"), f"{plate:012d}", [frame], lambda m=manifest: m)


def bytes_read() -> int:
    text = Path("/proc/self/io").read_text()
    return int(text.split("rchar:")[1].split()[0])


def test_bytes_read_follow_the_columns_asked(tmp_path):
    store = cytofast.open_store(tmp_path / "s", create=True)
    wide(store, rows=3840, features=600)
    size = store.partitions("profiles")[0].path.stat().st_size
    read = {}
    queries_ = {
        "count": "SELECT count(*) FROM profiles",
        "one": "SELECT sum(Cells_Texture_Contrast_DNA_7) FROM profiles",
        "cells": "SELECT sum(COLUMNS('Cells_.*')) FROM profiles",
        "all": "SELECT sum(COLUMNS('.*_.*_.*_.*')) FROM profiles",
    }
    store.sql("SELECT 1")
    for name, query in queries_.items():
        before = bytes_read()
        store.sql(query)
        read[name] = bytes_read() - before
    footers = read["count"]
    assert footers < 0.2 * size
    assert read["one"] - footers < 0.05 * size
    assert 0.25 * size < read["cells"] - footers < 0.45 * size
    assert read["all"] > 0.9 * size


def test_wide_tables_are_first_class(tmp_path):
    store = cytofast.open_store(tmp_path / "s", create=True)
    wide(store, rows=24)
    assert store.sql("SELECT COLUMNS('Cells_.*') FROM profiles").width == 5792 // 3
    assert store.sql("SELECT count(*) AS n FROM profiles_long")["n"].item() == 24 * 5792
    assert store.sql("SELECT count(*) AS n, count(DISTINCT compartment) AS c FROM features").row(0) == (5792, 3)
    answer = store.sql("SELECT cosine(a.vector, a.vector) AS c FROM profile_vectors AS a LIMIT 1")["c"].item()
    assert answer == pytest.approx(1)


def test_levels_that_a_recipe_named_are_views(asked_folder, tmp_path):
    shutil.copytree(asked_folder, tmp_path / "s")
    store = cytofast.open_store(tmp_path / "s")
    cytofast.run("single_cells", store)
    assert store.sql("SELECT count(*) AS n FROM cells_normalized")["n"].item() == store.scan("cells").collect().height
    assert store.sql("SELECT count(*) AS n FROM cells_normalized_long LIMIT 1")["n"].item() > 0
    assert "cells_normalized" in store.sql("SHOW TABLES")["name"].to_list()


def test_a_level_by_the_name_of_a_view_is_still_there(store):
    name = PlateName("B1", "P1")
    frame = toy.cells("P1").head(3)
    store.write_partition(
        "plates", name, "0" * 12, [frame], lambda: Manifest("plates", "B1", "P1", "", 0, 0, "", "k", {})
    )
    assert store.sql("SELECT count(*) AS n FROM stored.plates")["n"].item() == 3
    assert store.sql("SELECT count(*) AS n FROM plates")["n"].item() == 2


def test_answers_come_as_asked(store):
    query = "SELECT Metadata_Plate, count(*) AS n, sum(Metadata_Site) AS s FROM cells GROUP BY ALL ORDER BY 1"
    frame = store.sql(query)
    assert frame.schema == {"Metadata_Plate": pl.String, "n": pl.Int64, "s": pl.Int64}
    assert store.sql(query, as_="arrow").num_rows == 2
    assert store.sql(query, as_="relation").fetchall()[0][:2] == ("P1", 60)
    with pytest.raises(RecipeError, match="did you mean 'polars'"):
        store.sql(query, as_="polar")


def test_tables_of_the_caller_can_be_joined(store):
    table = pl.DataFrame({"Metadata_broad_sample": ["BRD-1", "BRD-2"], "target": ["A", "B"]})
    query = (
        "SELECT target, count(*) AS n FROM cells JOIN compounds USING (Metadata_broad_sample) GROUP BY ALL ORDER BY 1"
    )
    for given_ in (table, table.lazy(), table.to_pandas(), table.to_arrow()):
        assert store.sql(query, tables={"compounds": given_}).rows() == [("A", 10), ("B", 10)]
    for name, message in [
        ("cells", "a view of the store is"),
        ("a b", "cannot name a table"),
        ("A", "cannot name a table"),
    ]:
        with pytest.raises(RecipeError, match=message):
            store.sql("SELECT 1", tables={name: table})
    with pytest.raises(RecipeError, match="not dict"):
        store.sql("SELECT 1", tables={"x": {}})


@pytest.mark.parametrize("name", ["given", "answers", "joined_table", "stored", "partitions", "select"])
def test_a_table_of_the_caller_keeps_its_name(store, name):
    table = pl.DataFrame({"k": ["P1", "P2"], "v": [1, 2]})
    query = f'SELECT t.v, p.cells FROM "{name}" AS t JOIN plates AS p ON p.plate = t.k ORDER BY v'
    assert store.sql(query, tables={name: table}).rows() == [(1, 60), (2, 60)]


def test_values_of_a_wrong_kind_are_said(store):
    assert store.sql("SELECT $a AS a, $b AS b", {"a": np.int64(3), "b": np.float32(0.5)}).rows() == [(3, 0.5)]
    for wrong, message in [
        (lambda: store.sql(None), "a query is a text, not NoneType"),
        (lambda: store.sql("SELECT $1", 3), "not int"),
        (lambda: store.sql("SELECT 1", seconds=0), "above 0"),
        (lambda: store.sql("SELECT 1", seconds="x"), "above 0"),
        (lambda: store.sql("", unrestricted=True), "no query in this text"),
        (lambda: store.ask("cell_count_outliers", cutoff=None), "'cutoff' needs a value"),
        (lambda: store.ask("nearest_perturbations", perturbation=None), "'perturbation' needs a value"),
        (lambda: store.join("cells", pl.DataFrame({"a": ["x"]}), on=None), "not NoneType"),
    ]:
        with pytest.raises(RecipeError, match=message):
            wrong()
    assert store.ask("cell_count_outliers", batch=None).height == 0


def test_errors_say_what_to_do(store):
    with pytest.raises(RecipeError, match=r"the views are 'audits', 'cells'"):
        store.sql("SELECT * FROM cels")
    with pytest.raises(RecipeError, match="Metadata_Plate"):
        store.sql("SELECT Metadata_Plat FROM cells")
    with pytest.raises(RecipeError, match="nothing does not exist"):
        store.sql("FROM stored.nothing")
    assert store.sql("SELECT 'stored.nothing' AS a -- stored.nothing")["a"].item() == "stored.nothing"
    assert store.sql('SELECT count(*) AS n FROM STORED."Annotations"')["n"].item() == 24


def test_a_damaged_file_is_named(store):
    path = store.partitions("cells")[0].path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"cells-.*parquet"):
        store.sql("SELECT avg(Cells_Intensity_MeanIntensity_0) FROM cells")


# --- medians plate by plate ----------------------------------------------------------------------------------------

BY_PLATE = [
    ("SELECT Metadata_Plate, Metadata_Well, median(Cells_Intensity_MeanIntensity_0) AS m FROM cells GROUP BY ALL", True),
    ("SELECT Metadata_Plate AS p, mad(Cells_Intensity_MeanIntensity_1) AS m FROM cells GROUP BY Metadata_Plate ORDER BY m DESC LIMIT 2", True),  # noqa: E501
    ("SELECT Metadata_Batch, Metadata_Plate, median(Nuclei_Intensity_MeanIntensity_0) FROM cells GROUP BY 1, 2 ORDER BY ALL", True),  # noqa: E501
    ("SELECT c.Metadata_Plate, quantile_cont(c.Nuclei_Intensity_MeanIntensity_0, 0.3) FROM cells AS c WHERE Metadata_control_type = 'negcon' GROUP BY c.Metadata_Plate", True),  # noqa: E501
    ("SELECT Metadata_Plate, median(Metadata_ObjectNumber) FROM cells GROUP BY 1 HAVING count(*) > 50 ORDER BY 1 OFFSET 1", True),
    ("SELECT Metadata_Well, median(Cells_Intensity_MeanIntensity_0) FROM cells GROUP BY ALL", False),
    ("SELECT median(Cells_Intensity_MeanIntensity_0) FROM cells", False),
    ("SELECT Metadata_Plate, count(*) FROM cells GROUP BY ALL", False),
    ("SELECT upper(Metadata_Plate), median(Cells_Intensity_MeanIntensity_0) FROM cells GROUP BY ALL", False),
    ("SELECT Metadata_Plate, median(Metadata_Site), count(*) OVER () FROM cells GROUP BY Metadata_Plate", False),
    ("SELECT Metadata_Plate, median(Metadata_Site) FROM cells GROUP BY Metadata_Plate ORDER BY avg(Cells_Intensity_MeanIntensity_0)", False),  # noqa: E501
    ("SELECT Metadata_Plate, median(Metadata_Site) FROM cells GROUP BY ROLLUP (Metadata_Plate)", False),
    ("SELECT Metadata_Plate, median(Metadata_Site), (SELECT count(*) FROM cells) FROM cells GROUP BY Metadata_Plate", False),
    ("SELECT DISTINCT Metadata_Plate, median(Metadata_Site) FROM cells GROUP BY Metadata_Plate", False),
    ("SELECT Metadata_Plate, median(Metadata_Site) FROM cells JOIN plates ON plate = Metadata_Plate GROUP BY Metadata_Plate", False),  # noqa: E501
    ("WITH cells AS (SELECT 'x' AS Metadata_Plate, 1 AS v) SELECT Metadata_Plate, median(v) FROM cells GROUP BY ALL", False),
    ("SELECT Metadata_Plate, median(Metadata_ImageNumber) AS m FROM cells AS c(Metadata_Plate) GROUP BY ALL", False),
]  # fmt: skip


@pytest.mark.parametrize(("query", "parts"), BY_PLATE)
def test_medians_plate_by_plate_are_the_same(tmp_path, query, parts, monkeypatch):
    store = toy.make_store(tmp_path / "s", plates=("P1", "P2", "P3", "P4", "P5"))
    assert (prepare(Snapshot(store), query, None, Limits()).split is not None) == parts
    mine = store.sql(query)
    monkeypatch.setattr("cytofast.store.plate_by_plate.split", lambda *_: None)
    assert_frame_equal(mine, store.sql(query), check_row_order="ORDER" in query, check_exact=True)


def test_names_that_are_not_unique_are_told_not_lost(store):
    query = "SELECT Metadata_Plate, median(Metadata_Site), median(Metadata_Site) FROM cells GROUP BY 1 ORDER BY 1"
    table = store.sql(query, as_="arrow")
    assert table.column_names[1:] == ["median(Metadata_Site)"] * 2
    assert [column.to_pylist() for column in table.columns] == [["P1", "P2"], [1.0, 1.0], [1.0, 1.0]]
    for text in (query, "SELECT 1 AS a, 2 AS a", "SELECT * FROM plates AS a JOIN plates AS b ON a.plate = b.plate"):
        with pytest.raises(RecipeError, match=r"more than one column called .*EXCLUDE"):
            store.sql(text)


@pytest.mark.parametrize("value", ["INTERVAL 1 DAY", "union_value(a := 1)", "[INTERVAL 1 DAY]"])
def test_types_that_polars_has_not_are_said(store, value):
    for where in ("", "WHERE false"):
        with pytest.raises(RecipeError, match=r"in 'x', and Polars has no type .* VARCHAR"):
            store.sql(f"SELECT {value} AS x {where}")
    assert store.sql(f"SELECT ({value})::VARCHAR AS x").height == 1


def test_a_barcode_in_two_batches_is_not_split(tmp_path):
    store = toy.make_store(tmp_path / "s")
    toy.add_plate(store, toy.cells("P1", batch="B2", seed=1))
    query = "SELECT {}, median(Cells_Intensity_MeanIntensity_0) AS m FROM cells GROUP BY ALL"
    plate = query.format("Metadata_Plate")
    assert prepare(Snapshot(store), plate, None, Limits()).split is None
    assert prepare(Snapshot(store), query.format("Metadata_Batch, Metadata_Plate"), None, Limits()).split is not None
    slow = (
        store.scan("cells")
        .collect()
        .group_by("Metadata_Plate")
        .agg(m=pl.col("Cells_Intensity_MeanIntensity_0").median())
    )
    assert_frame_equal(store.sql(plate), slow, check_row_order=False)


# --- macros --------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(*[st.none() | st.floats(-100, 100, width=32)] * 2), min_size=1, max_size=20),
)
def test_cosine_is_that_of_the_places_both_have(pairs):
    connection = duckdb.connect()
    connection.execute(queries("macros")["cosine"].text)
    a, b = ([x[i] for x in pairs] for i in (0, 1))
    mine = connection.execute("SELECT cosine($a::DOUBLE[], $b::DOUBLE[])", {"a": a, "b": b}).fetchall()[0][0]
    both = np.array([(x, y) for x, y in pairs if x is not None and y is not None], dtype=float).reshape(-1, 2)
    length = np.sqrt((both**2).sum(axis=0)).prod()
    if length == 0:
        assert mine is None
    elif length > 1e-100:
        assert mine == pytest.approx(float(both[:, 0] @ both[:, 1] / length), abs=1e-9)


def test_wells_and_edges_of_every_plate_format(store):
    letters = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *(f"A{c}" for c in "ABCDEF")]
    for wells, rows, columns in [(6, 2, 3), (24, 4, 6), (96, 8, 12), (384, 16, 24), (1536, 32, 48)]:
        names = [(r, c, f"{letters[r - 1]}{c:02d}") for r in range(1, rows + 1) for c in range(1, columns + 1)]
        table = pl.DataFrame(names, schema=["r", "c", "well"], orient="row")
        wrong = store.sql(
            "SELECT * FROM t WHERE well_row(well) <> r OR well_col(well) <> c "
            "OR is_edge(well, $wells) <> (r IN (1, $rows) OR c IN (1, $columns))",
            {"wells": wells, "rows": rows, "columns": columns},
            tables={"t": table},
        )
        assert wrong.height == 0
    assert store.sql("SELECT well_row('x'), well_col('A001'), well_row(NULL)").row(0) == (None, None, None)


def test_robust_z_and_mad(store):
    assert store.sql("SELECT robust_z(3, [1, 2, 4, NULL])").item() == pytest.approx((3 - 2) / 1.4826)
    assert store.sql("SELECT robust_z(3, [2, 2])").item() is None
    assert store.sql("SELECT mad(x) FROM (VALUES (1.0), (2.0), (7.0), (NULL)) AS t(x)").item() == 1
    z = store.sql(
        "SELECT Metadata_Plate, median(robust_z(x, controls)) AS z FROM (SELECT Metadata_Plate, Metadata_control_type, "
        "Cells_Intensity_MeanIntensity_0 AS x, list(x) FILTER (WHERE Metadata_control_type = 'negcon') "
        "OVER (PARTITION BY Metadata_Plate) AS controls FROM cells) WHERE Metadata_control_type = 'negcon' GROUP BY ALL"
    )
    assert z["z"].abs().max() < 1e-6


# --- the file for other tools --------------------------------------------------------------------------------------


def in_another_process(folder: Path, catalog: str, query: str) -> str:
    code = f"import duckdb; print(duckdb.connect({catalog!r}, read_only=True).sql({query!r}).fetchall())"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_catalog_opens_without_cytofast_and_moves_with_the_store(asked_folder, tmp_path):
    shutil.copytree(asked_folder, tmp_path / "here")
    store = cytofast.open_store(tmp_path / "here")
    assert store.catalog() == tmp_path / "here" / "catalog.duckdb"
    (tmp_path / "here").rename(tmp_path / "there")
    for view in queries("views"):
        count = in_another_process(tmp_path / "there", "catalog.duckdb", f"SELECT count(*) > 0 FROM {view}")
        assert count == "[(True,)]", view
    query = "SELECT count(*) FROM cells WHERE is_edge(Metadata_Well, 96) AND Metadata_moa IS NOT NULL"
    expected = cytofast.open_store(tmp_path / "there").sql(query).item()
    assert in_another_process(tmp_path / "there", "catalog.duckdb", query) == f"[({expected},)]"


def test_an_absolute_catalog_opens_from_anywhere(store, tmp_path):
    path = store.catalog(tmp_path / "elsewhere" / "views.duckdb", absolute=True)
    assert in_another_process(Path("/"), str(path), "SELECT count(*) FROM cells") == "[(120,)]"
    with pytest.raises(StoreError, match="cannot be written"):
        store.catalog("/proc/nothing/x.duckdb")


def test_a_catalog_that_is_deleted_or_corrupted_changes_nothing(store):
    path = store.catalog()
    for damage in (
        lambda: path.write_bytes(b"not a database"),
        lambda: path.write_bytes(path.read_bytes()[:100]),
        path.unlink,
    ):
        damage()
        assert store.sql("SELECT count(*) AS n FROM cells")["n"].item() == 120
        assert store.catalog() == path
        assert in_another_process(store.path, path.name, "SELECT count(*) FROM cells") == "[(120,)]"


def test_the_store_opens_in_one_documented_line(asked, tmp_path):
    lines = (Path(__file__).parents[2] / "docs" / "sql.md").read_text().splitlines()
    sql = (
        next(line for line in lines if line.startswith("duckdb -c")).split('"')[1].replace("my-store", str(asked.path))
    )
    assert duckdb.connect().sql(sql).fetchall()[0][0] == asked.scan("profiles").collect().height
    path = next(line for line in lines if line.startswith("polars.scan_parquet")).split('"')[1]
    frame = pl.scan_parquet(path.replace("my-store", str(asked.path)), hive_partitioning=False).collect()
    assert frame.height == asked.scan("profiles").collect().height


def test_the_catalog_of_many_plates_takes_milliseconds_of_files(tmp_path):
    """One footer a level is read to bind the views, however many plates there are."""
    store = toy.make_store(tmp_path / "s", plates=tuple(f"P{i}" for i in range(20)))
    before = bytes_read()
    store.sql("SELECT Metadata_Plate FROM cells LIMIT 0")
    many = bytes_read() - before
    assert many < 20 * store.partitions("cells")[0].path.stat().st_size


def test_a_missing_column_in_join_is_a_schema_error(store):
    with pytest.raises(SchemaError, match="no column 'Metadata_x'"):
        store.join("cells", pl.DataFrame({"Metadata_x": ["a"]}), on="Metadata_x")
