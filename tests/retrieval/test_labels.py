"""The null of permuted labels against labels that are permuted in the table, every way there is."""

from itertools import combinations, product

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytofast import resources
from cytofast.errors import ProfileWarning
from cytofast.retrieval import pool_ranks
from cytofast.retrieval.rule import Retrieval
from tests import oracle_retrieval as oracle


def table(x, **metadata):
    return pl.DataFrame(metadata).hstack(pl.DataFrame({f"Cells_f{i}": x[:, i] for i in range(x.shape[1])}))


def exact(statistics, observed):
    statistics = np.array(statistics)
    return np.mean(statistics >= observed * (1 - 1e-10))


def draw_x(rng, n, coarse):
    return rng.integers(-2, 3, size=(n, 3)) + 0.5 if coarse else rng.normal(size=(n, 4))


ACTIVITY = {"pos_sameby": ["pert"], "pos_diffby": [], "neg_sameby": ["plate"], "neg_diffby": ["neg"]}


def mean_of(rows, x, rule, members, **options):
    found = [o[2] for o in oracle.average_precision(rows, x, **rule, **options) if o[0] in members]
    return float(np.mean(found))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_activity_is_every_exchange_with_controls_of_the_plate(seed, coarse, optimistic):
    rng = np.random.default_rng(seed)
    rows, plates = [], int(rng.integers(1, 4))
    for plate in range(plates):
        rows += [{"plate": plate, "pert": "T", "neg": 0}] * int(rng.integers(1, 3))
        rows += [{"plate": plate, "pert": "DMSO", "neg": 1}] * int(rng.integers(1, 4))
    if sum(row["neg"] == 0 for row in rows) < 2:
        rows.append({"plate": 0, "pert": "T", "neg": 0})
    x = draw_x(rng, len(rows) + 3, coarse)
    frame = table(
        x,
        Metadata_plate=[r["plate"] for r in rows] + [0] * 3,
        Metadata_pert=[r["pert"] for r in rows] + ["U"] * 3,
        Metadata_neg=[r["neg"] for r in rows] + [0] * 3,
    )
    rule = Retrieval(
        **{k: [f"Metadata_{c}" for c in v] for k, v in ACTIVITY.items()},
        queries="Metadata_neg = 0",
        tie="optimistic" if optimistic else "average",
    )
    found = rule.mean_average_precision(frame, null="labels").filter(pl.col("Metadata_pert") == "T")

    by_plate = [[i for i, r in enumerate(rows) if r["plate"] == plate] for plate in range(plates)]
    sizes = [sum(rows[i]["neg"] == 0 for i in wells) for wells in by_plate]
    statistics = []
    for chosen in product(*(combinations(wells, k) for wells, k in zip(by_plate, sizes, strict=True))):
        treated = {i for part in chosen for i in part}
        again = [
            {**r, "pert": "T" if i in treated else "DMSO", "neg": int(i not in treated)} for i, r in enumerate(rows)
        ]
        statistics.append(mean_of(again, x, ACTIVITY, treated, optimistic=optimistic))
    observed = mean_of(rows, x, ACTIVITY, {i for i, r in enumerate(rows) if r["neg"] == 0}, optimistic=optimistic)
    assert found["p_method"].item().startswith("labels, exact")
    assert found["mean_average_precision"].item() == pytest.approx(observed, abs=1e-12)
    assert found["p_value"].item() == pytest.approx(exact(statistics, observed), abs=1e-12)


CONSISTENCY = {"pos_sameby": ["t"], "pos_diffby": [], "neg_sameby": ["batch"], "neg_diffby": ["t"]}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(1, 2))
def test_consistency_is_every_choice_of_as_many_profiles_of_each_batch(seed, coarse, batches):
    rng = np.random.default_rng(seed)
    n = 10
    rows = [
        {"t": str(t), "batch": int(b)}
        for t, b in zip([0, 0, 0, 1, 1, 1, 2, 2, 2, 3], np.arange(n) % batches, strict=True)
    ]
    x = draw_x(rng, n, coarse)
    frame = table(x, Metadata_t=[r["t"] for r in rows], Metadata_batch=[r["batch"] for r in rows])
    rule = Retrieval(pos_sameby=["Metadata_t"], neg_sameby=["Metadata_batch"], neg_diffby=["Metadata_t"])
    found = rule.mean_average_precision(frame).sort("Metadata_t")
    for k, label in enumerate("012"):
        members = [i for i, r in enumerate(rows) if r["t"] == label]
        strata = [[i for i in range(n) if rows[i]["batch"] == b] for b in range(batches)]
        sizes = [sum(i in members for i in wells) for wells in strata]
        statistics = []
        for chosen in product(*(combinations(wells, size) for wells, size in zip(strata, sizes, strict=True))):
            labelled = {i for part in chosen for i in part}
            again = [{**r, "t": label if i in labelled else f"other {i}"} for i, r in enumerate(rows)]
            statistics.append(mean_of(again, x, CONSISTENCY, labelled))
        observed = mean_of(rows, x, CONSISTENCY, set(members))
        assert found["p_value"][k] == pytest.approx(exact(statistics, observed), abs=1e-12)
    assert found["p_value"][3] is None
    assert found["n_profiles"].to_list() == [3, 3, 3, 0]


def test_profiles_of_one_compound_get_a_target_together():
    """A compound has one target: its replicates are no evidence for the target, and move as one."""
    rng = np.random.default_rng(8)
    compounds, replicates = 8, 2
    compound = np.repeat(np.arange(compounds), replicates)
    target = compound // 2
    x = rng.normal(size=(compounds, 6))[compound] + 0.1 * rng.normal(size=(len(compound), 6))
    frame = table(x, Metadata_c=compound, Metadata_t=target)
    rule = Retrieval(pos_sameby=["Metadata_t"], pos_diffby=["Metadata_c"], neg_diffby=["Metadata_t"])
    found = rule.mean_average_precision(frame)
    plain = {"pos_sameby": ["t"], "pos_diffby": ["c"], "neg_sameby": [], "neg_diffby": ["t"]}
    for label in range(4):
        statistics = []
        for pair in combinations(range(compounds), 2):
            rows = [{"c": int(c), "t": "x" if c in pair else f"other {c}"} for c in compound]
            statistics.append(mean_of(rows, x, plain, {i for i, c in enumerate(compound) if c in pair}))
        observed = found["mean_average_precision"][label]
        assert found["p_method"][label] == "labels, exact, 28 labelings"
        assert found["p_value"][label] == pytest.approx(exact(statistics, observed), abs=1e-12)


def test_labels_that_cross_a_modality_stay_in_it():
    """Genes find compounds with their target: labels of compounds are exchanged with compounds, of genes with genes."""
    rng = np.random.default_rng(9)
    n = 12
    modality = ["compound"] * 6 + ["gene"] * 6
    target = [0, 0, 1, 2, 3, 4, 0, 1, 1, 2, 3, 4]
    x = rng.normal(size=(n, 5))
    frame = table(x, Metadata_m=modality, Metadata_t=target)
    rule = Retrieval(
        pos_sameby=["Metadata_t"],
        pos_diffby=["Metadata_m"],
        neg_diffby=["Metadata_t", "Metadata_m"],
        metric="abs_cosine",
    )
    found = rule.mean_average_precision(frame)
    plain = {"pos_sameby": ["t"], "pos_diffby": ["m"], "neg_sameby": [], "neg_diffby": ["t", "m"]}
    for label in range(5):
        held = [
            sum(t == label and m == kind for t, m in zip(target, modality, strict=True))
            for kind in ("compound", "gene")
        ]
        statistics = []
        for compounds in combinations(range(6), held[0]):
            for genes in combinations(range(6, 12), held[1]):
                labelled = {*compounds, *genes}
                rows = [{"m": modality[i], "t": "x" if i in labelled else f"other {i}"} for i in range(n)]
                statistics.append(mean_of(rows, x, plain, labelled, metric="abs_cosine"))
        assert found["p_value"][label] == pytest.approx(
            exact(statistics, found["mean_average_precision"][label]), abs=1e-12
        )


@pytest.mark.parametrize("coarse", [False, True])
def test_multilabels_are_exchanged_with_their_profiles(coarse):
    """Whole label sets are permuted; those that share another label with a query are no negatives, whoever they are."""
    rng = np.random.default_rng(10)
    n = 7
    labels = [["a"], ["a", "b"], ["b"], ["c"], ["a", "c"], ["d"], ["d"]]
    x = draw_x(rng, n, coarse)
    frame = table(x, Metadata_t=labels)
    rule = Retrieval(pos_sameby=["Metadata_t"], neg_diffby=["Metadata_t"])
    found = rule.mean_average_precision(frame, null_size=40_000)
    plain = {"pos_sameby": ["t"], "pos_diffby": [], "neg_sameby": [], "neg_diffby": ["t"]}
    from itertools import permutations

    statistics = {name: [] for name in "abcd"}
    for order in permutations(range(n)):
        if coarse and rng.random() > 0.2:
            continue
        rows = [{"t": labels[i]} for i in order]
        scored = oracle.average_precision(rows, x, **plain, multilabel="t")
        for name in "abcd":
            statistics[name].append(np.mean([o[2] for o in scored if o[1] == name]))
    for name, p, observed in found.select("Metadata_t", "p_value", "mean_average_precision").rows():
        wanted = exact(statistics[name], observed)
        error = np.sqrt(wanted * (1 - wanted) * (1 / 40_000 + (1 / len(statistics[name]) if coarse else 0)))
        assert p == pytest.approx(wanted, abs=4 * error + 1e-4)


def activity_frame(seed=11, perts=5):
    rng = np.random.default_rng(seed)
    plate, pert, neg = [], [], []
    for p in range(3):
        plate += [f"P{p}"] * (perts + 12)
        pert += [f"T{i}" for i in range(perts)] + ["DMSO"] * 12
        neg += [0] * perts + [1] * 12
    x = rng.normal(size=(len(plate), 8)).astype(np.float32)
    return table(x, Metadata_Plate=plate, Metadata_pert=pert, Metadata_neg=neg)


RULE = Retrieval(
    pos_sameby=["Metadata_pert"], neg_sameby=["Metadata_Plate"], neg_diffby=["Metadata_neg"], queries="Metadata_neg = 0"
)


@pytest.mark.parametrize("null", ["labels", "ranks", "copairs", "cpjump1"])
def test_a_group_has_the_same_p_alone_in_company_in_any_order_on_any_threads(null):
    frame = activity_frame()
    options = {"null": null, "null_size": 1500, "seed": 3}
    with resources.limits(threads=1):
        first = RULE.mean_average_precision(frame, **options)
    order = np.random.default_rng(12).permutation(frame.height)
    with resources.limits(threads=3):
        again = RULE.mean_average_precision(frame[order], **options)
    assert again.drop("q_value", "retrieved").equals(first.drop("q_value", "retrieved"))
    alone = RULE.mean_average_precision(frame.filter(pl.col("Metadata_pert").is_in(["T2", "DMSO"])), **options)
    assert alone["p_value"].to_list() == first.filter(pl.col("Metadata_pert") == "T2")["p_value"].to_list()
    assert first["p_method"].unique().len() == 1
    if "sampled" in first["p_method"][0]:
        other = RULE.mean_average_precision(frame, null=null, null_size=1500, seed=4)
        assert other["p_value"].to_list() != first["p_value"].to_list()


def test_sampling_agrees_with_every_labelling():
    frame = activity_frame(seed=13)
    known = RULE.mean_average_precision(frame, null_size=10_000)
    assert set(known["p_method"]) == {"labels, exact, 2,197 labelings"}
    sampled = RULE.mean_average_precision(frame, null_size=2_000)
    assert set(sampled["p_method"]) == {"labels, sampled 2,000"}
    error = np.sqrt(known["p_value"] * (1 - known["p_value"]) / 2000)
    assert (np.abs(sampled["p_value"] - known["p_value"]) < 4.5 * error + 1e-3).all()


def test_ranks_that_do_not_fit_are_thinned_and_said_so(monkeypatch):
    frame = table(np.random.default_rng(14).normal(size=(400, 5)), Metadata_t=np.arange(400) // 4)
    rule = Retrieval(pos_sameby=["Metadata_t"], neg_diffby=["Metadata_t"])
    full = rule.mean_average_precision(frame, null_size=4000)
    monkeypatch.setattr(pool_ranks, "rank_budget", lambda: 4 * 200 * 200)
    thin = rule.mean_average_precision(frame, null_size=4000)
    assert set(thin["p_method"]) == {"labels, sampled 4,000 among 200 of 400 profiles"}
    assert np.corrcoef(full["p_value"], thin["p_value"])[0, 1] > 0.99


def test_large_groups_are_scored_like_small_ones():
    """Beyond 64 positives no sorting network is used: each labelling of a small pool is scored as the rule itself does."""
    rng = np.random.default_rng(15)
    x = rng.normal(size=(72, 6))
    frame = table(x, Metadata_t=["a"] * 70 + ["b", "c"])
    rule = Retrieval(pos_sameby=["Metadata_t"], neg_diffby=["Metadata_t"], queries="Metadata_t = 'a'")
    found = rule.mean_average_precision(frame, null_size=3000)
    assert found["p_method"].item() == "labels, exact, 2,556 labelings"
    rest = [[i, j] for i, j in combinations(range(72), 2)]
    picked = [rest[int(k)] for k in rng.integers(0, len(rest), size=60)]
    statistics = []
    for pair in picked:
        label = np.array(["a"] * 72)
        label[pair[0]], label[pair[1]] = "b", "c"
        again = frame.with_columns(Metadata_t=pl.Series(label))
        statistics.append(rule.average_precision(again)["average_precision"].mean())
    share = exact(statistics, found["mean_average_precision"].item())
    assert found["p_value"].item() == pytest.approx(share, abs=4.5 * np.sqrt(0.25 / 60))


def test_draws_are_not_lent_to_a_perturbation_of_another_design():
    """As many profiles on each plate, but only some of them ask: another null, which company must not decide."""
    rng = np.random.default_rng(1)
    wells = [
        (plate, pert, int(pert == "DMSO"), replicate == 0 or pert in "AB")
        for plate in ("P1", "P2")
        for pert, replicates in (("A", 2), ("B", 2), ("C", 2), ("DMSO", 20))
        for replicate in range(replicates)
    ]
    plate, pert, neg, asks = zip(*wells, strict=True)
    frame = table(
        rng.normal(size=(len(wells), 6)),
        Metadata_Plate=plate,
        Metadata_pert=pert,
        Metadata_neg=neg,
        Metadata_asks=asks,
    )
    rule = Retrieval(
        ["Metadata_pert"], neg_sameby=["Metadata_Plate"], neg_diffby=["Metadata_neg"], queries="Metadata_asks"
    )
    together = rule.mean_average_precision(frame, null_size=2000).filter(pl.col("Metadata_pert") == "C")
    alone = rule.mean_average_precision(
        frame.filter(pl.col("Metadata_pert").is_in(["C", "DMSO"])), null_size=2000
    ).filter(pl.col("Metadata_pert") == "C")
    assert together["p_value"].to_list() == alone["p_value"].to_list()


def test_distances_from_outliers_are_ranked_and_the_labelling_itself_counts():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(102, 3))
    x[0], x[1] = [1000, 0, 0], [1000, 900, 0]
    frame = table(x, Metadata_pert=["T"] * 2 + ["DMSO"] * 100, Metadata_neg=[0] * 2 + [1] * 100)
    rule = Retrieval(["Metadata_pert"], neg_diffby=["Metadata_neg"], queries="Metadata_neg = 0", metric="euclidean")
    found = rule.mean_average_precision(frame).row(0, named=True)
    near = -((x[:, None] - x[None]) ** 2).sum(axis=2)
    statistics = []
    for pair in combinations(range(len(x)), 2):
        ranks = [1 + (np.delete(near[a], pair) > near[a, b]).sum() for a, b in (pair, pair[::-1])]
        statistics.append(np.mean(1 / np.array(ranks)))
    assert found["p_method"] == "labels, exact, 5,151 labelings"
    assert found["mean_average_precision"] == statistics[0] == 1
    assert found["p_value"] == pytest.approx(exact(statistics, 1.0), abs=1e-12)


def test_a_perturbation_whose_labels_can_go_nowhere_is_said():
    """Each well is on a plate once: profiles that keep their well keep their label."""
    rng = np.random.default_rng(17)
    frame = activity_frame().with_columns(Metadata_Well=pl.Series(np.concatenate([rng.permutation(17) for _ in "123"])))
    options = {"neg_sameby": ["Metadata_Plate"], "controls": "Metadata_neg = 1"}
    stuck = Retrieval(["Metadata_pert"], pos_diffby=["Metadata_Well"], **options)
    with pytest.warns(ProfileWarning, match=r"perturbations have no profile to exchange labels with.*'Metadata_Well'"):
        found = stuck.mean_average_precision(frame, null_size=100)
    assert "labels, exact, 1 labelings" in found["p_method"].to_list()


def test_null_may_name_a_perturbation_where_it_is_a_value():
    frame = table(np.random.default_rng(2).normal(size=(6, 4)), Metadata_t=["a", "a", "b", "b", None, None])
    found = Retrieval(["Metadata_t"], neg_diffby=["Metadata_t"], nulls="value").mean_average_precision(frame)
    assert found["Metadata_t"].to_list() == ["a", "b", None]
    assert found["n_profiles"].to_list() == [2, 2, 2]
