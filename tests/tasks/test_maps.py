"""Profiles on a map."""

import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import PCA

import cytofast
from cytofast.errors import DataError, ProfileWarning, RecipeError
from cytofast.tasks.maps import map_profiles


@pytest.fixture
def wells():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 12)) * np.linspace(3, 1, 12)
    x[:30] += 4
    table = pl.DataFrame({"Metadata_Well": [f"w{i}" for i in range(60)], "Metadata_kind": ["a"] * 30 + ["b"] * 30})
    return table.hstack(pl.DataFrame(x, schema=[f"Cells_f{i}" for i in range(12)], orient="row"))


def test_principal_components_are_those_of_sklearn(wells):
    found = map_profiles(wells, components=3)
    assert found.columns == ["Metadata_Well", "Metadata_kind", "PC_1", "PC_2", "PC_3"]
    model = PCA(3).fit(wells.select(pl.selectors.float()).to_numpy())
    wanted = model.transform(wells.select(pl.selectors.float()).to_numpy())
    signs = np.sign([row[np.abs(row).argmax()] for row in model.components_])
    assert found.select("^PC_.*$").to_numpy() == pytest.approx(wanted * signs, abs=1e-9)
    assert map_profiles(wells.lazy(), components=3).equals(found)


def test_missing_features_are_named_or_left_out(wells):
    broken = wells.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise(pl.col("Cells_f0")).alias("Cells_f0")
    )
    with pytest.raises(DataError, match=r"1 of 60 profiles.*w7.*on_invalid"):
        map_profiles(broken)
    with pytest.warns(ProfileWarning, match="1 of 60 profiles left out"):
        assert map_profiles(broken, on_invalid="drop")["Metadata_Well"].to_list() == [
            f"w{i}" for i in range(60) if i != 7
        ]


def test_maps_that_make_no_sense_are_refused(wells):
    with pytest.raises(RecipeError, match="did you mean"):
        map_profiles(wells, "uma")
    with pytest.raises(RecipeError, match="components"):
        map_profiles(wells, components=0)
    with pytest.raises(DataError, match="too few"):
        map_profiles(wells[:2])
    flat = wells.with_columns(pl.lit(1.0).alias(f"Cells_f{i}") for i in range(1, 12))
    with pytest.raises(DataError, match="1 directions only"):
        map_profiles(flat)


def test_umap_is_asked_for_by_name_and_its_absence_is_explained(wells, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(RecipeError, match=r"pip install .cytofast\[umap\]"):
        map_profiles(wells, "umap")
    given = {}

    class Reducer:
        def __init__(self, **options):
            given.update(options)

        def fit_transform(self, matrix):
            return matrix[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Reducer))
    found = map_profiles(wells, "umap", neighbors=100, seed=3)
    assert found.columns == ["Metadata_Well", "Metadata_kind", "UMAP_1", "UMAP_2"]
    assert given == {"n_components": 2, "n_neighbors": 59, "metric": "cosine", "random_state": 3, "n_jobs": 1}


def test_the_name_is_public():
    assert cytofast.map_profiles is map_profiles


@pytest.mark.parametrize(
    ("settings", "match"), [({"on_invalid": "skip"}, "on_invalid"), ({"components": 2.5}, "components")]
)
def test_settings_of_the_wrong_kind_are_refused(settings, match):
    # "skip" dropped profiles, as any other word did.
    table = pl.DataFrame({"Cells_x": [1.0, 2.0, float("nan"), 4.0], "Cells_y": [1.0, 3.0, 2.0, 2.5]})
    with pytest.raises(RecipeError, match=match):
        map_profiles(table, **settings)
