"""Levels of a store as files for other tools: names, bytes, and the way back."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import cytofast
from cytofast import RecipeError, StoreError, export, open_store, read_profiles
from cytofast.ingest.endings import kind_of
from tests import toy


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = toy.make_store(tmp_path_factory.mktemp("store") / "s")
    cytofast.run("cpjump1", made)
    return made


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def needs_h5py(form):
    if form == "h5ad":
        pytest.importorskip("h5py", reason="AnnData files need the package h5py")


def test_files_are_called_as_pycytominer_calls_them(store, tmp_path):
    table = export(store, tmp_path, float_format="%.5g")
    assert names(tmp_path) == [
        f"B1/{plate}/{plate}{suffix}.csv.gz"
        for plate in ("P1", "P2")
        for suffix in ("_augmented", "_normalized_feature_select_negcon_batch", "_normalized_negcon")
    ]
    assert table.select("level", "plates", "rows").rows() == [
        (level, 1, 12) for level in ("wells", "normalized", "profiles") for _ in range(2)
    ]
    assert sorted(Path(name).relative_to(tmp_path).as_posix() for name in table["file"]) == names(tmp_path)
    text = gzip.decompress((tmp_path / "B1/P1/P1_normalized_negcon.csv.gz").read_bytes()).decode()
    shown = float(text.splitlines()[1].split(",")[-1])
    exact = store.scan("normalized", plates="P1").collect()[0, -1]
    assert shown == float(f"{exact:.5g}")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"levels": "wells", "by": "all"}, ["s_augmented.csv.gz"]),
        ({"levels": ["profiles"], "format": "gct"}, ["B1/B1_normalized_feature_select_negcon_batch.gct"]),
        ({"levels": "cells", "plates": "P2", "format": "parquet"}, ["B1/P2/P2_cells.parquet"]),
        ({"levels": "wells", "suffix": "", "format": "csv"}, ["B1/P1/P1.csv", "B1/P2/P2.csv"]),
        ({"levels": "wells", "by": "batch", "suffix": "_x"}, ["B1/B1_x.csv.gz"]),
    ],
)
def test_what_goes_into_one_file(store, tmp_path, options, expected):
    export(store, tmp_path, **options)
    assert names(tmp_path) == expected


def test_cells_come_with_their_platemap(store, tmp_path):
    export(store, tmp_path, levels="cells", by="all", format="parquet")
    assert read_profiles(tmp_path / "s_cells.parquet").collect().equals(store.scan("cells").collect())


def test_consensus_and_two_batches(tmp_path):
    store = toy.make_store(tmp_path / "s", ("P1",))
    toy.add_plate(store, toy.cells("P1", "B2", seed=1))
    toy.add_plate(store, toy.cells("P/3", "B 2", seed=2))
    recipe = cytofast.Recipe(
        {
            "wells": [cytofast.Aggregate(), cytofast.Annotate(None)],
            "scaled": [cytofast.Standardize()],
            "centred": [cytofast.CentreWells()],
            "chosen": [cytofast.DropLowVariance()],
            "consensus": [cytofast.Consensus(by="Metadata_broad_sample", method="modz")],
        }
    )
    cytofast.run(recipe, store)
    export(store, tmp_path / "out", levels=["wells", "scaled", "centred", "chosen", "consensus"])
    found = names(tmp_path / "out")
    assert "B%202/P%2F3/P%2F3_augmented.csv.gz" in found
    assert "B1/P1/P1_normalized.csv.gz" in found
    assert "B2/P1/P1_normalized_wellpos.csv.gz" in found
    assert "B2/P1/P1_normalized_feature_select_all_wellpos.csv.gz" in found
    assert "s_normalized_feature_select_all_wellpos_consensus_modz.csv.gz" in found
    first = read_profiles(tmp_path / "out/B1/P1/P1_augmented.csv.gz").collect()
    assert set(first["Metadata_Batch"]) == {"B1"}
    with pytest.raises(RecipeError, match="made of all plates together"):
        export(store, tmp_path / "out", levels="consensus", plates="P1")


@pytest.mark.parametrize("form", ["csv.gz", "csv", "parquet", "gct", "h5ad"])
def test_the_same_store_makes_the_same_bytes(store, tmp_path, form):
    needs_h5py(form)
    export(store, tmp_path / "1", format=form)
    with cytofast.limits(memory="256MiB", threads=1):
        export(store, tmp_path / "2", format=form)
    assert names(tmp_path / "1") == names(tmp_path / "2")
    for name in names(tmp_path / "1"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.parametrize("form", ["csv.gz", "parquet", "h5ad", "gct"])
def test_the_way_back_into_a_store(store, tmp_path, form):
    needs_h5py(form)
    export(store, tmp_path / "profiles", format=form)
    back = open_store(tmp_path / "back", create=True)
    back.ingest(tmp_path / "profiles")
    assert back.levels() == ["normalized", "profiles", "wells"]
    for level in back.levels():
        before, after = store.scan(level).collect(), back.scan(level).collect()
        metadata = [name for name in before.columns if name.startswith("Metadata_")]
        assert [after.schema[name] for name in metadata] == [before.schema[name] for name in metadata]
        if form in {"parquet", "h5ad"}:
            assert after.schema == {name: before.schema[name] for name in after.columns}
        assert after.cast(dict(before.select(after.columns).schema)).equals(before.select(after.columns))
        assert set(after.columns) == set(before.columns)


def test_cells_on_the_way_back(store, tmp_path):
    export(store, tmp_path / "profiles", levels="cells")
    back = open_store(tmp_path / "back", create=True)
    back.ingest(tmp_path / "profiles")
    assert back.scan("cells").collect().equals(store.scan("cells").collect())


def test_five_digits_on_the_way_back(store, tmp_path):
    export(store, tmp_path / "profiles", levels="normalized", float_format="%.5g")
    back = open_store(tmp_path / "back", create=True)
    back.ingest(tmp_path / "profiles")
    features = [name for name in store.scan("normalized").collect_schema() if not name.startswith("Metadata_")]
    before, after = (s.scan("normalized").select(features).collect().to_numpy() for s in (store, back))
    np.testing.assert_allclose(after, before, rtol=5e-5)


def test_what_cannot_be_exported(store, tmp_path):
    with pytest.raises(StoreError, match=r"no level 'selected' in this store. Hint: it has 'cells'"):
        export(store, tmp_path, levels="selected")
    with pytest.raises(StoreError, match=r"no plate 'P9' at level 'wells'. Hint: it has 'P1', 'P2'"):
        export(store, tmp_path, levels="wells", plates=["P9"])
    with pytest.raises(RecipeError, match="unknown format 'xlsx'"):
        export(store, tmp_path, format="xlsx")
    with pytest.raises(RecipeError, match="unknown extent"):
        export(store, tmp_path, by="well")
    with pytest.raises(RecipeError, match="levels 'wells' and 'normalized' would both be written to"):
        export(store, tmp_path, suffix="_x")
    with pytest.raises(StoreError, match="inside the store itself"):
        export(store, store.path / "out")
    with pytest.raises(StoreError, match="a file"):
        export(store, store.path / "store.json")
    with pytest.raises(StoreError, match="the store is empty"):
        export(open_store(tmp_path / "empty", create=True), tmp_path / "out")
    with pytest.raises(StoreError, match="only cells are in this store"):
        export(toy.make_store(tmp_path / "cells", ("P1",)), tmp_path / "out")
    assert names(tmp_path / "out") == []


def test_a_folder_that_cannot_be_written(store, tmp_path):
    (tmp_path / "B1").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        export(store, tmp_path, levels="wells")
    assert names(tmp_path) == ["B1"]


def test_kinds_of_files():
    assert [kind_of(Path(name)) for name in ("a.csv.gz", "a.GCT", "a.gct.gz", "a.gctx", "b.pq", "x.h5ad")] == [
        "text",
        "gct",
        "gct",
        "gctx",
        "parquet",
        "h5ad",
    ]


def test_lazy_profiles_reach_the_file_by_pieces(store, tmp_path):
    table = pl.concat([store.scan("profiles")] * 40, how="vertical")
    cytofast.write_profiles(table, tmp_path / "x.gct")
    assert json.loads("[" + (tmp_path / "x.gct").read_text().split("\n")[1].replace("\t", ",") + "]")[1] == 960
