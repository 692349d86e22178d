"""Tables that others made: their level, their plates and their names are recognised; order and number of files do not matter."""

import gzip
import random
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cytofast
from cytofast import DataError, RecipeError, SchemaError, resources
from cytofast.ingest import table_reading
from cytofast.ingest.audit import Audit
from cytofast.ingest.choice import Choice
from cytofast.ingest.sources import find_plates
from tests.ingest.test_cells import assert_balanced

KEYS = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_ImageNumber", "Metadata_ObjectNumber"]


def cells(n=12, plates=("P",), seed=0):
    drawn = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "Metadata_Plate": [plates[i % len(plates)] for i in range(n)],
            "Metadata_Well": [f"A{i % 3 + 1:02d}" for i in range(n)],
            "Metadata_Site": [i % 2 + 1 for i in range(n)],
            "Metadata_ImageNumber": [i % 6 + 1 for i in range(n)],
            "Metadata_ObjectNumber": [i // 6 + 1 for i in range(n)],
            "Cells_A": drawn.random(n),
            "Nuclei_B": drawn.random(n),
        }
    )


def wells(n=3, plate="P", **columns):
    made = {"Metadata_Plate": [plate] * n, "Metadata_Well": [f"A{i + 1:02d}" for i in range(n)]}
    return pl.DataFrame({**made, "Cells_A": [i / 3 for i in range(n)], **columns})


def read(source, **options):
    found = []
    for plate in find_plates(source, **options):
        planned = plate.plan()
        audit = Audit()
        frames = list(planned.cells(audit))
        assert all(frame.schema == planned.schema for frame in frames)
        assert_balanced(audit.table())
        found.append((plate, pl.concat(frames), audit.table()))
    return found


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(1, 3), st.integers(1, 3), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_number_of_files_do_not_matter(n, n_plates, n_files, shuffle):
    table = cells(n, [f"P{i}" for i in range(n_plates)])
    order = shuffle.sample(range(n), n)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(n_files):
            part = table[order[number::n_files]]
            if part.height:
                part.write_parquet(folder / f"{number}.parquet", row_group_size=3)
        found = read(folder)
        assert [(plate.plate, plate.level) for plate, _, _ in found] == sorted(
            {(p, "cells") for p in table["Metadata_Plate"]}
        )
        for plate, frame, audit in found:
            expected = table.filter(pl.col("Metadata_Plate") == plate.plate).sort(KEYS)
            assert frame.select(KEYS).equals(expected.select(KEYS))
            assert frame["Cells_A"].equals(expected["Cells_A"].cast(pl.Float32))
            assert audit["rows_read"].sum() == expected.height


def test_more_than_fits_into_memory_is_sorted_on_disk(tmp_path, monkeypatch):
    table = cells(5_000)
    order = random.Random(1).sample(range(5_000), 5_000)
    table[order].write_parquet(tmp_path / "x.parquet", row_group_size=100)
    ((_, whole, _),) = read(tmp_path / "x.parquet")
    monkeypatch.setattr(table_reading, "_COPIES", 20_000)
    ((_, found, _),) = read(tmp_path / "x.parquet")
    assert found.equals(whole)
    assert found.select(KEYS).equals(table.sort(KEYS).select(KEYS))


def test_rows_in_order_are_not_held(tmp_path, monkeypatch):
    cells(5_000).sort(KEYS).write_parquet(tmp_path / "x.parquet", row_group_size=100)
    monkeypatch.setattr(table_reading.TablePlan, "_sorted_outside", lambda *_: pytest.fail("sorted again"))
    monkeypatch.setattr(table_reading, "_COPIES", 20_000)
    with resources.limits(memory="256MiB"):
        ((_, found, _),) = read(tmp_path / "x.parquet")
    assert found.height == 5_000


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("P.parquet", "wells"),
        ("P_augmented.csv.gz", "wells"),
        ("P_normalized.csv", "normalized"),
        ("P_normalized_negcon.parquet", "normalized"),
        ("P_normalized_feature_select_negcon_batch.csv.gz", "profiles"),
        ("profiles_var_mad_int_featselect_harmony.parquet", "profiles"),
    ],
)
def test_the_level_is_recognised_or_told(tmp_path, name, level):
    cytofast.write_profiles(wells(), tmp_path / name)
    ((plate, frame, audit),) = read(tmp_path / name)
    assert (plate.level, plate.plate, frame.height) == (level, "P", 3)
    assert audit["note"][0].startswith("level recognised by")
    ((plate, _, _),) = read(tmp_path / name, level="other")
    assert plate.level == "other"


def test_names_of_pycytominer_and_cytotable_are_known(tmp_path):
    table = cells(6).rename(
        {
            "Metadata_Plate": "Image_Metadata_Plate",
            "Metadata_Well": "Image_Metadata_Well",
            "Metadata_ObjectNumber": "Metadata_Cells_Number_Object_Number",
        }
    )
    table = table.with_columns(pl.lit("1e5d8facac7508cfd4086f3e3e950182").alias("Metadata_TableNumber"))
    table.with_columns(pl.lit(1).alias("__index_level_0__")).write_parquet(tmp_path / "x.parquet")
    ((plate, frame, audit),) = read(tmp_path / "x.parquet")
    assert plate.level == "cells"
    assert frame["Metadata_TableNumber"].dtype == pl.Int64
    assert "__index_level_0__" not in frame.columns
    assert audit["note"][0] == "1 columns that only count rows left out"
    assert frame.columns[-2:] == ["Cells_A", "Nuclei_B"]


def test_jumps_folders_name_batch_and_plate(tmp_path):
    file = tmp_path / "source_4" / "workspace" / "profiles" / "2021_04_26_Batch1" / "BR00117035" / "BR00117035.parquet"
    file.parent.mkdir(parents=True)
    wells().drop("Metadata_Plate").write_parquet(file)
    for source in (tmp_path / "source_4", file):
        ((plate, frame, _),) = read(source)
        assert (plate.batch, plate.plate) == ("2021_04_26_Batch1", "BR00117035")
        assert frame.row(0)[:3] == ("2021_04_26_Batch1", "BR00117035", "A01")


def test_one_assembled_file_of_many_plates(tmp_path):
    pl.concat([wells(plate=f"P{i}") for i in range(5)]).write_parquet(tmp_path / "assembled.parquet")
    store = cytofast.open_store(tmp_path / "store", create=True)
    assert store.ingest(tmp_path / "assembled.parquet").height == 5
    assert store.scan("wells").collect().height == 15
    assert set(store.ingest(tmp_path / "assembled.parquet")["outcome"]) == {"unchanged"}
    assert store.audit()["rows_joined"].sum() == 15


def test_values_of_wells_stay_as_they_are(tmp_path):
    table = wells(Cells_I=[1, 2, None], Metadata_Count=[5, 6, 7], Metadata_name=["x", None, "NA"])
    cytofast.write_profiles(table, tmp_path / "P.csv.gz")
    ((_, frame, _),) = read(tmp_path / "P.csv.gz")
    assert frame["Cells_A"].to_list() == [0.0, 1 / 3, 2 / 3]
    assert frame["Cells_I"].to_list() == [1.0, 2.0, None]
    assert frame.columns == [
        "Metadata_Batch", "Metadata_Plate", "Metadata_Well", "Metadata_Count", "Metadata_name", "Cells_A", "Cells_I"
    ]  # fmt: skip


def test_columns_that_differ_between_files(tmp_path):
    cells(6).write_parquet(tmp_path / "1.parquet")
    other = cells(12)[6:].drop("Cells_A").with_columns(pl.lit(1.0).alias("New_C"))
    other.write_parquet(tmp_path / "2.parquet")
    ((_, frame, audit),) = read(tmp_path)
    assert frame["Cells_A"].null_count() == frame["New_C"].null_count() == 6
    assert set(audit["columns_missing"]) == {1}
    with pytest.raises(SchemaError, match=r"2\.parquet: other columns than .*has besides 'New_C' and lacks 'Cells_A'"):
        read(tmp_path, choice=Choice(strict=True))


@pytest.mark.parametrize("table", [wells(), cells(6)])
def test_rows_that_stand_twice(tmp_path, table):
    pl.concat([table, table[:2]]).write_parquet(tmp_path / "x.parquet")
    level = {"level": "wells"} if table.height == 3 else {}
    with pytest.raises(
        DataError, match=r"4 rows have keys that stand more than once, the first .*x\.parquet row 1 and"
    ):
        read(tmp_path / "x.parquet", **level)
    ((_, frame, audit),) = read(tmp_path / "x.parquet", choice=Choice(duplicates="first"), **level)
    assert frame.height == table.height
    assert audit["orphans"].sum() == 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (wells().drop("Metadata_Well"), r"no column of wells; it starts with 'Metadata_Plate'"),
        (wells().with_columns(pl.lit("Z99").alias("Metadata_Well")), r"'Z99' not wells"),
        (wells().with_columns(pl.lit(None, dtype=pl.String).alias("Metadata_Plate")), r"row 1 has no Metadata_Plate"),
        (wells().drop("Metadata_Plate"), r"no column Metadata_Plate\. Hint: give --plate"),
        (
            pl.concat([wells(), wells()]),
            r"well A01 has more than one row, and no column numbers objects.*--level cells",
        ),
        (wells().with_columns(pl.lit("").alias("Metadata_Plate")), r"row 1 has no Metadata_Plate"),
        (
            wells().with_columns(pl.Series("Metadata_Plate", [["P"]] * 3)),
            r"Metadata_Plate holds List.*names are needed",
        ),
        (
            cells().with_columns(pl.lit(2**64 - 1, dtype=pl.UInt64).alias("Metadata_ObjectNumber")),
            r"row 1, column .*: 18446744073709551615 is no whole number",
        ),
        (
            cells().with_columns(pl.lit(1e300).alias("Metadata_ObjectNumber")),
            r"row 1, column .*: 1e\+300 is no whole number",
        ),
        (
            cells().with_columns(pl.lit(1.5).alias("Metadata_ObjectNumber")),
            r"row 1, column .*: 1\.5 is no whole number",
        ),
    ],
)
def test_tables_without_keys_are_refused(tmp_path, table, message):
    table.write_parquet(tmp_path / "x.parquet")
    with pytest.raises((DataError, SchemaError), match=message):
        read(tmp_path / "x.parquet")


def test_sites_beyond_64_bits_are_names(tmp_path):
    cells(6).with_columns(pl.lit(1e300).alias("Metadata_Site")).write_parquet(tmp_path / "x.parquet")
    ((_, frame, _),) = read(tmp_path / "x.parquet")
    assert frame.schema["Metadata_Site"] == pl.String


def test_a_name_is_no_pattern(tmp_path):
    """P[12].parquet is that file, and not P1.parquet."""
    wells().write_parquet(tmp_path / "P[12].parquet")
    wells(plate="other").write_parquet(tmp_path / "P1.parquet")
    ((plate, frame, _),) = read(tmp_path / "P[12].parquet")
    assert (plate.plate, frame.height) == ("P", 3)


def test_rows_of_cells_without_numbers(tmp_path):
    pl.concat([wells(), wells()]).write_parquet(tmp_path / "x.parquet")
    ((_, frame, audit),) = read(tmp_path / "x.parquet", level="cells")
    assert frame["Metadata_ObjectNumber"].to_list() == [1, 4, 2, 5, 3, 6]
    assert audit["note"][0] == "objects are numbered by the rows of the file"


@pytest.mark.parametrize(
    ("name", "content"), [("x.jpg", b"jpg"), ("x.parquet", b"no"), ("x.csv.gz", b"no"), ("Cells.csv", b"x")]
)
def test_what_is_no_table_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        find_plates(tmp_path / name)
    with pytest.raises(DataError, match="no such file or folder"):
        find_plates(tmp_path / "nothing")


def test_a_level_of_a_recipe_is_not_replaced(tmp_path):
    cells(6).write_parquet(tmp_path / "cells.parquet")
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(tmp_path / "cells.parquet", plate="P")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('source = "cells"\n[[wells]]\nstep = "aggregate"\n')
    cytofast.run(recipe, store)
    wells().write_parquet(tmp_path / "P.parquet")
    with pytest.raises(cytofast.StoreError, match=r"level 'wells' of this plate was made by a recipe"):
        store.ingest(tmp_path / "P.parquet")
    store.ingest(tmp_path / "P.parquet", level="published")
    assert set(store.levels()) == {"cells", "published", "wells"}
    recipe.write_text('source = "cells"\n[[published]]\nstep = "aggregate"\n')
    with pytest.raises(cytofast.StoreError, match=r"level 'published' holds 1 plates that were ingested as such"):
        cytofast.run(recipe, store)


def test_names_that_do_not_say_what_is_in_a_file(tmp_path):
    text = wells().write_csv().encode()
    (tmp_path / "text.csv.gz").write_bytes(text)
    (tmp_path / "packed.csv").write_bytes(gzip.compress(text))
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(DataError, match=r"text\.csv\.gz: damaged, or not packed with gzip as its name says"):
        store.ingest(tmp_path / "text.csv.gz")
    with pytest.raises(DataError, match=r"packed\.csv: packed with gzip, and its name does not say so"):
        store.ingest(tmp_path / "packed.csv")


@pytest.mark.parametrize("more", [{}, {"Metadata_pert": ["a", "b"]}])
def test_a_table_without_features_is_refused(tmp_path, more):
    pl.DataFrame({"Metadata_Plate": ["P", "P"], "Metadata_Well": ["A01", "A02"], **more}).write_csv(tmp_path / "P.csv")
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(SchemaError, match=r"P\.csv has no features, only keys and metadata\. Hint: .*--platemap"):
        store.ingest(tmp_path / "P.csv")


def test_a_gzip_that_is_cut_off_leaves_the_store(tmp_path):
    whole = gzip.compress(wells().write_csv().encode())
    (tmp_path / "P.csv.gz").write_bytes(whole[:-9])
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(DataError, match=r"P\.csv\.gz: the gzip file is damaged"):
        store.ingest(tmp_path / "P.csv.gz")
    assert store.levels() == []


def test_a_sample_of_wells_makes_no_sense(tmp_path):
    wells().write_parquet(tmp_path / "P.parquet")
    with pytest.raises(RecipeError, match=r"cells_per_well: plate 'P' holds wells"):
        read(tmp_path / "P.parquet", choice=Choice(cells_per_well=2))


def test_values_beyond_float32_are_told(tmp_path):
    table = cells().with_columns(pl.lit(1e39).alias("Cells_A"))
    table.write_parquet(tmp_path / "P.parquet")
    with pytest.warns(cytofast.ProfileWarning, match=r"P\.parquet, column 'Cells_A': 12 values are too large"):
        [(_, found, _)] = read(tmp_path / "P.parquet")
    assert found["Cells_A"].is_infinite().all()
