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


ASK = ["--on", "Metadata_pert", "--to-features", "gene_", "--model", "ridge", "--inner-folds", 2]


def test_an_input_is_never_overwritten(cytofast, files):
    cells, genes = files / "cells.parquet", files / "genes.csv"
    before = cells.read_bytes(), genes.read_bytes()
    pairs = [("crossmodal", "--from", cells, "--to", genes, *ASK)]
    pairs.append(
        ("mechanism", "--first", cells, "--second", genes, "--second-features", "gene_", "--on", "Metadata_pert",
         "--label", "Metadata_moa")
    )  # fmt: skip
    for command in pairs:
        for path in (cells, genes):
            status, _, err = cytofast(*command, "-o", path)
            assert (status, "would be overwritten" in err) == (2, True)
    status, _, err = cytofast(*pairs[0], "--scores", files / "." / "genes.csv")
    assert (status, "would be overwritten" in err) == (2, True)
    assert (cells.read_bytes(), genes.read_bytes()) == before


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["-o", "targets.xlsx"], "targets.xlsx"),
        (["--scores", "."], "a folder"),
        (["--results", "."], "holds something else"),
        (["--explain", "gene_z"], "unknown target or feature 'gene_z'"),
        (["--explain", "gene_a", "--model", "mlp"], "needs coefficients"),
        (["--explain", "gene_a", "--gene-sets", "sets.csv"], "two questions"),
        (["--gene-sets", "cells.parquet"], "no column 'set'"),
        (["--quality", "both"], "no Metadata_pert has two replicates"),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(cytofast, files, monkeypatch, more, told):
    def never(*_, **__):
        raise AssertionError("worked before it looked")

    monkeypatch.chdir(files)
    monkeypatch.setattr("cytofast.modalities.predict.CrossModalPrediction._run", never)
    status, _, err = cytofast("crossmodal", "--from", "cells.parquet", "--to", "genes.csv", *ASK, *more)
    assert status in (1, 2)
    assert told in err


@pytest.mark.parametrize(("more", "told"), [([], True), (["--checkpoint", "parts"], False)])
def test_a_stopped_run_promises_nothing_that_it_did_not_keep(cytofast, files, monkeypatch, more, told):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(files)
    monkeypatch.setattr("cytofast.modalities.predict.CrossModalPrediction._run", stop)
    status, _, err = cytofast("crossmodal", "--from", "cells.parquet", "--to", "genes.csv", *ASK, *more)
    assert status == 130
    assert ("nothing of this computation is kept; given --checkpoint" in err) is told
    assert "interrupted; where a store or a checkpoint keeps" in err
    tell = ["--first", "cells.parquet", "--second", "genes.csv", "--second-features", "gene_", "--on", "Metadata_pert"]
    monkeypatch.setattr("cytofast.modalities.mechanism.Mechanism.classify", stop)
    status, _, err = cytofast("mechanism", *tell, "--label", "Metadata_moa")
    assert status == 130
    assert "nothing of this computation is kept" in err


def test_a_constant_target_is_told_once(cytofast, files):
    table = pl.read_csv(files / "genes.csv").with_columns(gene_c=pl.lit(1.0))
    table.write_csv(files / "genes.csv")
    status, _, err = cytofast("crossmodal", "--from", files / "cells.parquet", "--to", files / "genes.csv", *ASK)
    assert status == 0, err
    assert err.count("'gene_c'") == 1


def test_results_lie_in_the_store_for_the_report(cytofast, files, tmp_path):
    store = open_store(tmp_path / "store", create=True)
    for level, frame in (
        ("morphology", pl.read_parquet(files / "cells.parquet")),
        ("expression", pl.read_csv(files / "genes.csv")),
    ):
        names = [f"{row}{column:02d}" for row in "ABCDEF" for column in range(1, 11)][: frame.height]
        wells = frame.with_columns(Metadata_Plate=pl.lit("P"), Metadata_Well=pl.Series(names))
        manifest = Manifest(level, "B", "P", "", 0, 0, "", level, {})
        store.write_partition(level, PlateName("B", "P"), level, [wells], lambda m=manifest: m)
    status, _, err = cytofast("crossmodal", store.path, "--from", "morphology", "--to", "expression", *ASK)
    assert status == 0, err
    assert "59 groups of Metadata_pert" in err
    command = [
        "mechanism", store.path, "--first", "morphology", "--second", "expression", "--on", "Metadata_pert",
        "--second-features", "gene_", "--label", "Metadata_moa", "--fusion", "early", "--classifier", "logistic",
    ]  # fmt: skip
    for more in ([], ["--cluster"]):
        status, _, err = cytofast(*command, *more)
        assert status == 0, err
        assert "all tables are in" in err
    status, out, err = cytofast("report", "--store", store.path, "-o", tmp_path / "r.html")
    assert status == 0, err
    assert "ridge predicts 1 of 2 targets of expression from morphology" in out
    assert sorted(path.name for path in (store.path / "modalities").iterdir()) == [
        "morphology-to-expression-ridge",
        "morphology-with-expression-Metadata_moa-classes",
        "morphology-with-expression-Metadata_moa-clusters",
    ]
    text = (tmp_path / "r.html").read_text()
    assert "figure-clusters-morphology-with-expression-Metadata_moa-clusters" in text


def test_quality_and_gene_sets_are_asked_for(cytofast, files):
    rng = np.random.default_rng(1)
    for name, form in (("cells.parquet", "parquet"), ("genes.csv", "csv")):
        path = files / name
        table = pl.read_parquet(path) if form == "parquet" else pl.read_csv(path)
        if form == "csv":
            table = table.with_columns(gene_c=pl.Series(rng.normal(size=table.height)))
        features = [c for c in table.columns if not c.startswith("Metadata_")]
        # The last ten perturbations have replicates that are strangers to each other.
        again = table.with_columns(
            pl.when(pl.int_range(pl.len()) < table.height - 10).then(pl.col(features)).otherwise(-pl.col(features))
        )
        both = pl.concat([table, again])
        both.write_parquet(path) if form == "parquet" else both.write_csv(path)
    (files / "sets.csv").write_text("set,gene\nfound,gene_a\nlost,gene_b\nlost,gene_zz\n")
    command = ["crossmodal", "--from", files / "cells.parquet", "--to", files / "genes.csv", *ASK]
    status, out, err = cytofast(
        *command,
        "--quality",
        "both",
        "--gene-sets",
        files / "sets.csv",
        "--format",
        "csv",
        "--results",
        files / "found",
    )
    assert status == 0, err
    assert "agree in both" in err
    kept = int(err.split("replicates of ")[1].split()[0])
    assert 20 < kept <= 50
    table = pl.read_csv(out.encode())
    assert table.select("set", "n_tested", "n_predictable").rows()[0] == ("found", 1, 1)
    assert pl.read_parquet(files / "found" / "associations.parquet").height == 2


def test_answers_fit_into_80_columns(cytofast, files):
    """Also where features have long names: numbers and headings are never broken."""
    name = "Cytoplasm_Texture_SumAverage_Mito_10_03_256"
    cells, genes = files / "cells.parquet", files / "genes.csv"
    pl.read_parquet(cells).rename({"Cells_A_f0": name}).write_parquet(cells)
    tell = ["--first", cells, "--second", genes, "--second-features", "gene_", "--on", "Metadata_pert"]
    tell += ["--label", "Metadata_moa", "--fusion", "early"]
    back = ["--on", "Metadata_pert", "--from-features", "gene_", "--model", "ridge", "--inner-folds", 2]
    for command, heading in (
        (["crossmodal", "--from", genes, "--to", cells, *back], "target median_r2 p_value predictable"),
        (["crossmodal", "--from", cells, "--to", genes, *ASK, "--explain", "gene_a"], "feature coefficient stability"),
        (["mechanism", *tell, "--classifier", "logistic"],
         "classifier space weighted_f1 lower upper chance_p95 p_value"),
        (["mechanism", *tell, "--cluster"], "space class n_rows jaccard chance_jaccard p_value adjusted_rand"),
    ):  # fmt: skip
        status, out, err = cytofast(*command)
        assert status == 0, err
        assert max(map(len, out.splitlines())) <= 80
        assert out.splitlines()[0].split() == heading.split()
        assert name in out or command[0] == "mechanism"
