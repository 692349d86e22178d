"""Well-level steps on real data, against results that were published with it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cytofast.steps.consensus import Consensus
from cytofast.steps.correct import MedianPolish, Sphere
from cytofast.steps.normalize import RobustMAD
from cytofast.steps.select import (
    DropCorrelated,
    DropListed,
    DropLowFrequency,
    DropLowVariance,
    DropMissing,
    FeatureSelect,
    standard_blocklist,
)


@pytest.fixture(scope="module")
def normalized(real_data: Path) -> pl.DataFrame:
    """BBBC021 as its published selection was made from: MAD over all 632 wells at once."""
    raw = pl.read_csv(real_data / "bbbc021" / "BBBC021_annotated_rebuilt.csv.gz", infer_schema_length=None)
    return RobustMAD(by=None, zero_scale="divide", epsilon=1e-18)(raw)


def features_of(frame: pl.DataFrame) -> set[str]:
    return {name for name in frame.columns if name.startswith(("Cells_", "Cytoplasm_", "Nuclei_"))}


def test_the_published_features_of_bbbc021(normalized, real_data):
    file = pl.read_csv(real_data / "bbbc021" / "BBBC021_feature_selected_mad_robustize.csv", infer_schema_length=None)
    published = features_of(file)
    assert len(published) == 189
    rest = [DropCorrelated(), DropMissing(), DropListed()]
    old = FeatureSelect([DropLowFrequency(), *rest])
    mine = features_of(old(normalized))
    # Two features are the same column, so which of them goes was left to rounding; nothing else differs.
    ours, theirs = "Nuclei_Neighbors_SecondClosestDistance_10", "Nuclei_Neighbors_SecondClosestDistance_20"
    assert mine ^ published == {ours, theirs}
    np.testing.assert_allclose(normalized[ours].to_numpy(), normalized[theirs].to_numpy(), rtol=1e-12)
    why = old.fit(normalized).filter(~pl.col("kept"), feature=theirs).row(0, named=True)
    assert (why["step"], why["partner"]) == ("drop_correlated", ours)
    assert why["r"] == pytest.approx(1, abs=1e-12)
    # Since pycytominer 1.7 "variance_threshold" is another rule, which lets two coarse features pass: 191.
    new = features_of(FeatureSelect([DropLowVariance(), *rest])(normalized))
    assert new - mine == {"Cells_Children_Cytoplasm_Count", "Nuclei_AreaShape_EulerNumber"}
    assert mine < new


def test_every_dropped_feature_has_a_reason(normalized):
    select = FeatureSelect([DropLowFrequency(), DropCorrelated(), DropMissing(), DropListed()])
    report = select.fit(normalized)
    kept = features_of(select.apply(normalized, report))
    dropped = report.filter(~pl.col("kept"))
    assert set(dropped["feature"]) | kept == features_of(normalized)
    assert not set(dropped["feature"]) & kept
    for row in dropped.iter_rows(named=True):
        if row["step"] == "drop_correlated":
            assert row["r"] > 0.9
            x, y = normalized[row["feature"]].to_numpy(), normalized[row["partner"]].to_numpy()
            assert row["r"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
        else:
            assert row["value"] < row["threshold"]


def test_sphered_controls_have_covariance_one(normalized):
    selected = FeatureSelect([DropLowFrequency(), DropCorrelated()])(normalized)
    control = "Metadata_Compound = 'DMSO'"
    sphered = Sphere(epsilon=0.0, reference=control)(selected).filter(pl.col("Metadata_Compound") == "DMSO")
    values = sphered.select(sorted(features_of(sphered))).to_numpy()
    np.testing.assert_allclose(np.cov(values.T), np.eye(values.shape[1]), atol=1e-6)


@pytest.mark.filterwarnings("ignore::cytofast.ProfileWarning")
def test_all_516_features_with_copies_among_them_are_sphered_to_their_rank(normalized):
    fit = Sphere(method="ZCA", epsilon=0.0).fit(normalized)
    values = normalized.select(fit["feature"].to_list()).to_numpy()
    assert fit["rank"][0] <= np.linalg.matrix_rank(values - values.mean(axis=0))
    sphered = Sphere(method="PCA", epsilon=0.0).apply(normalized, fit)
    rank = fit["rank"][0]
    scores = sphered.select(f"PC_{k}" for k in range(1, rank + 1)).to_numpy()
    np.testing.assert_allclose(np.cov(scores.T), np.eye(rank), atol=1e-6)


def test_consensus_of_treatments(normalized):
    by = ["Metadata_Compound", "Metadata_Concentration"]
    profiles = Consensus(by, method="modz")(normalized)
    assert profiles.height == 104
    assert profiles["Metadata_Replicate_Count"].sum() == 632
    # Replicates of a treatment agree more than random wells do.
    shuffled = normalized.with_columns(pl.col(by).shuffle(seed=0))
    mean = profiles["Metadata_Replicate_Correlation"].mean()
    assert mean > Consensus(by, method="modz")(shuffled)["Metadata_Replicate_Correlation"].mean() + 0.2


def test_polish_flattens_a_real_plate(real_data):
    profiles = pl.read_parquet(real_data / "nelisa" / "profiles.parquet")
    profiles = profiles.with_columns(pl.col("Metadata_user_sample_well_loc").alias("Metadata_Well"))
    metadata = ["Metadata_Plate", "Metadata_Well"]
    features = [n for n, t in profiles.schema.items() if t.is_float() and not n.startswith("Metadata_")][:20]
    polished = MedianPolish(features=features, max_iterations=30, tolerance=1e-6)(profiles.select(*metadata, *features))
    row = pl.col("Metadata_Well").str.slice(0, 1)
    before = profiles.group_by("Metadata_Plate", row).agg(pl.col(features).median())
    after = polished.group_by("Metadata_Plate", row).agg(pl.col(features).median())
    assert after.select(pl.col(features).abs().max()).max_horizontal()[0] < 0.05
    assert before.select(pl.col(features).std()).max_horizontal()[0] > 0.05


def test_the_blocklist_is_the_fields():
    names = standard_blocklist()
    assert len(names) == len(set(names)) == 55
    assert all(name.startswith("Nuclei_") for name in names)
