"""One small store, made once, that has something to answer to every question."""

from pathlib import Path

import pytest

import cytofast

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
steps = [{ step = "drop_missing", cutoff = 0.0 }, { step = "drop_correlated", threshold = 0.9 }]

[[consensus]]
step = "consensus"
by = "Metadata_broad_sample"
"""


@pytest.fixture(scope="session")
def asked_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    cytofast.write_example(folder / "experiment", plates=2, wells=96, cells_per_site=5)
    store = cytofast.open_store(folder / "store", create=True)
    store.ingest(folder / "experiment" / "analysis", platemap=folder / "experiment" / "metadata")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE)
    cytofast.run(recipe, store)
    return folder / "store"


@pytest.fixture
def asked(asked_folder):
    """Two plates of 96 wells with cells, wells, profiles and a consensus."""
    return cytofast.open_store(asked_folder)
