"""The CPJUMP1 benchmark on the real design: 51 plates, platemaps, targets; 15 phenotypes that hold hardly any signal."""

import polars as pl
import pytest

import cytofast
from cytofast import RobustMAD
from cytofast.store.layout import PlateName
from cytofast.store.manifest import Manifest
from cytofast.tasks.conditions import answer_conditions
from cytofast.tasks.plates import with_plates
from cytofast.tasks.preset import Benchmark

BATCH = "2020_11_04_CPJUMP1"
MODELS = "Metadata_model_type"


def annotated(folder) -> tuple[pl.DataFrame, list[str]]:
    """Wells of both models with what was in them, by the platemaps of the three kinds of plates."""
    table = pl.read_parquet(folder / "phenotypes" / "wells_x_15_phenotypes.parquet")
    features = table.columns[9:]
    options = {"separator": "\t", "null_values": ["", "NA"], "infer_schema": False}
    maps = []
    for kind in ("compound", "crispr", "orf"):
        suffix = "_targets" if kind == "compound" else ""
        samples = pl.read_csv(folder / "metadata" / f"JUMP-Target-1_{kind}_metadata{suffix}.tsv", **options)
        wells = pl.read_csv(folder / "metadata" / f"JUMP-Target-1_{kind}_platemap.txt", **options)
        # Controls of compound plates have no sample on the platemap, and "NA" in the list of samples.
        known = wells.join(samples.unique("broad_sample"), on="broad_sample", how="left", nulls_equal=True)
        wanted = ["broad_sample", "control_type", "pert_iname", "gene", "target_list"]
        present = [pl.col(name).alias(f"Metadata_{name}") for name in wanted if name in known.columns]
        maps.append(
            known.select(pl.col("well_position").alias("Metadata_Well"), pl.lit(kind).alias("treatment_type"), *present)
        )
    joined = table.join(pl.concat(maps, how="diagonal"), on=["Metadata_Well", "treatment_type"], how="left")
    metadata = [name for name in joined.columns if name.startswith("Metadata_")]
    return joined.select(*metadata, *features), features


@pytest.fixture(scope="module")
def cpjump1(real_data, tmp_path_factory):
    """A store of normalized profiles, one plate a partition, and the names of the features."""
    wells, features = annotated(real_data / "cpjump1")
    negcon = "Metadata_control_type = 'negcon'"
    scaled = RobustMAD(by=["Metadata_Plate", MODELS], reference=negcon, features=features)(wells)
    store = cytofast.open_store(tmp_path_factory.mktemp("cpjump1") / "store", create=True)
    for (plate,), frame in scaled.partition_by("Metadata_Plate", as_dict=True).items():
        whole = frame.with_columns(pl.lit(BATCH).alias("Metadata_Batch")).sort("Metadata_Well", MODELS)
        manifest = Manifest("profiles", BATCH, plate, "", 0, 0, "", plate, {})
        store.write_partition("profiles", PlateName(BATCH, plate), plate, [whole], lambda m=manifest: m)
    return store, features


@pytest.fixture(scope="module")
def answers(cpjump1, real_data):
    """The whole grid for both models, with a small null."""
    store, features = cpjump1
    profiles = with_plates(store.scan("profiles"), real_data / "cpjump1" / "metadata" / "experiment-metadata.tsv")
    benchmark = Benchmark.named("cpjump1").with_options(null_size=2000, features=features).by(MODELS)
    return answer_conditions(profiles, benchmark)


def test_every_condition_of_the_paper_is_answered_for_both_models(answers):
    counts = answers.summary.group_by("task").len().sort("task").rows()
    assert counts == [
        ("cross_matching", 32),
        ("detection", 24),
        ("detection_different_well", 8),
        ("detection_same_well", 8),
        ("directionality", 8),
        ("percent_matching", 32),
        ("sister_matching", 16),
    ]
    primary = answers.summary.filter(pl.col("task") == "detection")
    assert primary["published"].null_count() == 0
    assert set(primary[MODELS]) == {"final", "shuffled"}
    assert primary["status"].unique().to_list() == ["done"]


def test_each_compound_plate_has_64_controls(answers):
    compound = answers.plates.filter(Metadata_Perturbation="compound")
    assert compound["plate"].n_unique() == 16
    controls = dict(compound.select("plate", "n_controls").unique().rows())
    # Wells of two plates are not in the table at all, controls among them.
    assert (controls.pop("BR00116995"), controls.pop("BR00116993")) == (45, 63)
    assert set(controls.values()) == {64}
    assert compound["n_empty"].sum() == 0


def test_the_table_invents_no_signal(answers):
    """Hardly anything replicates, in neither model: few are detected, and the intervals reach far below what was published."""
    for task in ("detection", "detection_same_well", "detection_different_well"):
        found = answers.summary.filter(task=task)
        assert found["fraction_retrieved"].max() <= 0.05
        assert found["high"].is_between(0.005, 0.1).all()
    compounds = answers.summary.filter(task="detection", Metadata_Perturbation="compound")
    assert (compounds["high"] < compounds["published"] - 0.5).all()
    # Where nothing was detected there is nothing to match, and the table says so.
    matching = answers.summary.filter(task="sister_matching", status="impossible")
    assert matching["note"].str.contains("none of|no two of|nothing").all()


def test_pairs_are_beyond_their_thresholds_as_often_as_chance_says(answers):
    directions = answers.directions.filter(task="directionality")
    assert directions["n_same"].is_between(1700, 1864).all()  # 1,864 in the paper, whose list of targets is longer
    for share in ("share_below", "share_above"):
        assert directions[share].is_between(0.03, 0.07).all()
    percent = answers.summary.filter(task="percent_matching")
    assert percent["fraction_retrieved"].mean() == pytest.approx(0.05, abs=0.015)


def test_one_command_asks_it_all(cpjump1, real_data, tmp_path, monkeypatch, capfd):
    from cytofast.cli.app import main

    store, features = cpjump1
    plates = real_data / "cpjump1" / "metadata" / "experiment-metadata.tsv"
    command = ["cytofast", "benchmark", "cpjump1", "--store", store.path, "--plates", plates, "--null-size", 200]
    command += [
        "--by",
        MODELS,
        "--features",
        ",".join(features),
        "-o",
        tmp_path / "out.csv",
        "--results",
        tmp_path / "all",
    ]
    monkeypatch.setattr("sys.argv", [str(part) for part in command])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "128 rows" in capfd.readouterr().err
    table = pl.read_csv(tmp_path / "out.csv")
    assert table.filter(task="detection")["published"].null_count() == 0
    assert cytofast.read_results(tmp_path / "all").summary.height == 128
