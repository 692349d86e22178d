"""The commands on two modalities."""

import json

import numpy as np
import polars as pl
import pytest

from cytofast.store.layout import PlateName
from cytofast.store.manifest import Manifest
from cytofast.store.profile_store import open_store


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    n = 60
    moa = np.arange(n) % 3
    x = rng.normal(size=(n, 6)) + 3.0 * (moa == 0)[:, None]
    y = np.stack([x[:, 0] + 0.1 * rng.normal(size=n), rng.normal(size=n) + 3.0 * (moa == 2)], axis=1)
    keys = pl.DataFrame({"Metadata_pert": [f"p{i:02d}" for i in range(n)], "Metadata_moa": [f"m{m}" for m in moa]})
    keys.hstack(pl.DataFrame(x, schema=[f"Cells_A_f{i}" for i in range(6)])).write_parquet(tmp_path / "cells.parquet")
    keys.hstack(pl.DataFrame(y, schema=["gene_a", "gene_b"])).head(59).write_csv(tmp_path / "genes.csv")
    return tmp_path


def test_crossmodal_writes_targets_and_goes_on_from_a_checkpoint(cytofast, files):
    command = [
        "crossmodal", "--from", files / "cells.parquet", "--to", files / "genes.csv", "--on", "Metadata_pert",
        "--to-features", "gene_", "--inner-folds", 3, "--checkpoint", files / "parts", "--threads", 1,
    ]  # fmt: skip
    status, _, err = cytofast(*command, "-o", files / "targets.csv", "--scores", files / "scores.parquet")
    assert status == 0, err
    assert "59 pairs: 6 features of cells, 2 of genes" in err
    assert "left out of cells: 1 (only in cells), 1 rows" in err
    assert pl.read_csv(files / "targets.csv").select("target", "predictable").rows()[0] == ("gene_a", True)
    assert pl.read_parquet(files / "scores.parquet").height == 10
    status, out, _ = cytofast(*command, "--explain", "gene_a", "--format", "json")
    assert status == 0
    assert json.loads(out)[0]["feature"] == "Cells_A_f0"
    status, _, err = cytofast(*command, "--seed", 7)
    assert status == 1
    assert "another computation" in err


def test_mechanism_classifies_and_clusters(cytofast, files):
    command = [
        "mechanism", "--first", files / "cells.parquet", "--second", files / "genes.csv", "--on", "Metadata_pert",
        "--second-features", "gene_", "--label", "Metadata_moa", "--fusion", "early",
    ]  # fmt: skip
    status, out, err = cytofast(*command, "--classifier", "logistic", "--inner-folds", 2, "--format", "csv")
    assert status == 0, err
    table = pl.read_csv(out.encode())
    f1 = dict(table.select("space", "weighted_f1").rows())
    assert f1["early"] > max(f1["cells"], f1["genes"])
    status, out, err = cytofast(*command, "--cluster", "--format", "csv")
    assert status == 0, err
    assert pl.read_csv(out.encode()).height == 9


def test_the_modalities_may_be_levels_of_a_store(cytofast, files, tmp_path):
    store = open_store(tmp_path / "store", create=True)
    for level, frame in (
        ("morphology", pl.read_parquet(files / "cells.parquet")),
        ("expression", pl.read_csv(files / "genes.csv")),
    ):
        wells = frame.with_columns(Metadata_Plate=pl.lit("P"), Metadata_Well=pl.format("A{}", pl.int_range(pl.len())))
        manifest = Manifest(level, "B", "P", "", 0, 0, "", level, {})
        store.write_partition(level, PlateName("B", "P"), level, [wells], lambda m=manifest: m)
    status, out, err = cytofast(
        "crossmodal", tmp_path / "store", "--from", "morphology", "--to", "expression", "--on", "Metadata_pert",
        "--to-features", "*_a,gene_b", "--model", "ridge", "--format", "csv",
    )  # fmt: skip
    assert status == 1, "an ending is one, not a list"
    assert "no column ends with '_a,gene_b'" in err
    status, out, err = cytofast(
        "crossmodal", tmp_path / "store", "--from", "morphology", "--to", "expression", "--on", "Metadata_pert",
        "--to-features", "*_a", "--model", "ridge", "--format", "csv",
    )  # fmt: skip
    assert status == 0, err
    assert pl.read_csv(out.encode())["target"].to_list() == ["gene_a"]


def test_bad_commands_are_told(cytofast, files):
    cells = files / "cells.parquet"
    status, _, err = cytofast("crossmodal", "--from", cells, "--to", cells, "--on", "Metadata_pert")
    assert status == 2
    assert "named as both" in err
    status, _, err = cytofast(
        "crossmodal", "--from", cells, "--to", files / "genes.csv", "--on", "Metadata_pert", "--to-features", "gene_",
        "--compat", "haghighi",
    )  # fmt: skip
    assert status == 2
    assert "unknown compat" in err
