from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast.errors import DataError, RecipeError
from cytofast.steps.transform import ClipOutliers, InverseNormal
from tests import oracle_wells

values = st.lists(st.integers(-3, 3).map(float) | st.just(float("nan")), min_size=1, max_size=30)


@given(values, st.sampled_from([0.375, 0.0, 0.5]), st.booleans())
def test_scores_are_those_of_blom(row, offset, lazy):
    frame = pl.DataFrame({"Cells_A_f0": row})
    step = InverseNormal(offset=offset)
    got = (step(frame.lazy()).collect() if lazy else step(frame))["Cells_A_f0"].to_list()
    present = [v for v in row if v == v]
    ranks = iter(oracle_wells.ranks(present))
    for value, score in zip(row, got, strict=True):
        if value != value:
            assert score is None
        else:
            assert score == pytest.approx(
                NormalDist().inv_cdf((next(ranks) - offset) / (len(present) - 2 * offset + 1)), abs=1e-12
            )


@given(st.integers(0, 10**6))
def test_seeded_ties_do_not_depend_on_the_order_or_the_cut(seed):
    rng = np.random.Generator(np.random.PCG64(seed))
    n = 60
    frame = pl.DataFrame(
        {
            "Metadata_Plate": [f"P{i // 20}" for i in range(n)],
            "Metadata_Well": [f"A{i % 20 + 1:02d}" for i in range(n)],
            "Cells_A_f0": rng.integers(0, 3, size=n).astype(float),
            "Cells_A_f1": rng.normal(size=n),
        }
    )
    step = InverseNormal(ties="seeded", seed=seed)
    fit = step.fit(frame)
    whole = step.apply(frame, fit)
    by_plate = pl.concat([step.apply(part, fit) for part in frame.partition_by("Metadata_Plate")])
    assert by_plate.equals(whole)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    assert step(shuffled).sort("Metadata_Plate", "Metadata_Well").equals(whole.sort("Metadata_Plate", "Metadata_Well"))
    assert whole["Cells_A_f0"].n_unique() > 3
    average = InverseNormal()(frame)
    assert whole["Cells_A_f1"].equals(average["Cells_A_f1"])
    order = np.lexsort((whole["Cells_A_f0"].to_numpy(), frame["Cells_A_f0"].to_numpy()))
    assert (np.diff(whole["Cells_A_f0"].to_numpy()[order]) >= 0).all()


def test_groups_and_values_that_the_fit_has_not():
    frame = pl.DataFrame({"Metadata_Plate": ["P", "P", "P", "Q", "Q"], "Cells_A_f0": [1.0, 2.0, 3.0, 9.0, 8.0]})
    step = InverseNormal(by="Metadata_Plate")
    got = step(frame)["Cells_A_f0"].to_list()
    assert got[3] == -got[4] > 0
    assert got[1] == 0
    one = InverseNormal()
    fit = one.fit(frame.head(3))
    scores = one.apply(pl.DataFrame({"Cells_A_f0": [0.0, 1.0, 1.5, 2.0, 4.0]}), fit)["Cells_A_f0"].to_list()
    assert scores[0] == scores[1] < scores[2] < scores[3] == 0 < scores[4]
    with pytest.raises(DataError, match="'Q'"):
        step.apply(frame, step.fit(frame.head(3)))
    with pytest.raises(RecipeError):
        InverseNormal(ties="first")
    with pytest.raises(RecipeError):
        InverseNormal(offset=1)


@given(values)
def test_scores_are_monotone_and_a_second_time_the_same(row):
    frame = pl.DataFrame({"Cells_A_f0": row})
    once = InverseNormal()(frame)
    assert InverseNormal()(once)["Cells_A_f0"].to_list() == pytest.approx(once["Cells_A_f0"].to_list(), abs=1e-12)


def test_clip():
    frame = pl.DataFrame({"Metadata_x": [900], "Cells_A_f0": [float("nan")], "Cells_A_f1": [-np.inf]})
    assert str(ClipOutliers(5)(frame).row(0)) == "(900, nan, -5.0)"
    assert ClipOutliers()(frame.lazy()).collect_schema() == frame.schema
    with pytest.raises(RecipeError):
        ClipOutliers(0)


def test_clip_of_whole_numbers():
    frame = pl.DataFrame({"Cells_A_a": pl.Series([3, 0, 250], dtype=pl.UInt8), "Cells_A_b": [-7, 0, 7]})
    got = ClipOutliers(limit=2.5)(frame)
    assert got.rows() == [(2.5, -2.5), (0.0, 0.0), (2.5, 2.5)]
    assert ClipOutliers(limit=1e3)(frame.lazy()).collect()["Cells_A_a"].to_list() == [3.0, 0.0, 250.0]
    single = frame.cast(pl.Float32)
    assert ClipOutliers(limit=0.1)(single).schema == single.schema
