import numpy as np
import polars as pl
import pytest

from cytofast.errors import DataError, ProfileWarning, RecipeError
from cytofast.retrieval.replication import (
    percent_matching,
    percent_replicating,
    replicate_correlation,
    replicate_scores,
)


def table(x, **metadata):
    return pl.DataFrame(metadata).hstack(pl.DataFrame({f"Cells_f{i}": x[:, i] for i in range(x.shape[1])}))


def replicates(n=30, k=4, signal=1.0, seed=0, f=20):
    rng = np.random.default_rng(seed)
    pert = np.repeat(np.arange(n), k)
    x = signal * rng.normal(size=(n, f))[pert] + rng.normal(size=(n * k, f))
    return x, pert


def test_replicate_correlation_is_the_mean_over_pairs():
    x, pert = replicates(n=12, k=3)
    found = replicate_correlation(table(x, Metadata_p=pert), "Metadata_p")
    for p, value in zip(found["Metadata_p"], found["replicate_correlation"], strict=True):
        r = np.corrcoef(x[pert == p])
        assert value == pytest.approx(r[np.triu_indices(3, 1)].mean())
    assert found["n_profiles"].to_list() == [3] * 12


def test_replicates_without_signal_are_beyond_their_null_as_often_as_it_says():
    x, pert = replicates(n=600, k=3, signal=0.0)
    quality = replicate_correlation(table(x, Metadata_p=pert), "Metadata_p", null_size=4000)["high_quality"].mean()
    assert quality == pytest.approx(0.1, abs=0.035)
    percent = percent_replicating(table(x, Metadata_p=pert), "Metadata_p", null_size=4000)
    assert percent["percent"].item() == pytest.approx(5, abs=2.5)
    assert percent["lower"].item() < percent["percent"].item() < percent["upper"].item()
    both = percent_replicating(table(x, Metadata_p=pert), "Metadata_p", side="both", null_size=4000)
    assert both["percent"].item() == pytest.approx(10, abs=3.5)


def test_replicates_with_signal_replicate():
    x, pert = replicates(signal=2.0)
    assert percent_replicating(table(x, Metadata_p=pert), "Metadata_p")["percent"].item() == 100.0


def test_a_matched_null_knows_of_positions():
    """Wells at one position are alike whatever is in them: replicates at one position prove nothing."""
    rng = np.random.default_rng(1)
    wells, plates, f = 24, 6, 20
    position = np.tile(np.arange(wells), plates)
    layout = np.repeat(np.arange(plates), wells) // 2
    x = 2 * rng.normal(size=(wells, f))[position] + rng.normal(size=(wells * plates, f))
    frame = table(x, Metadata_p=position + wells * layout, Metadata_Well=position)
    naive = percent_replicating(frame, "Metadata_p")["percent"].item()
    matched = percent_replicating(frame, "Metadata_p", match="Metadata_Well", null_size=3000)["percent"].item()
    assert naive > 90
    assert matched < 20


def test_matching_needs_other_perturbations_and_takes_multilabels():
    rng = np.random.default_rng(2)
    target = np.repeat(np.arange(15), 3)
    x = 1.5 * rng.normal(size=(15, 20))[target] + rng.normal(size=(45, 20))
    doubled = np.vstack([x, x])
    compound = np.tile(np.arange(45), 2)
    frame = table(doubled, Metadata_t=np.tile(target, 2), Metadata_c=compound)
    scores = replicate_scores(frame, "Metadata_t", diffby="Metadata_c")
    assert scores["n_pairs"].to_list() == [12] * 15
    assert percent_matching(frame, "Metadata_t", diffby="Metadata_c")["percent"].item() > 90
    text = table(x, Metadata_t=[f"G{t}|other{i}" for i, t in enumerate(target)])
    found = percent_matching(text, "Metadata_t", multilabel="Metadata_t")
    assert found["n_perturbations"].item() == 15
    assert found["n_untested"].item() == 45
    assert found["percent"].item() > 90


def test_results_belong_to_the_seed():
    x, pert = replicates(signal=0.4)
    frame = table(x, Metadata_p=pert)
    assert replicate_correlation(frame, "Metadata_p", seed=3).equals(replicate_correlation(frame, "Metadata_p", seed=3))


def test_single_profiles_unnamed_ones_and_hopeless_nulls():
    x, pert = replicates(n=5, k=2)
    frame = table(x, Metadata_p=[None if p == 4 else int(p) for p in pert]).vstack(table(x[:1], Metadata_p=[9]))
    with pytest.warns(ProfileWarning, match="2 of 11 profiles left out"):
        found = replicate_correlation(frame, "Metadata_p")
    assert found["replicate_correlation"].to_list()[-1] is None
    assert found["high_quality"].to_list()[-1] is None
    with pytest.raises(DataError, match="strangers to each other"):
        replicate_correlation(table(x, Metadata_p=[0] * 10), "Metadata_p")
    with pytest.raises(RecipeError, match="null_size"):
        replicate_correlation(table(x, Metadata_p=pert), "Metadata_p", null_size=0)
    with pytest.raises(RecipeError, match="side"):
        percent_replicating(frame, "Metadata_p", side="up")
    with pytest.raises(DataError, match="says nothing"):
        replicate_correlation(table(x[:, :2], Metadata_p=pert), "Metadata_p")
    with pytest.raises(DataError, match="may be compared"):
        percent_replicating(table(x, Metadata_p=np.arange(10)), "Metadata_p")
