"""One process writes plates in a loop while another asks: whole plates, no error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cytofast
from tests import toy

ROUNDS = int(os.environ.get("CYTOFAST_ROUNDS", "60"))

WRITER = """
import sys
import cytofast
from tests import toy

store = cytofast.open_store(sys.argv[1])
round = 0
print("ready", flush=True)
while True:
    round += 1
    for plate in ("P1", "P2", "P3"):
        # The same number of cells in each well: 12 wells times 3 to 7.
        toy.add_plate(store, toy.cells(plate, per_well=3 + round % 5, seed=round))
    cytofast.run("default", store)
"""


@pytest.fixture
def writing(tmp_path):
    store = toy.make_store(tmp_path / "store")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    yield store, process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_query_sees_whole_plates_while_another_process_writes(writing):
    store, process = writing
    seen = set()
    for round_ in range(ROUNDS):
        whole = store.sql(
            "SELECT Metadata_Plate, count(*) AS n, count(DISTINCT Metadata_Well) AS wells, "
            "min(Metadata_ObjectNumber) AS first, max(Metadata_ObjectNumber) AS last, "
            "median(Cells_Intensity_MeanIntensity_0) AS m FROM cells GROUP BY ALL"
        )
        for _, n, wells, first, last, _ in whole.rows():
            assert wells == 12
            assert first == 1
            assert n == 12 * last
            seen.add(n)
        counted = store.sql("SELECT level, sum(rows) AS n FROM runs GROUP BY ALL")
        assert counted.height >= 1
        if round_ % 10 == 0:
            assert store.ask("plate_coverage")["wells_missing"].to_list()[:2] == [0, 0]
    assert process.poll() is None, "the writer is still writing"
    assert len(seen) > 1, "the store did change"


def test_a_replaced_file_begins_the_query_again(tmp_path, monkeypatch):
    store = toy.make_store(tmp_path / "store", plates=("P1",))
    from cytofast.store import answering

    prepare, asked = answering.prepare, []

    def meddle(snapshot, *rest):
        ready = prepare(snapshot, *rest)
        if len(asked) < 3:
            toy.add_plate(store, toy.cells("P1", per_well=6 + len(asked), seed=9 + len(asked)))
        asked.append(1)
        return ready

    monkeypatch.setattr(answering, "prepare", meddle)
    assert (
        store.sql("SELECT count(*) AS n FROM cells WHERE Cells_Intensity_MeanIntensity_0 IS NOT NULL")["n"].item() == 96
    )
    assert len(asked) == 4


def test_unfinished_and_left_over_files_are_not_seen(tmp_path):
    store = toy.make_store(tmp_path / "store", plates=("P1",))
    folder = store.partitions("cells")[0].path.parent
    toy.cells("P1").write_parquet(folder / "cells-000000000000.parquet")
    other = folder.parent / "plate=P2"
    other.mkdir()
    toy.cells("P2").write_parquet(other / "cells-000000000000.parquet")
    assert store.sql("SELECT count(*) AS n FROM cells")["n"].item() == 60
    assert cytofast.open_store(store.path).sql("SELECT count(*) AS n FROM plates")["n"].item() == 1
