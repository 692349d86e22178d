"""What is ranked among few others, or among none, is no evidence, and the tables say so."""

from math import comb

import numpy as np
import polars as pl
import pytest
from scipy import stats

from cytofast.errors import ProfileWarning
from cytofast.tasks.conditions import answer_conditions
from cytofast.tasks.detection import Detection
from cytofast.tasks.matching import CrossMatching, SisterMatching
from tests import oracle_tasks as oracle
from tests.tasks.screens import FEATURES, F, condition, directions, screen
from tests.tasks.test_tasks import compare

NULL = {"null": "cpjump1", "null_size": 20_000}
BOTH = ("Metadata_target_list", "Metadata_gene")


def without_controls_on(wells, plate):
    return wells.filter((pl.col("Metadata_Plate") != plate) | pl.col("Metadata_control_type").is_null())


def chance(n_compounds, targets, n_guides, seed, guides=2):
    """Compounds and guides that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    genes = [f"G{i // guides}" for i in range(n_guides)]
    return (
        screen(2 * rng.normal(size=(n_compounds, F)), targets, "c", seed=seed),
        screen(2 * rng.normal(size=(n_guides, F)), genes, "g", column="Metadata_gene", seed=seed + 1000),
    )


@pytest.mark.parametrize("null", ["cpjump1", "copairs", "ranks", "labels"])
def test_wells_on_a_plate_without_controls_do_not_ask(null):
    wells = without_controls_on(screen(np.zeros((60, F)), ["A"] * 60, plates=2, controls=40), "cP1")
    task = Detection(null=null, null_size=20_000)
    with pytest.warns(ProfileWarning, match="60 wells on plates without controls|rest on perfect"):
        found = task.answer(wells)
    assert found["n_profiles"].to_list() == [1] * 60
    assert found["retrieved"].sum() <= 4  # of 60 that do nothing; it was all of them
    assert found["mean_average_precision"].mean() < 0.3
    if null == "cpjump1":  # one replicate among 41: a share of 1 in 41 is perfect by chance
        assert found.filter(pl.col("retrieved") & ~pl.col("doubtful")).height == 0
        compare(found, oracle.detection(wells.to_pandas(), FEATURES, draws=20_000))


def test_a_perturbation_that_lies_on_plates_without_controls_only_is_not_tested():
    wells = screen(6 * directions(6), ["A"] * 6, plates=4, controls=60)
    first = pl.col("Metadata_broad_sample") == "c00"
    uncontrolled = pl.col("Metadata_Plate").is_in(["cP0", "cP1"])
    wells = wells.filter(pl.when(uncontrolled).then(first).otherwise(first.is_null() | ~first))
    with pytest.warns(ProfileWarning, match="2 wells on plates without controls"):
        found = Detection(**NULL).answer(wells)
    assert found.filter(name="c00").select("retrieved", "q_value", "n_profiles", "n_candidates").row(0) == (
        None,
        None,
        0,
        None,
    )
    assert found["name"].to_list() == [f"c{i:02d}" for i in range(6)]
    assert found.filter(pl.col("name") != "c00")["retrieved"].all()


def test_the_grid_notes_plates_without_controls():
    wells = condition(without_controls_on(screen(np.zeros((8, F)), ["A"] * 8), "cP1"), "compound", 24)
    found = answer_conditions(wells, [Detection(**NULL)], "Metadata_Time")
    assert "8 wells on plates without controls" in found.summary["note"].item()


@pytest.mark.parametrize("null", ["cpjump1", "ranks", "labels"])
def test_one_label_among_several_genes_is_not_found_by_having_no_rival(null):
    # The guides of the gene ask among compounds that all aim at it: whatever these look like, they stand first.
    hits = 0
    for seed in range(12):
        sides = chance(3, ["G0"] * 3, 12, seed)
        found = CrossMatching(label=BOTH, detected_only=False, null=null, null_size=2000).answer(*sides)
        assert found.filter(name="G0")["n_profiles"].item() == 3
        hits += found.filter(pl.col("retrieved") & ~pl.col("doubtful")).height
    assert hits <= 2  # by cpjump1 it was all 12


def test_candidates_are_counted_and_doubtful_hits_are_those_of_the_plain_sum():
    doubted = 0
    for seed in range(16):
        sides = chance(12, [f"G{i % 6}" for i in range(12)], 6, seed, guides=1)
        task = CrossMatching(label=BOTH, detected_only=False, **NULL)
        wells = task.ready(*sides)
        found, notes = task.answer_wells(*wells, (None, None))
        assert found["n_candidates"].to_list() == [6] * 6
        profiles = oracle.across(
            oracle.labelled(sides[0].to_pandas(), FEATURES, "Metadata_target_list", None),
            oracle.labelled(sides[1].to_pandas(), FEATURES, "Metadata_gene", None),
        )
        compare(found, oracle.matching(profiles, FEATURES, True, 20_000, profiles["side"].tolist()))
        # By hand: a perfect ranking has a chance of one in so many, and not of one in 20,001.
        fair = []
        for label, p in found.select("name", "p_value").rows():
            queries = perfect_and_size(profiles, label)
            gain = [max(0.0, np.log(20_001) - np.log(comb(n, m))) if perfect else 0.0 for perfect, m, n in queries]
            fair.append(min(1.0, p * np.exp(np.mean(gain))))
        wanted = found["retrieved"].to_numpy() & (stats.false_discovery_control(fair) >= 0.05)
        assert found["doubtful"].to_list() == wanted.tolist()
        doubted += wanted.sum()
        assert any("rest on perfect rankings of few" in note for note in notes) == wanted.any()
    assert doubted


def perfect_and_size(profiles, label):
    """Of each profile with the label: whether it ranks its partners first, how many they are, and among how many."""
    near = np.abs(oracle.cosine(profiles[FEATURES].to_numpy(), profiles[FEATURES].to_numpy()))
    bears = np.array([label in labels for labels in profiles["labels"]])
    side = profiles["side"].to_numpy()
    for i in np.flatnonzero(bears):
        positive, other = bears & (side != side[i]), ~bears & (side != side[i])
        yield near[i, positive].min() > near[i, other].max(), positive.sum(), (positive | other).sum()


def test_hits_among_many_candidates_are_not_doubted():
    base = 6 * directions(20)
    compounds = screen(base, [f"G{i}" for i in range(20)], "c", controls=16)
    guides = screen(
        base.repeat(2, axis=0), [f"G{i // 2}" for i in range(40)], "g", column="Metadata_gene", seed=1, controls=16
    )
    found = CrossMatching(label=BOTH, **NULL).answer(compounds, guides)
    assert found["retrieved"].all()
    assert not found["doubtful"].any()
    sisters = SisterMatching(label="Metadata_gene", multilabel=False, **NULL).answer(guides)
    assert sisters["n_candidates"].to_list() == [39] * 20
    assert not sisters["doubtful"].any()
    assert not Detection(**NULL).answer(compounds)["doubtful"].any()
