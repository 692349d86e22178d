import json

import polars as pl
import pytest

import cytofast
from cytofast import SchemaError, StoreError
from cytofast.store.layout import PlateName
from tests import toy


def test_a_new_store_explains_itself(tmp_path):
    store = cytofast.open_store(tmp_path / "s", create=True)
    assert json.loads((tmp_path / "s" / "store.json").read_text())["version"] == 1
    assert "profile store" in (tmp_path / "s" / "README.txt").read_text()
    assert store.describe() == {"format_version": 1, "levels": {}, "annotated_plates": 0}


def test_scan_gives_back_what_was_written(tmp_path):
    store = toy.make_store(tmp_path / "s")
    found = store.scan("cells", columns=toy.cells("P1").columns).collect()
    assert found.equals(pl.concat([toy.cells("P1"), toy.cells("P2")]))
    assert store.scan("cells", plates="P2", columns=["Metadata_Plate"]).collect()[
        "Metadata_Plate"
    ].unique().to_list() == ["P2"]


def test_cells_come_with_the_platemap(tmp_path):
    found = toy.make_store(tmp_path / "s").scan("cells").collect()
    assert found.filter(pl.col("Metadata_control_type") == "negcon")["Metadata_Well"].n_unique() == 4
    assert found.height == 120
    only = toy.make_store(tmp_path / "s").scan("cells", columns=["Metadata_broad_sample", toy.FEATURES[0]]).collect()
    assert only.columns == ["Metadata_broad_sample", toy.FEATURES[0]]


@pytest.mark.parametrize("plate", ["../../x", "a/b", "..", "ü ✓ \n'\"", "p" * 300, "%2F", "plate=1", "C:\\x"])
def test_a_plates_name_is_just_a_name(tmp_path, plate):
    store = cytofast.open_store(tmp_path / "deep" / "er" / "s", create=True)
    toy.add_plate(store, toy.cells("P1"))
    toy.add_plate(store, toy.cells("P1").with_columns(pl.lit(plate).alias("Metadata_Plate")))
    assert {p.name.rsplit("/", 1)[0] for p in tmp_path.iterdir()} == {"deep"}
    assert store.scan("cells", plates=[plate]).collect().height == 60
    assert [p.name.plate for p in store.partitions("cells")] == sorted(["P1", plate])


def test_two_batches_may_use_one_barcode(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    toy.add_plate(store, toy.cells("P1", batch="B2", seed=1))
    assert store.describe()["levels"]["cells"] == {"rows": 120, "features": 8, "plates": 2, "outdated": 0}
    assert store.partition("cells", PlateName("B2", "P1")) is not None


def test_plates_with_other_features_are_joined_by_name(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    toy.add_plate(store, toy.cells("P2").drop(toy.FEATURES[0]))
    found = store.scan("cells").collect()
    assert found.filter(pl.col("Metadata_Plate") == "P2")[toy.FEATURES[0]].null_count() == 60
    assert store.describe()["levels"]["cells"]["features"] == 8


def test_a_partition_without_manifest_does_not_exist(tmp_path):
    store = toy.make_store(tmp_path / "s")
    (store.partitions("cells")[0].path.parent / "manifest.json").unlink()
    assert [p.name.plate for p in store.partitions("cells")] == ["P2"]


def test_a_rewritten_partition_leaves_one_file(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    toy.add_plate(store, toy.cells("P1", seed=5))
    folder = store.partitions("cells")[0].path.parent
    assert sorted(p.name for p in folder.iterdir()) == sorted([store.partitions("cells")[0].path.name, "manifest.json"])


def test_what_a_killed_writer_left_is_taken_away(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    left = store.partitions("cells")[0].path.parent / ".cells-123.parquet.tmp"
    left.write_text("half")
    toy.add_plate(store, toy.cells("P1", seed=5))
    assert not left.exists()


def test_a_failing_source_leaves_the_partition_as_it_was(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    before = {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()}

    def breaking():
        yield toy.cells("P1", seed=9)
        raise ValueError("the disk caught fire")

    with pytest.raises(ValueError, match="caught fire"):
        store.write_partition("cells", PlateName("B1", "P1"), "f" * 16, breaking(), lambda: None)
    assert {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()} == before


def test_a_second_writer_is_told_to_wait(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    with (
        store.writing(),
        pytest.raises(StoreError, match="another process is writing"),
        cytofast.open_store(tmp_path / "s").writing(),
    ):
        pass


def test_a_store_from_the_future_is_refused(tmp_path):
    toy.make_store(tmp_path / "s", ("P1",))
    (tmp_path / "s" / "store.json").write_text('{"format": "cytofast profile store", "version": 99}')
    with pytest.raises(StoreError, match=r"format 99, written by a newer cytofast; this one reads up to 1\. Update"):
        cytofast.open_store(tmp_path / "s")


def test_places_that_are_no_store_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.docx").write_text("x")
    with pytest.raises(StoreError, match="is a file, not a profile store"):
        cytofast.open_store(tmp_path / "file", create=True)
    with pytest.raises(StoreError, match="does not exist"):
        cytofast.open_store(tmp_path / "nothing")
    with pytest.raises(StoreError, match="not empty and not a profile store"):
        cytofast.open_store(tmp_path / "folder", create=True)
    with pytest.raises(StoreError, match=r"has no store\.json"):
        cytofast.open_store(tmp_path / "folder")


def test_what_is_not_there_is_named(tmp_path):
    store = toy.make_store(tmp_path / "s")
    with pytest.raises(StoreError, match=r"no level 'profiles' in this store. Hint: it has 'cells'"):
        store.scan("profiles")
    with pytest.raises(StoreError, match=r"no plate 'P9' at level 'cells'. Hint: it has 'P1', 'P2'"):
        store.scan("cells", plates=["P9"])
    with pytest.raises(SchemaError, match=r"no column 'Metadata_Wel'.*perhaps 'Metadata_Well'"):
        store.scan("cells", columns=["Metadata_Wel"])
    with pytest.raises(StoreError, match="nothing was ingested yet"):
        store.audit()


def test_a_damaged_manifest_is_named(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    path = store.partitions("cells")[0].path.parent / "manifest.json"
    path.write_text("{")
    with pytest.raises(StoreError, match=r"manifest\.json: the manifest cannot be read"):
        store.partitions("cells")
