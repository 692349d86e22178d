import numpy as np
import polars as pl
import pytest
from scipy.stats import beta

from cytofast.errors import DataError, RecipeError, SchemaError
from cytofast.retrieval.significance import fraction_retrieved, mean_average_precision


def ap_table(precision, positives, total, perts=None, **more):
    n = len(precision)
    return pl.DataFrame(
        {
            "Metadata_pert": perts or ["a"] * n,
            "average_precision": pl.Series(precision, dtype=pl.Float64),
            "n_pos_pairs": positives,
            "n_total_pairs": total,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("precision", "positives", "total", "p"),
    [
        ([1.0], [1], [10], 0.1),
        ([0.5], [1], [10], 0.2),
        ([1 / 3], [1], [10], 0.3),
        ([1.0], [1], [65], 1 / 65),
        ([1.0, 1.0], [1, 1], [65, 65], 1 / 65**2),
        ([1.0], [3], [67], 1 / 47905),
        ([1.0] * 4, [3] * 4, [67] * 4, 47905.0**-4),
        ([1.0, 0.5], [1, 1], [2, 3], 3 / 6),
        ([0.1], [1], [10], 1.0),
        ([1.0], [4], [4], 1.0),
    ],
)
def test_known_tails_are_exact(precision, positives, total, p):
    found = mean_average_precision(ap_table(precision, positives, total), "Metadata_pert")
    assert found["p_value"].item() == pytest.approx(p, rel=1e-9)
    assert found["p_method"].item().startswith("ranks, exact")


def test_a_table_that_went_through_float32_has_the_same_exact_p():
    single = ap_table([1 / 3], [1], [10]).with_columns(pl.col("average_precision").cast(pl.Float32))
    assert mean_average_precision(single, "Metadata_pert")["p_value"].item() == pytest.approx(0.3)


def test_copairs_counts_what_is_strictly_above_and_shares_the_null():
    table = ap_table([0.5, 0.5], [1, 1], [10, 10])
    shared = mean_average_precision(table, "Metadata_pert", null="copairs", null_size=20_000)
    assert shared["p_value"].item() == pytest.approx(0.1, abs=0.01)
    perfect = mean_average_precision(ap_table([1.0], [1], [10]), "Metadata_pert", null="copairs", null_size=999)
    assert perfect["p_value"].item() == pytest.approx(1 / 1000)


def test_cpjump1_is_the_geometric_mean_of_the_profiles():
    table = ap_table([1.0, 0.25], [1, 1], [10, 10])
    found = mean_average_precision(table, "Metadata_pert", null="cpjump1", null_size=50_000)
    assert found["p_value"].item() == pytest.approx(np.sqrt(1 / 50_001 * 0.3), rel=0.02)


def test_sampled_p_is_that_of_the_formula_and_near_the_truth():
    """Two configurations whose mean is too much to write out."""
    found = mean_average_precision(ap_table([0.3, 0.2], [5, 6], [100, 90]), "Metadata_pert", null_size=5000, seed=1)
    assert found["p_method"].item() == "ranks, sampled 5,000"
    assert (found["p_value"].item() * 5001) % 1 == pytest.approx(0, abs=1e-6)
    again = mean_average_precision(ap_table([0.3, 0.2], [5, 6], [100, 90]), "Metadata_pert", null_size=100_000, seed=2)
    assert again["p_value"].item() == pytest.approx(found["p_value"].item(), rel=0.4)


def test_perturbations_without_precision_stay_with_nulls_and_do_not_count():
    table = ap_table([1.0, None, 0.5], [1, 0, 1], [10, 9, 10], perts=["a", "b", "c"])
    found = mean_average_precision(table, "Metadata_pert")
    assert found["p_value"].to_list() == [pytest.approx(0.1), None, pytest.approx(0.2)]
    assert found["q_value"].to_list() == [pytest.approx(0.2), None, pytest.approx(0.2)]
    assert found["n_profiles"].to_list() == [1, 0, 1]
    assert found["retrieved"].to_list() == [False, None, False]
    fraction = fraction_retrieved(found, threshold=0.5)
    assert fraction.row(0, named=True) == {
        "fraction_retrieved": 1.0,
        "lower": pytest.approx(0.025**0.5),
        "upper": 1.0,
        "n_retrieved": 2,
        "n_perturbations": 2,
        "n_untested": 1,
    }


def test_fraction_retrieved_has_an_interval_and_groups():
    table = pl.DataFrame({"q_value": [0.01] * 30 + [0.9] * 70, "Metadata_Time": [24, 48] * 50})
    one = fraction_retrieved(table).row(0, named=True)
    assert one["fraction_retrieved"] == 0.3
    assert one["lower"] == pytest.approx(0.21, abs=0.02)
    assert one["upper"] == pytest.approx(0.39, abs=0.02)
    by = fraction_retrieved(table, by="Metadata_Time")
    assert by["Metadata_Time"].to_list() == [24, 48]
    assert by["n_perturbations"].to_list() == [50, 50]


def test_bad_input():
    good = ap_table([1.0], [1], [10])
    with pytest.raises(RecipeError, match="not enough"):
        mean_average_precision(good, "Metadata_pert", null="labels")
    with pytest.raises(RecipeError, match="did you mean 'ranks'"):
        mean_average_precision(good, "Metadata_pert", null="rank")
    with pytest.raises(RecipeError, match="null_size must be at least 1"):
        mean_average_precision(good, "Metadata_pert", null_size=0)
    with pytest.raises(SchemaError, match="Metadata_prt"):
        mean_average_precision(good, "Metadata_prt")
    with pytest.raises(SchemaError, match="n_pos_pairs"):
        mean_average_precision(good.drop("n_pos_pairs"), "Metadata_pert")
    with pytest.raises(DataError, match="one profile only"):
        mean_average_precision(ap_table([None], [0], [10]), "Metadata_pert")
    with pytest.raises(DataError, match=r"outside \[0, 1\]"):
        mean_average_precision(ap_table([1.5], [1], [10]), "Metadata_pert")
    with pytest.raises(DataError, match="nulls in sameby"):
        mean_average_precision(ap_table([1.0], [1], [10], perts=[None]), "Metadata_pert")
    with pytest.raises(RecipeError, match="names no column"):
        mean_average_precision(good, [])


@pytest.mark.parametrize("null", ["copairs", "cpjump1", "ranks"])
def test_draws_belong_to_the_number_that_the_seed_is_whatever_its_type(null):
    table = ap_table([0.3, 0.2, 0.25], [3, 4, 5], [200, 150, 120])
    options = {"null": null, "null_size": 300}
    one = mean_average_precision(table, "Metadata_pert", seed=3, **options)
    for seed in (np.int64(3), np.uint8(3), 3.0):
        assert mean_average_precision(table, "Metadata_pert", seed=seed, **options).equals(one)
    again = mean_average_precision(table, "Metadata_pert", seed=3, **{**options, "null_size": 3e2})
    assert again.equals(one)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"seed": None}, "seed must be a whole number, not None"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": -1}, "seed must not be negative"),
        ({"null_size": "100"}, "null_size must be a whole number, not '100'"),
        ({"null_size": True}, "null_size must be a whole number"),
        ({"null_size": float("inf")}, "null_size must be a whole number"),
        ({"threshold": None}, "threshold must lie"),
        ({"threshold": float("nan")}, "threshold must lie"),
    ],
)
def test_settings_of_a_wrong_kind_are_said(setting, message):
    with pytest.raises(RecipeError, match=message):
        mean_average_precision(ap_table([1.0], [1], [10]), "Metadata_pert", **setting)


def test_none_and_all_retrieved_leave_room_for_doubt():
    """A bootstrap of 20 misses only ever draws misses; Clopper and Pearson know that 17 % could have hidden."""
    q = pl.Series("q_value", [0.5] * 20 + [0.01] * 20)
    table = pl.DataFrame({"Metadata_Time": ["none"] * 20 + ["all"] * 20}).with_columns(q)
    found = fraction_retrieved(table, by="Metadata_Time")
    exact = beta.ppf([0.025, 0.975], [20, 1], [1, 20])
    assert found.select("fraction_retrieved", "lower", "upper").rows() == [
        (1.0, pytest.approx(exact[0]), 1.0),
        (0.0, 0.0, pytest.approx(exact[1])),
    ]
