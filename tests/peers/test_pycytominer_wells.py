"""The same features as pycytominer 1.7.1, rule by rule; where it leaves a choice to rounding, that is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("pycytominer")
pytestmark = pytest.mark.filterwarnings("ignore")

import pandas as pd  # noqa: E402
from pycytominer import consensus, feature_select, normalize  # noqa: E402

from cytofast.steps.consensus import Consensus  # noqa: E402
from cytofast.steps.correct import Sphere  # noqa: E402
from cytofast.steps.select import (  # noqa: E402
    DropCorrelated,
    DropListed,
    DropLowFrequency,
    DropLowVariance,
    DropMissing,
    DropNoisy,
    DropOutliers,
    FeatureSelect,
)

RULES = [
    ("drop_na_columns", {}, DropMissing()),
    ("drop_na_columns", {"na_cutoff": 0.02}, DropMissing(0.02)),
    ("variance_threshold", {}, DropLowVariance()),
    ("variance_threshold", {"min_variance": 0.5}, DropLowVariance(0.5)),
    ("frequency_threshold", {}, DropLowFrequency()),
    ("frequency_threshold", {"freq_cut": 0.5, "unique_cut": 0.2}, DropLowFrequency(0.5, 0.2)),
    ("correlation_threshold", {}, DropCorrelated()),
    ("correlation_threshold", {"corr_threshold": 0.5}, DropCorrelated(0.5)),
    ("correlation_threshold", {"corr_method": "spearman"}, DropCorrelated(method="spearman")),
    ("drop_outliers", {"outlier_cutoff": 20}, DropOutliers(20)),
    ("blocklist", {}, DropListed()),
]


def synthetic(gaps: bool) -> pd.DataFrame:
    """Twenty plates of 96 wells, 160 features: correlated ones, coarse ones, constants, and gaps in one of four."""
    rng = np.random.Generator(np.random.PCG64(7))
    n, f = 20 * 96, 160
    x = rng.normal(size=(n, 12)) @ rng.normal(size=(12, f)) + rng.normal(size=(n, f)) * rng.uniform(0.2, 3, size=f)
    x[:, 40:60] = np.round(x[:, 40:60])
    x[:, 60] = 3.0
    if gaps:
        x[:, 100:140] = np.where(rng.random((n, 40)) < 0.04, np.nan, x[:, 100:140])
        x[:150, 141] = np.nan
    frame = pd.DataFrame(x, columns=[f"Cells_Intensity_f{i}" for i in range(f)])
    frame.insert(0, "Metadata_pert", [f"T{i % 30}" for i in range(n)])
    frame.insert(0, "Metadata_Plate", np.repeat([f"P{i}" for i in range(20)], 96))
    return frame


def bbbc021(real_data: Path) -> pd.DataFrame:
    return pd.read_csv(real_data / "bbbc021" / "BBBC021_annotated_rebuilt.csv.gz")


@pytest.fixture(scope="module", params=["synthetic", "gaps", "bbbc021", "cytominer_r"])
def profiles(request, real_data) -> pd.DataFrame:
    if request.param in {"synthetic", "gaps"}:
        return synthetic(request.param == "gaps")
    if request.param == "bbbc021":
        return bbbc021(real_data)
    return pd.read_csv(real_data / "cytominer_r" / "fixture_intensities.csv").select_dtypes("float")


def features_of(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame.columns if not c.startswith("Metadata_")]


def copies(frame: pd.DataFrame, method: str) -> set[str]:
    """Features that equal another one exactly, or in their ranks: their sums of correlations are equal but for rounding."""
    ranked = frame.rank() if method == "spearman" else frame
    return set(ranked.columns[ranked.T.duplicated(keep=False)])


@pytest.mark.parametrize(("operation", "options", "step"), RULES, ids=lambda v: v if isinstance(v, str) else "")
def test_each_rule_keeps_the_same_features(profiles, operation, options, step):
    features = features_of(profiles)
    peer = set(feature_select(profiles, features=features, operation=operation, **options)) & set(features)
    mine = set(replace(step, features=features)(pl.from_pandas(profiles)).columns) & set(features)
    differing = peer ^ mine
    # Of exact copies pycytominer drops the one that rounding and an unstable sort put last; here the first one stays.
    assert differing <= copies(profiles[features], options.get("corr_method", "pearson"))
    assert len(peer) == len(mine)


def test_noise_removal(real_data):
    frame = bbbc021(real_data)
    features = features_of(frame)
    peer = feature_select(
        frame,
        features=features,
        operation="noise_removal",
        noise_removal_perturb_groups="Metadata_Compound",
        noise_removal_stdev_cutoff=1.5,
    )
    mine = DropNoisy("Metadata_Compound", 1.5, features=features)(pl.from_pandas(frame))
    assert mine.columns == list(peer.columns)
    assert len(mine.columns) < frame.shape[1]


def test_a_whole_selection_in_order(real_data):
    frame = bbbc021(real_data)
    operations = ["frequency_threshold", "correlation_threshold", "drop_na_columns", "blocklist"]
    peer = feature_select(frame, operation=operations)
    mine = FeatureSelect([DropLowFrequency(), DropCorrelated(), DropMissing(), DropListed()])(pl.from_pandas(frame))
    assert mine.columns == list(peer.columns)


@pytest.mark.parametrize("method", ["median", "mean", "modz"])
@pytest.mark.parametrize("by", [["Metadata_Compound"], ["Metadata_Compound", "Metadata_Concentration"]], ids=len)
def test_consensus(real_data, method, by):
    frame = bbbc021(real_data)
    frame.loc[::17, "Cells_AreaShape_Area"] = np.nan
    frame.loc[::50, "Metadata_Compound"] = None
    features = features_of(frame)
    peer = consensus(frame, replicate_columns=by, operation=method, features=features).sort_values(by)
    mine = Consensus(by=by, method=method, features=features)(pl.from_pandas(frame))
    assert mine.height == len(peer)
    expected = peer[features].to_numpy(dtype=float)
    np.testing.assert_allclose(mine.select(features).to_numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["ZCA-cor", "ZCA", "PCA-cor", "PCA"])
@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 3.0])
def test_sphering(real_data, method, epsilon):
    frame = bbbc021(real_data)
    kept = FeatureSelect([DropLowFrequency(), DropCorrelated()])(pl.from_pandas(frame))
    frame = frame[kept.columns]
    features = features_of(frame)
    peer = normalize(
        frame,
        features=features,
        meta_features=["Metadata_Plate"],
        method="spherize",
        spherize_method=method,
        spherize_epsilon=epsilon,
    )
    mine = Sphere(method=method, epsilon=epsilon, features=features)(pl.from_pandas(frame))
    columns = features if method.startswith("ZCA") else [f"PC_{k}" for k in range(1, len(features) + 1)]
    expected = peer[
        features if method.startswith("ZCA") else [f"PC{k}" for k in range(1, len(features) + 1)]
    ].to_numpy()
    got = mine.select(columns).to_numpy()
    np.testing.assert_allclose(np.cov(got.T), np.cov(expected.T), atol=1e-6)
    if not method.startswith("ZCA"):
        # A principal direction has no sign.
        got = got * np.sign((got * expected).sum(axis=0))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_sphering_of_all_features_by_controls(real_data):
    """516 features, some of them dependent, and 330 controls: more features than wells."""
    frame = bbbc021(real_data)
    features = features_of(frame)
    varying = [f for f in features if frame.loc[frame["Metadata_Compound"] == "DMSO", f].std() > 0]
    peer = normalize(
        frame,
        features=varying,
        meta_features=["Metadata_Plate"],
        samples="Metadata_Compound == 'DMSO'",
        method="spherize",
        spherize_epsilon=1e-3,
    )
    table = pl.from_pandas(frame)
    mine = Sphere(epsilon=1e-3, reference="Metadata_Compound = 'DMSO'", features=varying)(table)
    control = table["Metadata_Compound"] == "DMSO"
    expected = np.cov(peer.loc[control.to_numpy(), varying].to_numpy().T)
    np.testing.assert_allclose(np.cov(mine.filter(control).select(varying).to_numpy().T), expected, atol=1e-6)
