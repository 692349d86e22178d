from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from cytofast.errors import CytofastError, DataError, ProfileWarning, RecipeError, SchemaError, StoreError
from cytofast.modalities import network
from cytofast.modalities.align import align
from cytofast.modalities.predict import CrossModalPrediction
from cytofast.resources import limits
from tests.modalities.planted import pair

QUICK = CrossModalPrediction(model="ridge", inner_folds=3)


@pytest.mark.parametrize("model", ["lasso", "ridge", "mlp"])
def test_shared_targets_reach_their_ceiling_and_others_chance(model):
    quick = CrossModalPrediction(model=model, inner_folds=3, n_penalties=30)
    if model == "mlp":
        quick = replace(quick, folds=2, inner_folds=2, penalties=[0.1])
    found = quick.predict(pair(), "morphology")
    medians = found.summary()["median_r2"].to_numpy()
    ceiling = 1 / (1 + 0.3**2)
    assert abs(medians[:6] - ceiling).max() < (0.4 if model == "mlp" else 0.12)
    assert medians[6:].max() < found.threshold
    percent = found.percent_predictable().row(0, named=True)
    assert percent["percent"] == 30.0
    assert percent["lower"] < 30.0 < percent["upper"]


def test_both_directions_are_asked_by_name():
    planted = pair()
    back = QUICK.predict(planted, "expression")
    assert (back.source, back.target, len(back.targets)) == ("expression", "morphology", 30)
    assert QUICK.predict(planted).source == "morphology"
    with pytest.raises(RecipeError, match="modality 'genes'"):
        QUICK.predict(planted, "genes")


def test_the_planted_percentage_lies_in_its_interval():
    """Of a population of targets of which 30 percent are predictable, 20 are measured."""
    question = CrossModalPrediction(model="ridge", inner_folds=2, penalties=10.0 ** np.arange(-1, 5))
    inside = 0
    for seed in range(100):
        shared = int((np.random.default_rng(seed).random(20) < 0.3).sum())
        planted = pair(seed=seed, n=60, shared=shared, alone=20 - shared)
        row = question.predict(planted).percent_predictable(200).row(0, named=True)
        inside += row["lower"] <= 30.0 <= row["upper"]
    assert inside >= 90


def test_with_shuffled_labels_nothing_passes():
    for seed in range(20):
        planted = pair(seed=seed)
        order = np.random.default_rng(seed).permutation(len(planted))
        broken = replace(planted, b=replace(planted.b, values=planted.b.values[order]))
        assert QUICK.predict(broken).percent_predictable()["n_predictable"].item() == 0


@pytest.mark.parametrize("model", ["lasso", "ridge", "mlp"])
def test_the_published_leak_scores_higher_on_noise_and_says_so(model, monkeypatch):
    # One shape of network: what is asked here is who sees the test fold, not which shape is best.
    monkeypatch.setattr(network, "HIDDEN", network.HIDDEN[:1])
    noise = pair(n=40, p=10, shared=0, alone=10)
    question = CrossModalPrediction(model=model, inner_folds=3)
    if model == "mlp":
        question = replace(question, folds=2, inner_folds=2, penalties=[0.1])
    honest = question.predict(noise)
    leaked = replace(question, compat="rosetta").predict(noise)
    plain = replace(question, compat="rosetta-unleaked").predict(noise)
    assert np.median(leaked.r2) > np.median(plain.r2)
    assert np.median(leaked.r2) > np.median(honest.r2)
    assert np.median(honest.r2) <= 0
    assert honest.compat is None
    assert not honest.notes
    assert "LEAKED" in leaked.notes[0]
    assert "without its leak" in plain.notes[0]


def test_all_doses_of_a_perturbation_are_held_out_together():
    """Doses share a target that has nothing to do with the features, but for a fingerprint of the compound."""
    rng = np.random.default_rng(0)
    compound = np.repeat(np.arange(30), 4)
    x = rng.normal(size=(30, 40))[compound] + 0.01 * rng.normal(size=(120, 40))
    y = rng.normal(size=(30, 5))[compound]
    keys = {"Metadata_pert": compound, "Metadata_dose": np.arange(120) % 4}
    frames = [pl.DataFrame(keys).hstack(pl.DataFrame(m, schema=[f"f_{i}" for i in range(m.shape[1])])) for m in (x, y)]
    planted = align(*frames, ["Metadata_pert", "Metadata_dose"], a_features="f_", b_features="f_")
    assert np.median(QUICK.predict(planted).r2) < 0.1
    torn = replace(QUICK, groups=["Metadata_pert", "Metadata_dose"])
    assert np.median(torn.predict(planted).r2) > 0.9
    with pytest.raises(RecipeError, match="tears 30 groups"):
        replace(QUICK, folds=(np.arange(120) % 2).tolist()).predict(planted)


def test_the_answer_does_not_depend_on_threads_and_a_stopped_run_goes_on(tmp_path):
    planted = pair()
    question = CrossModalPrediction(inner_folds=3, n_penalties=10)
    seen = []
    with limits(threads=1):
        whole = question.predict(planted, progress=lambda what, done, total: seen.append((done, total)))
    assert seen == [(i, 10) for i in range(1, 11)]

    class StoppedError(Exception):
        pass

    def stop(what, done, total):
        if done == 4:
            raise StoppedError

    with pytest.raises(StoppedError), limits(threads=1):
        question.predict(planted, checkpoint=tmp_path / "parts", progress=stop)
    kept = sorted(tmp_path.glob("parts/*.parquet"))
    times = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) == 4
    with limits(threads=2):
        resumed = question.predict(planted, checkpoint=tmp_path / "parts")
    assert [path.stat().st_mtime_ns for path in kept] == times
    np.testing.assert_array_equal(resumed.r2, whole.r2)
    np.testing.assert_array_equal(resumed.null_r2, whole.null_r2)
    np.testing.assert_array_equal(resumed.coefficients, whole.coefficients)
    with pytest.raises(StoreError, match="another computation"):
        replace(question, seed=1).predict(planted, checkpoint=tmp_path / "parts")


def test_parts_are_smaller_where_features_are_many():
    """So that Ctrl-C is heard, and little is lost."""
    question = CrossModalPrediction(folds=2, inner_folds=2, penalties=[100.0])
    for features, parts in ((30, 4), (900, 12)):
        seen = []
        planted = pair(n=12, p=features, shared=2, alone=38)
        question.predict(planted, progress=lambda what, done, total, seen=seen: seen.append(total))
        assert set(seen) == {parts}


def test_explain_names_the_planted_features():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(100, 8))
    y = np.stack([2 * x[:, 1] - x[:, 4] + 0.1 * rng.normal(size=100), rng.normal(size=100)], axis=1)
    key = pl.DataFrame({"Metadata_pert": np.arange(100)})
    a = key.hstack(pl.DataFrame(x, schema=[f"f_{i}" for i in range(8)]))
    b = key.hstack(pl.DataFrame(y, schema=["g_0", "g_1"]))
    found = CrossModalPrediction(inner_folds=3).predict(align(a, b, "Metadata_pert", a_features="f_", b_features="g_"))
    top = found.explain("g_0", 2)
    assert top["feature"].to_list() == ["f_1", "f_4"]
    assert top["stability"].to_list() == [1.0, 1.0]
    spread = x.std(axis=0)
    assert top["coefficient"].to_list() == pytest.approx([2 * spread[1], -spread[4]], rel=0.1)
    assert found.explain("f_4")["target"][0] == "g_0"
    with pytest.raises(RecipeError, match="did you mean 'f_4'"):
        found.explain("f_44")


def test_training_on_one_data_set_and_testing_on_another():
    planted = pair(n=120)
    half = np.arange(60), np.arange(60, 120)
    found = QUICK.transfer(planted.only(half[0]), planted.only(half[1]), "morphology")
    assert found.r2.shape == (20, 1)
    assert found.summary()["predictable"].to_list() == [True] * 6 + [False] * 14
    overlapping = QUICK.transfer(planted.only(np.arange(70)), planted.only(half[1]))
    assert overlapping.notes[0].startswith("10 rows of the training set are left out")
    np.testing.assert_array_equal(overlapping.r2, found.r2)


def test_a_test_fold_changes_nothing_that_is_learned():
    """Whatever stands in it: neither scale, nor penalty, nor coefficients."""
    planted = pair(n=40, doses=2)
    fold = (np.arange(40) // 2) % 4
    test = fold == 0
    other = replace(
        planted,
        a=replace(planted.a, values=np.where(test[:, None], 1e3 * planted.a.values + 7, planted.a.values)),
        b=replace(planted.b, values=np.where(test[:, None], 3 - 50 * planted.b.values, planted.b.values)),
    )
    for model in ("lasso", "ridge"):
        question = CrossModalPrediction(model=model, folds=fold.tolist(), inner_folds=3, n_penalties=20)
        one, two = question.predict(planted), question.predict(other)
        np.testing.assert_array_equal(one.coefficients[0], two.coefficients[0])
        np.testing.assert_array_equal(one.penalty[:, 0], two.penalty[:, 0])


def test_a_checkpoint_of_other_data_or_another_version_is_refused(tmp_path, monkeypatch):
    planted = pair(n=30)
    QUICK.predict(planted, checkpoint=tmp_path / "parts")
    values = planted.b.values.copy()
    values[3, 4] += 1e-9
    for other in (
        replace(planted, b=replace(planted.b, values=values)),
        replace(planted, b=replace(planted.b, features=planted.b.features[::-1])),
    ):
        with pytest.raises(StoreError, match="another computation"):
            QUICK.predict(other, checkpoint=tmp_path / "parts")
    monkeypatch.setattr("cytofast.modalities.predict.version", lambda name: "0")
    with pytest.raises(StoreError, match="another computation"):
        QUICK.predict(planted, checkpoint=tmp_path / "parts")


def test_a_damaged_part_is_told(tmp_path):
    QUICK.predict(pair(n=30), checkpoint=tmp_path)
    part = sorted(tmp_path.glob("*.parquet"))[0]
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(CytofastError, match=part.name):
        QUICK.predict(pair(n=30), checkpoint=tmp_path)


def test_data_sets_that_cannot_be_transferred_between_are_told():
    planted = pair(n=40)
    one, two = planted.only(np.arange(20)), planted.only(np.arange(20, 40))
    with pytest.raises(DataError, match="all 40 rows of the training set belong to groups of the test set"):
        QUICK.transfer(planted, planted)
    numbers = two.metadata.with_columns(pl.Series("Metadata_pert", np.arange(20)))
    with pytest.raises(SchemaError, match=r"groups .* of other types.*cast"):
        QUICK.transfer(one, replace(two, metadata=numbers))
    with pytest.raises(SchemaError, match="no column 'Metadata_pert'"):
        QUICK.transfer(one, replace(two, metadata=two.metadata.drop("Metadata_pert")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"folds": "5"}, {"folds": 2.5}, {"folds": None}, {"folds": 1}, {"folds": ["a"] * 40}, {"seed": -1},
        {"seed": 0.5}, {"inner_folds": "3"}, {"inner_folds": 1}, {"n_penalties": 0}, {"null_rounds": 1.5},
        {"margin": float("nan")}, {"quantile": 1.0}, {"smallest": "x"}, {"penalties": 5.0}, {"penalties": "abc"},
        {"penalties": [float("inf")]}, {"penalties": []}, {"groups": []},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_make_no_sense_are_told(wrong):
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        replace(QUICK, **wrong).predict(pair(n=40))


def test_numbers_of_numpy_are_numbers():
    question = replace(QUICK, folds=np.int64(4), inner_folds=np.int32(3), seed=np.int64(0))
    plain = replace(QUICK, folds=4)
    np.testing.assert_array_equal(question.predict(pair(n=30)).r2, plain.predict(pair(n=30)).r2)


def test_a_name_of_both_modalities_is_asked_for_by_its_kind():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    key = pl.DataFrame({"Metadata_pert": np.arange(40)})
    sides = [key.hstack(pl.DataFrame(m, schema=["f_0", "f_1"])) for m in (x, x[:, ::-1])]
    found = QUICK.predict(align(*sides, "Metadata_pert", a_features="f_", b_features="f_"))
    with pytest.raises(RecipeError, match="both a target and a feature"):
        found.explain("f_0")
    assert found.explain("f_0", what="target")["feature"][0] == "f_1"
    assert found.explain("f_0", what="feature")["target"][0] == "f_1"
    with pytest.raises(RecipeError, match="unknown feature 'g_0'"):
        found.explain("g_0", what="feature")


def test_missing_values_and_folds_of_one_row_are_told_before_any_work():
    planted = pair(n=40)
    for side in ("a", "b"):
        modality = getattr(planted, side)
        values = modality.values.copy()
        values[3, 2] = np.nan
        broken = replace(planted, **{side: replace(modality, values=values)})
        with pytest.raises(DataError, match=rf"{modality.name}: 1 features .*{modality.features[2]}"):
            QUICK.predict(broken)
    with pytest.raises(DataError, match=r"40 folds of 40 rows.*at least two rows"):
        CrossModalPrediction(folds=40).predict(planted)


def test_bad_input_is_told():
    planted = pair(n=40)
    with pytest.raises(DataError, match="40 groups cannot make 41 folds"):
        CrossModalPrediction(folds=41).predict(planted)
    flat = replace(planted, b=replace(planted.b, values=np.ones_like(planted.b.values)))
    with pytest.raises(DataError, match="every target has the same value"):
        QUICK.predict(flat)
    values = planted.b.values.copy()
    values[:, 3] = 7.0
    with pytest.warns(ProfileWarning, match="1 constant targets are left out: 'g_3'"):
        found = QUICK.predict(replace(planted, b=replace(planted.b, values=values)))
    assert len(found.targets) == 19
    # A target that varies in training rows only has no score there.
    values = planted.b.values.copy()
    values[1:, 2] = 0.0
    found = QUICK.predict(replace(planted, b=replace(planted.b, values=values)))
    assert "4 scores are undefined" in found.notes[0]
    assert found.summary()["n_folds"][2] == 1
    with pytest.raises(RecipeError, match="unknown model"):
        CrossModalPrediction(model="forest")
    with pytest.raises(RecipeError, match="null_rounds"):
        CrossModalPrediction(null_rounds=0)
