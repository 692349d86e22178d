from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score, jaccard_score

from cytofast.errors import DataError, ProfileWarning, RecipeError
from cytofast.modalities import fusion, mechanism
from cytofast.modalities.align import align
from cytofast.modalities.mechanism import Mechanism, oversampled, weighted_f1

QUICK = Mechanism("Metadata_moa", classifiers=["logistic"], fusions=["early", "late", "cca"], folds=4, inner_folds=2)


def three_classes(n=90, signal=2.5, doses=1, seed=0, labels=None):
    """Morphology tells the first class from the others, expression the last one."""
    rng = np.random.default_rng(seed)
    compound = np.repeat(np.arange(n // doses), doses)
    moa = compound % 3
    shown = signal * np.stack([moa == 0, moa == 2], axis=1)
    sides = []
    for axis, width in ((0, 8), (1, 15)):
        x = rng.normal(size=(n, width))
        x[:, :3] += shown[:, [axis]]
        sides.append(x)
    keys = {"Metadata_pert": compound, "Metadata_dose": np.arange(n) % doses}
    keys["Metadata_moa"] = [f"class {m}" for m in moa] if labels is None else labels
    frames = [pl.DataFrame(keys).hstack(pl.DataFrame(x, schema=[f"f_{i}" for i in range(x.shape[1])])) for x in sides]
    on = ["Metadata_pert", "Metadata_dose"]
    return align(*frames, on, a_features="f_", b_features="f_", names=("morphology", "expression"), level="replicate")


def test_fusion_beats_either_modality_alone():
    found = replace(QUICK, folds=6, smallest_class=6).classify(three_classes(180))
    f1 = dict(found.summary().select("space", "weighted_f1").rows())
    assert min(f1["early"], f1["late"]) > max(f1["morphology"], f1["expression"]) + 0.1
    assert f1["cca"] > max(f1["morphology"], f1["expression"])
    summary = found.summary().filter(space="early").row(0, named=True)
    assert summary["lower"] < summary["weighted_f1"] < summary["upper"]
    assert found.summary(0.9999)["upper"].max() <= 1
    assert found.summary(0.9999)["lower"].min() >= 0
    assert summary["chance_f1"] == pytest.approx(1 / 3, abs=0.05)
    assert summary["p_value"] == pytest.approx(1 / 1001)
    compared = found.compare().filter(one="morphology", other="early").row(0, named=True)
    assert compared["upper"] < 0
    assert compared["p_value"] < 0.05
    assert found.per_class().height == 5 * 3
    assert found.predictions.height == 5 * 180


def test_a_network_classifies_as_well(monkeypatch):
    monkeypatch.setitem(mechanism._STRENGTHS, "mlp", (0.1, 1.0))
    question = replace(QUICK, classifiers=["mlp"], fusions=["early"], folds=2, inner_folds=2)
    f1 = dict(question.classify(three_classes(60)).summary().select("space", "weighted_f1").rows())
    assert f1["early"] > 0.7


def test_fusion_by_rgcca():
    pytest.importorskip("cca_zoo", reason="fusion by RGCCA needs cca-zoo (the extra `fusion`)")
    found = replace(QUICK, fusions=["rgcca"], components=6).classify(three_classes())
    f1 = dict(found.summary().select("space", "weighted_f1").rows())
    assert f1["rgcca"] > max(f1["morphology"], f1["expression"])


def test_without_its_package_rgcca_is_left_out_aloud(monkeypatch):
    monkeypatch.setattr(fusion.importlib.util, "find_spec", lambda name: None)
    with pytest.warns(ProfileWarning, match="cytofast\\[fusion\\]"):
        assert fusion.chosen_fusions(None) == ("early", "late")
    with pytest.raises(RecipeError, match="needs cca-zoo"):
        fusion.chosen_fusions(["rgcca"])
    with pytest.raises(RecipeError, match="unknown fusion 'middle'"):
        fusion.chosen_fusions(["middle"])


def test_labels_without_a_signal_are_chance():
    found = replace(QUICK, fusions=["early"]).classify(three_classes(signal=0.0))
    summary = found.summary()
    assert (summary["weighted_f1"] < summary["chance_p95"] + 0.05).all()


def test_doses_of_a_perturbation_are_never_on_both_sides():
    found = replace(QUICK, fusions=["early"]).classify(three_classes(120, doses=4))
    folds = found.predictions.group_by("Metadata_pert").agg(pl.col("fold").n_unique())
    assert folds["fold"].max() == 1


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    assert weighted_f1(truth, found, 4) == pytest.approx(f1_score(truth, found, average="weighted"))


def test_oversampling_evens_the_classes_out_and_keeps_every_row():
    classes = np.array([0, 0, 0, 0, 2, 2, 3])
    chosen = oversampled(classes, 0)
    assert set(chosen) == set(range(7))
    assert np.bincount(classes[chosen]).tolist() == [4, 0, 4, 4]


def test_clusters_find_classes_that_are_there():
    planted = three_classes(signal=6.0)
    table = QUICK.cluster(planted)
    assert table["space"].unique(maintain_order=True).to_list() == ["morphology", "expression", "early", "cca"]
    early = table.filter(space="early")
    assert early["jaccard"].min() > 0.8
    assert early["p_value"].max() == pytest.approx(1 / 201)
    assert table.filter(space="morphology")["adjusted_rand"][0] < early["adjusted_rand"][0]
    assert early["chance_jaccard"].max() < 0.4


def test_a_class_of_one_compound_and_rows_of_several_classes_are_left_out_and_counted():
    labels = [f"class {m % 3}" for m in range(90)]
    labels[:5] = [None, "rare", "class 0| class 1", "class 0|rare", "rare"]
    planted = three_classes(labels=labels)
    strict = replace(QUICK, several="leave_out").labelled(planted)
    assert strict.notes.rows() == [
        ("left out: no label", 1),
        ("left out: classes of fewer than 5 perturbations", 2),
        ("left out: several classes", 1),
    ]
    assert strict.table().rows() == [("class 0", 29, 29), ("class 1", 28, 28), ("class 2", 29, 29)]
    # Class 0 has 30 members at first; class 1 has 29 and so is the more specific.
    found = QUICK.labelled(planted)
    assert found.notes.rows()[-1] == ("several classes: counted as the rarest", 1)
    assert found.table().rows() == [("class 0", 29, 29), ("class 1", 29, 29), ("class 2", 29, 29)]


def test_a_class_that_goes_gives_its_rows_to_others():
    labels = ["a|b"] * 5 + ["a"] * 4 + ["c"] * 6 + ["b"]
    found = replace(QUICK, several="leave_out", classifiers=["logistic"]).labelled(three_classes(16, labels=labels))
    assert found.table().rows() == [("a", 9, 9), ("c", 6, 6)]


def test_bad_questions_are_told():
    single = three_classes(12, labels=[f"own {i}" for i in range(12)])
    with pytest.raises(DataError, match=r"0 classes of 'Metadata_moa' have at least 5 perturbations.*'own 0: 1'"):
        QUICK.classify(single)
    with pytest.raises(RecipeError, match="smallest_class=3 is too small for 4 folds"):
        replace(QUICK, smallest_class=3)
    with pytest.raises(RecipeError, match="classifier 'forest'"):
        replace(QUICK, classifiers=["forest"])


def test_a_modality_that_tells_nothing_has_no_space_in_common():
    planted = three_classes(30)
    flat = replace(planted, a=replace(planted.a, values=np.ones_like(planted.a.values)))
    alone = replace(QUICK, fusions=["early"], folds=2).classify(flat).summary()
    assert alone["space"].to_list() == ["morphology", "expression", "early"]
    with pytest.raises(DataError, match="every feature of morphology is constant"):
        replace(QUICK, fusions=["cca"]).classify(flat)
    with pytest.raises(DataError, match="every feature of morphology is constant"):
        QUICK.cluster(flat)


def test_rows_that_are_missing_values_are_told():
    planted = three_classes(30)
    values = planted.b.values.copy()
    values[2, 1] = np.nan
    with pytest.raises(DataError, match="expression: 1 features have NaN"):
        QUICK.classify(replace(planted, b=replace(planted.b, values=values)))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"folds": "3"}, "folds"), ({"inner_folds": 1}, "inner_folds"), ({"seed": -1}, "seed"), ({"seed": 2**40}, "seed"),
        ({"components": 0}, "components"), ({"shrinkage": 1.5}, "shrinkage"), ({"separator": ""}, "separator"),
        ({"smallest_class": 5.5}, "smallest_class"), ({"classifiers": "logistic"}, r"\['logistic'\]"),
        ({"classifiers": []}, "classifier"), ({"classifiers": ["logistic", "logistic"]}, "more than once"),
        ({"fusions": ["early", "early"]}, "more than once"), ({"fusions": "early"}, r"\['early'\]"),
        ({"fusions": ["middle"]}, "unknown fusion 'middle'"), ({"groups": []}, "groups"),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_make_no_sense_are_told(wrong, told):
    with pytest.raises(RecipeError, match=told):
        replace(QUICK, **wrong).classify(three_classes(30))


def test_a_modality_may_not_be_called_as_a_fusion_is():
    planted = three_classes(30)
    with pytest.raises(RecipeError, match="'late' is a fusion"):
        QUICK.classify(replace(planted, a=replace(planted.a, name="late")))


def test_categories_are_labels_as_text_is():
    planted = three_classes(30)
    other = replace(planted, metadata=planted.metadata.with_columns(pl.col("Metadata_moa").cast(pl.Categorical)))
    assert QUICK.labelled(other).table().rows() == QUICK.labelled(planted).table().rows()


@pytest.mark.parametrize("seed", range(2))
def test_a_test_fold_changes_no_probability_of_another(seed):
    """What stands in a held-out row changes its own prediction alone, not those of rows in its fold."""
    planted = three_classes(45, seed=seed)
    question = replace(QUICK, fusions=["early", "late", "cca"], folds=3, seed=seed)
    before = question.classify(planted)
    row = int(np.flatnonzero(before.fold == 0)[0])
    values = planted.a.values.copy()
    values[row] = 1e3
    after = question.classify(replace(planted, a=replace(planted.a, values=values)))
    mates = (before.fold == 0) & (np.arange(45) != row)
    np.testing.assert_allclose(after.probabilities[:, :, mates], before.probabilities[:, :, mates], atol=1e-12)


def test_jaccard_of_a_class_is_that_of_its_best_cluster():
    from cytofast.modalities.mechanism import _jaccard

    rng = np.random.default_rng(0)
    classes, clusters = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    best = [max(jaccard_score(classes == c, clusters == k) for k in range(3)) for c in range(3)]
    np.testing.assert_allclose(_jaccard(classes, clusters, 3), best)
