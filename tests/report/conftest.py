"""A store with something in every section, and its page."""

import pytest

import cytofast
from cytofast.tasks.results import TABLES
from tests.report.pages import results

RECIPE = """
source = "cells"

[[wells]]
step = "aggregate"
by = ["Metadata_Plate", "Metadata_Well"]
statistic = "median"

[[wells]]
step = "annotate"

[[profiles]]
step = "robust_mad"
by = "Metadata_Plate"
reference = "Metadata_control_type = 'negcon'"

[[profiles]]
step = "feature_select"
steps = [{ step = "drop_missing", cutoff = 0.05 }, { step = "drop_correlated", threshold = 0.9 }]
"""


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """Two plates of 96 wells, selected, annotated, with a benchmark beside them."""
    folder = tmp_path_factory.mktemp("report")
    cytofast.write_example(folder / "experiment", plates=2, wells=96, cells_per_site=5)
    store = cytofast.open_store(folder / "store", create=True)
    store.ingest(folder / "experiment" / "analysis", platemap=folder / "experiment" / "metadata")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE)
    cytofast.run(recipe, store)
    return folder


@pytest.fixture(scope="session")
def small_page(small_folder):
    """The page of that store."""
    return cytofast.write_report(small_folder / "store", small_folder / "report.html")


@pytest.fixture
def benchmark(tmp_path):
    """A folder as `cytofast benchmark` leaves it."""
    found = results()
    for name in TABLES:
        (tmp_path / "cpjump1").mkdir(exist_ok=True)
        getattr(found, name).write_parquet(tmp_path / "cpjump1" / f"{name}.parquet")
    return tmp_path / "cpjump1"
