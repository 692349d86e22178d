import numpy as np
import polars as pl
import pytest

from cytofast.errors import DataError, RecipeError, SchemaError
from cytofast.modalities.align import align, high_quality
from cytofast.modalities.folds import grouped_folds, shuffled_rows
from cytofast.modalities.quality import agreeing


def side(perts, prefix="Cells_A_", **more):
    n = len(perts)
    return pl.DataFrame({"Metadata_pert": perts, **more, f"{prefix}f": np.arange(n, dtype=float)})


def test_treatments_are_means_in_one_order():
    a, b = side(["y", "x", "x", None]), side(["x", "y", "z", "y"], "g_")
    found = align(a, b, "Metadata_pert", b_features="g_", names=("morphology", "expression"))
    assert found.keys["Metadata_pert"].to_list() == ["x", "y"]
    assert found.a.values.tolist() == [[1.5], [0.0]]
    assert found.b.values.tolist() == [[0.0], [2.0]]
    assert found.audit.rows() == [
        ("morphology", "no key", "null in Metadata_pert", 1),
        ("expression", "only in expression", "z", 1),
    ]
    assert found.side("expression") is found.b


def test_replicates_are_matched_one_by_one_and_the_rest_is_counted():
    a, b = side(["x", "x", "x", "y"]), side(["y", "x", "x"], "g_")
    found = align(a, b, "Metadata_pert", "replicate", b_features="g_")
    assert found.a.values[:, 0].tolist() == [0.0, 1.0, 3.0]
    assert found.b.values[:, 0].tolist() == [1.0, 2.0, 0.0]
    assert found.audit.rows() == [("a", "only in a", "x", 1)]


def test_doses_are_treatments_of_their_own():
    a = side(["x", "x", "y"], Metadata_dose=[1.0, 2.0, 1.0])
    b = side(["x", "x", "y"], "g_", Metadata_dose=[2.0, 3.0, 1.0])
    found = align(a, b, ["Metadata_pert", "Metadata_dose"], b_features="g_")
    assert found.keys.rows() == [("x", 2.0), ("y", 1.0)]
    assert found.summary().rows() == [("a", "only in a", 1, 1), ("b", "only in b", 1, 1)]


def test_bad_tables_are_told():
    a, b = side(["x", "y"]), side(["u", "v"], "g_")
    with pytest.raises(DataError, match=r"no Metadata_pert in common: 'x', 'y' against 'u', 'v'"):
        align(a, b, "Metadata_pert", b_features="g_")
    with pytest.raises(SchemaError, match="other types"):
        align(a, side([1, 2], "g_"), "Metadata_pert", b_features="g_")
    with pytest.raises(RecipeError, match="two names"):
        align(a, a, "Metadata_pert", names=("a", "a"))
    with pytest.raises(RecipeError, match="level"):
        align(a, a, "Metadata_pert", "well")


def test_missing_values_are_an_error_or_drop_their_feature():
    a = side(["x", "y"]).with_columns(pl.Series("Cells_A_h", [np.nan, 1.0]), pl.Series("Cells_A_i", [None, 1.0]))
    b = side(["x", "y"], "g_")
    with pytest.raises(DataError, match="2 of 3 features have NaN, nulls or infinities in 1 of 2 matched rows"):
        align(a, b, "Metadata_pert", b_features="g_")
    found = align(a, b, "Metadata_pert", b_features="g_", missing="drop")
    assert found.a.features == ["Cells_A_f"]
    assert found.audit.rows() == [("a", "missing values", "Cells_A_h", 1), ("a", "missing values", "Cells_A_i", 1)]
    gaps = pl.DataFrame({"Metadata_pert": ["x", "y"], "Cells_A_h": [np.nan, 1.0], "Cells_A_i": [1.0, None]})
    with pytest.raises(DataError, match="every feature"):
        align(gaps, b, "Metadata_pert", b_features="g_", missing="drop")


def test_quality_is_that_of_both_or_either():
    a = pl.DataFrame({"Metadata_pert": ["x", "y", "z"], "high_quality": [True, False, None]})
    b = pl.DataFrame({"Metadata_pert": ["z", "y", "x", "w"], "high_quality": [True, False, True, True]})
    assert high_quality(a, b, "Metadata_pert")["Metadata_pert"].to_list() == ["x"]
    assert high_quality(a, b, "Metadata_pert", "either")["Metadata_pert"].to_list() == ["x", "z"]
    kept = align(
        side(["x", "y"]),
        side(["x", "y"], "g_"),
        "Metadata_pert",
        b_features="g_",
        keep=high_quality(a, b, "Metadata_pert"),
    )
    assert kept.keys["Metadata_pert"].to_list() == ["x"]
    with pytest.raises(DataError, match="share no"):
        high_quality(a, b.head(1).with_columns(Metadata_pert=pl.lit("q")), "Metadata_pert")


def test_a_dose_that_is_not_a_number_is_no_dose():
    a = side(["x", "y", "y"], Metadata_dose=[1.0, np.nan, 2.0])
    b = side(["x", "y", "y"], "g_", Metadata_dose=[1.0, np.nan, 2.0])
    found = align(a, b, ["Metadata_pert", "Metadata_dose"], b_features="g_")
    assert found.keys.rows() == [("x", 1.0), ("y", 2.0)]
    assert found.summary().rows() == [("a", "no key", 1, 1), ("b", "no key", 1, 1)]


def test_what_is_kept_is_written_as_the_keys_are():
    a, b = side(["x", "y"]), side(["x", "y"], "g_")
    with pytest.raises(SchemaError, match=r"keep=.*other types.*cast"):
        align(a, b, "Metadata_pert", b_features="g_", keep=pl.DataFrame({"Metadata_pert": [1]}))
    lazy = pl.LazyFrame({"Metadata_pert": ["x"]})
    assert align(a, b, "Metadata_pert", b_features="g_", keep=lazy).keys.rows() == [("x",)]


def test_quality_tables_that_do_not_fit_are_told():
    def table(key, flags, name="Metadata_pert"):
        return pl.DataFrame({name: key, "high_quality": flags})

    with pytest.raises(SchemaError, match="other types"):
        high_quality(table([1], [True]), table(["x"], [True]), "Metadata_pert")
    with pytest.raises(SchemaError, match="true and false"):
        high_quality(table(["x"], [1.0]), table(["x"], [True]), "Metadata_pert")
    with pytest.raises(DataError, match="stand more than once"):
        high_quality(table(["x", "x"], [True, False]), table(["x"], [True]), "Metadata_pert")
    with pytest.raises(RecipeError, match="'a'"):
        high_quality(table(["x"], [True], "a"), table(["x"], [True], "a"), "a")


def test_quality_is_asked_of_the_tables_themselves():
    rng = np.random.default_rng(0)
    perts = [f"p{i:02d}" for i in range(20) for _ in range(3)]
    tables = []
    for prefix, good in (("Cells_A_", 15), ("g_", 12)):
        x = rng.normal(size=(60, 6))
        x[: 3 * good] += 4 * np.repeat(rng.normal(size=(good, 6)), 3, axis=0)
        names = [f"{prefix}{i}" for i in range(6)]
        tables.append(pl.DataFrame({"Metadata_pert": perts}).hstack(pl.DataFrame(x, schema=names)))
    broken = tables[0].with_columns(Cells_A_9=pl.lit(None, dtype=pl.Float64))
    both = agreeing(broken, tables[1], "Metadata_pert", b_features="g_")
    either = agreeing(broken, tables[1], "Metadata_pert", "either", b_features="g_")
    assert set(perts[:36]) - set(both["Metadata_pert"]) <= set(perts[:36:3][:2])
    assert set(both["Metadata_pert"]) < set(either["Metadata_pert"])
    means = tables[0].group_by("Metadata_pert").mean()
    with pytest.raises(DataError, match="table a: no Metadata_pert has two replicates"):
        agreeing(means, tables[1], "Metadata_pert", b_features="g_")


def test_groups_stay_together_in_folds_and_shuffles():
    groups = np.repeat(np.arange(20), np.arange(20) % 3 + 1)
    fold = grouped_folds(groups, 4, 0)
    assert all(len(set(fold[groups == g])) == 1 for g in range(20))
    assert np.ptp(np.bincount(fold)) <= 2
    even = np.tile(np.arange(10), 3)
    order = shuffled_rows(even, 1)
    assert sorted(order) == list(range(30))
    assert all(len(set(even[order][even == g])) == 1 for g in range(10))
    with pytest.raises(DataError, match="3 groups cannot make 5 folds"):
        grouped_folds(np.array([0, 1, 2, 2]), 5, 0)
