"""``cytofast map``: what it shows, what it writes, and what it refuses."""

import json

import numpy as np
import polars as pl
import pytest


@pytest.fixture
def profiles(tmp_path):
    """Three plates; perturbations on all of them, the first far from all others, and one that has a single well."""
    x = np.random.default_rng(3).normal(size=(48, 5))
    perts = [*"abc", "once", *["DMSO"] * 12, *"abc", *["DMSO"] * 13, *"abc", *["DMSO"] * 13]
    x[[0, 16, 32]] += 9
    metadata = {
        "Metadata_Plate": ["P1"] * 16 + ["P2"] * 16 + ["P3"] * 16,
        "Metadata_pert": perts,
        "Metadata_dose": [pert != "DMSO" for pert in perts],
        "Metadata_control_type": [None if pert != "DMSO" else "negcon" for pert in perts],
    }
    path = tmp_path / "profiles.parquet"
    pl.DataFrame(metadata).hstack([pl.Series(f"Cells_{i}", x[:, i]) for i in range(5)]).write_parquet(path)
    return path


def test_the_summary_has_the_threshold_that_was_asked_for(cytofast, profiles):
    found = {}
    for threshold in (0.05, 0.9):
        status, out, _ = cytofast("map", profiles, "--task", "activity", "--null-size", "999", "--threshold", threshold)
        assert status == 0
        found[threshold] = out.splitlines()[-1].split()
        assert out.count(" yes") == int(found[threshold][3])
    assert found[0.05][3:] == ["1", "3", "1"]
    assert int(found[0.9][3]) > 1


def test_what_is_retrieved_best_is_shown_first_and_the_untested_last(cytofast, profiles):
    _, out, _ = cytofast("map", profiles, "--task", "activity", "--null-size", "99")
    shown = [line.split()[0] for line in out.splitlines() if line.split()[0] in {"a", "b", "c", "once"}]
    assert shown[0] == "a"
    assert shown[-1] == "once"


def test_spaces_around_commas_do_not_matter(cytofast, profiles, tmp_path):
    written = []
    for comma in (",", ", "):
        names = comma.join(["Metadata_pert", "Metadata_dose"])
        options = ("--neg-diffby", "Metadata_pert", "--sameby", names, "--null-size", "50")
        status, _, said = cytofast("map", profiles, "--pos-sameby", names, *options, "-o", tmp_path / "map.parquet")
        assert status == 0, said
        written.append(pl.read_parquet(tmp_path / "map.parquet"))
    assert written[0].equals(written[1])


def test_the_profiles_are_never_written_over(cytofast, profiles):
    before = profiles.read_bytes()
    status, _, said = cytofast("map", profiles, "--task", "activity", "-o", profiles)
    assert status == 2
    assert "would be overwritten" in said
    assert profiles.read_bytes() == before


def test_a_name_that_cannot_be_written_is_refused_before_anything_is_computed(cytofast, profiles, tmp_path):
    status, _, said = cytofast("map", profiles, "--task", "activity", "-o", tmp_path / "map.json")
    assert status == 2
    assert "what kind of file" in said
    assert "rule:" not in said


def test_formats_hold_the_same_table(cytofast, profiles, tmp_path):
    command = ("map", profiles, "--task", "activity", "--null-size", "99")
    _, as_json, _ = cytofast(*command, "--format", "json")
    _, as_csv, _ = cytofast(*command, "--format", "csv")
    assert cytofast(*command, "-o", tmp_path / "map.csv")[0] == 0
    rows = json.loads(as_json)
    assert [row["Metadata_pert"] for row in rows] == ["a", "b", "c", "once"]
    assert rows[3]["p_value"] is None
    assert pl.read_csv(as_csv.encode()).to_dicts() == rows == pl.read_csv(tmp_path / "map.csv").to_dicts()
