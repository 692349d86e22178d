"""Agreement with copairs 0.5.5 where it is right, and the divergences, each with its reason."""

from zlib import crc32

import numpy as np
import polars as pl
import pytest

from cytofast.retrieval.average_precision import assign_reference_index, average_precision
from cytofast.retrieval.rule import Retrieval
from cytofast.retrieval.significance import mean_average_precision

copairs = pytest.importorskip("copairs.map", reason="the peer is not installed (pip install '.[peers]')")
pytestmark = pytest.mark.filterwarnings("ignore")
AP = ["average_precision", "n_pos_pairs", "n_total_pairs", "normalized_average_precision"]


def table(x, **metadata):
    return pl.DataFrame(metadata).hstack(pl.DataFrame({f"Cells_f{i}": x[:, i] for i in range(x.shape[1])}))


def peer(frame, features, **rule):
    meta = frame.drop(features).to_pandas()
    return copairs.average_precision(meta, frame.select(features).to_numpy(), **rule, progress_bar=False)


def screen(seed=0, perts=12, plates=3, controls=10, f=15, signal=0.5):
    rng = np.random.default_rng(seed)
    plate = np.repeat(np.arange(plates), perts + controls)
    pert = np.tile([*(f"T{i}" for i in range(perts)), *["DMSO"] * controls], plates)
    x = rng.normal(size=(len(plate), f)) + signal * np.stack(
        [np.random.default_rng(crc32(p.encode())).normal(size=f) * (p != "DMSO") for p in pert]
    )
    return table(x, Metadata_Plate=plate.astype(str), Metadata_pert=pert, Metadata_neg=(pert == "DMSO").astype(int))


RULES = {
    "activity": {
        "pos_sameby": ["Metadata_pert"],
        "pos_diffby": [],
        "neg_sameby": ["Metadata_Plate"],
        "neg_diffby": ["Metadata_neg"],
    },
    "consistency": {
        "pos_sameby": ["Metadata_pert"],
        "pos_diffby": [],
        "neg_sameby": [],
        "neg_diffby": ["Metadata_pert"],
    },
    "across plates": {
        "pos_sameby": ["Metadata_pert"],
        "pos_diffby": ["Metadata_Plate"],
        "neg_sameby": [],
        "neg_diffby": ["Metadata_pert", "Metadata_Plate"],
    },
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("metric", ["cosine", "abs_cosine", "correlation", "euclidean"])
def test_average_precision_agrees_where_nothing_is_tied(rule, metric):
    frame = screen()
    features = [c for c in frame.columns if c.startswith("Cells")]
    theirs = peer(frame, features, **rule, distance=metric)
    ours = average_precision(frame, **rule, metric=metric)
    for name in AP:
        assert ours[name].to_numpy() == pytest.approx(theirs[name].to_numpy(), abs=1e-6), name


def test_multilabels_agree():
    from copairs.map import multilabel

    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 8))
    labels = [sorted({f"G{v}" for v in rng.integers(0, 8, size=rng.integers(1, 4))}) for _ in range(30)]
    rule = {"pos_sameby": ["Metadata_t"], "pos_diffby": [], "neg_sameby": [], "neg_diffby": ["Metadata_t"]}
    import pandas as pd

    meta = pd.DataFrame({"Metadata_t": labels, "Metadata_id": np.arange(30)})
    theirs = multilabel.average_precision(
        meta, x, **rule, multilabel_col="Metadata_t", distance="abs_cosine", progress_bar=False
    )
    ours = average_precision(
        table(x, Metadata_t=["|".join(v) for v in labels], Metadata_id=np.arange(30)),
        **rule,
        metric="abs_cosine",
        multilabel="Metadata_t",
    )
    ours = ours.filter(pl.col("n_pos_pairs") > 0).sort("Metadata_t", "Metadata_id").to_pandas()
    theirs = theirs.sort_values(["Metadata_t", "Metadata_id"]).reset_index(drop=True)
    assert ours["Metadata_id"].tolist() == theirs["Metadata_id"].tolist()
    for name in AP:
        assert ours[name].to_numpy() == pytest.approx(theirs[name].to_numpy(), abs=1e-6), name


def test_reference_index_agrees():
    from copairs.matching import assign_reference_index as theirs

    frame = screen()
    wanted = theirs(frame.to_pandas(), "Metadata_neg == 1")["Metadata_Reference_Index"]
    assert assign_reference_index(frame, "Metadata_neg = 1")["Metadata_Reference_Index"].to_list() == wanted.tolist()


@pytest.mark.parametrize("rule", ["activity", "consistency"])
def test_its_p_values_are_reproduced_within_monte_carlo_error(rule, tmp_path):
    frame = screen(signal=0.6).filter(pl.col("Metadata_pert") != "T3")
    features = [c for c in frame.columns if c.startswith("Cells")]
    draws = 40_000
    scored = peer(frame, features, **RULES[rule])
    theirs = copairs.mean_average_precision(
        scored, ["Metadata_pert"], null_size=draws, threshold=0.05, seed=0, progress_bar=False, cache_dir=tmp_path
    ).sort_values("Metadata_pert")
    ap = average_precision(frame, **RULES[rule])
    ours = mean_average_precision(ap, "Metadata_pert", null="copairs", null_size=draws)
    # Its null is in float32 and the observed mAP is not: whether an equal null value counts as above is left to rounding.
    lower = ap.with_columns(pl.col("average_precision") * (1 - 1e-6))
    equal_counts = mean_average_precision(lower, "Metadata_pert", null="copairs", null_size=draws)["p_value"].to_numpy()
    assert ours["Metadata_pert"].to_list() == theirs["Metadata_pert"].tolist()
    wanted = theirs["mean_average_precision"].to_numpy()
    assert ours["mean_average_precision"].to_numpy() == pytest.approx(wanted, abs=1e-6)
    p, q = ours["p_value"].to_numpy(), theirs["p_value"].to_numpy()
    error = 4.5 * np.sqrt(2 * np.maximum(p * (1 - p), 1 / draws) / draws) + 2 / draws
    assert (p - error < q).all()
    assert (q < equal_counts + error).all()
    assert (equal_counts - p < 1e-3).mean() > 0.5


def test_ties_go_to_positives_there_and_to_nobody_here():
    """copairs sorts ties positives first, so identical profiles look perfectly retrieved."""
    frame = table(np.ones((20, 5)), Metadata_pert=["A"] * 10 + ["B"] * 10)
    features = [c for c in frame.columns if c.startswith("Cells")]
    rule = RULES["consistency"]
    assert (peer(frame, features, **rule)["average_precision"] == 1).all()
    assert average_precision(frame, **rule, tie="optimistic")["average_precision"].to_list() == [1.0] * 20
    assert average_precision(frame, **rule)["normalized_average_precision"].abs().max() < 1e-12


def test_a_perfect_score_gets_the_floor_there_and_its_probability_here(tmp_path):
    """copairs counts null values strictly above: with AP = 1 none can be, so p is 1 / (N + 1) whatever the design."""
    ap = pl.DataFrame(
        {
            "Metadata_pert": ["a"],
            "average_precision": [1.0],
            "n_pos_pairs": [1],
            "n_total_pairs": [10],
            "normalized_average_precision": [1.0],
        }
    )
    theirs = copairs.mean_average_precision(
        ap.to_pandas(),
        ["Metadata_pert"],
        null_size=9999,
        threshold=0.05,
        seed=0,
        progress_bar=False,
        cache_dir=tmp_path,
    )
    assert theirs["p_value"].item() == pytest.approx(1e-4)
    assert mean_average_precision(ap, "Metadata_pert", null="copairs", null_size=9999)[
        "p_value"
    ].item() == pytest.approx(1e-4)
    assert mean_average_precision(ap, "Metadata_pert")["p_value"].item() == pytest.approx(0.1)


def test_p_depends_on_company_there_and_not_here(tmp_path):
    """copairs seeds a configuration by its position among those in the call."""

    def both(rows, folder):
        ap = pl.DataFrame(
            rows,
            schema=[
                "Metadata_pert",
                "average_precision",
                "n_pos_pairs",
                "n_total_pairs",
                "normalized_average_precision",
            ],
            orient="row",
        )
        theirs = copairs.mean_average_precision(
            ap.to_pandas(),
            ["Metadata_pert"],
            null_size=500,
            threshold=0.05,
            seed=0,
            progress_bar=False,
            cache_dir=tmp_path / folder,
        )
        ours = mean_average_precision(ap, "Metadata_pert", null="copairs", null_size=500)
        return theirs.set_index("Metadata_pert")["p_value"]["b"], ours.filter(pl.col("Metadata_pert") == "b")[
            "p_value"
        ].item()

    row = ("b", 0.2, 4, 90, 0.1)
    alone, company = both([row], "1"), both([("a", 0.5, 2, 50, 0.4), row], "2")
    assert alone[0] != company[0]
    assert alone[1] == company[1]


def test_the_rule_object_gives_the_same_answer():
    frame = screen()
    rule = Retrieval(**RULES["activity"], queries="Metadata_neg = 0")
    ap = average_precision(frame, **RULES["activity"], queries="Metadata_neg = 0")
    assert rule.average_precision(frame).equals(ap)
    assert rule.mean_average_precision(frame, null="ranks").equals(mean_average_precision(ap, "Metadata_pert"))
