"""Each task finds what was planted and nothing else, and equals its plain twin."""

import numpy as np
import polars as pl
import pytest

from cytofast.errors import DataError, RecipeError, SchemaError
from cytofast.tasks.detection import Detection
from cytofast.tasks.directionality import Directionality, PercentMatching
from cytofast.tasks.matching import CrossMatching, SisterMatching
from tests import oracle_tasks as oracle
from tests.tasks.screens import FEATURES, F, directions, screen

# Few controls keep these designs small enough to be enumerated; what that makes of hits is test_few_candidates.py's.
pytestmark = pytest.mark.filterwarnings("ignore:.*rest on perfect rankings of few")

NULL = {"null": "cpjump1", "null_size": 20_000}
GENES = ("Metadata_gene",)
BOTH = ("Metadata_target_list", "Metadata_gene")


def strong(n, seed=0, strength=6.0):
    return strength * directions(n, seed)


def compare(found, wanted, null_size=20_000):
    """mAP exactly, p within what so many draws leave open, and what is retrieved where that decides nothing."""
    tested = found.filter(pl.col("p_value").is_not_null())
    assert tested["name"].to_list() == wanted["name"].to_list()
    assert tested["mean_average_precision"].to_numpy() == pytest.approx(wanted["ap"].to_numpy(), abs=1e-12)
    assert np.log(tested["p_value"]).to_numpy() == pytest.approx(np.log(wanted["p"].to_numpy()), abs=0.25)
    clear = np.abs(wanted["q"].to_numpy() - 0.05) > 0.01
    assert (tested["retrieved"].to_numpy() == (wanted["q"].to_numpy() < 0.05))[clear].all()


# --- detection -------------------------------------------------------------------------------------------------------


@pytest.fixture
def half_active():
    """Six perturbations do something, six do nothing; two wells each, so that positions can be told apart."""
    effects = np.concatenate([strong(6), np.zeros((6, F))])
    return screen(effects, ["A"] * 12, wells=2, plates=2, controls=6)


@pytest.mark.parametrize("position", ["any", "same", "different"])
def test_detection_is_that_of_the_plain_twin(half_active, position):
    found = Detection(position=position, **NULL).answer(half_active)
    wanted = oracle.detection(half_active.to_pandas(), FEATURES, position, draws=20_000)
    if position == "same":
        assert found.height == 24
        found = found.with_columns((pl.col("name") + " " + pl.col("position")).alias("name"))
    else:
        assert found["position"].null_count() == found.height == 12
    compare(found, wanted)


@pytest.mark.parametrize("null", ["cpjump1", "labels", "ranks"])
def test_detection_finds_what_was_planted_and_nothing_else(null):
    effects = np.concatenate([strong(10), np.zeros((20, F))])
    wells = screen(effects, ["A"] * 30, plates=4, controls=16)
    found = Detection(null=null, null_size=5_000).answer(wells)
    planted = found["name"].is_in([f"c{i:02d}" for i in range(10)])
    assert found.filter(planted)["retrieved"].all()
    assert found.filter(~planted)["retrieved"].sum() <= 2


def test_detection_says_more_of_a_perturbation(half_active):
    found = Detection(about=["Metadata_target_list", "Metadata_absent"], **NULL).answer(half_active)
    assert found["about"].unique().to_list() == ["A"]


def test_an_empty_well_takes_no_part(half_active):
    # Wells without a sample that are no controls would all be replicates of nothing.
    nowhere = half_active.filter(pl.col("Metadata_control_type") == "negcon").with_columns(
        pl.lit(None, pl.String).alias("Metadata_control_type"), (pl.col("Metadata_Well") + "x").alias("Metadata_Well")
    )
    with_empty = pl.concat([half_active, nowhere])
    assert Detection(**NULL).answer(with_empty).equals(Detection(**NULL).answer(half_active))


def test_a_feature_that_a_plate_lacks_is_left_out_and_a_broken_well_is_named(half_active):
    lacking = half_active.with_columns(
        pl.when(pl.col("Metadata_Plate") == "cP0").then(None).otherwise(pl.col(FEATURES[0])).alias(FEATURES[0])
    )
    assert Detection(**NULL).answer(lacking).equals(Detection(features=FEATURES[1:], **NULL).answer(half_active))
    broken = half_active.with_row_index("row").with_columns(
        pl.when(pl.col("row") == 3).then(float("nan")).otherwise(pl.col(FEATURES[0])).alias(FEATURES[0])
    )
    with pytest.raises(DataError, match=r"1 of 60 wells have missing.*cP0.*A04.*on_invalid"):
        Detection(**NULL).answer(broken.drop("row"))
    dropped = Detection(on_invalid="drop", **NULL).answer(broken.drop("row"))
    assert dropped.equals(Detection(**NULL).answer(half_active[[i for i in range(60) if i != 3]]))


def test_detection_refuses_what_cannot_be_answered(half_active):
    with pytest.raises(DataError, match="no query has a positive"):
        Detection(**NULL).answer(half_active.filter(pl.col("Metadata_Plate") == "cP0").unique("Metadata_broad_sample"))
    with pytest.raises(DataError, match="no profile satisfies controls"):
        Detection(**NULL).answer(half_active.filter(pl.col("Metadata_control_type").is_null()))
    with pytest.raises(SchemaError, match="Metadata_broad_sampel"):
        Detection(perturbation="Metadata_broad_sampel").answer(half_active)
    with pytest.raises(RecipeError, match="position"):
        Detection(position="near")
    with pytest.raises(RecipeError, match="null"):
        Detection(null="cpjump")
    with pytest.raises(RecipeError, match="null_size"):
        Detection(null_size=0)


# --- sisters ---------------------------------------------------------------------------------------------------------


def test_sisters_of_guides_are_those_of_the_plain_twin():
    effects = np.concatenate([np.repeat(strong(6), 2, axis=0), strong(7, seed=2)])
    genes = [f"G{i // 2}" for i in range(12)] + [f"H{i // 2}" for i in range(7)]
    wells = screen(effects, genes, "g", column="Metadata_gene")
    task = SisterMatching(label=GENES, multilabel=False, drop_singles=True, **NULL)
    detected = Detection(**NULL).answer(wells)
    found = task.answer(wells)
    assert found.equals(task.answer(wells, detected))
    names = set(detected.filter(pl.col("retrieved"))["name"])
    profiles = oracle.labelled(wells.to_pandas(), FEATURES, "Metadata_gene", names)
    counts = profiles["labels"].str[0].value_counts()
    compare(found, oracle.matching(profiles[profiles["labels"].str[0].map(counts) > 1], FEATURES, False, 20_000))
    assert set(found.filter(pl.col("retrieved"))["name"]) == {f"G{i}" for i in range(6)}
    assert found.filter(pl.col("name") == "G0")["about"].item() == "g00|g01"


def test_sisters_of_compounds_with_several_targets_are_those_of_the_plain_twin():
    # Half of the compounds of a target do the opposite of the other half.
    base = strong(5)
    effects = np.concatenate([base, -base, strong(6, seed=3)])
    targets = [f"T{i}|U{i}" for i in range(5)] + [f"T{i}" for i in range(5)] + [f"X{i // 2}|Y{i % 2}" for i in range(6)]
    wells = screen(effects, targets)
    task = SisterMatching(metric="abs_cosine", **NULL)
    found = task.answer(wells)
    names = set(Detection(**NULL).answer(wells).filter(pl.col("retrieved"))["name"])
    assert len(names) == 16
    profiles = oracle.labelled(wells.to_pandas(), FEATURES, "Metadata_target_list", names)
    compare(found, oracle.matching(profiles, FEATURES, True, 20_000))
    retrieved = set(found.filter(pl.col("retrieved"))["name"])
    assert retrieved == {f"T{i}" for i in range(5)}
    # A label that one compound bears alone cannot be tested, and the table says so.
    assert found.filter(pl.col("name") == "U0")["retrieved"].to_list() == [None]
    signed = SisterMatching(metric="cosine", **NULL).answer(wells)
    assert not signed.filter(pl.col("name").str.starts_with("T"))["retrieved"].any()


def test_sister_matching_without_sisters_or_detected_perturbations_says_so():
    wells = screen(strong(6), [f"T{i}" for i in range(6)])
    with pytest.raises(DataError, match="no two of 6 perturbations share a label"):
        SisterMatching(**NULL).answer(wells)
    nothing = screen(np.zeros((6, F)), ["T"] * 6)
    with pytest.raises(DataError, match="none of 6 perturbations was detected"):
        SisterMatching(threshold=0.001, **NULL).answer(nothing)
    with pytest.raises(DataError, match="all 6 perturbations bear one label"):
        SisterMatching(detected_only=False, **NULL).answer(nothing)
    unnamed = nothing.with_columns(pl.Series("Metadata_target_list", ["T", "T", "U", "U", None, None, *[None] * 8] * 3))
    assert SisterMatching(detected_only=False, **NULL).answer(unnamed)["name"].to_list() == ["T", "U"]
    with pytest.raises(SchemaError, match="Metadata_moa"):
        SisterMatching(label="Metadata_moa", **NULL).answer(wells)


# --- across kinds ----------------------------------------------------------------------------------------------------


@pytest.fixture
def two_kinds():
    """Compounds 0-3 do what their gene does, 4-7 the opposite, 8-11 something else; targets beside name unknown genes."""
    base = strong(12)
    compounds = np.concatenate([base[:4], -base[4:8], strong(4, seed=5)])
    targets = [f"G{i}|unknown{i % 3}" for i in range(12)]
    guides = np.repeat(base, 2, axis=0)
    genes = [f"G{i // 2}" for i in range(24)]
    return (
        screen(compounds, targets, "c"),
        screen(guides, genes, "g", column="Metadata_gene", seed=1),
    )


def test_cross_matching_is_that_of_the_plain_twin_and_finds_what_was_planted(two_kinds):
    compounds, genes = two_kinds
    found = CrossMatching(label=BOTH, **NULL).answer(compounds, genes)
    detected = [set(Detection(**NULL).answer(side).filter(pl.col("retrieved"))["name"]) for side in (compounds, genes)]
    table = oracle.across(
        oracle.labelled(compounds.to_pandas(), FEATURES, "Metadata_target_list", detected[0]),
        oracle.labelled(genes.to_pandas(), FEATURES, "Metadata_gene", detected[1]),
    )
    compare(found, oracle.matching(table, FEATURES, True, 20_000, table["side"].tolist()))
    assert set(found.filter(pl.col("retrieved"))["name"]) == {f"G{i}" for i in range(8)}
    assert not found["name"].str.starts_with("unknown").any()


def test_features_are_joined_inwards(two_kinds):
    compounds, genes = two_kinds
    found = CrossMatching(label=BOTH, **NULL).answer(compounds.drop(FEATURES[0]), genes.drop(FEATURES[1]))
    both = {"label": BOTH, "features": FEATURES[2:], **NULL}
    detected = tuple(Detection(**NULL).answer(side.drop(name)) for side, name in zip(two_kinds, FEATURES, strict=False))
    assert found.equals(CrossMatching(**both).answer(compounds, genes, detected))
    with pytest.raises(DataError, match="no feature in common"):
        CrossMatching(label=BOTH, detected_only=False, **NULL).answer(
            compounds.drop(FEATURES[:12]), genes.drop(FEATURES[12:])
        )


def test_targets_that_nobody_perturbed_are_an_error_that_says_so(two_kinds):
    compounds, genes = two_kinds
    strange = compounds.with_columns(pl.lit("unknown").alias("Metadata_target_list"))
    with pytest.raises(DataError, match=r"none of 12 perturbations of the first side shares a label.*written alike"):
        CrossMatching(label=BOTH, **NULL).answer(strange, genes)


@pytest.mark.parametrize("tails", [0.05, 0.1])
def test_directionality_is_that_of_the_plain_twin_and_knows_directions(two_kinds, tails):
    compounds, genes = two_kinds
    task = Directionality(label=BOTH, tails=tails)
    found, summary = task.answer(compounds, genes), task.summary(compounds, genes).row(0, named=True)
    ours = oracle.labelled(compounds.to_pandas(), FEATURES, "Metadata_target_list", None)
    treated = genes.to_pandas().dropna(subset=["Metadata_gene"])
    theirs = oracle.median(treated, "Metadata_gene", FEATURES).rename(columns={"Metadata_gene": "gene"})
    wanted = oracle.directionality(ours, theirs, FEATURES, tails)
    assert found["similarity"].to_numpy() == pytest.approx(wanted.pop("similarities"))
    assert {key: summary[key] for key in wanted} == pytest.approx(wanted)
    beyond = dict(zip(found["first"], found["beyond"], strict=True))
    assert [beyond[f"c{i:02d}"] for i in range(8)] == ["above"] * 4 + ["below"] * 4
    assert found["shared"].to_list() == found["second"].to_list()
    assert found["similarity"].is_sorted(descending=True)
    assert summary["share_above"] == summary["n_above"] / 12
    assert summary["p_above"] < 0.05
    assert summary["p_below"] < 0.05


def test_percent_matching_is_that_of_the_plain_twin(two_kinds):
    compounds, genes = two_kinds
    task = PercentMatching(label=BOTH)
    found, summary = task.answer(compounds, genes), task.summary(compounds, genes).row(0, named=True)
    ours = oracle.labelled(compounds.to_pandas(), FEATURES, "Metadata_target_list", None)
    theirs = oracle.labelled(genes.to_pandas(), FEATURES, "Metadata_gene", None)
    wanted = oracle.percent_matching(ours, theirs, compounds.to_pandas(), genes.to_pandas(), FEATURES)
    assert found["similarity"].to_numpy() == pytest.approx(wanted.pop("similarities"))
    assert {key: summary[key] for key in wanted} == pytest.approx(wanted)
    assert set(found.filter(task.retrieved(found))["first"]) >= {f"c{i:02d}" for i in range(4)}
    assert summary["n_same"] == 24


def test_pairs_without_signal_are_beyond_the_thresholds_as_often_as_these_say():
    rng = np.random.default_rng(3)
    compounds = screen(rng.normal(size=(60, F)), [f"G{i % 30}" for i in range(60)], "c")
    genes = screen(rng.normal(size=(60, F)), [f"G{i % 30}" for i in range(60)], "g", column="Metadata_gene", seed=1)
    summary = Directionality(label=BOTH).summary(compounds, genes).row(0, named=True)
    assert summary["n_same"] == 60
    assert summary["share_above"] + summary["share_below"] == pytest.approx(0.1, abs=0.1)
    assert summary["p_value"] > 0.001


def test_pair_tasks_refuse_what_makes_no_sense(two_kinds):
    for settings, match in (
        ({"tails": 0.5}, "tails"),
        ({"side": "up"}, "side"),
        ({"pool": ["Metadata_Time"]}, "pool"),
        ({"first": "Metadata_x = 1"}, "second="),
    ):
        with pytest.raises(RecipeError, match=match):
            Directionality(label=BOTH, **settings)
    compounds, genes = two_kinds
    one = compounds.filter(pl.col("Metadata_broad_sample").is_null() | (pl.col("Metadata_broad_sample") == "c00"))
    gene = genes.filter(pl.col("Metadata_gene").is_null() | (pl.col("Metadata_gene") == "G0"))
    with pytest.raises(DataError, match="every pair shares a label"):
        Directionality(label=BOTH).answer(one, gene)


# --- labels ----------------------------------------------------------------------------------------------------------


def sisters(wells, **settings):
    return SisterMatching(detected_only=False, **{**NULL, **settings}).answer(wells)


def test_a_label_need_not_stand_in_every_well_of_a_perturbation():
    wells = screen(strong(6), ["A", "A", "B", "B", "C", "C"])
    first = pl.col("Metadata_Plate") == "cP0"
    target = pl.col("Metadata_target_list")
    partly = wells.with_columns(pl.when(first).then(None).otherwise(target).alias("Metadata_target_list"))
    for table in (partly, partly.reverse()):
        assert sisters(table).drop("p_value", "q_value").equals(sisters(wells).drop("p_value", "q_value"))


def test_wells_of_a_perturbation_that_tell_different_labels_are_an_error():
    # The first well decided, so that the answer hung on the order of rows.
    wells = screen(strong(6), ["A", "A", "B", "B", "C", "C"])
    wrong = pl.when((pl.col("Metadata_Plate") == "cP0") & (pl.col("Metadata_broad_sample") == "c00"))
    two = wells.with_columns(
        wrong.then(pl.lit("C")).otherwise(pl.col("Metadata_target_list")).alias("Metadata_target_list")
    )
    with pytest.raises(DataError, match=r"1 perturbations have different Metadata_target_list.*'c00' \(A, C\)"):
        sisters(two)


def test_labels_are_read_alike_however_they_are_written():
    wells = screen(strong(6), ["A|D", "A", "B", "B|", "C", "C"])
    target = pl.col("Metadata_target_list")
    wanted = sisters(wells)
    assert wanted["name"].to_list() == ["A", "B", "C", "D"]
    for written in (
        target.replace({"A|D": " D | |A|A", "B|": "|B |"}),
        target.replace({"A|D": " D | |A|A", "B|": "|B |"}).str.split("|"),
        target.cast(pl.Categorical),
    ):
        assert sisters(wells.with_columns(written.alias("Metadata_target_list"))).equals(wanted)
    single = screen(strong(6), ["A", "A ", "B", "B", " ", " "])
    assert sisters(single, multilabel=False)["name"].to_list() == ["A", "B"]


def test_a_column_without_any_label_and_labels_that_are_numbers_do_no_harm():
    wells = screen(strong(6), ["1", "1", "2", "2", "3", "3"])
    nothing = wells.with_columns(pl.lit(None).alias("Metadata_gene"))
    wanted = sisters(wells)
    assert sisters(nothing, label=("Metadata_gene", "Metadata_target_list")).equals(wanted)
    with pytest.raises(DataError, match="no two of 6 perturbations share a label"):
        sisters(nothing, label="Metadata_gene")
    assert sisters(wells.with_columns(pl.col("Metadata_target_list").cast(pl.Int64))).equals(wanted)


# --- tables that hold a well twice -----------------------------------------------------------------------------------


def test_a_table_that_was_joined_to_itself_is_an_error(half_active):
    # Each well found its own copy: everything was a replicate of itself.
    with pytest.raises(DataError, match=r"60 rows stand in the table more than once.*cP0.*A01"):
        Detection(**NULL).answer(pl.concat([half_active, half_active]))
    # The same well of the same plate in another batch is another well.
    other = half_active.with_columns(pl.lit("B2").alias("Metadata_Batch"))
    both = pl.concat([half_active.with_columns(pl.lit("B1").alias("Metadata_Batch")), other])
    assert Detection(**NULL).answer(both)["n_profiles"].unique().to_list() == [8]


def test_wells_of_several_profiles_are_counted(half_active):
    from cytofast.tasks.conditions import answer_conditions
    from tests.tasks.screens import condition

    models = pl.concat([half_active, half_active.with_columns(-pl.col(FEATURES[0]))])
    found = answer_conditions(condition(models, "compound", 24), [Detection(**NULL)], "Metadata_Time")
    assert "60 wells have several profiles" in found.summary["note"].item()


def test_thresholds_that_rest_on_few_pairs_are_told(two_kinds):
    from cytofast.tasks.conditions import answer_conditions
    from tests.tasks.screens import condition

    few = [
        condition(
            side.filter(pl.col("Metadata_broad_sample").is_null() | pl.col(column).str.contains("G[01](\\||$)")),
            kind,
            24,
        )
        for side, column, kind in zip(
            two_kinds, ("Metadata_target_list", "Metadata_gene"), ("compound", "crispr"), strict=True
        )
    ]
    task = Directionality(
        label=BOTH,
        first="Metadata_Perturbation = 'compound'",
        second="Metadata_Perturbation = 'crispr'",
        apart=["Metadata_Perturbation"],
    )
    found = answer_conditions(pl.concat(few, how="diagonal"), [task], "Metadata_Perturbation")
    assert "thresholds rest on 2 pairs" in found.summary["note"].item()
