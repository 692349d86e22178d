import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytofast import Annotate, DataError, ProfileWarning, RecipeError, SchemaError

WELLS = pl.DataFrame(
    {
        "Metadata_Plate": ["P1", "P1", "P2"],
        "Metadata_Well": ["A01", "A02", "A01"],
        "Cells_AreaShape_Area": [1.0, 2.0, 3.0],
    }
)
PLATEMAP = pl.DataFrame({"well_position": ["A02", "A01"], "broad_sample": ["BRD-2", None], "solvent": ["DMSO", "DMSO"]})


@pytest.mark.parametrize("lazy", [False, True])
def test_every_profile_stays_in_its_order(lazy):
    found = Annotate(PLATEMAP)(WELLS.lazy()).collect() if lazy else Annotate(PLATEMAP)(WELLS)
    assert found.columns == [
        "Metadata_Plate", "Metadata_Well", "Metadata_broad_sample", "Metadata_solvent", "Cells_AreaShape_Area",
    ]  # fmt: skip
    assert found["Metadata_broad_sample"].to_list() == [None, "BRD-2", None]
    assert found["Cells_AreaShape_Area"].to_list() == [1.0, 2.0, 3.0]


def test_null_keys_match_null_keys():
    table = pl.DataFrame({"broad_sample": [None, "BRD-2"], "control_type": ["negcon", None]})
    found = Annotate(table, on="Metadata_broad_sample")(Annotate(PLATEMAP)(WELLS))
    assert found["Metadata_control_type"].to_list() == ["negcon", None, "negcon"]


@pytest.mark.parametrize("name", ["a1", "A1", "A001", " A01 "])
def test_wells_are_compared_whatever_they_look_like(name):
    platemap = pl.DataFrame({"Metadata_Well": [name, "B2"], "compound": ["x", "y"]})
    with pytest.warns(ProfileWarning, match="only in profiles"):
        assert Annotate(platemap)(WELLS)["Metadata_compound"].to_list() == ["x", None, "x"]


def test_a_platemap_that_names_plates_is_joined_by_plate_and_well():
    platemap = pl.DataFrame(
        {"Assay_Plate_Barcode": ["P1", "P2", "P1"], "Well": ["A01", "A01", "A02"], "compound": list("xyz")}
    )
    platemap = platemap.rename({"Well": "well_position"})
    assert Annotate(platemap)(WELLS)["Metadata_compound"].to_list() == ["x", "z", "y"]


def test_what_finds_no_partner_is_listed_on_both_sides():
    platemap = pl.DataFrame({"well_position": ["A01", "P24"], "compound": ["x", "y"]})
    step = Annotate(platemap)
    with pytest.warns(
        ProfileWarning,
        match=r"1 Metadata_Well only in profiles \('A02'\); 1 Metadata_Well only in annotation \('P24'\)",
    ):
        assert step(WELLS).height == 3
    assert step.fit(WELLS).rows() == [
        ("A01", 2, "matched"),
        ("A02", 1, "only in profiles"),
        ("P24", 0, "only in annotation"),
    ]


def test_two_rows_for_one_well_are_refused():
    with pytest.raises(DataError, match="1 keys Metadata_Well stand more than once, for example 'A01'"):
        Annotate(pl.DataFrame({"well_position": ["A01", "a1"], "compound": ["x", "y"]}))(WELLS)


def test_the_same_column_on_both_sides():
    annotated = Annotate(PLATEMAP)(WELLS)
    assert Annotate(PLATEMAP)(annotated).equals(annotated)
    other = PLATEMAP.with_columns(solvent=pl.lit("water"))
    with pytest.raises(SchemaError, match="both have 'Metadata_solvent', with different content"):
        Annotate(other)(annotated)
    found = Annotate(other, suffix="_external")(annotated)
    assert found["Metadata_solvent"].to_list() == ["DMSO"] * 3
    assert found["Metadata_solvent_external"].to_list() == ["water"] * 3


def test_numbers_and_text_as_keys():
    wells = WELLS.with_columns(pl.Series("Metadata_Plate", [1, 1, 2]))
    platemap = pl.DataFrame({"Plate": ["1", "2"], "x": ["a", "b"]}).rename({"Plate": "Metadata_Plate"})
    found = Annotate(platemap, on="Metadata_Plate")(wells)
    assert found["Metadata_x"].to_list() == ["a", "a", "b"]
    assert found["Metadata_Plate"].to_list() == [1, 1, 2]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (Annotate, RecipeError, "no platemap"),
        (lambda: Annotate("nowhere.txt"), DataError, "nowhere.txt"),
        (lambda: Annotate(pl.DataFrame({"x": [1]})), SchemaError, "no column of wells"),
        (lambda: Annotate(PLATEMAP, on="Metadata_solvnt"), SchemaError, "perhaps 'Metadata_solvent'"),
        (lambda: Annotate(pl.DataFrame({"well_position": ["Q99"]})), SchemaError, "'Q99' not wells"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()(WELLS)


@given(st.lists(st.sampled_from(["A01", "A02", "B07", None]), min_size=1, max_size=20))
def test_no_row_is_ever_lost_or_doubled(names):
    wells = pl.DataFrame(
        {"Metadata_Well": names, "Cells_AreaShape_Area": [float(i) for i in range(len(names))]},
        schema_overrides={"Metadata_Well": pl.String},
    )
    table = pl.DataFrame({"Metadata_Well": ["A01", None], "compound": ["x", "y"]})
    step = Annotate(table)
    found = step.apply(wells, step.fit(wells).filter(pl.lit(value=False)))
    assert found["Cells_AreaShape_Area"].to_list() == wells["Cells_AreaShape_Area"].to_list()
    assert found["Metadata_compound"].to_list() == [{"A01": "x", None: "y"}.get(name) for name in names]


@pytest.mark.parametrize(
    ("mine", "theirs", "matches"),
    [
        (pl.Series([1.0, 1.5, 2.0]), pl.Series([1, 2]), ["a", None, "b"]),
        (pl.Series(["001", "01", "1"]), pl.Series([1, 2]), [None, None, "a"]),
        (pl.Series([1.0, 2.0, 1086293911.0]), pl.Series(["1", "1086293911"]), ["a", None, "b"]),
        (pl.Series(["1", "2", "3"]), pl.Series([1.0, 3.0]), ["a", None, "b"]),
        (pl.Series(["BR0012", "1", None]), pl.Series([1, None], dtype=pl.Int64), [None, "a", "b"]),
        (pl.Series([300, 1, 44]), pl.Series([44, 1], dtype=pl.Int8), [None, "b", "a"]),
        (pl.Series([1e30, float("nan"), float("inf")]), pl.Series(["NaN", "inf"]), [None, "a", "b"]),
        (pl.Series(["x", "y", None], dtype=pl.Enum(["x", "y"])), pl.Series(["y", "z"]), [None, "a", None]),
        (pl.Series(["x", "y", "z"]), pl.Series(["y", "z"], dtype=pl.Categorical), [None, "a", "b"]),
        (
            pl.Series(["x", "y", "y"], dtype=pl.Enum(["x", "y"])),
            pl.Series(["y", "z"], dtype=pl.Enum(["y", "z"])),
            [None, "a", "a"],
        ),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.filterwarnings("ignore::cytofast.ProfileWarning")
def test_keys_are_never_made_to_fit(mine, theirs, matches, lazy):
    wells = WELLS.with_columns(mine.alias("Metadata_Plate"))
    step = Annotate(pl.DataFrame({"Metadata_Plate": theirs, "x": ["a", "b"]}), on="Metadata_Plate")
    found = step(wells.lazy()).collect() if lazy else step(wells)
    assert found["Metadata_x"].to_list() == matches
    assert found["Metadata_Plate"].equals(wells["Metadata_Plate"])
    assert step.fit(wells).filter(pl.col("status") != "only in annotation")["profiles"].sum() == 3
    assert step(found).equals(found)


def test_types_that_cannot_be_compared_are_refused():
    platemap = pl.DataFrame({"Metadata_Plate": [True], "x": ["a"]})
    with pytest.raises(SchemaError, match="'Metadata_Plate' holds String and Boolean on the other side"):
        Annotate(platemap, on="Metadata_Plate")(WELLS)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_wrong_well_is_named_without_the_query(lazy):
    wells = WELLS.with_columns(pl.Series("Metadata_Well", ["A01", "Z99", "A02"]))
    with pytest.raises(SchemaError) as caught:
        Annotate(PLATEMAP)(wells.lazy() if lazy else wells)
    assert str(caught.value) == (
        "column 'Metadata_Well': 'Z99' not wells of a 1536-well plate. Hint: write A01 to AF48."
    )


def test_one_plate_written_in_two_ways_is_two_keys_or_a_duplicate():
    platemap = pl.DataFrame({"Metadata_Plate": ["1", "01"], "x": ["a", "b"]})
    wells = WELLS.with_columns(pl.Series("Metadata_Plate", [1, 1, 1]))
    with pytest.warns(ProfileWarning, match="only in annotation"):
        assert Annotate(platemap, on="Metadata_Plate")(wells)["Metadata_x"].to_list() == ["a"] * 3


def test_lazy_platemaps_are_read():
    assert Annotate(PLATEMAP.lazy())(WELLS).equals(Annotate(PLATEMAP)(WELLS))


def test_wells_written_in_two_ways_are_counted_once():
    wells = WELLS.with_columns(pl.Series("Metadata_Well", ["a1", "A01", "A2"]))
    assert Annotate(PLATEMAP).fit(wells).rows() == [("A01", 2, "matched"), ("A02", 1, "matched")]


@pytest.mark.filterwarnings("ignore::cytofast.ProfileWarning")
def test_profiles_without_rows_or_wells_stay_as_they_are():
    assert Annotate(PLATEMAP)(WELLS.clear()).height == 0
    nowhere = WELLS.with_columns(pl.lit(None, dtype=pl.String).alias("Metadata_Well"))
    assert Annotate(PLATEMAP)(nowhere)["Metadata_solvent"].to_list() == [None] * 3
