"""Real data as stores: the questions' answers against pandas, and the join that must not lose its controls."""

import numpy as np
import polars as pl
import pytest

import cytofast
from cytofast.metadata_tables import read_metadata_table
from cytofast.store.layout import PlateName
from cytofast.store.manifest import Manifest
from tests import oracle_sql as oracle


def as_store(folder, profiles: pl.DataFrame, batch: str) -> cytofast.ProfileStore:
    """Profiles that were made elsewhere, one partition a plate."""
    store = cytofast.open_store(folder, create=True)
    for (plate,), part in profiles.partition_by("Metadata_Plate", as_dict=True).items():
        manifest = Manifest("profiles", batch, plate, "", 0, 0, "", "k" * 12, {})
        frame = part.select(pl.lit(batch).alias("Metadata_Batch"), pl.all())
        store.write_partition("profiles", PlateName(batch, plate), "k" * 12, [frame], lambda m=manifest: m)
    return store


def test_bbbc021_mechanisms_and_neighbours(real_data, tmp_path):
    profiles = pl.read_csv(
        real_data / "bbbc021" / "BBBC021_feature_selected_mad_robustize.csv", infer_schema_length=None
    ).with_columns(
        sample=pl.concat_str("Metadata_Compound", pl.col("Metadata_Concentration").cast(pl.String), separator="@")
    )
    profiles = profiles.rename({"sample": "Metadata_sample"})
    store, frame = as_store(tmp_path / "s", profiles, "BBBC021"), profiles.to_pandas()
    by = "Metadata_sample"
    hits = store.ask("mechanism_hits", by=by)
    assert dict(hits.select("mechanism", "hits").rows()) == oracle.mechanism_hits(frame, by, "Metadata_moa")
    name = frame[by].iloc[0]
    mine, slow = store.ask("nearest_perturbations", perturbation=name, by=by), oracle.nearest(frame, name, by)[:10]
    assert mine["perturbation"].to_list() == [other for other, _ in slow]
    np.testing.assert_allclose(mine["similarity"], [value for _, value in slow], rtol=1e-6)
    counts = dict(store.ask("replicate_counts", by="Metadata_Compound").select("perturbation", "wells").rows())
    assert counts == frame.groupby("Metadata_Compound").size().to_dict()
    alone = store.ask("compounds_without_replicates", by=by)
    sizes = frame.groupby(by).size()
    assert set(alone["perturbation"]) == set(sizes[sizes < 2].index)
    coverage = store.ask("plate_coverage")
    assert dict(coverage.select("plate", "wells_present").rows()) == frame.groupby("Metadata_Plate").size().to_dict()
    assert store.ask("shared_features", shared=True).height == len(oracle.features(frame))


@pytest.fixture
def jump(real_data, tmp_path):
    """The phenotypes of CPJUMP1's wells on compound plates of the first platemap, with their samples."""
    folder = real_data / "cpjump1"
    maps = read_metadata_table(folder / "metadata" / "barcode_platemap.csv")
    plates = maps.filter(pl.col("Metadata_Plate_Map_Name") == "JUMP-Target-1_compound_platemap")[
        "Metadata_Assay_Plate_Barcode"
    ]
    wells = pl.read_parquet(folder / "phenotypes" / "wells_x_15_phenotypes.parquet").filter(
        pl.col("Metadata_model_type") == "final", pl.col("Metadata_Plate").is_in(plates.implode())
    )
    platemap = read_metadata_table(folder / "metadata" / "JUMP-Target-1_compound_platemap.txt").rename(
        {"Metadata_well_position": "Metadata_Well"}
    )
    wells = wells.rename({"Cell_type": "Metadata_Cell_type"}).drop(
        "treatment", "treatment_type", "Time", "control_type"
    )
    wells = wells.join(platemap, on="Metadata_Well", how="left")
    return as_store(tmp_path / "s", wells, "CPJUMP1"), wells


def test_cpjump1_join_to_targets_has_64_controls_a_plate(jump, real_data):
    store, wells = jump
    targets = real_data / "cpjump1" / "metadata" / "JUMP-Target-1_compound_metadata_targets.tsv"
    joined = store.join("profiles", targets, on="Metadata_broad_sample")
    assert joined.counts["profiles_unmatched"] == 0
    assert joined.counts["profiles_without_key"] == wells["Metadata_broad_sample"].null_count()
    assert joined.counts["rows"] == wells.height
    per_plate = joined.collect().filter(pl.col("Metadata_control_type") == "negcon").group_by("Metadata_Plate").len()
    whole = wells.group_by("Metadata_Plate").len().filter(pl.col("len") == 384)["Metadata_Plate"]
    assert len(whole) > 0
    assert per_plate.filter(pl.col("Metadata_Plate").is_in(whole.implode()))["len"].unique().to_list() == [64]
    lost = store.join("profiles", targets, on="Metadata_broad_sample", nulls="never")
    assert lost.counts["profiles_unmatched"] == joined.counts["profiles_without_key"]


def test_cpjump1_compounds_alike_in_both_cell_lines(jump):
    store, wells = jump
    frame = wells.to_pandas()
    lines = sorted(frame["Metadata_Cell_type"].unique())[:2]
    mine = store.ask("same_phenotype", column="Metadata_Cell_type", first=lines[0], second=lines[1])
    slow = oracle.same_phenotype(frame, "Metadata_broad_sample", "Metadata_Cell_type", *lines)
    found = dict(mine.select("perturbation", "similarity").rows())
    assert found.keys() == slow.keys()
    np.testing.assert_allclose([found[k] for k in slow], list(slow.values()), rtol=1e-6)


def test_taorf_replicates_and_neighbours(real_data, tmp_path):
    wells = pl.read_parquet(real_data / "taorf_l1000" / "taorf_l1000_wells_x_genes.parquet")
    genes = [name for name in wells.columns if name.endswith("_at")]
    wells = wells.select(
        pl.col("Metadata_det_plate").alias("Metadata_Plate"), pl.col("Metadata_det_well").alias("Metadata_Well"),
        "Metadata_pert_id", "Metadata_pert_iname", *genes,
    )  # fmt: skip
    store, frame, by = as_store(tmp_path / "s", wells, "TAORF"), wells.to_pandas(), "Metadata_pert_id"
    counts = dict(store.ask("replicate_counts", by=by).select("perturbation", "wells").rows())
    assert counts == frame.groupby(by).size().to_dict()
    name = frame[by].value_counts().index[0]
    mine, slow = store.ask("nearest_perturbations", perturbation=name, by=by), oracle.nearest(frame, name, by)[:10]
    assert mine["perturbation"].to_list() == [other for other, _ in slow]
    np.testing.assert_allclose(mine["similarity"], [value for _, value in slow], rtol=1e-6)
    assert store.sql("SELECT count(DISTINCT feature) AS n FROM features")["n"].item() == len(genes)
    mad = store.sql(
        "SELECT Metadata_Plate AS p, mad(value) AS m FROM profiles_long WHERE feature = $f GROUP BY 1", {"f": genes[0]}
    )
    for plate, value in mad.rows():
        assert value == pytest.approx(oracle.mad(frame.loc[frame["Metadata_Plate"] == plate, genes[0]]), rel=1e-6)
