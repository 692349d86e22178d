"""Agreement with pycytominer 1.7.1 on real wells, and the divergences, each with its reason."""

import numpy as np
import polars as pl
import pytest

from cytofast import Aggregate, Annotate, ProfileWarning, Robustize, RobustMAD, Standardize
from tests import toy

pycytominer = pytest.importorskip("pycytominer", reason="the peer is not installed (pip install '.[peers]')")
pytestmark = pytest.mark.filterwarnings("ignore")
KEYS = ["Metadata_Plate", "Metadata_Well"]


@pytest.fixture(scope="module")
def wells(real_data):
    return pl.read_csv(real_data / "bbbc021" / "BBBC021_annotated_rebuilt.csv.gz", infer_schema_length=None).sort(KEYS)


def features_of(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if not name.startswith("Metadata_")]


def peer_by_plate(wells: pl.DataFrame, **options) -> pl.DataFrame:
    parts = []
    for plate in wells["Metadata_Plate"].unique(maintain_order=True):
        frame = wells.filter(pl.col("Metadata_Plate") == plate).to_pandas()
        done = pycytominer.normalize(
            frame,
            features=features_of(wells),
            samples="Metadata_Compound == 'DMSO'",
            **options,
        )
        parts.append(pl.from_pandas(done))
    return pl.concat(parts, how="vertical_relaxed").sort(KEYS)


@pytest.mark.parametrize(
    ("step", "options"),
    [
        (RobustMAD, {"method": "mad_robustize", "mad_robustize_epsilon": 0}),
        (Standardize, {"method": "standardize"}),
        (Robustize, {"method": "robustize"}),
    ],
)
def test_normalization_plate_by_plate_equals_pycytominer(wells, step, options):
    ours = step(by="Metadata_Plate", reference="Metadata_Compound = 'DMSO'")
    spread = ours.fit(wells).filter(pl.col("status") != "ok").select("Metadata_Plate", "feature")
    mine = ours(wells)
    theirs = peer_by_plate(wells, **options)
    compared = 0
    for feature in features_of(wells):
        flat = spread.filter(pl.col("feature") == feature)["Metadata_Plate"]
        here = ~wells["Metadata_Plate"].is_in(flat.implode())
        got, expected = mine.filter(here)[feature].to_numpy(), theirs.filter(here)[feature].to_numpy()
        assert np.allclose(got, expected, rtol=1e-9, atol=1e-9), feature
        compared += got.size
        # The divergence: without spread pycytominer divides by nothing, we say null and report it.
        assert mine.filter(~here)[feature].is_null().all()
    assert compared > 0.98 * wells.height * len(features_of(wells))


def test_without_spread_the_numbers_of_pycytominer_can_be_had(wells):
    one_differs = pl.when(pl.int_range(pl.len()) == 0).then(3.0).otherwise(2.0)
    constant = wells.with_columns(one_differs.alias("Cells_AreaShape_Area"))
    theirs = pycytominer.normalize(
        constant.to_pandas(), features=["Cells_AreaShape_Area"], method="mad_robustize", mad_robustize_epsilon=1e-18
    )
    mine = RobustMAD(by=None, features=["Cells_AreaShape_Area"], zero_scale="divide", epsilon=1e-18)(constant)
    assert np.allclose(mine["Cells_AreaShape_Area"], theirs["Cells_AreaShape_Area"], rtol=1e-12)
    assert mine["Cells_AreaShape_Area"].max() == pytest.approx(1e18)


@pytest.mark.parametrize("statistic", ["median", "mean"])
def test_aggregation_equals_pycytominer(statistic):
    cells = toy.cells("P1")
    theirs = pycytominer.aggregate(cells.to_pandas(), strata=KEYS, features=toy.FEATURES, operation=statistic)
    mine = Aggregate(statistic=statistic)(cells)
    for feature in toy.FEATURES:
        assert np.allclose(mine[feature].to_numpy(), theirs[feature].to_numpy(), rtol=1e-6, atol=1e-7)


def test_annotation_keeps_the_wells_that_pycytominer_drops():
    wells = Aggregate()(toy.cells("P1"))
    platemap = toy.platemap("P1").drop("Metadata_Batch", "Metadata_Plate").head(6)
    theirs = pycytominer.annotate(wells.to_pandas(), platemap.to_pandas(), join_on=["Metadata_Well", "Metadata_Well"])
    with pytest.warns(ProfileWarning, match="6 Metadata_Well only in profiles"):
        mine = Annotate(platemap)(wells)
    assert (len(theirs), mine.height) == (6, 12)
    kept = mine.head(6)
    assert kept["Metadata_control_type"].to_list() == [None if v != v else v for v in theirs["Metadata_control_type"]]
