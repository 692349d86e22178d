import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytofast import resources
from cytofast.errors import DataError, ProfileWarning, RecipeError, SchemaError
from cytofast.retrieval.average_precision import assign_reference_index, average_precision
from cytofast.retrieval.rule import Retrieval
from tests import oracle_retrieval as oracle


def table(x, **metadata):
    frame = pl.DataFrame(metadata)
    return frame.hstack(pl.DataFrame({f"Cells_f{i}": x[:, i] for i in range(x.shape[1])}))


COLUMNS = ["Metadata_a", "Metadata_b", "Metadata_c"]


@st.composite
def designs(draw):
    """A small table with few distinct values (so with ties) and a random rule on it."""
    n, f = draw(st.integers(3, 11)), draw(st.integers(2, 5))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    coarse = draw(st.booleans())
    x = rng.integers(-2, 3, size=(n, f)).astype(float) if coarse else rng.normal(size=(n, f))
    x[np.abs(x).sum(axis=1) == 0, 0] = 1.0
    meta = {name: [str(v) for v in rng.integers(0, draw(st.integers(1, 4)), size=n)] for name in COLUMNS}
    rule = {}
    for kind in ("pos", "neg"):
        roles = draw(
            st.lists(st.sampled_from(["same", "diff", "none"]), min_size=3, max_size=3).filter(
                lambda r: set(r) != {"none"}
            )
        )
        for role in ("same", "diff"):
            rule[f"{kind}_{role}by"] = [name for name, chosen in zip(COLUMNS, roles, strict=True) if chosen == role]
    metric = draw(st.sampled_from(["cosine", "abs_cosine", "euclidean"]))
    return meta, x, rule, metric, draw(st.booleans())


@settings(max_examples=200, deadline=None)
@given(designs())
def test_average_precision_is_that_of_the_plain_twin(design):
    meta, x, rule, metric, optimistic = design
    rows = [dict(zip(meta, values, strict=True)) for values in zip(*meta.values(), strict=True)]
    expected = oracle.average_precision(rows, x, **rule, metric=metric, optimistic=optimistic)
    question = Retrieval(**rule, metric=metric, tie="optimistic" if optimistic else "average")
    if not any(e[3] for e in expected) or not any(e[3] and e[4] > e[3] for e in expected):
        with pytest.raises(DataError, match="no query"):
            question.average_precision(table(x, **meta))
        return
    found = question.average_precision(table(x, **meta))
    assert found["n_pos_pairs"].to_list() == [e[3] for e in expected]
    assert found["n_total_pairs"].to_list() == [e[4] for e in expected]
    for value, normalized, (_, _, ap, m, n) in zip(
        found["average_precision"], found["normalized_average_precision"], expected, strict=True
    ):
        if ap is None:
            assert value is None
            assert normalized is None
        else:
            assert value == pytest.approx(ap, abs=1e-12)
            chance = oracle.expected_precision(m, n)
            assert normalized == pytest.approx(0.0 if m == n else max(-1.0, (ap - chance) / (1 - chance)), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_multilabels_are_those_of_the_plain_twin(seed, as_text):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 14))
    x = rng.integers(-2, 3, size=(n, 3)) + 0.5
    labels = [sorted({str(v) for v in rng.integers(0, 5, size=rng.integers(1, 4))}) for _ in range(n)]
    kind = [str(v) for v in rng.integers(0, 2, size=n)]
    rows = [{"t": a, "k": b} for a, b in zip(labels, kind, strict=True)]
    rule = {"pos_sameby": ["t"], "pos_diffby": ["k"], "neg_sameby": [], "neg_diffby": ["t", "k"]}
    expected = oracle.average_precision(rows, x, **rule, multilabel="t", metric="abs_cosine")
    named = {key: [{"t": "Metadata_t", "k": "Metadata_k"}[c] for c in value] for key, value in rule.items()}
    frame = table(x, Metadata_t=["|".join(a) for a in labels] if as_text else labels, Metadata_k=kind)
    question = Retrieval(**named, metric="abs_cosine", multilabel="Metadata_t" if as_text else None)
    if not any(e[3] for e in expected) or not any(e[3] and e[4] > e[3] for e in expected):
        with pytest.raises(DataError, match="no query"):
            question.average_precision(frame)
        return
    found = question.average_precision(frame)
    assert found["Metadata_t"].to_list() == [e[1] for e in expected]
    assert found["n_pos_pairs"].to_list() == [e[3] for e in expected]
    assert found["n_total_pairs"].to_list() == [e[4] for e in expected]
    for value, (_, _, ap, _, _) in zip(found["average_precision"], expected, strict=True):
        assert value == (None if ap is None else pytest.approx(ap, abs=1e-12))


def test_scikit_learn_agrees_where_nothing_is_tied():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(1)
    x, label = rng.normal(size=(40, 6)), rng.integers(0, 5, size=40)
    found = average_precision(table(x, Metadata_t=label), ["Metadata_t"], [], [], ["Metadata_t"])["average_precision"]
    unit = x / np.linalg.norm(x, axis=1)[:, None]
    for i in range(40):
        others = np.arange(40) != i
        assert found[i] == pytest.approx(
            average_precision_score(label[others] == label[i], (unit @ unit[i])[others]), abs=1e-12
        )


def test_correlation_is_cosine_of_centred_rows():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 8)) + 5
    label = [str(v) for v in rng.integers(0, 4, size=30)]
    rule = {"pos_sameby": ["Metadata_t"], "neg_diffby": ["Metadata_t"]}
    a = Retrieval(**rule, metric="correlation").average_precision(table(x, Metadata_t=label))
    b = Retrieval(**rule).average_precision(table(x - x.mean(axis=1, keepdims=True), Metadata_t=label))
    assert a["average_precision"].to_list() == pytest.approx(b["average_precision"].to_list(), abs=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "abs_cosine", "euclidean"])
def test_ten_identical_profiles_score_chance(metric):
    x = np.ones((20, 5), dtype=np.float32)
    frame = table(x, Metadata_pert=["A"] * 10 + ["B"] * 10)
    rule = {"pos_sameby": ["Metadata_pert"], "neg_diffby": ["Metadata_pert"], "metric": metric}
    chance = Retrieval(**rule).average_precision(frame)
    assert chance["normalized_average_precision"].abs().max() < 1e-12
    assert Retrieval(**rule, tie="optimistic").average_precision(frame)["average_precision"].to_list() == [1.0] * 20


@pytest.mark.parametrize("group", [3, 70])
def test_row_order_tiles_threads_and_large_groups_change_nothing(group, monkeypatch):
    """Many exact and near duplicates: what is tied must not depend on where in a product a row stands."""
    rng = np.random.default_rng(3)
    n, f = 300, 37
    x = rng.normal(size=(n // 3, f))[rng.integers(0, n // 3, size=n)].astype(np.float32)
    x[::5] *= np.float32(1 + 2**-20)
    label = [f"{v:03d}" for v in np.arange(n) // group]
    frame = table(x, Metadata_t=label, Metadata_id=np.arange(n))
    rule = Retrieval(pos_sameby=["Metadata_t"], neg_diffby=["Metadata_t"])
    first = rule.average_precision(frame)
    from cytofast.retrieval import scoring

    monkeypatch.setattr(scoring, "_TILE_BYTES", 30_000)
    for order in (np.arange(n)[::-1], rng.permutation(n)):
        with resources.limits(threads=3):
            again = rule.average_precision(frame[order]).sort("Metadata_id")
        assert again["average_precision"].to_list() == first["average_precision"].to_list()


def test_metadata_and_order_pass_through_and_lazy_is_eager():
    rng = np.random.default_rng(4)
    frame = table(
        rng.normal(size=(12, 3)), Metadata_t=list("aabbccddaabb"), Metadata_Well=[f"A{i:02d}" for i in range(12)]
    )
    rule = Retrieval(pos_sameby=["Metadata_t"], neg_diffby=["Metadata_t"], queries="Metadata_t <> 'd'")
    found = rule.average_precision(frame.lazy())
    assert found.columns == [
        "Metadata_t",
        "Metadata_Well",
        "average_precision",
        "n_pos_pairs",
        "n_total_pairs",
        "normalized_average_precision",
    ]
    assert found["Metadata_Well"].to_list() == frame.filter(pl.col("Metadata_t") != "d")["Metadata_Well"].to_list()
    assert found.equals(rule.average_precision(frame))


def test_a_query_without_positives_has_no_precision_and_one_without_negatives_has_chance():
    x = np.random.default_rng(5).normal(size=(6, 3))
    frame = table(
        x,
        Metadata_t=["a", "a", "b", "c", "c", "d"],
        Metadata_P=["1", "1", "1", "2", "2", "1"],
        Metadata_n=[0, 0, 0, 0, 0, 1],
    )
    found = Retrieval(
        pos_sameby=["Metadata_t"], neg_sameby=["Metadata_P"], neg_diffby=["Metadata_n"]
    ).average_precision(frame)
    assert found["average_precision"].to_list()[2] is None
    assert found["n_total_pairs"].to_list() == [2, 2, 1, 1, 1, 3]
    assert found["average_precision"].to_list()[3] == 1.0
    assert found["normalized_average_precision"].to_list()[3] == 0.0


def test_reference_index_keeps_controls_apart():
    x = np.random.default_rng(6).normal(size=(6, 3))
    frame = table(x, Metadata_t=["a", "a", "b", "b", "DMSO", "DMSO"], Metadata_n=[0, 0, 0, 0, 1, 1])
    indexed = assign_reference_index(frame, "Metadata_t = 'DMSO'")
    assert indexed["Metadata_Reference_Index"].to_list() == [-1, -1, -1, -1, 4, 5]
    found = average_precision(
        indexed, ["Metadata_t", "Metadata_Reference_Index"], [], [], ["Metadata_t", "Metadata_Reference_Index"]
    )
    assert found["n_pos_pairs"].to_list() == [1, 1, 1, 1, 0, 0]


# --- bad input -------------------------------------------------------------------------------------------------------

RULE = {"pos_sameby": ["Metadata_t"], "neg_diffby": ["Metadata_t"]}


def good(n=6):
    return table(np.random.default_rng(7).normal(size=(n, 3)), Metadata_t=["a", "a", "b", "b", "c", "c"][:n])


def test_missing_column_is_named_with_the_nearest():
    with pytest.raises(SchemaError, match=r"Metadata_tt.*perhaps 'Metadata_t'"):
        Retrieval(pos_sameby=["Metadata_tt"], neg_diffby=["Metadata_t"]).average_precision(good())
    with pytest.raises(SchemaError, match="Metadata_q"):
        Retrieval(**RULE, queries="Metadata_q = 1").average_precision(good())


def test_no_positives_and_no_negatives_are_told_apart():
    with pytest.raises(DataError, match="no query has a positive"):
        Retrieval(**RULE).average_precision(good().with_columns(Metadata_t=pl.Series(list("abcdef"))))
    with pytest.raises(DataError, match="has a negative"):
        Retrieval(**RULE).average_precision(good().with_columns(Metadata_t=pl.lit("a")))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_broken_profiles_are_named_or_dropped(value):
    frame = good().with_columns(Cells_f1=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(value)).otherwise("Cells_f1"))
    with pytest.raises(DataError, match=r"1 of 6 profiles.*Cells_f1.*row 3"):
        Retrieval(**RULE).average_precision(frame)
    with pytest.warns(ProfileWarning, match="1 of 6 profiles left out"):
        found = Retrieval(**RULE, on_invalid="drop").average_precision(frame)
    assert found.height == 5


def test_profiles_without_direction_are_named():
    zero = good().with_columns(Cells_f0=pl.lit(0.0), Cells_f1=pl.lit(0.0), Cells_f2=pl.lit(0.0))
    with pytest.raises(DataError, match="all features are zero"):
        Retrieval(**RULE).average_precision(zero)
    flat = good().with_columns(Cells_f0=pl.lit(0.1), Cells_f1=pl.lit(0.1), Cells_f2=pl.lit(0.1))
    with pytest.raises(DataError, match="correlation is undefined"):
        Retrieval(**RULE, metric="correlation").average_precision(flat)


def test_nulls_in_a_key_are_named_dropped_or_a_value():
    frame = good().with_columns(Metadata_t=pl.Series(["a", "a", None, None, "c", "c"]))
    with pytest.raises(DataError, match=r"nulls in key columns Metadata_t \(2\).*row 2"):
        Retrieval(**RULE).average_precision(frame)
    with pytest.warns(ProfileWarning, match="2 of 6"):
        assert Retrieval(**RULE, nulls="drop").average_precision(frame).height == 4
    assert Retrieval(**RULE, nulls="value").average_precision(frame)["n_pos_pairs"].to_list() == [1] * 6


def test_rules_that_mean_nothing():
    with pytest.raises(RecipeError, match="both name"):
        Retrieval(pos_sameby=["a"], pos_diffby=["a"], neg_diffby=["a"])
    with pytest.raises(RecipeError, match="neg_sameby and neg_diffby are both empty"):
        Retrieval(pos_sameby=["a"])
    with pytest.raises(RecipeError, match="did you mean 'cosine'"):
        Retrieval(pos_sameby=["a"], neg_diffby=["a"], metric="cosin")
    with pytest.raises(RecipeError, match="pos_sameby and neg_diffby only"):
        Retrieval(pos_sameby=["a"], neg_sameby=["t"], neg_diffby=["a"], multilabel="t")
    with pytest.raises(DataError, match="no profile satisfies"):
        Retrieval(**RULE, queries="Metadata_t = 'z'").average_precision(good())
    with pytest.raises(DataError, match="no row satisfies"):
        Retrieval(**RULE, where="Metadata_t = 'z'").average_precision(good())


def test_a_numeric_key_is_no_feature_even_if_its_name_looks_like_one():
    frame = good().with_columns(Compound_id=pl.Series([1, 1, 2, 2, 3, 3]))
    found = average_precision(frame, ["Compound_id"], neg_diffby=["Compound_id"])
    plain = average_precision(good(), ["Metadata_t"], neg_diffby=["Metadata_t"])
    assert found["average_precision"].equals(plain["average_precision"])
    assert found["Compound_id"].to_list() == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("part", ["queries", "controls", "where"])
def test_a_predicate_may_look_at_a_feature(part):
    frame = good().with_columns(Cells_Count=pl.Series([50, 60, 70, 80, 2, 1]))
    rule = {"pos_sameby": ["Metadata_t"], "neg_diffby": [] if part == "controls" else ["Metadata_t"]}
    predicate = "Cells_Count < 10" if part == "controls" else "Cells_Count >= 10"
    found = Retrieval(**rule, **{part: predicate}).average_precision(frame)
    assert found["Metadata_t"].to_list() == ["a", "a", "b", "b"]
    whole = Retrieval(**RULE).average_precision(frame)
    if part == "queries":
        assert found["average_precision"].to_list() == whole["average_precision"].to_list()[:4]


@pytest.mark.parametrize("as_text", [True, False])
def test_profiles_without_labels_are_candidates_of_nobody_and_ask_nothing(as_text):
    """A null taken as a value, and a control that needs no label, have an empty list of labels."""
    labels = [["a"], ["a", "b"], [], ["b"], [], ["c"]]
    shown = ["|".join(own) or None for own in labels] if as_text else labels
    x = np.random.default_rng(16).normal(size=(6, 3))
    frame = table(x, Metadata_t=shown, Metadata_c=[0, 0, 1, 0, 1, 0])
    rule = {"pos_sameby": ["Metadata_t"], "multilabel": "Metadata_t"}
    found = Retrieval(**rule, neg_diffby=["Metadata_t"], nulls="value").average_precision(frame)
    rows = [{"t": own} for own in labels]
    wanted = oracle.average_precision(rows, x, ["t"], [], [], ["t"], multilabel="t")
    assert found["Metadata_t"].to_list() == [label for _, label, *_ in wanted]
    assert found["n_total_pairs"].to_list() == [total for *_, total in wanted]
    assert found["average_precision"].fill_null(-1).to_list() == pytest.approx(
        [-1 if ap is None else ap for _, _, ap, *_ in wanted], abs=1e-12
    )
    against = Retrieval(**rule, controls="Metadata_c = 1").average_precision(frame)
    assert against["n_total_pairs"].to_list() == [3, 3, 3, 3, 2]


def test_what_is_no_table_of_profiles_is_said():
    with pytest.raises(RecipeError, match=r"features=\[\] names no feature"):
        Retrieval(**RULE, features=[]).average_precision(good())
    with pytest.raises(SchemaError, match="from_pandas"):
        Retrieval(**RULE).average_precision(good().to_pandas())
    with pytest.raises(SchemaError, match="collect"):
        assign_reference_index(good().lazy(), "Metadata_t = 'a'")
    with pytest.raises(RecipeError, match="cannot make the groups"):
        Retrieval(["Cells_f0"], neg_diffby=["Cells_f0"], features=["Cells_f0"]).average_precision(good())
