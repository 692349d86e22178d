"""What happens on a bad day: killed, changed under the reader, full of faults, two at once. The store stays whole."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import cytofast
from cytofast import Choice, DataError, StoreError, durable
from cytofast.ingest import walking
from cytofast.store import ingesting, inputs
from cytofast.store.layout import PlateName
from tests.ingest.databases import write_database
from tests.ingest.exports import csv, write_site

NAME = PlateName("unbatched", "P")
KINDS = ("csv", "sqlite", "parquet", "csv.gz", "npz")


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_source(folder: Path, kind: str, scale: float = 1.0, plate: str = "P") -> Path:
    """A plate of two wells as files of a kind; another ``scale``, other values."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if kind == "npz":
        for well in ("A01", "A02"):
            (folder / plate).mkdir(exist_ok=True)
            values = np.full((3, 4), scale, dtype=np.float32)
            np.savez(folder / plate / f"{well}_1.npz", features=values, locations=np.zeros((3, 2)))
        return folder
    if kind in ("csv", "sqlite"):
        parts = folder if kind == "csv" else folder.with_name(f"{folder.name}-parts")
        for number, well in enumerate(("A01", "A02"), 1):
            site = write_site(parts / f"s{number}", plate=plate, well=well, image=number)
            table = (site / "Cells.csv").read_text().replace(",1,10.0", f",1,{10 * scale}")
            (site / "Cells.csv").write_text(table)
        if kind == "sqlite":
            for number in (1, 2):
                write_database(folder / f"{plate}.sqlite", parts / f"s{number}")
            shutil.rmtree(parts)
        return folder
    cells = pl.DataFrame({"Metadata_Plate": plate, "Metadata_Well": ["A01"] * 3 + ["A02"] * 3}).with_columns(
        pl.int_range(1, 7).alias("Metadata_ObjectNumber"), (pl.int_range(1, 7) * scale).alias("Cells_A")
    )
    cytofast.write_profiles(cells, folder / f"{plate}.{kind}")
    return folder


def any_file(source):
    return next(path for path in sorted(source.rglob("*")) if path.is_file() and path.name != "Image.csv")


# --- killed ----------------------------------------------------------------------------------------------------------

DYING = """
import os, signal, sys
import cytofast
from cytofast import durable, parquet
from cytofast.store import inputs, partition

store, source, point = sys.argv[1:]
inputs._SETTLED_NS = -10**12
real, calls = durable.appear, []

def appear(temporary, path):
    calls.append(path)
    if len(calls) == int(point):
        os.kill(os.getpid(), signal.SIGKILL)
    real(temporary, path)

parquet.appear = partition.appear = appear
cytofast.open_store(store, create=True).ingest(source)
"""


def killed_at(point, store, source):
    command = [sys.executable, "-c", DYING, str(store), str(source), str(point)]
    return subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})


@pytest.mark.parametrize("kind", ["csv", "sqlite", "parquet"])
def test_killed_at_any_file_and_ingested_again_the_store_is_the_same(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(inputs, "_SETTLED_NS", -(10**12))
    source = write_source(tmp_path / "source", kind)
    cytofast.open_store(tmp_path / "old", create=True).ingest(source)
    old = cytofast.open_store(tmp_path / "old").scan("cells").collect()
    write_source(source, kind, scale=7)
    shutil.copytree(tmp_path / "old", tmp_path / "reference")
    reference = cytofast.open_store(tmp_path / "reference")
    reference.ingest(source)
    new = reference.scan("cells").collect()
    assert not new.equals(old)

    # The data, the audit, the manifest, and what spares reading: each is left half done once.
    for point in (1, 2, 3, 4):
        shutil.copytree(tmp_path / "old", tmp_path / f"killed{point}")
        assert killed_at(point, tmp_path / f"killed{point}", source).returncode == -signal.SIGKILL
        store = cytofast.open_store(tmp_path / f"killed{point}")
        assert store.scan("cells").collect().equals(old if point < 4 else new)
        store.ingest(source)
        assert bytes_of(tmp_path / f"killed{point}") == bytes_of(tmp_path / "reference")


def test_killed_while_a_store_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "_SETTLED_NS", -(10**12))
    source = write_source(tmp_path / "source", "csv")
    cytofast.open_store(tmp_path / "reference", create=True).ingest(source)
    for point in (2, 3):
        assert killed_at(point, tmp_path / f"killed{point}", source).returncode == -signal.SIGKILL
        cytofast.open_store(tmp_path / f"killed{point}", create=True).ingest(source)
        assert bytes_of(tmp_path / f"killed{point}") == bytes_of(tmp_path / "reference")


def test_what_a_killed_writer_left_is_taken_away_where_nothing_is_written(tmp_path):
    source = write_source(tmp_path / "source", "csv")
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(source)
    before = bytes_of(tmp_path / "store")
    folder = store.partition("cells", NAME).path.parent
    (folder / "cells-of-before.parquet").write_bytes(b"PAR1")
    (folder / ".cells-unnamed.parquet.tmp").write_bytes(b"PAR1")
    assert store.ingest(source)["outcome"].unique().to_list() == ["unchanged"]
    assert bytes_of(tmp_path / "store") == before


def test_files_and_the_folders_that_name_them_are_flushed(tmp_path, monkeypatch):
    flushed = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (flushed.append(str(Path(f"/proc/self/fd/{handle}").readlink())), real(handle))
    )
    store = cytofast.open_store(tmp_path / "a" / "store", create=True)
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "store")} <= set(flushed)
    flushed.clear()
    store.ingest(write_source(tmp_path / "source", "csv"))
    folder = store.partition("cells", NAME).path.parent
    names = [Path(path).name for path in flushed]
    assert names.index(".cells-unnamed.parquet.tmp") < names.index(".manifest.json.tmp")
    # The name of the data is on disk before the manifest's content is.
    assert flushed.index(str(folder)) < names.index(".manifest.json.tmp")
    assert names[-1] == folder.name
    assert {str(folder.parent), str(folder.parent.parent), str(tmp_path / "a" / "store")} <= set(flushed)


def test_a_file_system_that_cannot_flush_folders(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    durable.flush_folder(tmp_path)


# --- changed while it is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["grown", "replaced", "gone"])
def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch, kind, how):
    source = write_source(tmp_path / "source", kind)
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(source)
    before = bytes_of(tmp_path / "store")
    write_source(source, kind, scale=3)
    file = any_file(source)
    real = ingesting._counted

    def change():
        if how == "gone":
            file.unlink()
        elif how == "grown":
            with file.open("ab") as stream:
                stream.write(b"1,4,40.0,4\n")
        else:
            times = file.stat()
            shutil.copy(file, tmp_path / "other")
            (tmp_path / "other").replace(file)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    def counted(*arguments):
        frames = real(*arguments)
        first = next(frames)
        change()
        yield first
        yield from frames

    monkeypatch.setattr(ingesting, "_counted", counted)
    with pytest.raises(
        DataError, match=rf"plate unbatched/P: .*{file.name}: (changed while it was read|cannot be read)"
    ):
        store.ingest(source)
    assert bytes_of(tmp_path / "store") == before


@pytest.mark.parametrize("kind", ["parquet", "csv.gz", "npz"])
def test_a_file_that_changes_after_its_keys_were_read(tmp_path, kind):
    source = write_source(tmp_path / "source", kind)
    store = cytofast.open_store(tmp_path / "store", create=True)
    other = write_source(tmp_path / "other", kind, scale=2)

    def swap(*_):
        if any(path.is_file() for path in other.rglob("*")):
            any_file(other).replace(any_file(source))

    with pytest.raises(DataError, match="changed while it was read"):
        store.ingest(source, progress=swap)
    assert store.levels() == []


# --- a part of a plate in place of the whole --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(wells=["A02"]), "1 of the 2 images with cells .* would be lost: 'A01"),
        (Choice(cells_per_well=2), "a sample of 2 cells a well .*: 2 cells .* would be lost, 1 of well A01"),
        (Choice(columns=["*[A1]*"]), None),
    ],
)
def test_a_part_that_was_asked_for_does_not_replace_the_whole(tmp_path, kind, choice, message):
    source = write_source(tmp_path / "source", kind)
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(source)
    before = bytes_of(tmp_path / "store")
    if choice.columns:
        features = [name for name in store.scan("cells").collect_schema() if not name.startswith("Metadata_")]
        choice = Choice(columns=features[:-1] or ["Cells_A"])
        if len(features) == 1:
            pytest.skip("one feature cannot be a part")
        message = rf"1 of the {len(features)} features .* would be lost: '{features[-1]}'"
    with pytest.raises(DataError, match=message):
        store.ingest(source, choice=choice)
    assert bytes_of(tmp_path / "store") == before
    assert store.ingest(source, choice=choice, replace=True)["outcome"].unique().to_list() == ["written"]
    # The whole may come back, and so may the same part.
    assert store.ingest(source, choice=choice)["outcome"].unique().to_list() == ["unchanged"]
    assert store.ingest(source)["outcome"].unique().to_list() == ["written"]
    assert store.scan("cells").collect().height == 6


def test_a_sample_may_become_another_sample_of_as_many(tmp_path):
    source = write_source(tmp_path / "source", "csv")
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(source, choice=Choice(cells_per_well=2))
    store.ingest(source, choice=Choice(cells_per_well=2, seed=1))
    with pytest.raises(DataError, match="a sample of 1 cells a well"):
        store.ingest(source, choice=Choice(cells_per_well=1))


# --- keep going ------------------------------------------------------------------------------------------------------


def several(folder, kind):
    """Three plates, the middle one damaged; gives the damaged file."""
    for plate in ("P1", "P2", "P3"):
        write_source(folder / "all" / plate, kind, plate=plate)
    damaged = any_file(folder / "all" / "P2")
    damaged.write_bytes(damaged.read_bytes()[:-40])
    return folder / "all", damaged


@pytest.mark.parametrize("kind", KINDS)
def test_the_rest_is_finished_and_what_failed_is_listed(tmp_path, kind):
    source, damaged = several(tmp_path, kind)
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(DataError, match=damaged.name):
        store.ingest(source)
    with pytest.raises(DataError, match=rf"2 plates were ingested\. Not ingested, and why:\n- .*{damaged.name}"):
        store.ingest(source, keep_going=True)
    assert [partition.name.plate for partition in store.partitions("cells")] == ["P1", "P3"]
    write_source(tmp_path / "all" / "P2", kind, plate="P2")
    assert store.ingest(source, keep_going=True)["outcome"].value_counts().height == 2
    assert store.scan("cells").collect().height == 18


def test_the_command_line_exits_with_1_and_the_list(tmp_path, monkeypatch, capfd):
    from cytofast.cli.app import main

    source, damaged = several(tmp_path, "parquet")
    command = ["cytofast", "ingest", source, "--store", tmp_path / "store", "--keep-going"]
    monkeypatch.setattr("sys.argv", list(map(str, command)))
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr()
    assert ended.value.code == 1
    assert damaged.name in said.err
    assert "P1" in said.out
    assert "P3" in said.out
    assert cytofast.open_store(tmp_path / "store").describe()["levels"]["cells"]["plates"] == 2


def test_if_nothing_can_be_read_no_store_is_made(tmp_path, monkeypatch):
    from cytofast.cli.app import main

    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "P.parquet").write_bytes(b"PAR1")
    command = ["cytofast", "ingest", tmp_path / "source", "--store", tmp_path / "store", "--keep-going"]
    monkeypatch.setattr("sys.argv", list(map(str, command)))
    with pytest.raises(SystemExit):
        main()
    assert not (tmp_path / "store").exists()


def test_a_plate_that_may_lack_a_part_is_not_ingested(tmp_path):
    """Of a folder that cannot be read nobody knows the plate."""
    for number in (1, 2, 3):
        write_site(tmp_path / "source" / "P" / f"s{number}", well=f"A0{number}", image=number)
        write_site(tmp_path / "source" / "Q" / f"s{number}", plate="Q", well=f"A0{number}", image=number)
    (tmp_path / "source" / "P" / "s2" / "Image.csv").write_bytes(b"")
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(DataError) as raised:
        store.ingest(tmp_path / "source", keep_going=True)
    lines = str(raised.value).split("\n")
    assert lines[0] == "1 plates were ingested. Not ingested, and why:"
    assert "Image.csv: the file is empty" in lines[1]
    assert "plate unbatched/P: " in lines[2]
    assert "could not be read and may be of this plate, whose 2 parts lie beside it" in lines[2]
    assert [partition.name.plate for partition in store.partitions("cells")] == ["Q"]


def test_plates_without_a_platemap_are_listed(tmp_path):
    for plate in ("P1", "P2"):
        write_source(tmp_path / "all" / plate, "csv", plate=plate)
    (tmp_path / "map.csv").write_text("Plate,Well,compound\nP1,A01,x\nP1,A02,y\n")
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(DataError, match=r"1 plates were ingested\. Not ingested, and why:\n- .*no rows for plate 'P2'"):
        store.ingest(tmp_path / "all", tmp_path / "map.csv", keep_going=True)
    assert store.describe()["annotated_plates"] == 1


def test_a_wrong_option_is_not_kept(tmp_path):
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(cytofast.RecipeError):
        store.ingest(write_source(tmp_path / "source", "csv"), level="wells", keep_going=True)


# --- two at once -----------------------------------------------------------------------------------------------------

HOLDING = """
import sys, time, cytofast
with cytofast.open_store(sys.argv[1], create=True).writing():
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_writer_is_named_and_a_killed_one_holds_nothing(tmp_path):
    source = write_source(tmp_path / "source", "csv")
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout.readline() == b"held\n"
        store = cytofast.open_store(tmp_path / "store")
        with pytest.raises(
            StoreError, match=rf"another process is writing to this store \(process {holder.pid} on .*\)"
        ):
            store.ingest(source)
        assert store.levels() == []
        holder.kill()
        holder.wait()
    # It left its name, and no lock.
    assert str(holder.pid) in (tmp_path / "store" / ".lock").read_text()
    store.ingest(source)
    assert (tmp_path / "store" / ".lock").read_bytes() == b""


def test_a_file_system_without_locks_is_told_from_another_writer(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StoreError, match=r"cannot be locked for writing \(No locks available\)"):
        cytofast.open_store(tmp_path / "store", create=True)


# --- what cannot be looked into --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch, kind):
    """Root may read everything, so the system's answer is made up."""
    source = write_source(tmp_path / "source" / "open", kind).parent
    (source / "secret").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(walking.os, "scandir", scandir)
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(DataError, match=r"secret: the folder cannot be read \(Permission denied\)"):
        store.ingest(source)
    with pytest.raises(DataError, match=r"1 plates were ingested\. Not .*\n- .*secret: the folder cannot be read"):
        store.ingest(source, keep_going=True)
    assert store.scan("cells").collect().height == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_may_not_be_read(tmp_path, kind):
    source = write_source(tmp_path / "source", kind)
    any_file(source).chmod(0)
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(DataError, match=rf"{any_file(source).name}: .*Permission denied"):
        store.ingest(source)


@pytest.mark.parametrize("kind", KINDS)
def test_links_that_lead_nowhere_or_round(tmp_path, kind):
    source = write_source(tmp_path / "source", kind)
    (source / "round").symlink_to(source)
    (source / "itself").symlink_to("itself")
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(source)
    assert store.scan("cells").collect().height == 6
    file = any_file(source)
    file.unlink()
    file.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=rf"{file.name}: cannot be read \(No such file"):
        store.ingest(source)


NAMES = ["new\nline", 'it\'s "quoted"', "Zürich µ ✓", "x" * 200, "a;b|c*?[1]", "%41", "-v"]

# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_files_and_folders_of_any_name(tmp_path, kind, name):
    folder = tmp_path / name / "f"
    source = write_source(folder, kind)
    if kind in ("sqlite", "parquet", "csv.gz"):
        (folder / f"P.{kind}").rename(folder / f"{name}.{kind}")
    store = cytofast.open_store(tmp_path / name / "store", create=True)
    assert store.ingest(source)["outcome"].unique().to_list() == ["written"]
    assert store.ingest(source)["outcome"].unique().to_list() == ["unchanged"]
    assert store.scan("cells").collect().height == 6


@pytest.mark.parametrize("name", [*NAMES, ".."])
def test_plates_of_any_name(tmp_path, name):
    long = name * (300 // len(name))
    store = cytofast.open_store(tmp_path / "store", create=True)
    source = write_source(tmp_path / "source", "csv")
    quoted = '"' + long.replace('"', '""') + '"'
    for number, well in ((1, "A01"), (2, "A02")):
        told = csv("ImageNumber,Metadata_Plate,Metadata_Well", (number, quoted, well))
        (source / f"s{number}" / "Image.csv").write_text(told)
    store.ingest(source)
    assert store.scan("cells", plates=[long]).collect().height == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_is_no_text_is_refused(tmp_path, kind):
    source = write_source(tmp_path / "source", kind)
    odd = os.fsdecode(b"\xff\xfe")
    (tmp_path / "all").mkdir()
    try:
        source.rename(tmp_path / "all" / odd)
    except OSError:
        pytest.skip("this file system takes no such name")
    store = cytofast.open_store(tmp_path / "store", create=True)
    with pytest.raises(DataError, match=r"all/\\xff\\xfe/.*: the file's name, or a folder's, is not UTF-8 text"):
        store.ingest(tmp_path / "all")
    assert store.levels() == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_barcode_in_two_batches(tmp_path, kind):
    store = cytofast.open_store(tmp_path / "store", create=True)
    for batch, scale in (("B1", 1), ("B2", 2)):
        store.ingest(write_source(tmp_path / batch, kind, scale=scale), batch=batch)
    assert [str(partition.name) for partition in store.partitions("cells")] == ["B1/P", "B2/P"]
    cells = store.scan("cells", plates="P").collect()
    assert cells["Metadata_Batch"].to_list() == ["B1"] * 6 + ["B2"] * 6
    assert store.audit()["batch"].unique().sort().to_list() == ["B1", "B2"]


def test_one_barcode_in_two_batches_of_one_folder(tmp_path):
    for batch in ("B1", "B2"):
        folder = tmp_path / "source" / batch / "P"
        folder.mkdir(parents=True)
        said = np.array({"Batch": batch, "Plate": "P", "Well": "A01", "Site": 1}, dtype=object)
        np.savez(folder / "A01_1.npz", features=np.ones((2, 3), np.float32), locations=np.zeros((2, 2)), metadata=said)
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(tmp_path / "source")
    assert [str(partition.name) for partition in store.partitions("cells")] == ["B1/P", "B2/P"]


def test_many_small_files(tmp_path):
    """A hundred thousand were tried once; here it is enough that nothing is read twice by a parser of tables."""
    for number in range(1, 121):
        write_site(tmp_path / "source" / f"s{number}", well=f"A{1 + number % 12:02d}", site=number, image=number)
    store = cytofast.open_store(tmp_path / "store", create=True)
    summary = store.ingest(tmp_path / "source")
    assert summary["rows_joined"].to_list() == [120, 360, 360, 360]
