"""One process writes plates in a loop while another asks: whole plates, no error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cytofast
from tests import toy

ROUNDS = int(os.environ.get("CYTOFAST_ROUNDS", "25"))

WRITER = """
import sys
from pathlib import Path
import cytofast

store, exports = cytofast.open_store(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
while True:
    for name in ("few", "many"):
        source = exports / name
        store.ingest(source / "analysis", platemap=source / "metadata", replace=True)
        cytofast.run("default", store)
"""

PLATES = """
SELECT Metadata_Plate, count(*) AS n, count(DISTINCT Metadata_Well) AS wells,
    sum((hash(Metadata_Well, Metadata_ImageNumber, Metadata_ObjectNumber, Cells_AreaShape_Area) % 1000003)::BIGINT) AS digest
FROM cells GROUP BY Metadata_Plate ORDER BY Metadata_Plate
"""


@pytest.fixture
def writing(tmp_path):
    """A process that ingests one experiment's CSV files and then another's, again and again; what the plates of each hold."""
    exports, contents = tmp_path / "exports", []
    for name, cells in (("few", 3), ("many", 5)):
        cytofast.write_example(exports / name, plates=3, wells=12, cells_per_site=cells)
        alone = cytofast.open_store(tmp_path / name, create=True)
        alone.ingest(exports / name / "analysis", platemap=exports / name / "metadata")
        contents.append({row[0]: row[1:] for row in alone.sql(PLATES).rows()})
    store = alone
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.path), str(exports)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    yield store, process, contents
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_query_sees_whole_plates_while_another_process_ingests(writing):
    store, process, contents = writing
    assert contents[0].keys() == contents[1].keys()
    seen = set()
    for round_ in range(ROUNDS):
        for plate, *content in store.sql(PLATES).rows():
            which = [found[plate] == tuple(content) for found in contents]
            assert sum(which) == 1, f"{plate} is neither what it was nor what it becomes"
            seen.add((plate, which.index(True)))
        counted = store.sql("SELECT level, sum(rows) AS n FROM runs GROUP BY ALL")
        assert counted.height >= 1
        if round_ % 10 == 0:
            assert store.ask("plate_coverage")["platemap_wells"].to_list() == [12, 12, 12]
    assert process.poll() is None, "the writer is still writing"
    assert len(seen) > 3, "the store did change"


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
