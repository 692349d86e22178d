"""The nearest neighbour of another compound is that of the plain twin, and what cannot be asked says so."""

import numpy as np
import polars as pl
import pytest

from cytofast import Benchmark, NearestNeighbourAccuracy, run_conditions
from cytofast.errors import DataError, RecipeError, SchemaError
from cytofast.tasks.conditions import answer_conditions
from cytofast.tasks.results import read_results
from tests import oracle_neighbours as oracle

FEATURES = [f"Cells_x{i}" for i in range(12)]
DMSO = "Metadata_Compound = 'DMSO'"


def screen(seed: int = 0, compounds: int = 12, noise: float = 0.8) -> pl.DataFrame:
    """Compounds of four mechanisms at two doses on three plates each, of three batches; one compound in two batches."""
    rng = np.random.default_rng(seed)
    effects = rng.standard_normal((4, len(FEATURES)))
    rows = []
    for c in range(compounds):
        for dose in (0.1, 1.0):
            for plate in range(3):
                batch = (c // 4 + (plate == 2 and c == 0)) % 3
                value = (0.5 + dose) * effects[c % 4] + noise * rng.standard_normal(len(FEATURES))
                rows.append((f"W{batch}", f"W{batch}_{plate}", f"c{c:02d}", dose, f"M{c % 4}", *value))
    for batch in range(3):
        for plate in range(3):
            for _ in range(4):
                value = rng.standard_normal(len(FEATURES))
                rows.append((f"W{batch}", f"W{batch}_{plate}", "DMSO", 0.0, "DMSO", *value))
    names = ["Batch", "Plate", "Compound", "Concentration", "moa"]
    return pl.DataFrame(rows, schema=[*(f"Metadata_{name}" for name in names), *FEATURES], orient="row")


@pytest.mark.parametrize("metric", ["cosine", "correlation"])
@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("batch", [None, "Metadata_Batch"])
@pytest.mark.parametrize("seed", [0, 1])
def test_neighbours_are_those_of_the_plain_twin(metric, statistic, batch, seed):
    wells = screen(seed)
    shuffled = wells.sample(fraction=1.0, shuffle=True, seed=seed)
    task = NearestNeighbourAccuracy(controls=DMSO, metric=metric, statistic=statistic, batch=batch)
    found = task.answer(shuffled)
    wanted = oracle.nearest(wells.to_pandas(), FEATURES, statistic, metric, batch)
    assert found["name"].to_list() == sorted(found["name"].to_list())
    for name in ("label", "neighbour_label", "n_allowed", "n_same", "correct"):
        assert found[name].to_list() == wanted[name].to_list(), name
    assert not found["neighbour"].str.split(" ").list.first().equals(found["name"].str.split(" ").list.first())


def test_what_was_planted_is_found():
    found = NearestNeighbourAccuracy(controls=DMSO).answer(screen(noise=0.05))
    assert found["correct"].all()
    mixed = screen(noise=0.05).with_columns(pl.col("Metadata_moa").replace("M3", "M2"))
    assert NearestNeighbourAccuracy(controls=DMSO).answer(mixed)["correct"].all()


def test_a_label_that_one_compound_bears_is_not_counted():
    wells = screen().with_columns(
        pl.when(pl.col("Metadata_Compound") == "c00")
        .then(pl.lit("alone"))
        .otherwise("Metadata_moa")
        .alias("Metadata_moa")
    )
    found = NearestNeighbourAccuracy(controls=DMSO).answer(wells)
    alone = found.filter(label="alone")
    assert alone.height == 2
    assert alone["correct"].null_count() == 2
    assert alone["neighbour"].null_count() == 0
    row = run_conditions(wells, [NearestNeighbourAccuracy(controls=DMSO)], []).row(0, named=True)
    assert (row["n"], row["n_untested"]) == (22, 2)
    assert row["fraction_retrieved"] == pytest.approx(found["correct"].mean())


def test_wells_without_a_label_take_no_part():
    wells = screen()
    unknown = wells.filter(pl.col("Metadata_Compound") == "c05").with_columns(
        pl.lit(None, pl.String).alias("Metadata_moa"), pl.lit("new").alias("Metadata_Compound")
    )
    task = NearestNeighbourAccuracy(controls=DMSO)
    assert task.answer(pl.concat([wells, unknown])).equals(task.answer(wells))
    note = run_conditions(pl.concat([wells, unknown]), [task], [])["note"][0]
    assert note.startswith("6 wells without Metadata_moa")
    assert "a random neighbour would be right for" in note


def test_a_treatment_without_a_dose_is_one():
    wells = screen().with_columns(pl.lit(None, pl.Float64).alias("Metadata_Concentration"))
    found = NearestNeighbourAccuracy(controls=DMSO).answer(wells)
    assert found["name"].to_list() == [f"c{i:02d}" for i in range(12)]
    assert found.equals(NearestNeighbourAccuracy(controls=DMSO, dose=[]).answer(wells))
    batches = NearestNeighbourAccuracy(controls=DMSO, batch="Metadata_Batch").answer(wells)
    assert batches["correct"].null_count() == 0


def test_what_cannot_be_asked_says_so():
    wells, task = screen(), NearestNeighbourAccuracy(controls=DMSO)
    two = wells.with_columns(
        pl.when(pl.col("Metadata_Plate") == "W0_0")
        .then(pl.lit("other"))
        .otherwise("Metadata_moa")
        .alias("Metadata_moa")
    )
    with pytest.raises(DataError, match=r"8 treatments have more than one Metadata_moa: 'c00 0.1: M0 and other'"):
        task.answer(two)
    one_batch = wells.with_columns(pl.lit("unbatched").alias("Metadata_Batch"))
    with pytest.raises(DataError, match="all of one compound or batch"):
        NearestNeighbourAccuracy(controls=DMSO, batch="Metadata_Batch").answer(one_batch)
    distinct = wells.with_columns(pl.col("Metadata_Compound").alias("Metadata_moa"))
    with pytest.raises(DataError, match="none of 24 treatments has a treatment of another compound with the same"):
        task.answer(distinct)
    with pytest.raises(DataError, match="no treated well has Metadata_moa"):
        task.answer(wells.with_columns(pl.lit(None, pl.String).alias("Metadata_moa")))
    with pytest.raises(SchemaError, match="Metadata_Concentration"):
        task.answer(wells.drop("Metadata_Concentration"))
    with pytest.raises(RecipeError, match="statistic"):
        NearestNeighbourAccuracy(statistic="mode")
    with pytest.raises(RecipeError, match="metric"):
        NearestNeighbourAccuracy(metric="manhattan")
    with pytest.raises(RecipeError, match="tells treatments apart"):
        NearestNeighbourAccuracy(label="Metadata_Compound")
    with pytest.raises(RecipeError, match=r"names no column.*or \[\]"):
        run_conditions(wells, [task])


def test_the_benchmark_goes_on_where_it_was_and_is_read_again(tmp_path):
    seen = []
    for _ in range(2):
        found = answer_conditions(
            screen(), "bbbc021", folder=tmp_path, progress=lambda what, done, total: seen.append((what, done, total))
        )
    assert found.summary["task"].to_list() == [task.name for task in Benchmark.named("bbbc021").tasks]
    assert found.summary["status"].unique().to_list() == ["done"]
    assert found.summary["published"].to_list() == [0.82, 0.83, None, None]
    again = read_results(tmp_path)
    assert again.summary.equals(found.summary)
    assert again.neighbours.equals(found.neighbours)
    assert again.neighbours.columns[:3] == ["task", "name", "label"]
    assert again.conditions == ()


def test_conditions_cut_it_further(tmp_path):
    both = pl.concat(
        [
            screen(0).with_columns(pl.lit("a").alias("Metadata_model")),
            screen(1).with_columns(pl.lit("b").alias("Metadata_model")),
        ]
    )
    found = answer_conditions(both, Benchmark.named("bbbc021").by("Metadata_model"))
    assert found.summary.height == 8
    first = answer_conditions(screen(0), "bbbc021").neighbours
    assert found.neighbours.filter(Metadata_model="a").drop("Metadata_model").equals(first)
