"""BBBC021 from its table of wells to the report: 55 plates, DMSO as controls, mechanisms told by nearest neighbours."""

import polars as pl
import pytest

from cytofast import NearestNeighbourAccuracy, ProfileWarning, RobustMAD, Standardize
from cytofast.cli.app import main
from tests import oracle_neighbours as oracle
from tests.report.pages import embedded
from tests.report.test_page import body

DMSO = "Metadata_Compound = 'DMSO'"


@pytest.fixture(scope="module")
def wells(real_data):
    """Means of wells, with the week of each plate as its batch."""
    table = pl.read_csv(real_data / "bbbc021" / "BBBC021_annotated_rebuilt.csv.gz", infer_schema_length=None)
    week = table["Metadata_Plate"].str.split("_").list.first().alias("Metadata_Batch")
    return table.with_columns(week)


@pytest.fixture(scope="module")
def made(wells, tmp_path_factory):
    """Everything by the commands of the documentation; the folder with store and report."""
    folder = tmp_path_factory.mktemp("bbbc021")
    wells.write_parquet(folder / "wells.parquet")
    commands = (
        f"ingest {folder / 'wells.parquet'} --store {folder / 'store'}",
        f"run bbbc021 --store {folder / 'store'}",
        f"benchmark bbbc021 --store {folder / 'store'} -o {folder / 'bbbc021.csv'}",
        f"report --store {folder / 'store'} -o {folder / 'report.html'}",
    )
    with pytest.MonkeyPatch.context() as patch:
        for command in commands:
            patch.setattr("sys.argv", ["cytofast", *command.split()])
            with pytest.raises(SystemExit, match="0"):
                main()
    return folder


def complete(step, wells: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Scaled wells, without the few features that have no spread on some plate, and the names of the others."""
    with pytest.warns(ProfileWarning, match="no spread"):
        scaled = step(wells)
    lost = [name for name in scaled.columns if scaled[name].null_count()]
    assert 0 < len(lost) < 10
    return scaled.drop(lost), [name for name in scaled.columns if not name.startswith("Metadata_") and name not in lost]


def test_accuracy_is_what_was_published(made):
    """0.82 in the R vignette (84 of 103, with the same interval); 0.83 in Ljosa et al. 2013, who scale cell by cell."""
    found = pl.read_csv(made / "bbbc021.csv")
    rows = {row["task"]: row for row in found.rows(named=True)}
    vignette = rows["nsc_correlation"]
    assert (vignette["n"], vignette["n_retrieved"], vignette["published"]) == (103, 84, 0.82)
    assert [round(vignette[name], 2) for name in ("fraction_retrieved", "low", "high")] == [0.82, 0.73, 0.89]
    cosine = rows["nsc_cosine"]
    assert cosine["published"] == 0.83
    assert cosine["fraction_retrieved"] == pytest.approx(0.83, abs=0.02)
    assert rows["nsc_cosine_median"]["fraction_retrieved"] == pytest.approx(0.78, abs=0.01)
    batches = rows["nscb_cosine"]
    assert (batches["n"], batches["n_untested"]) == (92, 11), "two mechanisms stand in one week"
    assert batches["fraction_retrieved"] == pytest.approx(0.74, abs=0.01)


@pytest.mark.parametrize("metric", ["cosine", "correlation"])
@pytest.mark.parametrize(("statistic", "batch"), [("mean", None), ("median", None), ("mean", "Metadata_Batch")])
def test_neighbours_are_those_of_the_plain_twin(wells, metric, statistic, batch):
    scaled, features = complete(Standardize(by="Metadata_Plate", reference=DMSO), wells)
    task = NearestNeighbourAccuracy(controls=DMSO, metric=metric, statistic=statistic, batch=batch)
    found = task.answer(scaled)
    wanted = oracle.nearest(scaled.to_pandas(), features, statistic, metric, batch)
    assert found.height == 103
    for name in ("label", "neighbour_label", "n_allowed", "n_same", "correct"):
        assert found[name].to_list() == wanted[name].to_list(), name


def test_robust_spread_of_six_wells_costs_accuracy(wells):
    """The difference to the preset: the MAD of six wells is so uncertain that means of replicates follow outliers."""
    scaled, _ = complete(RobustMAD(by="Metadata_Plate", reference=DMSO), wells)
    share = {
        how: NearestNeighbourAccuracy(controls=DMSO, statistic=how).answer(scaled)["correct"].mean()
        for how in ("mean", "median")
    }
    assert share["mean"] < 0.72
    assert share["median"] > share["mean"]


def test_the_report_tells_of_its_plates_controls_and_neighbours(made):
    page = made / "report.html"
    text, content = body(page), embedded(page.read_text())
    assert page.stat().st_size < 8_000_000
    assert f"({DMSO}; the reference of standardize in the store's recipe)" in text
    assert "84 of 103 treatments have a nearest neighbour with the same label" in text
    assert content["table-drift"]["rows"] == 55
    assert content["table-coverage"]["rows"] == 55
    assert content["table-neighbours-bbbc021-nsc_cosine"]["rows"] == 103
    assert "boxes-activity" in str(content.keys())
    assert content["figure-summary-bbbc021-all_tasks"]["layout"]["yaxis"]["ticktext"][0] == "nsc_correlation"
