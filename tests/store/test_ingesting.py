"""Ingest again: what changed is found, what is whole is kept, what is damaged is mended."""

import json
import os
import shutil

import polars as pl
import pytest

import cytofast
from cytofast import DataError, StoreError
from cytofast.store import inputs
from cytofast.store.layout import PlateName
from tests.ingest.exports import csv, write_site

NAME = PlateName("unbatched", "P")


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def outcome(store, source, **options):
    return store.ingest(source, **options)["outcome"].unique().to_list()


def areas(store):
    return store.scan("cells").collect()["Cells_AreaShape_Area"].to_list()


def write_plate(folder, *, wells=("A01", "A02", "A03"), scale=10):
    """A plate of one site a well; another ``scale`` of two digits changes the content and no size."""
    for number, well in enumerate(wells, 1):
        site = write_site(folder / f"s{number}", well=well, image=number)
        text = (site / "Cells.csv").read_text()
        (site / "Cells.csv").write_text(text.replace(f"{number},1,10.0", f"{number},1,{scale}.0"))
    return folder


@pytest.fixture
def settled(monkeypatch):
    """Files are old enough to be known by what the file system says of them."""
    monkeypatch.setattr(inputs, "_SETTLED_NS", -1_000_000_000)


@pytest.fixture
def source(tmp_path):
    return write_plate(tmp_path / "source" / "analysis")


@pytest.fixture
def store(tmp_path, source):
    store = cytofast.open_store(tmp_path / "store", create=True)
    assert outcome(store, source) == ["written"]
    return store


def test_unchanged_files_are_not_read_again(settled, store, source, monkeypatch):
    assert outcome(store, source) == ["unchanged"]
    monkeypatch.setattr(inputs, "digest_of_file", lambda path: pytest.fail(f"{path} was read"))
    # Not even asked for when the store was made: the first time is remembered too.
    assert outcome(store, source) == ["unchanged"]


@pytest.mark.parametrize("how", ["folder", "link"])
def test_a_folder_that_was_swapped_is_found(settled, tmp_path, how):
    first, second = write_plate(tmp_path / "one" / "x"), write_plate(tmp_path / "two" / "x", scale=77)
    source = tmp_path / "source"
    store = cytofast.open_store(tmp_path / "store", create=True)

    def put(folder):
        if how == "link":
            source.unlink(missing_ok=True)
            source.symlink_to(folder)
        else:
            if source.exists():
                source.rename(tmp_path / f"away-{folder.parent.name}")
            folder.rename(source)

    put(first)
    assert outcome(store, source) == ["written"]
    put(second)
    assert outcome(store, source) == ["written"]
    assert areas(store)[0] == 77
    assert outcome(store, source) == ["unchanged"]


def test_a_copy_of_the_same_content_is_unchanged(settled, tmp_path, store, source):
    shutil.copytree(source, tmp_path / "copy")
    assert outcome(store, tmp_path / "copy") == ["unchanged"]


def test_without_the_sidecar_the_content_decides(settled, tmp_path, store, source):
    (sidecar,) = (tmp_path / "store").rglob("inputs.json")
    for damage in (b"", b"[]", b"\xff"):
        sidecar.write_bytes(damage)
        assert outcome(store, source) == ["unchanged"]
        assert set(json.loads(sidecar.read_text())) == {"key", "state"}
    sidecar.unlink()
    times = (source / "s1" / "Cells.csv").stat()
    write_plate(source, scale=55)
    os.utime(source / "s1" / "Cells.csv", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert outcome(store, source) == ["written"]
    assert areas(store)[0] == 55


def test_files_that_changed_a_moment_ago_are_read(tmp_path, store):
    assert not list((tmp_path / "store").rglob("inputs.json"))


def test_manifests_and_data_are_the_same_for_the_same_content(settled, tmp_path, store):
    other = cytofast.open_store(tmp_path / "other", create=True)
    other.ingest(write_plate(tmp_path / "elsewhere" / "deep" / "analysis"))
    one, two = (bytes_of(tmp_path / name) for name in ("store", "other"))
    for files in (one, two):
        files.pop(f"level=cells/{NAME.path}/inputs.json", None)
    assert one == two


def test_a_part_of_a_plate_does_not_replace_the_whole(tmp_path, store, source):
    before = bytes_of(tmp_path / "store")
    with pytest.raises(
        DataError,
        match=r"plate unbatched/P: 2 of the 3 images with cells.*'A01, site 1', 'A03, site 1'.*whole plate.*--replace",
    ):
        store.ingest(source / "s2")
    assert bytes_of(tmp_path / "store") == before
    assert outcome(store, source / "s2", replace=True) == ["written"]
    assert store.scan("cells").collect()["Metadata_Well"].unique().to_list() == ["A02"]


def test_a_site_without_its_objects_is_a_lost_one(store, source):
    for name in ("Cells", "Cytoplasm", "Nuclei"):
        (source / "s3" / f"{name}.csv").unlink()
    with pytest.raises(DataError, match="1 of the 3 images with cells"):
        store.ingest(source)


def test_a_larger_plate_or_another_export_of_it_replaces_it(tmp_path, store, source):
    write_site(source / "s4", well="A04", image=4)
    assert outcome(store, source) == ["written"]
    write_plate(tmp_path / "again" / "other" / "names", wells=("A04", "A03", "A02", "A01"))
    assert outcome(store, tmp_path / "again") == ["written"]


def test_images_without_names_are_known_by_folder_and_number(tmp_path):
    store = cytofast.open_store(tmp_path / "store", create=True)
    for number in (1, 2):
        write_site(tmp_path / "source" / f"f{number}", well=None, site=None)
    store.ingest(tmp_path / "source")
    shutil.rmtree(tmp_path / "source" / "f1")
    with pytest.raises(DataError, match=r"1 of the 2 images with cells.*'f1, image 1'"):
        store.ingest(tmp_path / "source")


class Killed(BaseException):
    """Nothing may be done after it."""


def ingest_killed_at(place, store, source, monkeypatch):
    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(place, kill)
        with pytest.raises(Killed):
            store.ingest(source)


@pytest.mark.parametrize(
    "place", ["cytofast.store.profile_store.write_text", "cytofast.store.profile_store.write_frame"]
)
def test_killed_between_data_and_manifest_the_old_pair_stays(tmp_path, store, source, monkeypatch, place):
    before, key = areas(store), store.partition("cells", NAME).manifest.key
    write_plate(source, scale=88)

    ingest_killed_at(place, store, source, monkeypatch)
    assert (areas(store), store.partition("cells", NAME).manifest.key) == (before, key)
    assert outcome(store, source) == ["written"]
    assert areas(store)[0] == 88
    assert store.partition("cells", NAME).manifest.key != key
    assert len(list(store.partition("cells", NAME).path.parent.glob("*.parquet"))) == 1


def test_an_audit_of_other_cells_is_made_anew(tmp_path, store, source, monkeypatch):
    audit = store.audit()

    write_plate(source, scale=88)
    ingest_killed_at("cytofast.store.profile_store.write_text", store, source, monkeypatch)
    assert not store.audit().equals(audit)
    write_plate(source, scale=10)
    assert outcome(store, source) == ["written"]
    assert store.audit().equals(audit)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def test_a_truncated_audit_is_named_and_mended(store, source):
    cut(store.audit_path(NAME))
    with pytest.raises(StoreError, match=r"audits/.*not a readable Parquet file.*ingest this plate again"):
        store.audit_summary()
    assert outcome(store, source) == ["written"]
    assert store.audit().height == 12


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_damaged_cells_are_named_and_mended(tmp_path, store, source, damage):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('source = "cells"\n[[wells]]\nstep = "aggregate"\n')
    path = store.partition("cells", NAME).path
    damage(path)
    for look in (store.describe, lambda: store.scan("cells"), lambda: cytofast.run(recipe, store)):
        with pytest.raises(StoreError, match=rf"{path.name}: the file is .*ingest this plate again"):
            look()
    assert outcome(store, source) == ["written"]
    assert len(areas(store)) == 9


@pytest.mark.parametrize("text", ["[]", "3", '{"format_version": "x"}', "{}"])
def test_a_manifest_of_something_else_is_named(store, text):
    (store.partition("cells", NAME).path.parent / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=r"manifest\.json: not a manifest.*delete this folder"):
        store.partitions("cells")


def test_a_manifest_with_a_value_of_another_type_is_named(store):
    path = store.partition("cells", NAME).path.parent / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"file": None}))
    with pytest.raises(StoreError, match=r"manifest\.json: 'file' is None"):
        store.describe()


@pytest.mark.parametrize("version", ['"2"', "null", "[1]"])
def test_a_store_whose_version_is_no_number_is_refused(store, tmp_path, version):
    (tmp_path / "store" / "store.json").write_text(f'{{"format": "cytofast profile store", "version": {version}}}')
    with pytest.raises(StoreError, match=r"store\.json: version .* is no number"):
        cytofast.open_store(tmp_path / "store")


def test_every_plates_platemap_is_looked_for_before_a_cell_is_read(tmp_path, source):
    write_site(source / "t1", plate="Q", well="A01")
    table = pl.DataFrame(
        {"Batch": ["unbatched", "other"], "Plate": ["P", "Q"], "Well": ["A01", "A01"], "x": ["1", "2"]}
    )
    table.write_csv(tmp_path / "map.csv")
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(DataError, match="the platemap has no row for plate unbatched/Q"):
        store.ingest(source, tmp_path / "map.csv")
    assert store.levels() == []


def test_exports_with_headers_alone_have_no_cells(tmp_path):
    site = write_site(tmp_path / "source" / "s", n=0)
    (site / "Image.csv").write_text(csv("ImageNumber,Metadata_Plate,Metadata_Well", (1, "P", "A01")))
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(DataError, match="1 images were read and not one cell came of it"):
        store.ingest(tmp_path / "source")


@pytest.mark.parametrize("wrong", [("nowhere",), ("source", "--platemap", "nowhere.csv")])
def test_a_failed_ingest_leaves_no_empty_store(tmp_path, source, monkeypatch, capfd, wrong):
    from cytofast.cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["cytofast", "ingest", *wrong, "--store", "new"])
    with pytest.raises(SystemExit):
        main()
    assert "nowhere" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_command_line_replaces_a_plate_only_when_told(tmp_path, store, source, monkeypatch, capfd):
    from cytofast.cli.app import main

    for arguments, status in ((), 1), (("--replace",), 0):
        command = ["cytofast", "ingest", source / "s1", "--store", tmp_path / "store", *arguments]
        monkeypatch.setattr("sys.argv", list(map(str, command)))
        with pytest.raises(SystemExit) as ended:
            main()
        assert int(ended.value.code or 0) == status
    assert "2 of the 3 images" in " ".join(capfd.readouterr().err.split())
    assert len(areas(store)) == 3
