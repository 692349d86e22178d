"""A screen in the shape of CPJUMP1 with known answers: the pattern of Fig. 4 is planted, and recovered within the intervals."""

import numpy as np
import polars as pl
import pytest

from benchmarks.planted import Shape, compare, plant
from benchmarks.planted_truth import Chance, retrieved, share
from cytofast.tasks.conditions import answer_conditions
from cytofast.tasks.preset import Benchmark

CONDITIONS = ["Metadata_Perturbation", "Metadata_Cell_type", "Metadata_Time"]


@pytest.fixture(scope="module")
def planted():
    return plant(Shape(genes=40, features=150, controls=32), seed=0)


@pytest.fixture(scope="module")
def profiles(planted):
    return pl.concat(planted.profiles())


@pytest.fixture(scope="module")
def found(profiles):
    return answer_conditions(profiles, Benchmark.named("cpjump1").with_options(null_size=5_000))


def test_the_screen_has_the_shape_of_cpjump1(planted, profiles, found):
    plates = profiles.unique("Metadata_Plate")
    assert plates["Metadata_Perturbation"].value_counts().sort("Metadata_Perturbation").rows() == [
        ("compound", 24),
        ("crispr", 18),
        ("orf", 9),
    ]
    # The benchmark's rule leaves out the 11 plates that the paper left out.
    assert found.plates.height == 40
    assert set(found.plates["n_controls"]) == {32}
    again = plant(Shape(genes=40, features=150, controls=32), seed=0)
    assert again.truth.equals(planted.truth)
    assert next(again.profiles()).equals(next(planted.profiles()))
    labels = planted.shape.labels["compound"].values()
    pairs = [frozenset(x) & frozenset(y) for i, x in enumerate(labels) for j, y in enumerate(labels) if i < j]
    assert max(len(shared) for shared in pairs) == 1


@pytest.mark.parametrize("task", ["detection", "sister_matching", "cross_matching"])
def test_what_was_planted_is_found_condition_by_condition(planted, found, task):
    table = compare(planted, found).filter(task=task)
    if task == "cross_matching":
        # With as few ORFs as A549 has, one in seven queries is perfect by chance, and the paper's p calls that significant.
        assert table.filter(Metadata_Perturbation_against="crispr").height == 8
        table = table.filter(Metadata_Perturbation_against="crispr")
    assert table["status"].unique().to_list() == ["done"]
    assert table["n"].to_list() == table["n_found"].to_list()
    assert table["inside"].all(), table.filter(~pl.col("inside"))
    # Published 0.765 was planted as 0.762 of 80, and so on.
    assert ((table["fraction_planted"] - table["published"]).abs() <= 0.5 / table["n"] + 1e-9).all()


def test_what_is_active_is_detected_and_hardly_anything_else(planted, found):
    detections = found.perturbations.filter(task="detection")
    missed = wrong = 0
    for condition, effects in planted.effects.items():
        names = detections.filter(**dict(zip(CONDITIONS, condition, strict=True))).filter(pl.col("retrieved"))["name"]
        missed += len(set(effects) - set(names))
        wrong += len(set(names) - set(effects))
    assert missed <= 2
    assert wrong <= 0.05 * detections["retrieved"].sum()


def test_permuted_labels_recover_it_too(planted, profiles):
    benchmark = Benchmark.named("cpjump1").with_options(null="labels", null_size=2_000)
    cell = (
        "CAST(Metadata_Density AS DOUBLE) = 100 AND Metadata_Antibiotics = 'absent' AND Metadata_Cell_line = 'Parental'"
    )
    found = answer_conditions(profiles, benchmark, where=f"{cell} AND Metadata_Cell_type = 'U2OS'")
    table = compare(planted, found).filter(Metadata_Cell_type="U2OS")
    assert table.filter(pl.col("task") != "cross_matching")["inside"].all()
    assert table.filter(task="cross_matching")["inside"].sum() >= 7


def test_the_share_to_expect_is_told_without_the_tasks(planted, found):
    table = compare(planted, found, screens=4)
    assert table.filter(task="detection")["expected"].to_list() == pytest.approx(
        table.filter(task="detection")["fraction_planted"].to_list()
    )
    done = table.filter(status="done")
    # With as few ORFs as here a share above 0 is to be expected where nothing was planted.
    assert done["inside_expected"].mean() >= 0.95, done.filter(~pl.col("inside_expected"))
    assert (table["expected"] >= table["fraction_planted"] - 0.1).all()


def test_the_plain_twin_counts_as_the_rule_does():
    chance = Chance(1_000)
    # One positive among three: a perfect ranking is one in three, and strictly above it there is none.
    assert chance(1.0, 1, 3) == pytest.approx(1 / 1_001)
    assert chance(1 / 3, 1, 3) == pytest.approx((2 / 3 * 1_000 + 1) / 1_001)
    # Two of four: above ranks 1 and 3 there is ranks 1 and 2 alone, one ranking of six.
    assert chance((1 + 2 / 3) / 2, 2, 4) == pytest.approx(1 / 6, abs=0.02)
    near = np.array([[np.nan, 0.9, 0.1], [0.9, np.nan, 0.2], [0.1, 0.2, np.nan]])
    found = retrieved(near, [["A"], ["A"], ["B"]], [["A"], ["A"], ["B"]], chance)
    assert found == {"A": [pytest.approx(np.log(1 / 1_001))] * 2}
    assert share(found) == 1.0
