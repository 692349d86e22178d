"""Every task over every condition: one table, resumable, with what could not be answered."""

from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import cytofast
from cytofast.errors import DataError, ProfileWarning, RecipeError, SchemaError, StoreError
from cytofast.tasks import grid as grids
from cytofast.tasks.conditions import answer_conditions, run_conditions
from cytofast.tasks.detection import Detection
from cytofast.tasks.directionality import Directionality
from cytofast.tasks.matching import CrossMatching, SisterMatching
from cytofast.tasks.preset import Benchmark
from cytofast.tasks.results import COLUMNS, TABLES, read_results
from tests.tasks.screens import FEATURES, condition, directions, screen

CONDITIONS = ["Metadata_Perturbation", "Metadata_Cell_type", "Metadata_Time"]
KNOWN = {"Metadata_Density": 100, "Metadata_Antibiotics": "absent", "Metadata_Cell_line": "Parental"}


@pytest.fixture(scope="module")
def experiment():
    """CPJUMP1's columns, small: compounds at 24 and 48 hours, guides at 96, one cell type."""
    base = 6 * directions(8)
    targets, genes = [f"G{i}|G{(i + 1) % 8}" for i in range(8)], [f"G{i // 2}" for i in range(16)]
    compound = screen(base, targets, "c", controls=6).with_columns(pl.lit(None, pl.String).alias("Metadata_gene"))
    guides = screen(base.repeat(2, axis=0), genes, "g", controls=6, column="Metadata_gene", seed=1).with_columns(
        pl.lit(None, pl.String).alias("Metadata_target_list")
    )
    parts = [condition(compound, "compound", 24), condition(compound, "compound", 48), condition(guides, "crispr", 96)]
    return pl.concat(parts, how="diagonal").with_columns(pl.lit(v).alias(k) for k, v in KNOWN.items())


@pytest.fixture
def benchmark():
    return Benchmark.named("cpjump1").with_options(null_size=500)


def same(a, b):
    for name in TABLES:
        assert_frame_equal(getattr(a, name), getattr(b, name))


def test_the_shipped_benchmark_has_every_published_number():
    benchmark = Benchmark.named("cpjump1")
    counts = (
        pl.DataFrame([row["task"] for row in benchmark.published], schema=["task"])["task"].value_counts().sort("task")
    )
    assert counts.rows() == [
        ("cross_matching", 16),
        ("detection", 12),
        ("detection_different_well", 4),
        ("detection_same_well", 4),
        ("sister_matching", 8),
    ]
    assert {task.null for task in benchmark.tasks} == {"cpjump1"}
    assert {task.null_size for task in benchmark.tasks} == {100_000}


def test_published_numbers_are_those_of_the_figures(real_data):
    published = Benchmark.named("cpjump1").published
    folder = real_data / "cpjump1" / "published"
    hours = {"compound": (24, 48), "crispr": (96, 144), "orf": (48, 96)}

    def given(task, modality, cell, time):
        wanted = {"task": task, "Metadata_Perturbation": modality, "Metadata_Cell_type": cell, "Metadata_Time": time}
        (value,) = [row["value"] for row in published if wanted.items() <= row.items()]
        return value

    for task, file in (("detection", "replicability"), ("sister_matching", "matching")):
        for row in pl.read_csv(folder / f"cellprofiler_{file}_fr.csv").rows(named=True):
            time = hours[row["Modality"]][row["time"] == "long"]
            assert given(task, row["Modality"], row["Cell"], time) == row["fr"]


def test_the_tidy_table_has_a_row_for_every_task_and_condition(experiment, benchmark):
    table = run_conditions(experiment, benchmark)
    start = ["task", *CONDITIONS, "Metadata_Perturbation_against", "Metadata_Time_against"]
    assert table.columns == [*start, *COLUMNS["summary"]]
    done = table.filter(pl.col("status") == "done")
    assert done["task"].value_counts().sort("task").rows() == [
        ("cross_matching", 2),
        ("detection", 3),
        ("directionality", 1),
        ("percent_matching", 2),
        ("sister_matching", 3),
    ]
    assert done.select((pl.col("low") <= pl.col("fraction_retrieved")).all()).item()
    assert done.select((pl.col("high") >= pl.col("fraction_retrieved")).all()).item()
    assert done.filter(pl.col("task") == "detection")["fraction_retrieved"].to_list() == [1.0] * 3
    assert done.filter(pl.col("task") == "detection")["published"].to_list() == [0.775, 0.663, 0.669]
    # There are no ORFs, and the table says so.
    idle = table.filter(pl.col("status") != "done")
    assert idle["task"].to_list() == ["detection_same_well", "detection_different_well"]
    assert idle["note"].str.contains("no condition satisfies").all()


def test_tables_behind_it_are_those_of_the_tasks_asked_one_by_one(experiment, benchmark):
    found = answer_conditions(experiment, benchmark)
    where = {"Metadata_Perturbation": "compound", "Metadata_Time": 24}
    wells = [
        experiment.filter(Metadata_Perturbation="compound", Metadata_Time=24),
        experiment.filter(Metadata_Perturbation="crispr"),
    ]
    by_kind = {}
    for task in benchmark.tasks:
        by_kind.setdefault(type(task), task)

    def part(table, task, **more):
        rows = table.filter(task=task, **where, **more)
        return rows.drop([name for name in rows.columns if name in ("task", *CONDITIONS) or name.endswith("_against")])

    assert_frame_equal(part(found.perturbations, "detection"), by_kind[Detection].answer(wells[0]))
    assert_frame_equal(part(found.labels, "sister_matching"), by_kind[SisterMatching].answer(wells[0]))
    assert_frame_equal(part(found.labels, "cross_matching"), by_kind[CrossMatching].answer(*wells))
    pooled = found.pairs.filter(task="directionality")
    assert set(pooled["Metadata_Time"]) == {24, 48}
    assert pooled.filter(**where).height == by_kind[Directionality].answer(*wells).height
    direction = found.directions.filter(task="directionality").row(0, named=True)
    assert direction["n_same"] == pooled.height
    assert direction["Metadata_Time"] is None
    assert found.quantiles.filter(task="directionality").height == 101
    assert found.plates.select("plate", "n_wells", "n_controls").rows()[0] == ("cP0-U2OS-24", 14, 6)


def test_a_lazy_table_and_any_number_of_threads_give_the_same(experiment, benchmark):
    wanted = answer_conditions(experiment, benchmark)
    same(answer_conditions(experiment.lazy(), benchmark), wanted)
    for threads in (1, 3):
        with cytofast.limits(threads=threads):
            same(answer_conditions(experiment, benchmark), wanted)
    shuffled = experiment.sample(fraction=1.0, shuffle=True, seed=1)
    found = answer_conditions(shuffled, benchmark).summary
    assert_frame_equal(found.drop("note"), wanted.summary.drop("note"), abs_tol=1e-12)


def test_a_stopped_run_goes_on(experiment, benchmark, tmp_path, monkeypatch):
    wanted = answer_conditions(experiment, benchmark)
    asked = []

    def stopped(what, done, total):
        asked.append((what, done, total))
        if done == 5:
            raise KeyboardInterrupt

    with cytofast.limits(threads=1), pytest.raises(KeyboardInterrupt):
        answer_conditions(experiment, benchmark, folder=tmp_path, progress=stopped)
    assert asked[-1] == ("sister_matching compound U2OS 48", 5.0, 11)
    with pytest.raises(StoreError, match="no finished benchmark"):
        read_results(tmp_path)
    made, keep = [], grids.parts.keep

    def counted(folder, key, part):
        made.append(key)
        keep(folder, key, part)

    monkeypatch.setattr(grids.parts, "keep", counted)
    found = answer_conditions(experiment, benchmark, folder=tmp_path)
    assert len(made) == 11 - 5
    same(found, wanted)
    same(read_results(tmp_path), wanted)
    again = read_results(tmp_path)
    assert again.conditions == tuple(CONDITIONS)
    assert again.apart == ("Metadata_Perturbation", "Metadata_Time")
    assert "13 tasks and conditions, 11 done" in repr(again)
    # Nothing is left to do, until the question or the wells change; then what is no longer true is taken away.
    made.clear()
    answer_conditions(experiment, benchmark, folder=tmp_path)
    assert not made
    answer_conditions(experiment, benchmark.with_options(seed=1), folder=tmp_path)
    assert len(made) == len(list((tmp_path / "parts").iterdir())) == 11
    made.clear()
    changed = experiment.with_columns(
        pl.when(pl.col("Metadata_Time") == 48)
        .then(-pl.col(FEATURES[0]))
        .otherwise(pl.col(FEATURES[0]))
        .alias(FEATURES[0])
    )
    answer_conditions(changed, benchmark.with_options(seed=1), folder=tmp_path)
    assert len(made) == 5  # detection and sisters at 48 hours, both kinds of matching, and the pooled directions


def test_what_cannot_be_answered_says_so_and_the_rest_goes_on(experiment, benchmark):
    one_replicate = experiment.filter((pl.col("Metadata_Time") != 24) | pl.col("Metadata_Plate").str.starts_with("cP0"))
    found = answer_conditions(one_replicate, benchmark).summary
    refused = found.filter(Metadata_Perturbation="compound", Metadata_Time=24)
    assert refused.filter(task="detection")["note"].item().startswith("no query has a positive")
    assert "nothing could be detected in compound U2OS 24" in refused.filter(task="sister_matching")["note"].item()
    assert refused.filter(task="percent_matching")["status"].to_list() == ["done"]
    assert found.filter(Metadata_Perturbation="compound", Metadata_Time=48)["status"].unique().to_list() == ["done"]
    guides = pl.col("Metadata_Perturbation") == "crispr"
    uncontrolled = experiment.filter(~guides | pl.col("Metadata_control_type").is_null())
    found = answer_conditions(uncontrolled, benchmark)
    told = found.summary.filter(task="detection", Metadata_Perturbation="crispr").row(0, named=True)
    assert told["status"] == "impossible"
    assert told["fraction_retrieved"] is None
    assert "no profile satisfies controls" in told["note"]
    assert found.plates.filter(Metadata_Perturbation="crispr")["n_controls"].to_list() == [0, 0, 0]
    assert set(found.summary.filter(task="cross_matching")["status"]) == {"impossible"}
    strange = experiment.with_columns(pl.col("Metadata_target_list").str.replace_all("G", "unknown"))
    told = answer_conditions(strange, benchmark).summary.filter(task="cross_matching")
    assert told["note"].str.contains("written alike").all()


def test_left_out_wells_are_counted(experiment, benchmark):
    broken = experiment.with_row_index("row").with_columns(
        pl.when(pl.col("row") < 2).then(None).otherwise(pl.col(FEATURES[0])).alias(FEATURES[0])
    )
    found = answer_conditions(broken.drop("row"), benchmark)
    assert found.summary.filter(task="detection")["note"][0].startswith("2 wells with missing or infinite features")
    assert found.plates["n_invalid"].sum() == 2
    unplaced = experiment.with_columns(pl.when(pl.int_range(pl.len()) > 3).then(pl.col("Metadata_Cell_type")))
    with pytest.warns(ProfileWarning, match="4 wells lack one of"):
        answer_conditions(unplaced, benchmark)


def test_conditions_can_be_cut_further_and_told_otherwise(experiment, benchmark):
    two = pl.concat([experiment.with_columns(pl.lit(model).alias("Metadata_model")) for model in ("final", "shuffled")])
    found = run_conditions(two, benchmark.by("Metadata_model"))
    assert found.columns[:5] == ["task", *benchmark.conditions, "Metadata_model"], (
        "the last, so that models stand together"
    )
    assert found["Metadata_model"].to_list()[:2] == ["final", "shuffled"]
    assert found.filter(task="detection")["published"].null_count() == 0
    assert found.filter(task="cross_matching").height == 4
    text = experiment.with_columns(pl.col("Metadata_Time", "Metadata_Density").cast(pl.String))
    assert run_conditions(text, benchmark).filter(task="detection")["published"].null_count() == 0
    only = run_conditions(experiment, benchmark, where="Metadata_Time = 96")
    assert only.filter(status="done")["task"].to_list() == ["detection", "sister_matching"]


def test_own_tasks_over_own_columns(experiment):
    tasks = [Detection(null="ranks", null_size=500), Detection(name="euclidean", metric="euclidean", null="ranks")]
    found = run_conditions(experiment, tasks, "Metadata_Perturbation")
    assert found.select("task", "Metadata_Perturbation").rows() == [
        ("detection", "compound"),
        ("detection", "crispr"),
        ("euclidean", "compound"),
        ("euclidean", "crispr"),
    ]
    text = """
    conditions = ["Metadata_Time"]
    [[task]]
    task = "sister_matching"
    label = "Metadata_gene"
    only = "Metadata_Time = 96"
    null_size = 500
    """
    assert run_conditions(experiment, Benchmark.from_toml(text))["n"].to_list() == [8]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda b: replace(b, conditions=()), RecipeError, "names no column"),
        (lambda b: replace(b, conditions=("Metadata_Tim",)), SchemaError, "Metadata_Time"),
        (lambda b: replace(b, tasks=(b.tasks[0], b.tasks[0])), RecipeError, "two tasks are called 'detection'"),
        (
            lambda b: replace(b, tasks=(replace(b.tasks[0], only="Metadata_Plate = 'x'"),)),
            SchemaError,
            "condition columns",
        ),
        (lambda b: replace(b, tasks=(CrossMatching(label="Metadata_gene"),)), RecipeError, "first= and second="),
        (lambda b: replace(b, where="Metadata_Time = 7"), DataError, "no well satisfies where"),
    ],
)
def test_benchmarks_that_make_no_sense_are_refused(experiment, benchmark, change, error, match):
    with pytest.raises(error, match=match):
        run_conditions(experiment, change(benchmark))


def test_wrong_arguments_are_refused(experiment):
    with pytest.raises(RecipeError, match="did you mean 'cpjump1'"):
        run_conditions(experiment, "cpjump")
    with pytest.raises(RecipeError, match="list of tasks"):
        run_conditions(experiment, ["detection"])
    with pytest.raises(SchemaError, match="polars"):
        run_conditions(experiment.to_pandas(), "cpjump1")
    for text, match in (
        ("a = ", "not TOML"),
        ("titel = 1", "did you mean 'title'"),
        ("conditions = ['a']", "at least one"),
        ("conditions = ['a']\n[[task]]\ntask = 'detect'", "did you mean 'detection'"),
        ("conditions = ['a']\n[[task]]\ntask = 'detection'\nposision = 'any'", "did you mean 'position'"),
    ):
        with pytest.raises(RecipeError, match=match):
            Benchmark.from_toml(text)
    with pytest.raises(RecipeError, match="option of all tasks"):
        Benchmark.named("cpjump1").with_options(position="same")


def test_a_damaged_part_is_named(experiment, benchmark, tmp_path):
    answer_conditions(experiment, benchmark, folder=tmp_path)
    part = next((tmp_path / "parts").iterdir()) / "part.json"
    part.write_text("{")
    with pytest.raises(StoreError, match=r"part.json: cannot be read.*delete"):
        answer_conditions(experiment, benchmark, folder=tmp_path)
    (tmp_path / "pairs.parquet").unlink()
    with pytest.raises(StoreError, match=r"'pairs' missing.*cytofast benchmark"):
        read_results(tmp_path)


def test_what_is_known_of_plates_is_joined_by_batch_and_plate(experiment, tmp_path):
    from cytofast.tasks.plates import with_plates

    wells = experiment.drop("Metadata_Time").with_columns(pl.lit("B1").alias("Metadata_Batch")).lazy()
    plates = experiment.select("Metadata_Plate", "Metadata_Time").unique(maintain_order=True)
    rows = [f"B1\t{plate}\t{time}\nB2\t{plate}\t0\n" for plate, time in plates.rows()]
    path = tmp_path / "plates.tsv"
    path.write_text("Batch\tAssay_Plate_Barcode\tTime\n" + "".join(rows))
    joined = with_plates(wells, path).collect()
    assert joined["Metadata_Time"].cast(pl.Int32).to_list() == experiment["Metadata_Time"].to_list()
    # A plate that stands twice would make two of each well.
    with pytest.raises(DataError, match="stand more than once"):
        with_plates(wells.drop("Metadata_Batch"), path)
    path.write_text("Compound\tTime\nx\t1\n")
    with pytest.raises(SchemaError, match="Metadata_Plate"):
        with_plates(wells, path)


PLAIN = 'conditions = ["Metadata_Time"]\n[[task]]\ntask = "detection"\n'
MATCHING = PLAIN.replace("detection", "sister_matching")
ACROSS = PLAIN.replace("detection", "directionality")
TOLD = PLAIN + "[published]\n"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (PLAIN.replace('["Metadata_Time"]', '"Metadata_Time"'), "mine: conditions must be a list of columns"),
        (PLAIN.replace('["Metadata_Time"]', "[1]"), "conditions must be a list"),
        (PLAIN.replace("[[task]]", "[task]"), r"task must be written as \[\[task\]\]"),
        ("where = 3\n" + PLAIN, "where must be a SQL predicate"),
        ("level = 3\n" + PLAIN, "level must be text"),
        ("title = 3\n" + PLAIN, "title must be text"),
        ("defaults = 3\n" + PLAIN, r"defaults must be .*\[defaults\]"),
        ("published = 3\n" + PLAIN, r"published must be .*\[published\]"),
        (PLAIN + 'null_size = "x"', "task 1: Detection: null_size must be a whole number"),
        (PLAIN + "null_size = 10.5", "null_size must be a whole number"),
        (PLAIN + "null_size = true", "null_size must be a whole number"),
        (PLAIN + 'seed = "1"', "seed must be a whole number"),
        (PLAIN + 'threshold = "0.05"', "threshold= must be a number"),
        (PLAIN + "about = 3", "about= must be a column or a list"),
        (PLAIN + "about = [3]", "about= must be a column or a list"),
        (PLAIN + "features = 3", "features= must be a prefix or a list"),
        (PLAIN + "only = 3", "only= must be text"),
        (PLAIN + "name = 3", "name= must be text"),
        (PLAIN + "well = 3", "well= must be text"),
        (PLAIN + 'metric = "cosin"', "did you mean 'cosine'"),
        (MATCHING + 'metric = "cosin"', "did you mean 'cosine'"),
        (MATCHING + "label = 3", "label= must be a column or a list"),
        (MATCHING + 'multilabel = "no"', "multilabel= must be true or false"),
        (MATCHING + "drop_singles = 1", "drop_singles= must be true or false"),
        (ACROSS + 'tails = "x"', "tails= must be a number"),
        (ACROSS + "first = 1\nsecond = 2", "first= must be text"),
        (TOLD + 'colums = ["task"]', "did you mean 'columns'"),
        (TOLD + 'columns = ["task", "value"]\nrows = [["detection"]]', "1 values for 2 columns"),
        (TOLD + 'columns = ["task"]\nrows = [["detection"]]', "must have 'task' and 'value'"),
        (TOLD + 'columns = ["task", "value"]\nrows = [["detection", "x"]]', "value must be a number"),
        (TOLD + 'columns = ["task", "Metadata_Tim", "value"]\nrows = []', "did you mean 'Metadata_Time'"),
    ],
)
def test_a_benchmark_with_a_wrong_value_says_which(text, match):
    with pytest.raises(RecipeError, match=match):
        Benchmark.from_toml(text, "mine")


def test_a_run_killed_while_it_writes_leaves_no_mixture(experiment, benchmark, tmp_path, monkeypatch):
    # Tables of an earlier run lay beside those of the new one, and were read as one answer.
    from cytofast.tasks import results

    one = [benchmark.tasks[0]]
    answer_conditions(experiment, one, CONDITIONS, folder=tmp_path)
    write, written = results.write_frame, []

    def killed(path, table):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        write(path, table)

    monkeypatch.setattr(results, "write_frame", killed)
    with pytest.raises(KeyboardInterrupt):
        answer_conditions(experiment.filter(Metadata_Time=96), one, CONDITIONS, folder=tmp_path)
    assert not (tmp_path / "summary.parquet").exists()
    with pytest.raises(StoreError, match=r"no finished benchmark.*'summary'"):
        read_results(tmp_path)
    monkeypatch.undo()
    answer_conditions(experiment.filter(Metadata_Time=96), one, CONDITIONS, folder=tmp_path)
    assert read_results(tmp_path).summary.height == 1


def test_sides_may_differ_in_every_condition_column(experiment):
    task = Directionality(
        label=("Metadata_target_list", "Metadata_gene"),
        first="Metadata_Perturbation = 'compound'",
        second="Metadata_Perturbation = 'crispr'",
        apart=["Metadata_Perturbation"],
    )
    wanted = task.summary(*(experiment.filter(Metadata_Perturbation=kind) for kind in ("compound", "crispr")))
    found = answer_conditions(experiment, [task], "Metadata_Perturbation")
    assert found.directions.select(wanted.columns).equals(wanted)
    pooled = answer_conditions(experiment, [replace(task, pool=["Metadata_Perturbation"])], "Metadata_Perturbation")
    assert pooled.directions.select(wanted.columns).equals(wanted)
