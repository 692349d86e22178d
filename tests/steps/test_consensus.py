import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast import resources
from cytofast.errors import DataError, ProfileWarning, RecipeError, SchemaError
from cytofast.steps import consensus as module
from cytofast.steps.consensus import Consensus
from tests import oracle_wells

FEATURES = [f"Cells_A_f{i}" for i in range(6)]


def wells(seed: int, n: int = 14, gaps: bool = True) -> pl.DataFrame:
    rng = np.random.Generator(np.random.PCG64(seed))
    x = np.round(rng.normal(size=(n, 6)), 1)
    if gaps:
        x[rng.random((n, 6)) < 0.15] = np.nan
    x[0] = 2.0
    group = rng.choice(["a", "b", "c", None], size=n).tolist()
    return pl.DataFrame(x, schema=FEATURES).select(
        pl.Series("Metadata_Plate", [f"P{i % 3}" for i in range(n)]),
        pl.Series("Metadata_pert", group, dtype=pl.String),
        pl.all(),
    )


def groups(frame: pl.DataFrame) -> dict[str | None, list[list[float]]]:
    out: dict[str | None, list[list[float]]] = {}
    for row in frame.select("Metadata_pert", *FEATURES).iter_rows():
        out.setdefault(row[0], []).append([float("nan") if v is None else v for v in row[1:]])
    return out


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([None, 4]))
def test_modz_is_the_definition(seed, gaps, precision):
    frame = wells(seed, gaps=gaps)
    got = Consensus("Metadata_pert", method="modz", precision=precision)(frame)
    expected = groups(frame)
    assert got["Metadata_pert"].to_list() == sorted((k for k in expected if k), key=str) + [None] * (None in expected)
    for row in got.iter_rows(named=True):
        members = expected[row["Metadata_pert"]]
        assert row["Metadata_Replicate_Count"] == len(members)
        values = [float("nan") if row[f] is None else row[f] for f in FEATURES]
        # With so few features a weight may lie exactly between two roundings.
        atol = 1e-12 if precision is None else 1.01 * 10.0**-precision * np.nansum(np.abs(members))
        np.testing.assert_allclose(values, oracle_wells.modz(members, precision=precision), rtol=1e-9, atol=atol)
        pairs = [oracle_wells.spearman(a, b) for i, a in enumerate(members) for b in members[:i]]
        pairs = [r for r in pairs if not np.isnan(r)]
        if pairs:
            assert row["Metadata_Replicate_Correlation"] == pytest.approx(np.mean(pairs), abs=1e-9)
        else:
            assert row["Metadata_Replicate_Correlation"] is None


@given(st.integers(0, 10**6), st.sampled_from(["median", "mean", "modz"]), st.booleans())
def test_in_batches_lazy_or_at_once(seed, method, single):
    frame = wells(seed, 40)
    frame = frame.with_columns(pl.col(FEATURES).cast(pl.Float32)) if single else frame
    step = Consensus("Metadata_pert", method=method)
    whole = step(frame)
    held = module._BATCH_BYTES
    try:
        module._BATCH_BYTES = 1
        assert step(frame).equals(whole)
        with resources.limits(memory="256MiB"):
            assert step(frame.lazy()).collect().equals(whole)
    finally:
        module._BATCH_BYTES = held
    assert whole.schema[FEATURES[0]] == (pl.Float32 if single else pl.Float64)


def test_a_lazy_table_larger_than_memory_is_read_group_by_group(monkeypatch):
    frame = wells(5, 60)
    whole = Consensus("Metadata_pert", method="modz")(frame)
    monkeypatch.setattr(resources.Resources, "working_bytes", property(lambda self: 3 * (48 + 64) * 10))
    assert Consensus("Metadata_pert", method="modz")(frame.lazy()).collect().equals(whole)


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from(["median", "mean", "modz"]))
def test_consensus_of_identical_replicates_is_the_replicate(seed, n, method):
    one = wells(seed, 1, gaps=False).with_columns(pl.lit("x").alias("Metadata_pert"))
    one = one.with_columns(pl.col(FEATURES[0]) + 1)
    got = Consensus("Metadata_pert", method=method, precision=None)(pl.concat([one] * n))
    np.testing.assert_allclose(got.select(FEATURES).row(0), one.select(FEATURES).row(0), rtol=1e-12)
    if n > 1:
        assert got["Metadata_Replicate_Correlation"][0] == pytest.approx(1)


def test_missing_values_are_zero_or_skipped_and_never_invented():
    frame = pl.DataFrame(
        {
            "Metadata_pert": ["x"] * 2,
            "Cells_A_f0": [2.0, None],
            "Cells_A_f1": [None, None],
            "Cells_A_f2": [1.0, 1.0],
            "Cells_A_f3": [5.0, 5.0],
        },
        schema_overrides={"Cells_A_f1": pl.Float64},
    )
    assert Consensus("Metadata_pert", method="modz")(frame)["Cells_A_f0"][0] == 1.0
    assert Consensus("Metadata_pert", method="modz", missing="skip")(frame)["Cells_A_f0"][0] == 2.0
    for method in ("median", "mean", "modz"):
        assert Consensus("Metadata_pert", method=method)(frame)["Cells_A_f1"][0] is None


def test_constant_metadata_stays():
    frame = wells(1).with_columns(pl.lit("B1").alias("Metadata_Batch"), pl.col("Metadata_pert").alias("Metadata_name"))
    got = Consensus("Metadata_pert")(frame)
    assert got.columns[:3] == ["Metadata_pert", "Metadata_Batch", "Metadata_name"]
    assert "Metadata_Plate" not in got.columns
    with pytest.warns(ProfileWarning, match="'note'"):
        Consensus("Metadata_pert")(frame.with_columns(pl.lit(1).alias("note")))


def test_nonsense_is_refused():
    for options in ({"precision": -1}, {"precision": 400}, {"min_weight": np.inf}):
        with pytest.raises(RecipeError, match="Consensus: "):
            Consensus("Metadata_pert", method="modz", **options)
    for make in (
        lambda: Consensus([]),
        lambda: Consensus("Metadata_pert", method="mode"),
        lambda: Consensus("Metadata_pert", correlation="kendall"),
        lambda: Consensus("Metadata_pert", missing="drop"),
        lambda: Consensus("Metadata_pert", min_weight=-1),
    ):
        with pytest.raises(RecipeError):
            make()
    with pytest.raises(SchemaError, match="Metadata_prt"):
        Consensus("Metadata_prt")(wells(1))
    with pytest.raises(DataError, match="no rows"):
        Consensus("Metadata_pert")(wells(1).head(0))


def test_a_numeric_key_is_no_feature_and_no_result():
    frame = pl.DataFrame({"Cluster_id": [1, 1, 2], "Cells_A_a": [1.0, 3.0, 5.0]})
    assert Consensus("Cluster_id")(frame).select("Cluster_id", "Cells_A_a").rows() == [(1, 2.0), (2, 5.0)]
    with pytest.raises(RecipeError, match="cannot make the groups"):
        Consensus("Cluster_id", features=["Cluster_id"])(frame)
    for name in ("Metadata_Replicate_Count", "Metadata_Replicate_Correlation"):
        with pytest.raises(RecipeError, match=f"by= cannot name '{name}'"):
            Consensus(["Metadata_pert", name])


def test_rounding_the_weights_of_many_replicates_is_told():
    rng = np.random.Generator(np.random.PCG64(0))
    x = pl.DataFrame(rng.normal(size=(1500, 4)) + 10, schema=[f"Cells_A_f{i}" for i in range(4)])
    frame = x.with_columns(
        pl.when(pl.int_range(pl.len()) < 1490).then(pl.lit("DMSO")).otherwise(pl.lit("x")).alias("Metadata_pert")
    )
    with pytest.warns(ProfileWarning, match="by up to 7%.* 1 perturbations .*'DMSO'.*precision=None"):
        rounded = Consensus("Metadata_pert", method="modz")(frame)
    exact = Consensus("Metadata_pert", method="modz", precision=None)(frame)
    assert exact["Cells_A_f0"][0] == pytest.approx(10, abs=0.2)
    assert rounded["Cells_A_f0"][1] == pytest.approx(exact["Cells_A_f0"][1], rel=1e-2)


@pytest.mark.parametrize("method", ["median", "mean", "modz"])
def test_replicates_without_any_value_give_a_profile_without_any(method):
    wells = pl.DataFrame(
        {"Metadata_p": ["a", "a", "b"], "Cells_A_a": [None, None, 1.0], "Cells_A_b": [None, None, 2.0]}
    )
    found = Consensus("Metadata_p", method=method)(wells)
    assert found.rows() == [("a", 2, None, None, None), ("b", 1, None, 1.0, 2.0)]


@pytest.mark.parametrize("dtype", [pl.Float16, pl.Float32, pl.Float64, pl.Int8, pl.Int64, pl.Decimal(10, 2)])
@pytest.mark.parametrize("method", ["median", "mean", "modz"])
def test_every_type_of_number_is_reduced(dtype, method):
    table = wells(3, gaps=False)
    whole = table.with_columns(pl.col(FEATURES).round().cast(dtype))
    given = Consensus("Metadata_pert", method=method)(whole)
    wanted = Consensus("Metadata_pert", method=method)(table.with_columns(pl.col(FEATURES).round()))
    assert set(given.select(FEATURES).dtypes) == {pl.Float32 if dtype == pl.Float32 else pl.Float64}
    np.testing.assert_allclose(given.select(FEATURES).to_numpy(), wanted.select(FEATURES).to_numpy(), rtol=1e-6)
