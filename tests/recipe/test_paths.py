"""The result of a recipe depends neither on the memory budget nor on the path: in memory, in blocks, in chunks."""

import gc
import weakref
from contextlib import contextmanager

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

import cytofast
from cytofast import Aggregate, Annotate, Recipe, Robustize, RobustMAD, Standardize
from cytofast.errors import CytofastError
from cytofast.plain_pages import PlainReader
from cytofast.recipe.passes import _width
from cytofast.resources import current, limits
from cytofast.steps.position import CentreWells
from cytofast.steps.quality import DropFlagged, FlagCells
from cytofast.steps.select_rules import DropLowVariance
from cytofast.steps.transform import ClipOutliers, InverseNormal
from cytofast.store.partition import Partition
from tests import toy

F = toy.FEATURES
REFERENCE = "Metadata_control_type = 'negcon'"
WELLS = ["Metadata_Plate", "Metadata_Well"]
LATE = pl.DataFrame({"Metadata_Well": toy.WELLS, "Metadata_Batch": ["B1"] * 11 + ["other"], "x": range(12)})
"""An annotation whose batch differs from the cells' in the last well alone."""
NULL_WELL = pl.DataFrame({"Metadata_Well": [*toy.WELLS[:5], None], "sample": list("abcdef")})


@contextmanager
def cramped():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytofast.recipe.passes._fits_in_memory", lambda _partition: False)
        patch.setattr("cytofast.recipe.passes.block_width", lambda *_args, **_kw: 3)
        patch.setattr("cytofast.recipe.passes._SMALLEST_CHUNK", 17)
        # Chunks of a matrix are whole row groups.
        patch.setattr("cytofast.recipe.passes.row_group_rows", lambda _schema: 17)
        patch.setattr("cytofast.parquet.row_group_rows", lambda _schema: 17)
        patch.setattr("cytofast.resources.Resources.working_bytes", 1)
        yield


def made(path, build, steps):
    """Everything that a run leaves, or how it fails."""
    store = cytofast.open_store(path, create=True)
    build(store)
    try:
        summary = cytofast.run(Recipe({"made": list(steps)}), store)
    except CytofastError as error:
        return {"error": (type(error), str(error).replace(str(path), ""))}
    plates = {f"{p.name}": pl.read_parquet(p.path) for p in store.partitions("made")}
    fits = {str(p.relative_to(path)): pl.read_parquet(p) for p in (path / "fits").rglob("*.parquet")}
    return {"summary": summary, **plates, **fits}


def assert_alike(tmp_path, build, steps, *, fails=False):
    whole = made(tmp_path / "whole", build, steps)
    with cramped():
        cut = made(tmp_path / "cut", build, steps)
    assert ("error" in whole) == fails, whole.get("error")
    assert cut.keys() == whole.keys(), cut.get("error")
    for name, expected in whole.items():
        if isinstance(expected, pl.DataFrame):
            assert cut[name].schema == expected.schema, name
            assert cut[name].equals(expected, null_equal=True), name
        else:
            assert cut[name] == expected


def plates_of(change, plates=("P1",)):
    def build(store):
        for plate in plates:
            toy.add_plate(store, change(toy.cells(plate)))

    return build


def rewritten(write):
    """The same cells in files that another program wrote."""

    def build(store):
        plates_of(lambda cells: cells)(store)
        for partition in store.partitions("cells"):
            write(pl.read_parquet(partition.path), partition.path)

    return build


def by_arrow(frame, path):
    pq.write_table(frame.to_arrow(), path, use_dictionary=False, compression="NONE", data_page_size=40)


STORES = {
    "plain": plates_of(lambda cells: cells, ("P1", "P2")),
    "float64": plates_of(lambda cells: cells.with_columns(pl.col(F[1], F[4]).cast(pl.Float64))),
    "integers": plates_of(lambda cells: cells.with_columns((pl.col(F) * 10).fill_null(3).cast(pl.Int64))),
    "metadata last": plates_of(lambda cells: cells.select(*F[:3], pl.exclude(F), *F[3:])),
    "unsorted": plates_of(lambda cells: cells.sample(fraction=1, shuffle=True, seed=2)),
    "one row": plates_of(lambda cells: cells.head(1)),
    "null well": plates_of(
        lambda cells: cells.with_columns(pl.col("Metadata_Well").replace("A03", None)),
    ),
    "infinite": plates_of(
        lambda cells: cells.with_columns(
            pl.when(pl.int_range(pl.len()) % 7 == 3).then(float("inf")).otherwise(F[4]).cast(pl.Float32).alias(F[4]),
            pl.lit(None, dtype=pl.Float32).alias(F[5]),
        )
    ),
    "other features": lambda store: (
        toy.add_plate(store, toy.cells("P1")),
        toy.add_plate(
            store, toy.cells("P2").drop(F[0]).with_columns(pl.lit(2.5, dtype=pl.Float32).alias("Nuclei_N_F"))
        ),
    ),
    "by Polars": rewritten(lambda frame, path: frame.write_parquet(path)),
    "by pyarrow, several pages": rewritten(by_arrow),
}

RECIPES = {
    "normalized": [Annotate(), RobustMAD(reference=REFERENCE)],
    "each well": [Standardize(by=WELLS, zero_scale="one"), Annotate()],
    "frames between": [Robustize(zero_scale="one"), ClipOutliers(limit=1), Standardize(zero_scale="divide")],
    "wells": [Aggregate(), Annotate()],
    "count": [Aggregate(statistic="count")],
    "normalized wells": [Standardize(), Aggregate(statistic="std")],
    "across": [Standardize(by="Metadata_Well")],
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("store", STORES)
def test_every_store_gives_the_same_on_every_path(tmp_path, store, recipe):
    assert_alike(tmp_path, STORES[store], RECIPES[recipe])


@pytest.mark.parametrize("kind", [RobustMAD, Standardize, Robustize])
@pytest.mark.parametrize(
    "given",
    [
        {"by": None},
        {"by": ["Metadata_ObjectNumber", *WELLS]},
        {"features": [F[5], F[0]]},
        {"features": "Nuclei_"},
        {"reference": pl.col("Metadata_ObjectNumber") > 1},
        {"reference": pl.col(F[1]) > 0},
        {"by": ["Metadata_Plate", F[2]]},
        {"zero_scale": "divide"},
    ],
)
def test_every_normalization_gives_the_same_on_every_path(tmp_path, kind, given):
    assert_alike(tmp_path, STORES["plain"], [kind(**given)])


@pytest.mark.parametrize(
    "steps",
    [
        [Aggregate(features=[F[5], F[0], F[1]], statistic="mad")],
        [RobustMAD(features=[F[6], F[1]]), Aggregate(features=[F[6], F[1]])],
        [RobustMAD(), Aggregate(features=[F[6], F[1]])],
        [Aggregate(by=["Metadata_Plate", F[2]])],
        [Aggregate(by=["Metadata_ObjectNumber", "Metadata_Plate"], statistic="mean")],
        [InverseNormal(by="Metadata_Plate")],
        [CentreWells(by=WELLS)],
        [DropLowVariance(by="Metadata_Plate")],
        [FlagCells([f"a: {F[1]} > 0.5"]), DropFlagged(), RobustMAD()],
        [FlagCells([f"a: {F[1]} > 0.5"]), DropFlagged(), RobustMAD(reference="Metadata_ObjectNumber < 3")],
    ],
    ids=lambda steps: " ".join(step.name for step in steps),
)
def test_steps_that_choose_or_order_features(tmp_path, steps):
    assert_alike(tmp_path, STORES["plain"], steps)


@pytest.mark.parametrize(
    "steps",
    [
        [Annotate(LATE, suffix="_map")],
        [Annotate(LATE, suffix="_map"), RobustMAD(reference="Metadata_Batch_map = 'B1'")],
        [Annotate(LATE, suffix="_map"), RobustMAD(reference="Metadata_Batch_map = 'B1'"), Aggregate()],
        [Annotate(), Annotate(LATE, suffix="_map"), Annotate(LATE.with_columns(x=5), suffix="_z"), RobustMAD()],
        [Annotate(LATE, suffix="_map"), ClipOutliers(), Standardize(by="Metadata_Plate")],
    ],
)
def test_a_column_that_differs_in_the_last_rows_is_renamed_in_all(tmp_path, steps):
    assert_alike(tmp_path, STORES["plain"], steps)


def test_keys_that_are_null(tmp_path):
    steps = [Annotate(NULL_WELL), RobustMAD(by=WELLS, zero_scale="one"), RobustMAD(reference="Metadata_sample IS NULL")]
    assert_alike(tmp_path, STORES["null well"], steps)


@pytest.mark.parametrize(
    "reference",
    [
        pl.col("Metadata_ObjectNumber") > pl.col("Metadata_ObjectNumber").mean(),
        pl.col("Metadata_ObjectNumber") < pl.col("Metadata_ObjectNumber").mean().over("Metadata_Well"),
        pl.col("Metadata_ObjectNumber") != pl.col("Metadata_ObjectNumber").shift(1),
        pl.col("Metadata_ObjectNumber").cum_count() % 2 == 0,
    ],
)
def test_a_reference_that_looks_at_other_rows_is_asked_once(tmp_path, reference):
    assert_alike(tmp_path, STORES["plain"], [Annotate(), RobustMAD(reference=reference)])


@pytest.mark.parametrize(
    "more",
    [
        [],
        [RobustMAD()],
        [RobustMAD(), Aggregate()],
        [RobustMAD(reference="Metadata_ObjectNumber < 3")],
        [Annotate(), RobustMAD(reference=REFERENCE)],
    ],
)
def test_flags_that_the_store_holds(tmp_path, more):
    flagged = plates_of(
        lambda cells: cells.with_columns(
            (pl.col(F[0]) > 0.5).alias("Metadata_cqc_a"), (pl.col(F[4]) > 1).alias("cqc.b")
        )
    )
    assert_alike(tmp_path, flagged, [DropFlagged(), *more])


@pytest.mark.parametrize(
    "steps",
    [
        [Annotate(LATE)],
        [Annotate(LATE), RobustMAD()],
        [RobustMAD(reference="Metadata_Well = 'P24'")],
        [RobustMAD(by=WELLS, reference="Metadata_Well = 'A01'")],
        [Standardize(features=["Cells_Nothing_x"])],
        [Aggregate(features="Cytoplasm_")],
    ],
)
def test_what_fails_fails_alike(tmp_path, steps):
    assert_alike(tmp_path, STORES["plain"], steps, fails=True)


def test_a_plate_that_is_done_is_let_go(tmp_path, monkeypatch):
    """Metadata of 700,000 cells take 70 MB: held for a hundred plates, they would be more than the budget."""
    readers = []

    class Reader(PlainReader):
        def __init__(self, path):
            super().__init__(path)
            readers.append(weakref.ref(self))

    monkeypatch.setattr("cytofast.plain_pages.PlainReader", Reader)
    store = cytofast.open_store(tmp_path / "store", create=True)
    plates_of(lambda cells: cells, plates=("P1", "P2", "P3"))(store)
    held = []

    def look(what, done, total):
        gc.collect()
        held.append(sum(reader() is not None for reader in readers))

    with cramped():
        cytofast.run(Recipe({"wells": [Aggregate()]}), store, progress=look)
        cytofast.run(Recipe({"scaled": [RobustMAD()]}), store, progress=look)
    assert len(readers) == 6
    assert max(held) == 1
    assert held[-1] == 0


def test_a_step_over_all_plates_holds_no_plate_by_itself(tmp_path):
    """As a query of its own each plate would hold its footer: 10 MB for thousands of features."""
    store = cytofast.open_store(tmp_path / "store", create=True)
    plates_of(lambda cells: cells, plates=("P1", "P2", "P3"))(store)
    held = []

    def look(what, done, total):
        if "over all plates" in what:
            held.append(sum(isinstance(one, Partition) and one._lazy is not None for one in gc.get_objects()))

    with cramped():
        cytofast.run(Recipe({"selected": [cytofast.FeatureSelect([DropLowVariance()])]}), store, progress=look)
    assert held == [0]


def test_blocks_leave_room_for_the_metadata():
    """Two blocks and the metadata beside them take the same, however many cells a plate has."""
    taken = []
    with limits(memory="2GB"):
        for rows in (100_000, 700_000):
            metadata = pl.select(a=pl.repeat("a plate", rows), b=pl.repeat("A01", rows), c=pl.int_range(rows))
            held = int(metadata.estimated_size()) + 2 * 16 * rows
            taken.append(2 * 4 * rows * _width(metadata, 10**6) + held)
            assert taken[-1] <= current().working_bytes // 4 < taken[-1] + 2 * 4 * rows
        assert abs(taken[1] - taken[0]) < 2 * 4 * 700_000


@pytest.mark.filterwarnings("ignore::cytofast.errors.ProfileWarning")
@pytest.mark.parametrize("held", [True, False])
def test_plates_of_other_types_are_changed_each_in_its_own(tmp_path, monkeypatch, held):
    """What a second step over all plates learns is what the first leaves of each plate, in the plate's own type."""
    cells = {"P1": toy.cells("P1"), "P2": toy.cells("P2").with_columns(pl.col(F).cast(pl.Float64))}
    store = cytofast.open_store(tmp_path / "store", create=True)
    for table in cells.values():
        toy.add_plate(store, table)
    steps = [Standardize(by="Metadata_Well"), InverseNormal(by="Metadata_Well")]
    if not held:
        monkeypatch.setattr("cytofast.recipe.run._COPIES_HELD", 10**12)
    cytofast.run(Recipe({"made": steps}), store)
    expected = [partition.lazy() for partition in store.partitions("cells")]
    for step in steps:
        fit = step.fit(pl.concat(expected, how="diagonal_relaxed"))
        expected = [step.apply(plate, fit) for plate in expected]
    for partition, plate in zip(store.partitions("made"), expected, strict=True):
        assert_frame_equal(pl.read_parquet(partition.path), plate.collect(), check_dtypes=False, rel_tol=1e-6)


@pytest.mark.parametrize("step", [cytofast.FeatureSelect([DropLowVariance()]), cytofast.Consensus(by=WELLS)])
def test_a_file_that_was_changed_under_its_manifest_is_named(tmp_path, step):
    store = cytofast.open_store(tmp_path / "store", create=True)
    plates_of(lambda cells: cells, plates=("P1", "P2"))(store)
    path = store.partitions("cells")[1].path
    pl.read_parquet(path).rename({F[0]: "Cells_A_other"}).write_parquet(path)
    with cramped(), pytest.raises(CytofastError, match=path.name):
        cytofast.run(Recipe({"made": [step]}), store)
