"""Splits keep together what belongs together; leaks of any split are found and named."""

import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytofast.errors import DataError, ProfileWarning, RecipeError, SchemaError
from cytofast.tasks.splits import TWINS, check_split, make_splits

THIRDS = {"a": 1, "b": 1, "c": 1}


def wells(n=60, guides=2):
    """``guides`` guides a gene on two plates, four cells a well."""
    gene = np.arange(n) // guides
    rows = [
        (f"P{plate}", f"A{i:03d}", f"BRDN{i:03d}", f"G{gene[i]:03d}", ["x", "y", "z"][gene[i] % 3])
        for plate in range(2)
        for i in range(n)
        for _ in range(4)
    ]
    names = ["Metadata_Plate", "Metadata_Well", "Metadata_broad_sample", "Metadata_gene", "Metadata_class"]
    return pl.DataFrame(rows, schema=names, orient="row")


KEYS = ["Metadata_broad_sample", "Metadata_gene", ["Metadata_Plate", "Metadata_Well"]]


def test_nothing_that_belongs_together_is_apart():
    found = make_splits(wells(), KEYS, seed=3)
    assert check_split(found).height == 0
    for key in ("Metadata_gene", "Metadata_broad_sample", ["Metadata_Plate", "Metadata_Well"]):
        assert found.group_by(key).agg(pl.col("Metadata_Split").n_unique())["Metadata_Split"].max() == 1
    shares = found["Metadata_Split"].value_counts(normalize=True)
    assert dict(shares.rows()) == pytest.approx({"train": 0.7, "validation": 0.15, "test": 0.15}, abs=0.04)


def test_the_split_depends_on_seed_and_content_alone():
    table = wells()
    first = make_splits(table, KEYS)
    shuffled = make_splits(table.sample(fraction=1.0, shuffle=True, seed=5), KEYS)
    order = ["Metadata_Plate", "Metadata_Well"]
    assert first.sort(order).equals(shuffled.sort(order))
    assert not first.equals(make_splits(table, KEYS, seed=1))
    assert make_splits(table.lazy(), KEYS).equals(first)


def test_classes_are_shared_out_evenly():
    found = make_splits(wells(180), KEYS, balance_by="Metadata_class", fractions=THIRDS)
    counts = found.group_by("Metadata_class", "Metadata_Split").len()
    assert counts.height == 9
    assert counts["len"].max() - counts["len"].min() <= 2 * 2 * 4 * 2


def test_twins_stay_together_under_two_identifiers():
    names = [*TWINS, "aspirin", "Dexamethasone ", "bvt-948", "thiostrepton", "ibuprofen"] + [
        f"other{i}" for i in range(40)
    ]
    table = pl.DataFrame(
        {"Metadata_broad_sample": [f"BRD-{i}" for i in range(len(names))], "Metadata_pert_iname": names}
    )
    for seed in range(5):
        found = make_splits(table, ["Metadata_broad_sample"], fractions=THIRDS, seed=seed)
        assert check_split(found).height == 0
    apart = make_splits(table, ["Metadata_broad_sample"], fractions=THIRDS, twins=())
    assert check_split(apart, keep_together=["Metadata_broad_sample"], twins=()).height == 0
    leaks = check_split(apart)
    assert set(leaks["value"]) <= {name.lower() for name in TWINS}
    assert leaks.height


def test_leaks_of_anybodys_split_are_named():
    table = wells(8)
    table = table.with_columns(pl.Series("fold", ["train", "test"] * (table.height // 2)))
    leaks = check_split(table, "fold")
    assert leaks.columns == ["key", "value", "splits", "n_rows"]
    assert leaks.row(0) == ("Metadata_gene", "G000", "test, train", 16)
    assert ("Metadata_Plate Metadata_Well", "P0 A003", "test, train", 4) in leaks.rows()
    assert leaks["key"].value_counts().sort("key").rows() == [
        ("Metadata_Plate Metadata_Well", 16),
        ("Metadata_broad_sample", 8),
        ("Metadata_gene", 4),
    ]
    one = check_split(table, "fold", [["Metadata_Plate", "Metadata_Well"]])
    assert set(one["key"]) == {"Metadata_Plate Metadata_Well"}
    assert check_split(table.with_columns(pl.lit(None, pl.String).alias("fold")), "fold").height == 0


def test_stereoisomers_are_one_molecule():
    keys = ["UREBDLICKHMUKA-CXSFZGCWSA-N", "UREBDLICKHMUKA-DVTGEIKXSA-N", "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"]
    table = pl.DataFrame({"Metadata_InChIKey": keys, "Metadata_Split": ["train", "test", "train"]})
    assert check_split(table).rows() == [("Metadata_InChIKey", "UREBDLICKHMUKA", "test, train", 2)]


def test_controls_are_in_every_split_but_their_cells_stay_together():
    control = pl.col("Metadata_gene") < "G010"
    named = {"Metadata_gene": "none", "Metadata_broad_sample": "DMSO"}
    table = wells(60).with_columns(
        pl.when(control).then(pl.lit("negcon")).alias("Metadata_control_type"),
        *(pl.when(control).then(pl.lit(text)).otherwise(pl.col(name)).alias(name) for name, text in named.items()),
    )
    negcon = "Metadata_control_type = 'negcon'"
    found = make_splits(table, KEYS, fractions=THIRDS, controls=negcon)
    assert found.filter(pl.col("Metadata_gene") == "none")["Metadata_Split"].n_unique() == 3
    assert check_split(found, controls=negcon).height == 0
    assert check_split(found)["value"].to_list() == ["DMSO", "none"]


def test_a_null_is_no_key():
    table = pl.DataFrame({"Metadata_gene": [None] * 50 + ["A", "A"], "Metadata_x": range(52)})
    found = make_splits(table, ["Metadata_gene"], fractions=THIRDS)
    assert found[:50]["Metadata_Split"].n_unique() == 3
    assert found[50:]["Metadata_Split"].n_unique() == 1


def test_what_cannot_be_split_is_refused():
    table = wells(4)
    with pytest.raises(DataError, match=r"1 groups.*too few for 3 splits.*controls="):
        make_splits(table.with_columns(pl.lit("G").alias("Metadata_gene")), KEYS)
    large = pl.DataFrame({"Metadata_gene": ["G"] * 20 + ["H", "I"]})
    with pytest.warns(ProfileWarning, match="the largest of 3 groups has 20 of 22 rows"):
        make_splits(large, ["Metadata_gene"], fractions={"train": 0.5, "test": 0.5})
    for settings_, error, match in (
        ({"keep_together": []}, RecipeError, "at least one key"),
        ({"keep_together": "Metadata_gene"}, RecipeError, "at least one key"),
        ({"keep_together": ["Metadata_gen"]}, SchemaError, "Metadata_gene"),
        ({"fractions": {"train": 1.0}}, RecipeError, "at least two"),
        ({"fractions": {"train": 1.0, "test": -1}}, RecipeError, "positive"),
        ({"column": "Metadata_gene"}, RecipeError, "already"),
        ({"balance_by": "Metadata_kind"}, SchemaError, "Metadata_kind"),
    ):
        with pytest.raises(error, match=match):
            make_splits(table, **{"keep_together": KEYS, **settings_})
    with pytest.raises(SchemaError, match="Metadata_Split"):
        check_split(table)
    with pytest.raises(RecipeError, match="keep_together="):
        check_split(pl.DataFrame({"Metadata_Split": ["a"], "x": [1]}))


LINKS = st.tuples(st.sampled_from([None, *"abcdefgh"]), st.sampled_from([None, *range(8)]))


@settings(max_examples=40)
@given(st.lists(LINKS, min_size=12, max_size=40), st.integers(0, 5))
def test_linked_rows_are_never_apart(rows, seed):
    table = pl.DataFrame(rows, schema={"Metadata_gene": pl.String, "Metadata_other": pl.Int64}, orient="row")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProfileWarning)
            found = make_splits(table, ["Metadata_gene", "Metadata_other"], fractions={"a": 0.6, "b": 0.4}, seed=seed)
    except DataError:
        return
    assert check_split(found, keep_together=["Metadata_gene", "Metadata_other"]).height == 0
    assert found["Metadata_Split"].null_count() == 0


def test_an_empty_split_is_an_error():
    # Both were given without a word: 0 % is within 5 % of 5 %.
    large = pl.DataFrame({"Metadata_gene": ["A"] * 100 + ["B"] * 100 + ["C"]})
    with pytest.raises(DataError, match=r"nothing is left for 'test'.*the largest of 3 groups has 100 of 201 rows"):
        make_splits(large, ["Metadata_gene"], fractions={"train": 0.9, "validation": 0.05, "test": 0.05})
    few = pl.DataFrame({"Metadata_gene": [f"G{i}" for i in range(20)]})
    with pytest.raises(DataError, match="nothing is left for 'validation', 'test'"):
        make_splits(few, ["Metadata_gene"], fractions={"train": 0.98, "validation": 0.01, "test": 0.01})


def test_rows_without_a_key_do_not_depend_on_their_order_either():
    table = pl.DataFrame(
        {
            "Metadata_gene": [None] * 30 + ["A", "A", "B"],
            "Metadata_Well": [f"w{i}" for i in range(33)],
            "Metadata_targets": [["x", "y"], None, []] * 11,
            "Cells_x": np.random.default_rng(0).normal(size=33),
        }
    )
    wanted = make_splits(table, ["Metadata_gene"]).sort("Metadata_Well")
    for seed in range(3):
        shuffled = table.sample(fraction=1.0, shuffle=True, seed=seed)
        assert make_splits(shuffled, ["Metadata_gene"]).sort("Metadata_Well").equals(wanted)


def test_blank_text_is_no_key():
    table = pl.DataFrame({"Metadata_gene": ["", " "] * 25 + ["A", "A"], "Metadata_x": range(52)})
    numbers = table.with_columns(pl.Series("Metadata_gene", [float("nan")] * 50 + [1.0, 1.0]))
    assert make_splits(numbers, ["Metadata_gene"], fractions=THIRDS)[:50]["Metadata_Split"].n_unique() == 3
    found = make_splits(table, ["Metadata_gene"], fractions=THIRDS)
    assert found[:50]["Metadata_Split"].n_unique() == 3
    assert check_split(found).height == 0


def test_lists_are_refused_as_keys():
    table = pl.DataFrame({"Metadata_target_list": [["A", "B"], ["B"]], "Metadata_Split": ["x", "y"]})
    for ask in (
        lambda: check_split(table, keep_together=["Metadata_target_list"]),
        lambda: make_splits(table, ["Metadata_target_list"], column="Metadata_new"),
    ):
        with pytest.raises(SchemaError, match="'Metadata_target_list', which holds lists"):
            ask()


@pytest.mark.parametrize(
    ("settings_", "match"),
    [
        ({"fractions": [0.5, 0.5]}, "fractions="),
        ({"fractions": {"a": True, "b": 1}}, "fractions="),
        ({"keep_together": [[]]}, "each names a column"),
        ({"seed": 1.5}, "seed"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(settings_, match):
    with pytest.raises(RecipeError, match=match):
        make_splits(wells(4), **{"keep_together": KEYS, **settings_})


def test_keys_to_check_are_a_list():
    table = pl.DataFrame({"Metadata_gene": ["A"], "Metadata_Split": ["x"]})
    for wrong in ("Metadata_gene", [], [[]]):
        with pytest.raises(RecipeError, match="keep_together="):
            check_split(table, keep_together=wrong)


def test_columns_that_make_one_key_are_not_run_together():
    table = pl.DataFrame({"Metadata_Plate": ["P 1", "P"], "Metadata_Well": ["A", "1 A"], "Metadata_Split": ["x", "y"]})
    assert check_split(table).height == 0


def test_targets_that_share_a_label_belong_together():
    targets = ["EGFR|ERBB2", "ERBB2", "TP53 | MDM2", "MDM2", None, " | "] + [f"T{i}" for i in range(30)]
    table = pl.DataFrame({"Metadata_target_list": targets, "Metadata_x": range(len(targets))})
    for seed in range(4):
        found = make_splits(table, ["Metadata_target_list"], fractions=THIRDS, seed=seed)
        split = found["Metadata_Split"].to_list()
        assert (split[0], split[2]) == (split[1], split[3])
        assert check_split(found, keep_together=["Metadata_target_list"]).height == 0
    apart = table.with_columns(pl.Series("Metadata_Split", ["train", "test"] * (len(targets) // 2)))
    assert check_split(apart, keep_together=["Metadata_target_list"]).rows() == [
        ("Metadata_target_list", "ERBB2", "test, train", 2),
        ("Metadata_target_list", "MDM2", "test, train", 2),
    ]
    assert check_split(apart, keep_together=["Metadata_target_list"], multilabel=()).height == 0
    named = apart.rename({"Metadata_target_list": "Metadata_moa"})
    assert check_split(named, keep_together=["Metadata_moa"], multilabel=["Metadata_moa"]).height == 2
    with pytest.raises(RecipeError, match="multilabel="):
        check_split(named, keep_together=["Metadata_moa"], multilabel="Metadata_moa")
