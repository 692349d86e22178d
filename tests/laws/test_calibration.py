"""A p-value is uniform where nothing happens; the nulls that are not, are not.

Plates with effects of their own, correlated features, values scaled by plate. Perturbations on the same plates share
controls and so are dependent: each simulated screen gives two p-values only.
"""

import numpy as np
import polars as pl
import pytest
from scipy.stats import kstest

from cytofast.retrieval.rule import Retrieval

FEATURES = 20


def screens(count, perts, seed):
    """Many small screens as one table: 4 plates of a screen, each with some perturbations and 48 controls."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(FEATURES, FEATURES)) * np.exp(-np.arange(FEATURES) / 6)[:, None]
    frames = []
    for screen in range(count):
        for plate in range(4):
            names = [f"S{screen}T{i}" for i in range(perts)] + ["DMSO"] * 48
            x = rng.normal(size=(len(names), FEATURES)) @ mixing + 0.3 * rng.normal(size=FEATURES)
            middle = np.median(x, axis=0)
            x = (x - middle) / (1.4826 * np.median(np.abs(x - middle), axis=0))
            meta = {"Metadata_Plate": [f"S{screen}P{plate}"] * len(names), "Metadata_pert": names}
            frames.append(
                pl.DataFrame(meta).hstack(
                    pl.DataFrame({f"Cells_f{i}": x[:, i].astype(np.float32) for i in range(FEATURES)})
                )
            )
    return pl.concat(frames)


@pytest.fixture(scope="module")
def table():
    return screens(count=200, perts=2, seed=20)


ACTIVITY = Retrieval(pos_sameby=["Metadata_pert"], neg_sameby=["Metadata_Plate"], controls="Metadata_pert = 'DMSO'")


def p_values(table, null):
    return ACTIVITY.mean_average_precision(table, null=null, null_size=4000, seed=1)["p_value"].to_numpy()


def test_permuted_labels_are_calibrated_for_activity(table):
    p = p_values(table, "labels")
    assert len(p) == 400
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.02 < (p <= 0.05).mean() < 0.09


@pytest.mark.parametrize("null", ["ranks", "copairs", "cpjump1"])
def test_the_same_look_fails_for_nulls_that_take_replicates_for_independent_or_identical(table, null):
    p = p_values(table, null)
    assert kstest(p, "uniform").pvalue < 1e-3
    assert (p <= 0.05).mean() > 0.08 if null == "ranks" else (p <= 0.05).mean() < 0.03


def consistency_p_values(null):
    """Labels of 4 profiles among 40, one label a data set; plates cross the labels."""
    rng = np.random.default_rng(21)
    found = []
    for _ in range(250):
        mixing = rng.normal(size=(FEATURES, FEATURES)) * np.exp(-np.arange(FEATURES) / 3)[:, None]
        x = rng.normal(size=(40, FEATURES)) @ mixing + np.repeat(0.5 * rng.normal(size=(2, FEATURES)), 20, axis=0)
        label = ["one"] * 4 + [f"other{i}" for i in range(36)]
        order = np.concatenate([np.arange(2), np.arange(20, 22), np.arange(2, 20), np.arange(22, 40)])
        meta = {"Metadata_t": label, "Metadata_Plate": (order // 20).tolist()}
        frame = pl.DataFrame(meta).hstack(pl.DataFrame({f"Cells_f{i}": x[order, i] for i in range(FEATURES)}))
        rule = Retrieval(
            pos_sameby=["Metadata_t"],
            neg_sameby=["Metadata_Plate"],
            neg_diffby=["Metadata_t"],
            queries="Metadata_t = 'one'",
        )
        found.append(rule.mean_average_precision(frame, null=null, null_size=1000)["p_value"].item())
    return np.array(found)


def test_permuted_labels_are_calibrated_for_consistency():
    assert kstest(consistency_p_values("labels"), "uniform").pvalue > 0.01


@pytest.mark.parametrize("null", ["ranks", "copairs"])
def test_the_same_look_fails_for_consistency(null):
    assert kstest(consistency_p_values(null), "uniform").pvalue < 0.01
