"""Retrieval on real screens: published designs, known numbers, and plain twins that look at every pair."""

import numpy as np
import polars as pl
import pytest

from cytofast import RobustMAD
from cytofast.retrieval.replication import replicate_correlation
from cytofast.retrieval.rule import Retrieval
from cytofast.retrieval.significance import fraction_retrieved
from tests import oracle_retrieval as oracle


def unit(x):
    return x / np.linalg.norm(x, axis=1)[:, None]


def fraction(table):
    return fraction_retrieved(table)["fraction_retrieved"].item()


# --- BBBC021: compounds with known mechanisms ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bbbc021(real_data):
    folder = real_data / "bbbc021"
    wells = pl.read_csv(folder / "BBBC021_annotated_rebuilt.csv.gz", infer_schema_length=None)
    published = pl.read_csv(folder / "BBBC021_feature_selected_mad_robustize.csv", n_rows=1).columns
    features = [name for name in published if not name.startswith("Metadata_")]
    scaled = RobustMAD(by="Metadata_Plate", reference="Metadata_Compound = 'DMSO'", features=features)(wells)
    dose = pl.concat_str(["Metadata_Compound", pl.col("Metadata_Concentration").cast(pl.String)], separator="@")
    return scaled.with_columns(dose.alias("Metadata_trt")), features


def test_bbbc021_activity_is_the_known_one(bbbc021):
    wells, features = bbbc021
    rule = Retrieval(
        pos_sameby=["Metadata_trt"],
        neg_sameby=["Metadata_Plate"],
        controls="Metadata_Compound = 'DMSO'",
        features=features,
    )
    ap = rule.average_precision(wells)
    treated = wells.filter(pl.col("Metadata_Compound") != "DMSO")
    x = unit(wells.select(features).to_numpy())
    names, plates = wells["Metadata_trt"].to_numpy(), wells["Metadata_Plate"].to_numpy()
    dmso = (wells["Metadata_Compound"] == "DMSO").to_numpy()
    same = (names[:, None] == names) & ~np.eye(len(x), dtype=bool)
    against = (plates[:, None] == plates) & dmso[None, :]
    wanted = oracle.dense_average_precision(x @ x.T, same, against)[~dmso]
    assert ap["Metadata_trt"].to_list() == treated["Metadata_trt"].to_list()
    assert ap["average_precision"].to_numpy() == pytest.approx(wanted, abs=1e-12)
    tables = {
        null: rule.mean_average_precision(wells, null=null, null_size=20_000)
        for null in ("copairs", "labels", "ranks", "cpjump1")
    }
    assert tables["copairs"].height == 103
    assert tables["copairs"]["mean_average_precision"].mean() == pytest.approx(0.912, abs=0.001)
    assert fraction(tables["copairs"]) == pytest.approx(0.738, abs=0.015)
    # Three plates with six controls have 343 labelings, so permuted labels need nearly perfect replicates.
    assert set(tables["labels"]["p_method"]) == {"labels, exact, 343 labelings", "labels, exact, 49 labelings"}
    assert fraction(tables["labels"]) == pytest.approx(0.786, abs=0.001)
    assert fraction(tables["ranks"]) == pytest.approx(0.883, abs=0.015)
    assert fraction(tables["cpjump1"]) == pytest.approx(0.93, abs=0.02)


def test_bbbc021_mechanisms_are_consistent(bbbc021):
    wells, features = bbbc021
    treated = wells.filter((pl.col("Metadata_Compound") != "DMSO") & pl.col("Metadata_moa").is_not_null())
    consensus = treated.group_by("Metadata_trt", "Metadata_Compound", "Metadata_moa", maintain_order=True).agg(
        pl.col(features).median()
    )
    rule = Retrieval(
        pos_sameby=["Metadata_moa"], pos_diffby=["Metadata_Compound"], neg_diffby=["Metadata_moa"], features=features
    )
    ap = rule.average_precision(consensus)
    x = unit(consensus.select(features).to_numpy())
    moa, compound = consensus["Metadata_moa"].to_numpy(), consensus["Metadata_Compound"].to_numpy()
    same = moa[:, None] == moa
    wanted = oracle.dense_average_precision(x @ x.T, same & (compound[:, None] != compound), ~same)
    assert ap["average_precision"].cast(pl.Float64).fill_null(np.nan).to_numpy() == pytest.approx(
        wanted, abs=1e-12, nan_ok=True
    )
    labels = rule.mean_average_precision(consensus, null_size=20_000)
    # Doses of one compound get a mechanism together: with few compounds a mechanism there are few labelings.
    assert fraction(labels) == pytest.approx(11 / 12)
    assert fraction(rule.mean_average_precision(consensus, null="ranks", null_size=20_000)) == 1.0


# --- nELISA: secreted proteins, 256 controls -------------------------------------------------------------------------


def test_nelisa_activity(real_data):
    wells = pl.read_parquet(real_data / "nelisa" / "profiles.parquet")
    features = [name for name in wells.columns if not name.startswith("Metadata_")]
    rule = Retrieval(
        pos_sameby=["Metadata_broad_sample"],
        neg_sameby=["Metadata_Plate"],
        controls="Metadata_control_type = 'negcon'",
        features=features,
    )
    ap = rule.average_precision(wells)
    assert ap.height == 1525 - 256
    x = unit(wells.select(features).to_numpy())
    plates, dmso = (
        wells["Metadata_Plate"].to_numpy(),
        (wells["Metadata_control_type"] == "negcon").fill_null(value=False).to_numpy(),
    )
    names = wells["Metadata_broad_sample"].fill_null("").to_numpy()
    same = (names[:, None] == names) & ~np.eye(len(x), dtype=bool)
    wanted = oracle.dense_average_precision(x @ x.T, same, (plates[:, None] == plates) & dmso[None, :])[~dmso]
    assert ap["average_precision"].fill_null(np.nan).to_numpy() == pytest.approx(wanted, abs=1e-12, nan_ok=True)
    found = {
        null: fraction(rule.mean_average_precision(wells, null=null, null_size=5_000))
        for null in ("labels", "ranks", "copairs")
    }
    # Independent rankings find more than the design supports, the shared ranking less.
    assert found["copairs"] < found["labels"] < found["ranks"]


# --- CPJUMP1: 51 plates, three modalities ----------------------------------------------------------------------------

PHENOTYPES = slice(9, None)


@pytest.fixture(scope="module")
def cpjump1(real_data):
    """Wells with what was in them: the platemaps say it, by well."""
    folder = real_data / "cpjump1"
    table = pl.read_parquet(folder / "phenotypes" / "wells_x_15_phenotypes.parquet")
    features = table.columns[PHENOTYPES]
    table = table.filter(pl.col("Metadata_model_type") == "final").drop_nulls(features)
    maps = []
    for kind, label in (("compound", "target_list"), ("crispr", "gene"), ("orf", "gene")):
        meta = folder / "metadata"
        name = (
            "JUMP-Target-1_compound_metadata_targets.tsv"
            if kind == "compound"
            else f"JUMP-Target-1_{kind}_metadata.tsv"
        )
        options = {"separator": "\t", "null_values": ["", "NA"]}
        wells = pl.read_csv(meta / f"JUMP-Target-1_{kind}_platemap.txt", **options)
        samples = pl.read_csv(meta / name, **options).select("broad_sample", pl.col(label).alias("Metadata_target"))
        known = wells.join(samples.unique("broad_sample"), on="broad_sample", how="left", nulls_equal=False)
        chosen = known.select(
            pl.col("well_position").alias("Metadata_Well"),
            pl.col("broad_sample").alias("Metadata_sample"),
            "Metadata_target",
        )
        maps.append(chosen.with_columns(pl.lit(kind).alias("treatment_type")))
    table = table.join(pl.concat(maps), on=["Metadata_Well", "treatment_type"], how="left")
    scaled = RobustMAD(by="Metadata_Plate", reference="control_type = 'negcon'", features=features)(table)
    return scaled.with_columns(pl.col(features).cast(pl.Float64)), features


def condition(cpjump1, kind, cell, time):
    table, features = cpjump1
    chosen = table.filter((pl.col("treatment_type") == kind) & (pl.col("Cell_type") == cell) & (pl.col("Time") == time))
    return chosen.filter(pl.all_horizontal(pl.col(features).is_finite())), features


CONDITIONS = [
    (kind, cell, time)
    for kind, times in (("compound", (24, 48)), ("crispr", (96, 144)), ("orf", (48, 96)))
    for cell in ("A549", "U2OS")
    for time in times
]


@pytest.mark.parametrize(("kind", "cell", "time"), CONDITIONS)
def test_cpjump1_activity_is_that_of_the_plain_twin(cpjump1, kind, cell, time):
    wells, features = condition(cpjump1, kind, cell, time)
    assert wells["Metadata_Plate"].n_unique() >= 2
    rule = Retrieval(
        pos_sameby=["Metadata_sample"],
        neg_sameby=["Metadata_Plate"],
        controls="control_type = 'negcon'",
        features=features,
        nulls="value",
    )
    queries = "Metadata_sample IS NOT NULL"
    ap = Retrieval(**{**rule.__dict__, "queries": queries}).average_precision(wells)
    x = unit(wells.select(features).to_numpy())
    plates, names = wells["Metadata_Plate"].to_numpy(), wells["Metadata_sample"].fill_null("").to_numpy()
    negcon = (wells["control_type"] == "negcon").fill_null(value=False).to_numpy()
    asking = ~negcon & (names != "")
    same = (names[:, None] == names) & ~np.eye(len(x), dtype=bool)
    wanted = oracle.dense_average_precision(x @ x.T, same, (plates[:, None] == plates) & negcon[None, :])[asking]
    assert ap["average_precision"].fill_null(np.nan).to_numpy() == pytest.approx(wanted, abs=1e-12, nan_ok=True)
    assert ap["n_pos_pairs"].to_list() == same[asking].sum(axis=1).tolist()


def consensus(cpjump1, kind, cell, time):
    wells, features = condition(cpjump1, kind, cell, time)
    treated = wells.filter(pl.col("control_type").is_null() | (pl.col("control_type") != "negcon")).drop_nulls(
        ["Metadata_sample", "Metadata_target"]
    )
    found = treated.group_by("Metadata_sample", "Metadata_target", maintain_order=True).agg(pl.col(features).median())
    return found.with_columns(pl.lit("compound" if kind == "compound" else "gene").alias("Metadata_modality")), features


def shared_labels(lists):
    names = sorted({label for labels in lists for label in labels})
    bears = np.array([[name in labels for name in names] for labels in lists])
    return names, bears, (bears.astype(int) @ bears.T.astype(int)) > 0


@pytest.mark.parametrize(
    ("kind", "cell", "time"), [("compound", "A549", 48), ("compound", "U2OS", 24), ("crispr", "A549", 144)]
)
def test_cpjump1_sisters_are_those_of_the_plain_twin(cpjump1, kind, cell, time):
    table, features = consensus(cpjump1, kind, cell, time)
    rule = Retrieval(
        pos_sameby=["Metadata_target"],
        neg_diffby=["Metadata_target"],
        multilabel="Metadata_target",
        metric="abs_cosine",
        features=features,
    )
    ap = rule.average_precision(table)
    compare_multilabel(ap, table, features, None)
    found = rule.mean_average_precision(table, null_size=500)
    assert found["p_value"].drop_nulls().is_between(0, 1).all()


@pytest.mark.parametrize(("cell", "times"), [("A549", (48, 144)), ("U2OS", (24, 96))])
def test_cpjump1_genes_and_compounds_are_those_of_the_plain_twin(cpjump1, cell, times):
    compounds, features = consensus(cpjump1, "compound", cell, times[0])
    genes, _ = consensus(cpjump1, "crispr", cell, times[1])
    table = pl.concat([compounds, genes])
    rule = Retrieval(
        pos_sameby=["Metadata_target"],
        pos_diffby=["Metadata_modality"],
        neg_diffby=["Metadata_target", "Metadata_modality"],
        multilabel="Metadata_target",
        metric="abs_cosine",
        features=features,
    )
    compare_multilabel(rule.average_precision(table), table, features, table["Metadata_modality"].to_numpy())


def compare_multilabel(ap, table, features, modality):
    lists = [text.split("|") for text in table["Metadata_target"]]
    names, bears, shared = shared_labels(lists)
    x = unit(table.select(features).to_numpy())
    near = np.abs(x @ x.T)
    apart = np.ones_like(shared) if modality is None else modality[:, None] != modality
    others = ~np.eye(len(x), dtype=bool)
    numbers = {name: i for i, name in enumerate(table["Metadata_sample"])}
    for name in names[::7]:
        k = names.index(name)
        rows = np.flatnonzero(bears[:, k])
        wanted = oracle.dense_average_precision(
            near[rows], (bears[None, :, k] & apart & others)[rows], (~shared & apart)[rows]
        )
        found = ap.filter(pl.col("Metadata_target") == name)
        assert [numbers[s] for s in found["Metadata_sample"]] == rows.tolist()
        assert found["average_precision"].fill_null(np.nan).to_numpy() == pytest.approx(wanted, abs=1e-12, nan_ok=True)


# --- TA-ORF: replicate correlations as published ---------------------------------------------------------------------


def test_taorf_replicate_correlations_are_the_published_ones(real_data):
    from cytofast import Standardize

    folder = real_data / "taorf_l1000"
    wells = pl.read_parquet(folder / "taorf_l1000_wells_x_genes.parquet")
    genes = [name for name in wells.columns if name.endswith("_at")]
    plate = pl.col("Metadata_det_plate")
    wells = wells.filter(plate.str.contains("X1", literal=True) | plate.str.contains("X2.A2", literal=True))
    scaled = Standardize(by="Metadata_det_plate", reference=None, ddof=1, features=genes)(wells)
    found = replicate_correlation(scaled, "Metadata_pert_id", features=genes)
    published = pl.read_csv(folder / "expected_RepCorr_l1k-taorf_Haghighi2022.csv").rename(
        {"pert_id": "Metadata_pert_id"}
    )
    both = found.join(published, on="Metadata_pert_id").drop_nulls(["replicate_correlation", "RepCor"])
    assert both.height >= 300
    assert np.corrcoef(both["replicate_correlation"], both["RepCor"])[0, 1] > 0.999
    assert found.filter(pl.col("n_profiles") == 2)["null_p90"].drop_nulls()[0] == pytest.approx(0.15, abs=0.04)
