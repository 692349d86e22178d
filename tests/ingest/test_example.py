import hashlib

import numpy as np
import polars as pl
import pytest

from cytofast.errors import DataError, RecipeError
from cytofast.ingest.audit import Audit, summarize
from cytofast.ingest.cellprofiler import plan
from cytofast.ingest.discovery import discover
from cytofast.ingest.example import feature_names, write_example
from cytofast.ingest.platemap import read_platemaps
from cytofast.schema import parse_features


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_is_the_same_bytes_and_times(tmp_path):
    first = write_example(tmp_path / "a", wells=12)
    second = write_example(tmp_path / "b", wells=12)
    assert first == second
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert write_example(tmp_path / "c", wells=12, seed=1) != first
    assert contents(tmp_path / "c").keys() == contents(tmp_path / "a").keys()
    assert contents(tmp_path / "c") != contents(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_an_experiment_that_is_there_is_used_and_nothing_else_is_touched(tmp_path):
    first = write_example(tmp_path / "a", wells=6)
    assert write_example(tmp_path / "a", wells=6) == first
    with pytest.raises(DataError, match="is another example experiment"):
        write_example(tmp_path / "a", wells=12)
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match="is no example experiment"):
        write_example(tmp_path / "mine")
    (tmp_path / ".b.unfinished").mkdir()
    (tmp_path / ".b.unfinished" / "half").write_text("")
    write_example(tmp_path / "b", wells=6)
    assert not (tmp_path / "b" / "half").exists()
    with pytest.raises(RecipeError, match="6 to 384 wells"):
        write_example(tmp_path / "x", wells=385)


def test_what_was_planted_is_found(tmp_path):
    example = write_example(tmp_path / "x", wells=96, sites=2, cells_per_site=8)
    exports = discover(tmp_path / "x")
    assert [export.plate for export in exports] == list(example.plates)
    frames, audits = [], []
    for export in exports:
        audit = Audit()
        frames += plan(export).cells(audit)
        audits.append(audit.table())
    cells, audit = pl.concat(frames), pl.concat(audits)
    assert cells.height == example.cells
    image = audit.filter(pl.col("compartment") == "Image", pl.col("orphans") > 0)
    assert image.select("plate", "well").rows() == [example.site_without_cells]
    nuclei = audit.filter(pl.col("compartment") == "Nuclei", pl.col("orphans") > 0)
    assert nuclei.select("plate", "well", "orphans").rows() == [(*example.orphan_nucleus, 1)]
    assert set(summarize(audit)["compartment"]) == {"Image", "Cells", "Cytoplasm", "Nuclei"}
    annotation = read_platemaps(tmp_path / "x" / "metadata", list(example.plates))
    assert annotation.filter(pl.col("Metadata_control_type") == "negcon").height == 2 * example.controls == 32
    # Missing values and constant features are there, as real exports have them.
    assert cells["Cells_Granularity_1_DNA"].null_count() + cells["Cells_Granularity_2_DNA"].null_count() > 0
    assert cells["Cells_AreaShape_EulerNumber"].n_unique() == 1
    features = [name for name in cells.columns if "Intensity_" in name or "Texture_" in name]
    wells = cells.group_by("Metadata_Plate", "Metadata_Well").agg(pl.col(features).median())
    wells = wells.join(annotation, on=["Metadata_Plate", "Metadata_Well"])
    control = pl.col("Metadata_control_type") == "negcon"
    shift = (pl.col(features) - pl.col(features).filter(control).median().over("Metadata_Plate")) / (
        pl.col(features).filter(control).std().over("Metadata_Plate")
    )
    strength = wells.with_columns(
        strength=pl.Series(np.abs(wells.with_columns(shift).select(features).to_numpy()).mean(axis=1))
    )
    of_compounds = (
        strength.filter(pl.col("Metadata_pert_type") == "trt").group_by("Metadata_broad_sample").agg("strength")
    )
    means = {sample: np.mean(found) for sample, found in of_compounds.rows()}
    inactive = [mean for sample, mean in means.items() if sample in example.inactive]
    active = [mean for sample, mean in means.items() if sample not in example.inactive]
    assert np.mean(active) > 1.5 * np.mean(inactive)


def test_feature_names_are_cellprofilers():
    for compartment in ("Cells", "Cytoplasm", "Nuclei"):
        names = feature_names(compartment)
        assert 60 <= len(names) <= 100
        parsed = parse_features([f"{compartment}_{name}" for name in names])
        assert parsed["measure"].null_count() == 0
