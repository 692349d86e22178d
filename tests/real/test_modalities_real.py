"""Real pairs: L1000 replicates against published numbers, secreted proteins against morphological phenotypes."""

import numpy as np
import polars as pl
import pytest

from cytofast.modalities.align import align
from cytofast.modalities.mechanism import Mechanism
from cytofast.modalities.predict import CrossModalPrediction
from cytofast.retrieval.replication import replicate_correlation
from cytofast.steps.normalize import RobustMAD, Standardize


def test_replicate_correlations_of_taorf_are_the_published_ones(real_data):
    folder = real_data / "taorf_l1000"
    table = pl.read_parquet(folder / "taorf_l1000_wells_x_genes.parquet")
    genes = [name for name in table.columns if name.endswith("_at")]
    table = table.filter(pl.col("Metadata_det_plate").str.contains("X1|X2.A2"))
    z = Standardize(by="Metadata_det_plate", reference=None, ddof=1, features=genes)(table)
    ours = replicate_correlation(z, sameby="Metadata_pert_id", features=genes)
    assert {"replicate_correlation", "n_profiles", "null_p90", "high_quality"} <= set(ours.columns)
    published = pl.read_csv(folder / "expected_RepCorr_l1k-taorf_Haghighi2022.csv").select(
        pl.col("pert_id").alias("Metadata_pert_id"), "RepCor"
    )
    both = ours.join(published, on="Metadata_pert_id").drop_nulls(["replicate_correlation", "RepCor"])
    assert both.height == 304
    assert np.corrcoef(both["replicate_correlation"], both["RepCor"])[0, 1] >= 0.999
    assert (both["replicate_correlation"] - both["RepCor"]).abs().max() <= 0.02


@pytest.fixture(scope="module")
def proteins_and_phenotypes(real_data):
    proteins = pl.read_parquet(real_data / "nelisa" / "profiles.parquet")
    proteins = proteins.filter(pl.col("Metadata_control_type").ne_missing("negcon")).drop("Metadata_control_type")
    wells = pl.read_parquet(real_data / "cpjump1" / "phenotypes" / "wells_x_15_phenotypes.parquet").filter(
        Metadata_model_type="final", Cell_type="A549", Time=24, treatment_type="compound"
    )
    features = wells.columns[wells.columns.index("cell_count") + 1 :]
    scaled = RobustMAD(by="Metadata_Plate", reference="control_type = 'negcon'", features=features)(
        wells.drop_nulls(features)
    )
    scaled = scaled.filter(pl.col("control_type").ne_missing("negcon")).select(
        pl.col("treatment").alias("Metadata_pert_iname"), *features
    )
    return align(
        scaled,
        proteins,
        "Metadata_pert_iname",
        names=("phenotypes", "proteins"),
        a_features=features,
        b_features=[name for name in proteins.columns if not name.startswith("Metadata_")],
        missing="drop",
    )


@pytest.mark.parametrize(("source", "low", "high"), [("phenotypes", 2, 40), ("proteins", 30, 100)])
def test_proteins_and_phenotypes_predict_each_other_in_part(proteins_and_phenotypes, source, low, high):
    pair = proteins_and_phenotypes
    assert len(pair) == 299
    found = CrossModalPrediction(model="ridge", null_rounds=2).predict(pair, source)
    percent = found.percent_predictable().row(0, named=True)
    assert low < percent["percent"] < high
    assert percent["lower"] <= percent["percent"] <= percent["upper"]
    assert percent["t99"] < 0.1


def test_targets_with_five_compounds_are_classified(proteins_and_phenotypes):
    question = Mechanism("Metadata_target_list", classifiers=["logistic"], fusions=["early", "late"])
    found = question.classify(proteins_and_phenotypes)
    assert found.classes.table()["n_groups"].min() >= 5
    summary = found.summary()
    assert (summary["weighted_f1"] < 0.5).all(), "targets are hard to tell from so few compounds"
    assert (summary["chance_p95"] < 0.3).all()
