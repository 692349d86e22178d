"""Corrections: what they promise, theorems, and bad input."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast.errors import DataError, ProfileWarning, RecipeError, SchemaError
from cytofast.steps import accumulate
from cytofast.steps.correct import (
    TVN,
    CentreWells,
    Harmonize,
    MedianPolish,
    PrincipalComponents,
    RegressCellCount,
    Sphere,
)
from tests import oracle_wells

FEATURES = [f"Cells_A_f{i}" for i in range(5)]


def wells(seed: int = 0, n: int = 60, single: bool = False) -> pl.DataFrame:
    """Three plates in two batches, one well of four a control, correlated features of different sizes."""
    rng = np.random.Generator(np.random.PCG64(seed))
    x = rng.normal(size=(n, 5)) @ rng.normal(size=(5, 5)) * 10.0 ** np.arange(-2, 3) + rng.normal(size=5) * 3
    frame = pl.DataFrame(x.astype(np.float32 if single else np.float64), schema=FEATURES)
    plate = np.arange(n) * 3 // n
    return frame.select(
        pl.Series("Metadata_Batch", np.where(plate < 2, "B1", "B2")),
        pl.Series("Metadata_Plate", [f"P{p}" for p in plate]),
        pl.Series("Metadata_Well", [f"{'ABCDE'[i % 20 // 4]}{i % 4 + 1:02d}" for i in range(n)]),
        pl.Series("Metadata_control", np.arange(n) % 4 == 0),
        pl.Series("Metadata_Object_Count", rng.integers(50, 500, size=n)),
        pl.all(),
    )


def matrix(frame: pl.DataFrame, prefix: str = "Cells") -> np.ndarray:
    return frame.select(pl.col(f"^{prefix}.*$")).cast(pl.Float64).to_numpy()


@pytest.mark.parametrize("method", ["ZCA", "ZCA-cor", "PCA", "PCA-cor"])
@pytest.mark.parametrize("lazy", [False, True])
def test_sphering_leaves_the_reference_covariance_one(method, lazy, monkeypatch):
    monkeypatch.setattr(accumulate, "_CHUNK_ROWS", 50)
    frame = wells(n=900)
    step = Sphere(method=method, epsilon=0.0, reference="Metadata_control")
    got = step(frame.lazy()).collect() if lazy else step(frame)
    prefix = "Cells" if method.startswith("ZCA") else "PC"
    controls = matrix(got.filter(pl.col("Metadata_control")), prefix)
    np.testing.assert_allclose(np.cov(controls.T), np.eye(5), atol=1e-9)
    np.testing.assert_allclose(controls.mean(axis=0), 0, atol=1e-9)
    assert step.apply(frame.lazy(), step.fit(frame)).collect_schema() == got.schema


@given(st.integers(0, 10**6), st.sampled_from(["ZCA", "ZCA-cor"]))
def test_sphering_twice_is_sphering_once(seed, method):
    step = Sphere(method=method, epsilon=0.0, reference="Metadata_control")
    once = step(wells(seed))
    np.testing.assert_allclose(matrix(step(once)), matrix(once), atol=1e-5)


def test_sphering_by_batch_is_sphering_each():
    frame = wells(n=120)
    step = Sphere(epsilon=0.1, reference="Metadata_control", by="Metadata_Batch")
    got = step(frame)
    for batch in ("B1", "B2"):
        alone = Sphere(epsilon=0.1, reference="Metadata_control")(frame.filter(Metadata_Batch=batch))
        np.testing.assert_allclose(matrix(got.filter(Metadata_Batch=batch)), matrix(alone), rtol=1e-9)
    with pytest.raises(DataError, match="no Metadata_Batch 'B2'"):
        step.apply(frame, step.fit(frame.filter(Metadata_Batch="B1")))


def test_sweep_equals_one_at_a_time():
    frame = wells()
    for epsilon, got in Sphere(reference="Metadata_control").sweep(frame, [0.0, 1e-3, 100.0]):
        assert got.equals(Sphere(epsilon=epsilon, reference="Metadata_control")(frame))


def test_few_controls_and_dependent_features_are_told_and_survived():
    frame = wells().with_columns((pl.col(FEATURES[0]) + pl.col(FEATURES[1])).alias("Cells_A_f5"))
    for table in (frame, frame.cast({name: pl.Float32 for name in frame.columns if name.startswith("Cells")})):
        with pytest.warns(ProfileWarning, match="60 wells and rank 5, but there are 6 features"):
            got = Sphere(epsilon=0.0)(table)
        assert np.abs(matrix(got)).max() < 10
    with pytest.warns(ProfileWarning, match="4 wells and rank 3"):
        got = Sphere(
            reference="Metadata_Well = 'A01' OR Metadata_Object_Count = 0 OR Metadata_Plate='P0' AND Metadata_Well='A02'"
        )(wells())
    assert np.isfinite(matrix(got)).all()


def test_sphering_refuses_what_has_no_covariance():
    frame = wells()
    with pytest.raises(DataError, match=r"1 features without variance.*Cells_A_f2"):
        Sphere()(frame.with_columns(pl.lit(1.0).alias("Cells_A_f2")))
    with pytest.raises(DataError, match=r"Cells_A_f1 \(60\)"):
        Sphere()(frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("Cells_A_f1")))
    with pytest.raises(DataError, match="infinite"):
        Sphere()(frame.with_columns(pl.lit(np.inf).alias("Cells_A_f1")))
    with pytest.raises(DataError, match="has 1 wells"):
        Sphere()(frame.head(1))
    with pytest.raises(DataError, match="has 0 wells"):
        Sphere(reference="Metadata_Plate = 'none'")(frame)
    with pytest.raises(DataError, match="no variance at all"):
        Sphere(method="ZCA")(pl.concat([frame.head(1)] * 4))
    with pytest.raises(RecipeError):
        Sphere(method="zca")
    with pytest.raises(RecipeError):
        Sphere(epsilon=-1)
    with pytest.raises(RecipeError):
        Sphere(epsilon=np.inf)
    with pytest.raises(RecipeError, match="'PC_1', and the profiles have such columns"):
        Sphere(method="PCA", features="Cells_")(frame.with_columns(PC_1=1.0))


def test_a_well_with_a_gap_becomes_null_and_is_told():
    frame = wells()
    step = Sphere(reference="Metadata_control")
    fit = step.fit(frame)
    holed = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(FEATURES[3]).alias(FEATURES[3])
    )
    with pytest.warns(ProfileWarning, match=r"1 of 60 wells .plate 'P0'"):
        got = step.apply(holed, fit)
    assert got.row(7)[5:] == (None,) * 5
    assert np.isfinite(np.delete(matrix(got), 7, axis=0)).all()


def test_tvn_is_its_steps():
    """Standardize by controls, components of controls, standardize in each batch, match covariances."""
    frame = wells(n=90)
    x, control = matrix(frame), frame["Metadata_control"].to_numpy()
    batch = frame["Metadata_Batch"].to_numpy()
    x = (x - x[control].mean(axis=0)) / x[control].std(axis=0)
    _, vectors = np.linalg.eigh(np.cov(x[control].T))
    z = x @ vectors[:, ::-1]
    for b in ("B1", "B2"):
        own = control & (batch == b)
        z[batch == b] = (z[batch == b] - z[own].mean(axis=0)) / z[own].std(axis=0)

    def power(a, p):
        w, v = np.linalg.eigh(a)
        return (v * w**p) @ v.T

    target = power(np.cov(z[control].T) + 0.5 * np.eye(5), 0.5)
    expected = z.copy()
    for b in ("B1", "B2"):
        own = np.cov(z[control & (batch == b)].T) + 0.5 * np.eye(5)
        expected[batch == b] = z[batch == b] @ power(own, -0.5) @ target
    got = matrix(TVN(reference="Metadata_control")(frame), "PC")
    np.testing.assert_allclose(np.abs(got.T @ got), np.abs(expected.T @ expected), atol=1e-6)
    np.testing.assert_allclose(got @ got.T, expected @ expected.T, atol=1e-8)
    with pytest.raises(RecipeError, match="reference"):
        TVN()
    with pytest.raises(DataError, match="B2 has 0 controls"):
        TVN(reference="Metadata_control AND Metadata_Batch = 'B1'")(frame)


@given(st.integers(0, 10**6), st.sampled_from(["mean", "median"]), st.booleans())
def test_centred_wells_have_no_mean_and_stay_so(seed, statistic, lazy):
    frame = wells(seed).with_columns(
        pl.when(pl.int_range(pl.len()) % 9 == 0).then(None).otherwise(FEATURES[0]).alias(FEATURES[0])
    )
    step = CentreWells(statistic=statistic)
    once = step(frame.lazy()).collect() if lazy else step(frame)
    centre = getattr(pl.all(), statistic)()
    left = (
        once.group_by("Metadata_Well")
        .agg(pl.col(FEATURES))
        .select(pl.col(FEATURES).list.eval(getattr(pl.element(), statistic)()).list.first())
    )
    del centre
    np.testing.assert_allclose(np.nan_to_num(left.to_numpy().astype(float)), 0, atol=1e-9)
    np.testing.assert_allclose(matrix(step(once)), matrix(once), atol=1e-9)
    with pytest.raises(DataError, match="'Z09'"):
        step.apply(frame.with_columns(pl.lit("Z09").alias("Metadata_Well")), step.fit(frame))


@given(st.integers(0, 10**6), st.booleans())
def test_residuals_do_not_know_the_count_and_stay_so(seed, gaps):
    frame = wells(seed)
    if gaps:
        frame = frame.with_columns(
            pl.when(pl.int_range(pl.len()) % 9 == 0).then(None).otherwise(FEATURES[0]).alias(FEATURES[0])
        )
    step = RegressCellCount(min_unique=10)
    once = step(frame)
    count = frame["Metadata_Object_Count"].to_numpy().astype(float)
    for name in FEATURES:
        values = once[name].cast(pl.Float64).to_numpy()
        there = np.isfinite(values)
        slope, intercept = np.polyfit(count[there], frame[name].cast(pl.Float64).to_numpy()[there], 1)
        np.testing.assert_allclose(
            values[there], frame[name].to_numpy()[there] - intercept - slope * count[there], atol=1e-6
        )
    np.testing.assert_allclose(matrix(step(once)), matrix(once), atol=1e-6)
    assert step.apply(frame.lazy(), step.fit(frame.lazy())).collect().equals(once)


def test_counts_that_cannot_be_regressed():
    frame = wells()
    coarse = frame.with_columns(pl.col(FEATURES[0]).sign())
    assert RegressCellCount(min_unique=10)(coarse)[FEATURES[0]].equals(coarse[FEATURES[0]])
    with pytest.warns(ProfileWarning, match="none of 5 features"):
        assert RegressCellCount()(frame).equals(frame)
    with pytest.raises(DataError, match="same value"):
        RegressCellCount()(frame.with_columns(pl.lit(3).alias("Metadata_Object_Count")))
    with pytest.raises(SchemaError, match="not numbers"):
        RegressCellCount("Metadata_Plate")(frame)
    holed = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 2)
        .then(None)
        .otherwise("Metadata_Object_Count")
        .alias("Metadata_Object_Count")
    )
    with pytest.warns(ProfileWarning, match="1 wells have no .*P0 A03"):
        got = RegressCellCount(min_unique=10)(holed)
    assert got.row(2)[5:] == (None,) * 5


@given(st.integers(0, 10**6), st.booleans())
def test_polish_equals_rounds_of_medians(seed, lazy):
    frame = wells(seed)
    step = MedianPolish(max_iterations=2, tolerance=0.0)
    got = step(frame.lazy()).collect() if lazy else step(frame)
    for plate in ("P0", "P1", "P2"):
        before, after = frame.filter(Metadata_Plate=plate), got.filter(Metadata_Plate=plate)
        for name in FEATURES[:2]:
            expected = oracle_wells.median_polish(before[name].to_numpy().reshape(5, 4), 2)
            np.testing.assert_allclose(
                after[name].to_numpy().reshape(5, 4), expected, atol=1e-9 * np.abs(before[name].to_numpy()).max()
            )
    kept = MedianPolish(max_iterations=2, tolerance=0.0, keep_overall=True)(frame)
    overall = step.fit(frame).filter(kind="overall", Metadata_Plate="P0", feature=FEATURES[0])["effect"][0]
    assert kept[FEATURES[0]][0] == pytest.approx(got[FEATURES[0]][0] + overall)


def test_plates_that_cannot_be_polished():
    frame = wells()
    with pytest.raises(DataError, match="more than once"):
        MedianPolish()(pl.concat([frame, frame]))
    with pytest.raises(SchemaError, match="'well 1'"):
        MedianPolish()(frame.with_columns(pl.lit("well 1").alias("Metadata_Well")).unique("Metadata_Plate"))
    step = MedianPolish()
    with pytest.raises(DataError, match="P2"):
        step.apply(frame, step.fit(frame.filter(pl.col("Metadata_Plate") != "P2")))


def test_harmony():
    pytest.importorskip("harmonypy", reason="harmonypy is not installed: pip install 'cytofast[harmony]'")
    frame = wells(n=120).with_columns(
        pl.Series("Metadata_Well", [f"{'ABCDEFGH'[i % 40 // 5]}{i % 5 + 1:02d}" for i in range(120)]),
        pl.col(FEATURES) + pl.when(pl.col("Metadata_Batch") == "B2").then(30.0).otherwise(0.0),
    )
    step = Harmonize(clusters=3, max_iterations=5)
    fit = step.fit(frame)
    got = step.apply(frame, fit)
    assert got.columns == frame.columns

    def gap(table: pl.DataFrame) -> float:
        means = table.group_by("Metadata_Batch").agg(pl.col(FEATURES[2]).mean()).sort("Metadata_Batch")[FEATURES[2]]
        return abs(means[1] - means[0])

    assert gap(got) < gap(frame) / 3
    assert step(frame).equals(got)
    by_plate = [step.apply(part, fit) for part in frame.partition_by("Metadata_Plate")]
    assert pl.concat(by_plate).equals(got)
    with pytest.raises(DataError, match="not in the fit"):
        step.apply(frame.with_columns(pl.lit("Z").alias("Metadata_Plate")), fit)
    with pytest.raises(DataError, match="nulls"):
        step.fit(frame.with_columns(pl.lit(None, dtype=pl.String).alias("Metadata_Batch")))


def test_harmony_absent(monkeypatch):
    from cytofast.steps import harmonize

    monkeypatch.setattr(harmonize, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pip install"):
        Harmonize()(wells())


def test_principal_components_hold_the_variance():
    frame = wells()
    x = matrix(frame)
    _, s, vt = np.linalg.svd(x - x.mean(axis=0))
    share = np.cumsum(s**2) / (s**2).sum()
    for variance in (0.5, 0.98, 0.9999):
        got = PrincipalComponents(variance)(frame)
        k = int((share < variance).sum()) + 1
        assert [name for name in got.columns if name.startswith("PC_")] == [f"PC_{i + 1}" for i in range(k)]
        expected = (x - x.mean(axis=0)) @ vt[:k].T
        np.testing.assert_allclose(np.abs(matrix(got, "PC")), np.abs(expected), rtol=1e-6, atol=1e-6)
    by = PrincipalComponents(0.9, by="Metadata_Batch")
    assert by(frame.lazy()).collect().equals(by(frame))
    with pytest.raises(DataError, match="no variance"):
        PrincipalComponents()(pl.concat([frame.head(1)] * 3))
    with pytest.raises(RecipeError):
        PrincipalComponents(0)


@pytest.mark.parametrize("single", [False, True])
def test_tvn_with_fewer_controls_than_features(single):
    rng = np.random.Generator(np.random.PCG64(2))
    n, f = 80, 50
    x = rng.normal(size=(n, f)) @ rng.normal(size=(f, f)) + 100
    frame = pl.DataFrame(x.astype(np.float32 if single else np.float64), schema=[f"Cells_A_f{i}" for i in range(f)])
    frame = frame.with_columns(
        pl.Series("Metadata_Batch", np.arange(n) % 2), pl.Series("Metadata_control", np.arange(n) % 4 < 2)
    ).with_columns((pl.col("Metadata_control") & (pl.int_range(pl.len()) < 48)).alias("Metadata_control"))
    with pytest.warns(ProfileWarning, match="the 24 controls have rank 23, but there are 50 features"):
        got = TVN(reference="Metadata_control")(frame)
    assert np.abs(matrix(got, "PC")).max() < 100
    controls = got.filter(pl.col("Metadata_control"))
    for batch in (0, 1):
        np.testing.assert_allclose(matrix(controls.filter(Metadata_Batch=batch), "PC").mean(axis=0), 0, atol=1e-4)
    with (
        pytest.warns(ProfileWarning, match="rank 23"),
        pytest.raises(DataError, match="12 controls of 0 do not vary in all of 50 directions"),
    ):
        TVN(reference="Metadata_control", ridge=0.0)(frame)


def test_lines_of_large_values_with_small_differences():
    rng = np.random.Generator(np.random.PCG64(0))
    counts = rng.integers(10, 500, size=200)
    x = 1e-2 * (rng.normal(size=200) + counts / 300) + 1e6
    frame = pl.DataFrame(
        {"Metadata_Object_Count": counts, "Cells_A_a": x, "Cells_A_b": np.where(counts < 400, x, np.nan)}
    )
    fit = RegressCellCount(min_unique=0).fit(frame)
    for row, keep in zip(fit.rows(named=True), (counts < 501, counts < 400), strict=True):
        assert row["r"] == pytest.approx(np.corrcoef(counts[keep], x[keep])[0, 1], rel=1e-6)
        assert row["slope"] == pytest.approx(np.polyfit(counts[keep], x[keep] - 1e6, 1)[0], rel=1e-6)


def test_a_feature_that_is_there_for_one_count_only_has_no_line():
    frame = pl.DataFrame({"Metadata_Object_Count": [1, 1, 1, 2, 3], "Cells_A_a": [1.0, 2, 3, None, None]})
    fit = RegressCellCount(min_unique=0).fit(frame.with_columns(Cells_A_b=pl.Series([1.0, 2, 3, 4, 6])))
    assert fit["status"].to_list() == ["no line", "ok"]
    bare = frame.with_columns(pl.Series("Metadata_Object_Count", [1, 2, 3, None, 5]), Cells_A_a=1.0 * pl.int_range(5))
    with pytest.warns(ProfileWarning, match="1 wells have no 'Metadata_Object_Count' and become null.$"):
        RegressCellCount(min_unique=0)(bare)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_a_position_whose_centre_is_undefined_is_told(statistic):
    frame = pl.DataFrame(
        {
            "Metadata_Well": ["A01", "A01", "A02", "A02"],
            "Cells_A_a": [np.inf, np.inf, 1.0, 3.0],
            "Cells_A_b": [1.0, 3.0, None, None],
        }
    )
    with pytest.warns(ProfileWarning, match=f"2 of 4 positions x features have no {statistic}.*'A01/Cells_A_a'"):
        got = CentreWells(statistic=statistic)(frame)
    assert got["Cells_A_a"].to_list() == [None, None, -1.0, 1.0]
    assert got["Cells_A_b"].to_list() == [-1.0, 1.0, None, None]


def test_an_infinite_well_leaves_the_others_alone():
    frame = pl.DataFrame(
        {
            "Metadata_Plate": ["P"] * 6,
            "Metadata_Well": ["A01", "A02", "A03", "B01", "B02", "B03"],
            "Cells_A_a": [np.inf, -np.inf, 2.0, 13.0, 14.0, 12.0],
        }
    )
    holed = frame.with_columns(pl.when(pl.col("Cells_A_a").is_finite()).then("Cells_A_a"))
    got = MedianPolish()(frame)["Cells_A_a"].to_list()
    assert got[:2] == [np.inf, -np.inf]
    assert got[2:] == MedianPolish()(holed)["Cells_A_a"].to_list()[2:]


def test_a_count_without_features():
    with pytest.raises(SchemaError, match="no feature to correct beside the count 'Cells_Count_Count'"):
        RegressCellCount(count="Cells_Count_Count")(pl.DataFrame({"Cells_Count_Count": [1, 2]}))
