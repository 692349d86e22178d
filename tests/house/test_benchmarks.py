"""Every benchmark still runs and is right, at sizes that say nothing about speed; and the README says what was measured."""

import json
from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest

from benchmarks import cpjump1, machine, process, run, shapes, table, well_shapes
from benchmarks.checks import CHECKS, check
from benchmarks.measuring import Setting, measure, summary
from benchmarks.names import ALL, N_CPJUMP1, feature_names
from benchmarks.projection import projection
from benchmarks.sets import SETS, SMOKE, Command, Measurement
from benchmarks.tasks import TASKS, filled

PEERS = {"pycytominer", "copairs", "cytotable"}


@pytest.mark.parametrize("one", SMOKE, ids=lambda one: f"{one.task}-{one.whole_shape.get('layout', '')}")
def test_a_task_runs_and_every_answer_is_right(one, tmp_path):
    result = measure(one, Setting(tmp_path, warm_up=False))
    for name, entry in result["contenders"].items():
        if name in PEERS and find_spec(name) is None:
            assert "is not installed" in entry["failed"]
            continue
        assert "failed" not in entry, f"{name}: {entry['failed']}"
        assert entry["answer"] == ("none" if name == "numpy" else "right")
        assert 0 < entry["before"] <= entry["peak"] <= entry["whole_peak"]
        assert entry["process"] >= entry["first"]["wall"] > 0
        assert (name == "cytofast") == ("times_cytofast" not in entry)
    assert not run.ours_failed(result)
    assert json.loads(json.dumps(result)) == result


def test_plates_one_after_the_other_and_all_at_once(tmp_path):
    answer = cpjump1.plate_by_plate(tmp_path / "a", 2, {**cpjump1.SMALL_WIDE, "plates": 1})
    assert (len(answer["seconds"]), answer["wells"]) == (2, 768)
    text = projection({"answer": answer, "shape": {"cells": 700_000, "features": 5_792}, "plates": 2})
    assert "107 plates of CPJUMP1" in text
    assert "takes for granted" in text


def test_a_wrong_answer_is_told(tmp_path):
    shape = filled("normalize_wells", TASKS["normalize_wells"].smoke)
    well_shapes.wells(tmp_path, shape)
    pl.read_parquet(tmp_path / "wells.parquet").write_parquet(tmp_path / "answer.parquet")  # not normalized
    with pytest.raises(AssertionError, match="off by"):
        check("normalize_wells", tmp_path, shape, tmp_path)


def test_every_task_has_a_check_and_a_place_in_the_tables_and_sets():
    assert CHECKS.keys() == TASKS.keys() == {task for tasks in table.SECTIONS.values() for task in tasks}
    for chosen in SETS.values():
        names = [one.name for one in chosen]
        assert len(set(names)) == len(names)
    assert not {one.name for one in SETS["usual"]} & {one.name for one in SETS["full"]}, "they would replace each other"
    measured = {one.task for one in SETS["full"] if not isinstance(one, Command)}
    assert measured | {"recipe_to_map"} == TASKS.keys()  # that one is cpjump1 --tall


def test_a_contender_that_takes_too_much_is_ended(tmp_path):
    measurement = Measurement("normalize_wells", TASKS["normalize_wells"].smoke)
    well_shapes.wells(tmp_path / "source", measurement.whole_shape)
    arguments = ("polars", "normalize_wells", tmp_path / "source", tmp_path / "out", measurement.whole_shape)
    assert process.run(*arguments, ceiling=2e6)["failed"].startswith("out of memory at 0.0 GB")
    assert process.run(*arguments, seconds=0)["failed"] == "stopped after 0 s"


def test_a_contender_that_cannot_is_a_result(tmp_path):
    assert process.run("polars", "modz", tmp_path, tmp_path / "out", {})["failed"] == "cannot do this"
    failed = process.run("polars", "normalize_wells", tmp_path, tmp_path / "out", {})["failed"]
    assert failed.startswith("FileNotFoundError")


def test_interpreters_are_named():
    assert process.interpreters(["copairs=/there/python"])["copairs"] == "/there/python"


def _round(seconds: float, peak: float) -> dict:
    first = dict.fromkeys(("wall", "cpu", "read", "written", "read_from_disk", "written_to_disk"), seconds)
    times = {"process": seconds, "process_cpu": seconds, "peak": peak, "whole_peak": peak, "before": 1}
    return {"first": first, "warm": [{"wall": seconds / 2}], **times}


def test_ratios_are_medians_over_pairs():
    ours, theirs = [1.0, 2.0, 4.0], [10.0, 10.0, 16.0]
    found = {
        "cytofast": {"rounds": [_round(seconds, 1e9) for seconds in ours]},
        "copairs": {"rounds": [_round(seconds, 3e9) for seconds in theirs]},
        "cytotable": {"rounds": [], "failed": "out of memory at 21.5 GB"},
    }
    entries = summary(found)
    assert entries["copairs"]["times_cytofast"] == {"first": 5, "warm": 5, "process": 5, "peak": 3}
    assert entries["cytotable"] == {"failed": "out of memory at 21.5 GB"}


def test_what_moved_is_told_against_the_pace_of_each_run():
    def result(seconds: float, pace: float) -> dict:
        entry = {"first": {"wall": seconds}, "warm": seconds, "whole_peak": 1e9}
        return {"contenders": {"cytofast": entry}, "calibration": pace}

    assert run.moved(result(2, 0.02), result(1, 0.01)) == []  # the machine was twice as slow
    assert run.moved(result(2, 0.01), result(1, 0.01)) == ["first call x 2.00", "warm call x 2.00"]


def test_what_was_measured_is_not_measured_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    one = Measurement("null_generation", TASKS["null_generation"].smoke, ("cytofast",), rounds=1, repeats=0)
    setting = Setting(tmp_path / "scratch", warm_up=False)
    for again in (False, False, True):
        assert run.run([one], setting, "usual", again=again, keep_sources=False)
    said = capsys.readouterr().out.splitlines()
    assert ["as before" in text for text in said if text.startswith("[1/1]")] == [False, True, False]
    kept = run.kept(one.name, "usual")
    assert kept.keys() >= {"set", "machine", "versions", "commit", "code", "calibration", "contenders"}
    assert not list((tmp_path / "scratch").glob("source-*"))


def test_the_command_runs_what_it_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run", "--smoke", "--only", "null_generation", "--scratch", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run.main()
    assert ended.value.code == 0
    assert "5,000 draws of the null" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["run", "--list", "--task", "modz", "rows=500", "features=30"])
    run.main()
    assert capsys.readouterr().out == "modz-features=30-rows=500\n"


def test_a_result_says_where_it_comes_from():
    about = machine.about()
    assert about["machine"]["cores"] >= 1
    assert about["versions"].keys() >= {"cytofast", "polars", "numpy"}
    assert machine.calibration() > 0


def test_names_are_those_of_cellprofiler():
    names = feature_names(N_CPJUMP1)
    assert len(set(names)) == N_CPJUMP1 <= len(ALL)
    assert {name.split("_")[0] for name in feature_names(30)} == {"Cells", "Cytoplasm", "Nuclei"}


def test_both_layouts_hold_the_same_cells(tmp_path):
    shape = {"cells": 800, "features": 60, "plates": 1}
    for layout in ("ours", "others"):
        shapes.plates(tmp_path / layout, {**shape, "layout": layout})
    ours = pl.read_parquet(next((tmp_path / "ours").rglob("level=cells/**/*.parquet")), hive_partitioning=False)
    others = pl.read_parquet(next((tmp_path / "others" / "cells").glob("*.parquet")))
    assert ours.sort(ours.columns[:7]).equals(others.select(ours.columns).sort(ours.columns[:7]))
    assert ours["Metadata_Well"].n_unique() == 384
    controls = pl.read_parquet(tmp_path / "ours" / "platemap.parquet")["Metadata_control_type"]
    assert controls.eq("negcon").sum() == 64
    x = ours.select(pl.selectors.starts_with("Cells", "Cytoplasm", "Nuclei")).to_numpy()
    assert 0 < np.isnan(x).mean() < 0.01


def test_the_readme_says_what_was_measured():
    text = table.README.read_text()
    assert text == table.with_tables(text), "run: python -m benchmarks.table --write"


def test_tables_show_every_kind_of_result(monkeypatch):
    measured = {**_round(2.0, 1e9)["first"], "read": 4e9, "read_from_disk": 0}
    entry = {"answer": "right", "rounds": 1, "first": measured, "warm": 1.0, "process": 3.0, "process_cpu": 4.0}
    entry |= {"peak": 1e9, "whole_peak": 1e9, "versions": {"cytofast": "0.1.0"}}
    where = {"machine": {"processor": "a processor", "cores": 2, "memory_gib": 23.5}, "commit": "0" * 40, "set": "full"}
    shape = {"cells": 1_000, "features": 10, "plates": 1, "memory": "2GB"}
    both = {"cytofast": entry, "pycytominer": {"failed": "out of memory at 21.5 GB"}}
    found = [
        {"task": "profile_wells", "says": "wells", "shape": shape, "cache": "warm", "contenders": both, **where},
        {
            "task": "aggregate",
            "says": "medians",
            "shape": shape,
            "cache": "warm",
            "contenders": {"cytofast": entry | {"first": measured | {"read_from_disk": 3e9}}},
            **where,
        },
        {"task": "power", "says": "power", "answer": {"labels": {"1.0": [0.5, 0.01]}}, **where},
        {"task": "modalities", "says": "benchmarks.modalities lasso", "answer": {"ratio": 100}, **where},
    ]
    monkeypatch.setattr(table, "results", lambda: found)
    text = table.tables()
    assert "| wells | cytofast | 2 (200000.0 ns a value) | 1 | 3 | 4 | 4 | 1 |  |" in text
    assert "|  | pycytominer | out of memory at 21.5 GB |" in text
    assert "| 1,000 | 10 | 1 | all | 2GB | warm | 2 |" in text
    assert "| medians | cytofast | 2 (200000.0 ns a value) | 1 | 3 | 4 | 4 (3 from disk) | 1 |  |" in text
    assert "0.50 of active, 0.01 of others" in text
    assert "ratio 100" in text
