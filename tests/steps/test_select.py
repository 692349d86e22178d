"""Selection rules against plain definitions, and what they say of bad input."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast import blocks, resources
from cytofast.errors import DataError, ProfileWarning, RecipeError, SchemaError
from cytofast.steps.correct import TVN, PrincipalComponents, Sphere
from cytofast.steps.select import (
    DropCorrelated,
    DropListed,
    DropLowFrequency,
    DropLowMAD,
    DropLowVariance,
    DropMissing,
    DropNoisy,
    DropOutliers,
    FeatureSelect,
    KeepListed,
)
from tests import oracle_wells

ALL = [
    DropMissing(),
    DropLowVariance(),
    DropLowFrequency(),
    DropOutliers(),
    DropNoisy("Metadata_pert"),
    DropLowMAD(),
    DropListed(),
    DropCorrelated(),
    DropCorrelated(method="spearman"),
    FeatureSelect([DropMissing(), DropLowVariance(), DropLowFrequency(), DropCorrelated()]),
]


def wells(seed: int = 0, n: int = 40, f: int = 12, single: bool = True) -> pl.DataFrame:
    """Two plates; f0 and its near copy f1, f2 with gaps, f3 constant, f4 of two values, f5 of all NaN, f6 a copy of f0."""
    rng = np.random.Generator(np.random.PCG64(seed))
    x = rng.normal(size=(n, f))
    x[:, 1] = x[:, 0] + rng.normal(size=n) / 10
    x[: n // 4, 2] = np.nan
    x[:, 3] = 0.1
    x[:, 4] = np.arange(n) == 0
    x[:, 5] = np.nan
    x[:, 6] = x[:, 0]
    frame = pl.DataFrame(x.astype(np.float32 if single else np.float64), schema=[f"Cells_A_f{i}" for i in range(f)])
    plate = pl.Series("Metadata_Plate", ["P1"] * (n // 2) + ["P2"] * (n - n // 2))
    return frame.select(plate, pl.Series("Metadata_pert", [f"T{i % 5}" for i in range(n)]), pl.all())


def left(frame: pl.DataFrame | pl.LazyFrame) -> list[int]:
    names = frame.collect_schema().names()
    return [int(name.removeprefix("Cells_A_f")) for name in names if name.startswith("Cells")]


def columns(frame: pl.DataFrame) -> list[list[float]]:
    return [frame[name].cast(pl.Float64).to_list() for name in frame.columns if name.startswith("Cells")]


@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_every_rule_lazy_or_in_small_blocks_gives_the_same_report(seed, single, small):
    frame = wells(seed, single=single)
    for step in ALL:
        with resources.limits(memory="256MiB" if small else "2GB"):
            eager = step.fit(frame)
            lazy = step.fit(frame.lazy())
        assert eager.select("feature", "kept", "step", "partner").equals(
            lazy.select("feature", "kept", "step", "partner")
        )
        assert left(step.apply(frame, eager)) == left(step.apply(frame.lazy(), eager))


def test_out_of_core_gives_the_same_report(monkeypatch):
    frame = wells(1, n=500)
    whole = [step.fit(frame) for step in ALL]
    monkeypatch.setattr(resources.Resources, "working_bytes", property(lambda self: 30_000))
    for step, expected in zip(ALL, whole, strict=True):
        got = step.fit(frame.lazy())
        assert got.drop("value", "r").equals(expected.drop("value", "r"))
        for column in ("value", "r"):
            a, b = (x[column].fill_null(np.nan).to_numpy() for x in (got, expected))
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_what_each_rule_drops():
    frame = wells()
    assert left(DropMissing()(frame)) == [0, 1, 3, 4, 6, 7, 8, 9, 10, 11]
    assert left(DropMissing(0.25)(frame)) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert left(DropLowVariance()(frame)) == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]
    assert left(DropLowFrequency()(frame)) == [0, 1, 2, 6, 7, 8, 9, 10, 11]
    assert left(DropCorrelated()(frame)) == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11] or 1 not in left(DropCorrelated()(frame))
    report = FeatureSelect([DropMissing(), DropLowVariance(), DropCorrelated(rule="greedy")]).fit(frame)
    dropped = dict(report.filter(~pl.col("kept")).select("feature", "step").iter_rows())
    assert {
        "Cells_A_f2": "drop_missing",
        "Cells_A_f5": "drop_missing",
        "Cells_A_f3": "drop_low_variance",
    }.items() <= dropped.items()
    assert sum(step == "drop_correlated" for step in dropped.values()) == 2


@given(st.integers(0, 10**6), st.sampled_from(["pearson", "spearman"]), st.booleans())
def test_correlated_equals_the_definition(seed, method, absolute):
    frame = wells(seed, n=30)
    measure = oracle_wells.pearson if method == "pearson" else oracle_wells.spearman
    r = oracle_wells.correlation_matrix(columns(frame), measure)
    for i in range(len(r)):
        r[i][i] = measure(columns(frame)[i], columns(frame)[i])
    gone = oracle_wells.drop_by_pairs(r, 0.4, absolute)
    step = DropCorrelated(0.4, method=method, absolute=absolute)
    assert left(step(frame)) == [i for i in range(len(r)) if i not in gone]
    report = step.fit(frame)
    for name, partner, value in (
        report.filter(pl.col("partner").is_not_null()).select("feature", "partner", "r").iter_rows()
    ):
        i, j = int(name[9:]), int(partner[9:])
        assert value == pytest.approx(r[i][j], abs=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.6, 0.9]))
def test_single_precision_decides_as_double(seed, threshold):
    """The fast path, forced on a table with many correlations near the threshold and many near ties of sums."""
    rng = np.random.Generator(np.random.PCG64(seed))
    n, f = 64, 40
    base = rng.normal(size=(n, f))
    base -= base.mean(axis=0)
    base, _ = np.linalg.qr(base)
    # Correlations of exactly the threshold, a little more, a little less.
    nudge = rng.choice([-1e-6, -1e-8, 0, 1e-8, 1e-6], size=f // 2) + threshold
    x = base.copy()
    x[:, f // 2 :] = base[:, : f // 2] * nudge + base[:, f // 2 :] * np.sqrt(1 - nudge**2)
    frame = pl.DataFrame(x * 10.0 ** rng.integers(-3, 4, size=f) + 5, schema=[f"Cells_A_f{i}" for i in range(f)])
    step = DropCorrelated(threshold)
    plain, sums = step._correlations(frame, frame.columns)
    from cytofast.steps import correlated

    units = correlated._single_units(frame, frame.columns)
    fast, fast_sums = step._refined(frame, frame.columns, units)
    near = np.abs(plain - threshold) < 1e-5
    np.testing.assert_allclose(fast[near], plain[near], atol=1e-12)
    np.testing.assert_allclose(fast, plain, atol=1e-6)
    np.testing.assert_allclose(fast_sums, sums, atol=1e-4)


def test_groups_every_and_any():
    frame = wells().with_columns(
        pl.when(pl.col("Metadata_Plate") == "P2").then(None).otherwise(pl.col("Cells_A_f7")).alias("Cells_A_f7")
    )
    assert 7 not in left(DropMissing(by="Metadata_Plate")(frame))
    assert 7 in left(DropMissing(by="Metadata_Plate", in_groups="any")(frame))
    report = DropMissing(by="Metadata_Plate").fit(frame).filter(feature="Cells_A_f7")
    assert report.select("Metadata_Plate", "kept", "value").rows() == [("P1", True, 0.0), ("P2", False, 1.0)]
    both = DropCorrelated(by="Metadata_Plate").fit(frame)
    for plate in ("P1", "P2"):
        alone = DropCorrelated().fit(frame.filter(Metadata_Plate=plate))
        assert both.filter(Metadata_Plate=plate).drop("Metadata_Plate").equals(alone)


def test_reference_rows_judge_and_all_rows_stay():
    frame = wells()
    step = DropLowVariance(reference="Metadata_pert = 'T0'")
    assert step.fit(frame).equals(DropLowVariance().fit(frame.filter(Metadata_pert="T0")))
    assert step(frame).height == frame.height
    for rule in (DropLowVariance(reference="Metadata_pert = 'x'"), DropCorrelated(reference="Metadata_pert = 'x'")):
        with pytest.raises(DataError, match="Metadata_pert = 'x'"):
            rule(frame)


def test_a_plate_without_a_feature_gets_it_as_null_and_says_so():
    frame = wells()
    step = DropMissing()
    fit = step.fit(frame)
    with pytest.warns(ProfileWarning, match=r"plate 'P1' lacks 1 of 10 features .*Cells_A_f0"):
        plate = step.apply(frame.filter(Metadata_Plate="P1").drop("Cells_A_f0"), fit)
    assert plate["Cells_A_f0"].null_count() == 20
    assert set(plate.columns) == set(step.apply(frame, fit).columns)


def test_small_and_strange_tables():
    one_well = wells(n=1).with_columns(pl.lit(1.0).alias("Cells_A_f2"))
    assert left(DropCorrelated()(one_well)) == list(range(12))
    with pytest.warns(ProfileWarning, match="none of 12 features stays"):
        DropLowVariance()(one_well)
    one_feature = pl.DataFrame({"Cells_A_f0": [1.0, 2.0]})
    for step in ALL:
        if isinstance(step, DropNoisy):
            continue
        assert left(step(one_feature)) == [0]
    wide = wells(n=5, f=40)
    assert len(left(DropCorrelated()(wide))) < 40
    infinite = pl.DataFrame(
        {"Cells_A_f0": [1.0, np.inf, 3.0], "Cells_A_f1": [1.0, 2.0, 3.0], "Cells_A_f2": [1.0, -np.inf, np.nan]}
    )
    assert left(DropLowVariance()(infinite)) == [0, 1, 2]
    assert left(DropMissing(0, infinite=True)(infinite)) == [1]
    assert left(DropMissing(0)(infinite)) == [0, 1]
    assert left(DropOutliers()(infinite)) == [1]
    assert left(DropCorrelated()(infinite)) == [0, 2] or left(DropCorrelated()(infinite)) == [1, 2]
    assert len(left(DropLowMAD(min_ratio=0.0)(infinite))) >= 1
    with pytest.raises(DataError, match="no rows"):
        DropMissing()(wells().head(0))
    with pytest.raises(DataError, match="no rows"):
        DropCorrelated()(wells().head(0))


def test_lists():
    frame = wells()
    with pytest.warns(ProfileWarning, match="1 of 2 names of the blocklist"):
        assert 0 not in left(DropListed(["Cells_A_f0", "Cells_A_nowhere"])(frame))
    assert left(KeepListed(["Cells_A_f3"])(frame)) == [3]
    with pytest.raises(SchemaError, match="Cells_A_f33"):
        KeepListed(["Cells_A_f33"])(frame)
    for keep in ([], "Cells_A_f3"):
        with pytest.raises(RecipeError, match="KeepListed"):
            KeepListed(keep)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DropMissing(2),
        lambda: DropLowVariance(-1),
        lambda: DropLowFrequency(freq_cut=-0.1),
        lambda: DropLowFrequency(digits=0),
        lambda: DropOutliers(quantile=2),
        lambda: DropCorrelated(1.1),
        lambda: DropCorrelated(method="kendall"),
        lambda: DropCorrelated(rule="random"),
        lambda: DropMissing(in_groups="some"),
        lambda: FeatureSelect([]),
        lambda: FeatureSelect([{"cutoff": 1}]),
        lambda: FeatureSelect([{"step": "drop_mising"}]),
        lambda: FeatureSelect([{"step": "aggregate"}]),
        lambda: FeatureSelect([{"step": "drop_missing", "cutof": 1}]),
        lambda: FeatureSelect([3]),
    ],
)
def test_nonsense_is_refused(make):
    import cytofast.steps.aggregate  # noqa: F401  (makes its step known)

    with pytest.raises(RecipeError):
        make()


def test_a_selection_in_a_recipe():
    select = FeatureSelect([DropMissing(0.1, infinite=True), DropCorrelated(method="spearman")])
    tables = select.parameters()
    assert tables == {
        "steps": [
            {"step": "drop_missing", "cutoff": 0.1, "infinite": True},
            {"step": "drop_correlated", "method": "spearman"},
        ]
    }
    assert FeatureSelect.from_parameters(tables, "recipe") == select


def test_digits_of_csv_change_the_frequency_rule():
    rng = np.random.Generator(np.random.PCG64(0))
    x = np.where(rng.random(400) < 0.97, 1.0 + rng.normal(size=400) * 1e-7, rng.normal(size=400))
    frame = pl.DataFrame({"Cells_A_f0": x})
    assert left(DropLowFrequency()(frame)) == [0]
    with pytest.warns(ProfileWarning, match="none of 1"):
        assert left(DropLowFrequency(digits=5)(frame)) == []


def test_noisy_ignores_rows_without_a_perturbation():
    frame = pl.DataFrame({"Metadata_pert": ["a", "a", None, None], "Cells_A_f0": [1.0, 1.0, 0.0, 90.0]})
    assert left(DropNoisy("Metadata_pert")(frame)) == [0]
    assert DropNoisy("Metadata_pert").fit(frame)["value"].to_list() == [0.0]


def test_scaling_a_feature_changes_no_decision():
    frame = wells(3)
    for factor in (2.0**-20, 3.7e5):
        scaled = frame.with_columns(pl.col("Cells_A_f1").cast(pl.Float64) * factor)
        for step in (DropCorrelated(0.5), DropCorrelated(0.5, method="spearman")):
            assert left(step(scaled)) == left(step(frame))
    negative = frame.with_columns(-pl.col("Cells_A_f1"))
    absolute = DropCorrelated(0.5, absolute=True)
    assert left(absolute(negative)) == left(absolute(frame))


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["pearson", "spearman"]))
def test_a_duplicated_feature_loses_exactly_one_copy(seed, gaps, method):
    rng = np.random.Generator(np.random.PCG64(seed))
    frame = pl.DataFrame(rng.normal(size=(200, 6)), schema=[f"Cells_A_f{i}" for i in range(6)])
    if gaps:
        frame = frame.with_columns(
            pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise(pl.col("Cells_A_f2")).alias("Cells_A_f2")
        )
    doubled = frame.with_columns(pl.col("Cells_A_f2").alias("Cells_A_f9"))
    for rule in ("pycytominer", "greedy"):
        assert left(DropCorrelated(method=method, rule=rule)(doubled)) == [0, 1, 2, 3, 4, 5]


def test_replacing_a_field_keeps_the_rest():
    assert replace(DropCorrelated(0.8, by="Metadata_Plate"), rule="greedy").by == "Metadata_Plate"


def test_a_rule_judges_what_those_before_it_left_and_no_rule_is_skipped():
    frame = pl.DataFrame({"Cells_A_a": [1.0, 1.0, None], "Cells_A_b": [1.0, 2.0, 4.0], "Nuclei_A_a": [1.0, 2.0, 900.0]})
    # The first rule drops all that it looks at; the second looks at others.
    assert (
        "Nuclei_A_a"
        not in FeatureSelect([DropLowVariance(10, features="Cells_"), DropOutliers(features="Nuclei_")])
        .fit(frame)
        .filter("kept")["feature"]
        .to_list()
    )
    # What an earlier rule dropped is no longer there to be judged, and that is no mistake.
    for later in (DropOutliers(features=["Cells_A_a", "Cells_A_b"]), DropOutliers(features="Cells_A_a")):
        select = FeatureSelect([DropMissing(), later])
        assert select(frame).columns == ["Cells_A_b", "Nuclei_A_a"]
    assert FeatureSelect([DropMissing(), KeepListed(["Cells_A_a", "Cells_A_b"])])(frame).columns == ["Cells_A_b"]
    assert FeatureSelect([DropMissing(), DropListed(["Cells_A_a"])])(frame).columns == ["Cells_A_b", "Nuclei_A_a"]
    report = FeatureSelect([DropMissing(), KeepListed(["Cells_A_b"])]).fit(frame)
    assert report["feature"].value_counts().filter(pl.col("feature") == "Cells_A_a")["count"].to_list() == [1]


def test_infinite_values_are_extreme_and_leave_noise_to_the_others():
    frame = pl.DataFrame(
        {
            "Metadata_pert": [i // 2 for i in range(10)],
            "Cells_A_a": [1.0] * 8 + [np.inf] * 2,
            "Cells_A_b": [float(i) for i in range(10)],
            "Cells_A_c": [-np.inf] + [1.0] * 9,
        }
    )
    fit = DropOutliers(100, quantile=0.99).fit(frame)
    assert fit.select("feature", "kept", "value").rows()[:2] == [
        ("Cells_A_a", False, np.inf),
        ("Cells_A_b", True, 8.91),
    ]
    noisy = pl.Series("Cells_A_d", [np.inf, 1.0] + [1.0, 9.0] * 4)
    fit = DropNoisy("Metadata_pert").fit(frame.with_columns(noisy))
    # As in pandas, what has no standard deviation does not count in the mean.
    assert fit["value"].to_list() == [0.0, 0.5, 0.0, 4.0]
    assert fit["kept"].to_list() == [True, True, True, False]


@pytest.mark.parametrize(
    "step",
    [DropMissing, DropLowMAD, DropCorrelated, DropOutliers, DropLowFrequency, DropLowVariance],
    ids=lambda s: s.name,
)
def test_a_plate_without_reference_rows_is_an_error(step):
    frame = pl.DataFrame(
        {
            "Metadata_Plate": ["P"] * 3 + ["Q"] * 3,
            "Metadata_control": [True, True, True, False, False, None],
            "Cells_A_a": [1.0, 2.0, 4.0, 1.0, 1.0, 1.0],
        }
    )
    with pytest.raises(DataError, match=r"1 of 2 groups Metadata_Plate have no reference row: 'Q'"):
        step(by="Metadata_Plate", reference="Metadata_control").fit(frame)
    with pytest.raises(DataError, match="no row is in the reference"):
        step(reference="Metadata_Plate = 'R'").fit(frame.lazy())


@pytest.mark.parametrize("step", [DropCorrelated, DropMissing, Sphere, PrincipalComponents, TVN], ids=lambda s: s.name)
def test_references_that_do_not_answer_yes_or_no(step):
    frame = pl.DataFrame({"Metadata_Plate": ["P"] * 3, "Metadata_Batch": ["1"] * 3, "Cells_A_a": [1.0, 2.0, 4.0]})
    for table in (frame, frame.lazy()):
        with pytest.raises(RecipeError, match="must be true or false for each row, not String"):
            step(reference="Metadata_Plate").fit(table)
        with pytest.raises(SchemaError, match="cannot be evaluated"):
            step(reference="Metadata_Plate > 3").fit(table)


def test_a_numeric_column_that_makes_the_groups_is_no_feature():
    frame = pl.DataFrame({"Cluster_id": [1, 1, 2, 2], "Cells_A_a": [1.0, 2.0, 1.0, 4.0]})
    assert DropLowVariance(by="Cluster_id")(frame).columns == frame.columns
    assert DropLowVariance(by="Cluster_id").fit(frame)["feature"].unique().to_list() == ["Cells_A_a"]
    with pytest.raises(RecipeError, match="by= cannot name 'kept'"):
        DropMissing(by="kept")


def test_a_fit_of_something_else_is_refused():
    frame = pl.DataFrame({"Cells_A_a": [1.0, 2.0]})
    with pytest.raises(SchemaError, match="the fit: no column 'kept'"):
        DropMissing().apply(frame, pl.DataFrame({"feature": ["Cells_A_a"]}))
    with pytest.raises(SchemaError, match="the fit: no column 'order'"):
        FeatureSelect([DropMissing()]).apply(frame, DropMissing().fit(frame))


def test_ranks_of_a_lazy_table_without_an_order_are_refused(monkeypatch):
    frame = wells(n=30)
    features = [f"Cells_A_f{i}" for i in (0, 1, 7, 8)]
    readings = []

    def turned(batch: pl.DataFrame) -> pl.DataFrame:
        readings.append(1)
        return batch.reverse() if len(readings) % 2 else batch

    query = frame.lazy().map_batches(turned, projection_pushdown=False)
    step = DropCorrelated(method="spearman", features=features)
    assert step.fit(query).drop("r", "value").equals(step.fit(frame).drop("r", "value")), "one reading needs no order"
    monkeypatch.setattr(blocks, "block_width", lambda *_: 2)
    with pytest.raises(DataError, match="another order each time"):
        step.fit(query)
    assert step.fit(frame.lazy()).equals(step.fit(frame))
