import json
import sys

import polars as pl
import pytest

from tests import toy


@pytest.fixture
def cells(tmp_path):
    path = tmp_path / "cells.parquet"
    toy.cells("P1").write_parquet(path)
    return path


@pytest.mark.parametrize("suffix", ["parquet", "csv", "csv.gz"])
def test_single_steps_on_files(cytofast, tmp_path, cells, suffix):
    wells, annotated, profiles = (tmp_path / f"{name}.{suffix}" for name in ("wells", "annotated", "profiles"))
    platemap = tmp_path / "platemap.txt"
    toy.platemap("P1").drop("Metadata_Batch", "Metadata_Plate").write_csv(platemap, separator="\t")
    assert cytofast("aggregate", cells, "-o", wells)[0] == 0
    assert cytofast("annotate", wells, "--platemap", platemap, "-o", annotated)[0] == 0
    fit = tmp_path / "fit.csv"
    status, _, said = cytofast(
        "normalize", annotated, "-o", profiles, "--reference", "Metadata_control_type = 'negcon'", "--fit", fit
    )
    assert status == 0
    assert "note: RobustMAD: 1 of 8 features x groups have no spread" in said
    assert f"wrote {profiles}: 12 rows x 14 columns" in said
    read = pl.read_parquet(profiles) if suffix == "parquet" else pl.read_csv(profiles)
    assert read.height == 12
    assert pl.read_csv(fit)["status"].to_list().count("zero spread") == 1


def test_a_store_from_the_command_line(cytofast, tmp_path):
    toy.make_store(tmp_path / "s")
    status, out, _ = cytofast(
        "run", "default", "--store", tmp_path / "s", "--json", "--memory", "1GB", "--threads", "1"
    )
    assert status == 0
    assert [row["outcome"] for row in json.loads(out)] == ["written"] * 4
    status, out, _ = cytofast("describe", tmp_path / "s", "--json")
    assert json.loads(out)["levels"]["profiles"] == {"rows": 24, "features": 8, "plates": 2, "outdated": 0}
    status, out, _ = cytofast("describe", tmp_path / "s")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    status, out, _ = cytofast("run", "default", "--store", tmp_path / "s")
    assert out.count("unchanged") == 4


def test_the_demo_runs_and_runs_again(cytofast, tmp_path):
    status, out, said = cytofast("demo", tmp_path / "d")
    assert status == 0, said
    assert "Try next" in out
    status, out, _ = cytofast("demo", tmp_path / "d")
    assert status == 0
    assert out.count("unchanged") == 4


BAD_DATA = [
    (("describe", "nowhere"), "nowhere does not exist"),
    (("describe", "cells.parquet"), "is a file, not a profile store"),
    (("ingest", "nowhere", "--store", "s"), "nowhere: no such file or folder"),
    (("aggregate", "nowhere.parquet", "-o", "w.parquet"), "nowhere.parquet"),
    (("aggregate", "empty.csv", "-o", "w.parquet"), "empty.csv"),
    (("aggregate", "header.csv", "-o", "w.parquet"), "no rows"),
    (("aggregate", "text.csv", "-o", "w.parquet"), "Cells_AreaShape_Area"),
    (("aggregate", "cells.parquet", "-o", "w.parquet", "--by", "Metadata_Wel"), "perhaps 'Metadata_Well'"),
    (("normalize", "cells.parquet", "-o", "w.parquet", "--reference", "Metadata_x = 1"), "no column 'Metadata_x'"),
    (
        ("normalize", "cells.parquet", "-o", "w.parquet", "--reference", "Metadata_Well = 'P24'"),
        "no reference row: 'P1'",
    ),
    (("annotate", "cells.parquet", "-o", "w.parquet", "--platemap", "twice.csv"), "more than once"),
]
BAD_COMMANDS = [
    (("aggregate", "cells.parquet"), "output"),
    (("aggregate", "cells.parquet", "-o", "w.parquet", "--statistic", "mode"), "unknown statistic 'mode'"),
    (("aggregate", "cells.parquet", "-o", "w.parquet", "--memory", "lots"), "not an amount of memory"),
    (("aggregate", "cells.parquet", "-o", "w.parquet", "--memory", "1MB"), "too small"),
    (("aggregate", "cells.parquet", "-o", "w.docx"), "w.docx"),
    (("run", "no.toml", "--store", "s"), "no recipe file 'no.toml'"),
    (("normalize", "cells.parquet", "-o", "w.parquet", "--zero-scale", "nul"), "unknown zero_scale 'nul'"),
    (("agregate",), "aggregate"),
]


@pytest.mark.parametrize(
    ("arguments", "message", "status"), [(*case, 1) for case in BAD_DATA] + [(*case, 2) for case in BAD_COMMANDS]
)
def test_errors_are_sorted_by_who_must_act(cytofast, tmp_path, cells, monkeypatch, arguments, message, status):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("Metadata_Plate,Metadata_Well,Cells_AreaShape_Area\n")
    (tmp_path / "text.csv").write_text("Metadata_Plate,Metadata_Well,Cells_AreaShape_Area\nP,A01,1\nP,A02,big\n")
    (tmp_path / "twice.csv").write_text("well_position,broad_sample\nA01,x\nA1,y\n")
    before = {path.name for path in tmp_path.iterdir()}
    found, out, said = cytofast(*arguments)
    assert found == status, said
    assert message in " ".join(said.split()), said
    assert "Traceback" not in said + out
    assert {path.name for path in tmp_path.iterdir()} - {"s"} == before


def test_a_full_disk_is_an_error_and_the_old_file_stays(cytofast, tmp_path, cells):
    import subprocess

    target = tmp_path / "wells.csv"
    target.write_text("old")
    code = (
        "import resource, signal, sys\n"
        "from cytofast.cli.app import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))\n"
        f"sys.argv[1:] = ['aggregate', {str(cells)!r}, '-o', {str(target)!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert target.read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"cells.parquet", "wells.csv"}
