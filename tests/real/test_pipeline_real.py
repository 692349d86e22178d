"""Real files with results that came with them."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import cytofast
from cytofast import Aggregate, Annotate, RobustMAD, Standardize

WELL_NAMES = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 1e-9)))


@pytest.mark.filterwarnings("ignore::cytofast.errors.ProfileWarning")
def test_bbbc021_over_all_wells_equals_the_published_file(real_data):
    folder = real_data / "bbbc021"
    wells = pl.read_csv(folder / "BBBC021_annotated_rebuilt.csv.gz", infer_schema_length=None)
    published = pl.read_csv(folder / "BBBC021_feature_selected_mad_robustize.csv", infer_schema_length=None)
    features = [name for name in published.columns if not name.startswith("Metadata_")]
    keys = ["Metadata_Plate", "Metadata_Well"]
    mine = RobustMAD(by=None, reference=None)(wells).sort(keys).select(features)
    assert set(mine.dtypes) == {pl.Float64}
    assert relative(mine.to_numpy(), published.sort(keys).select(features).to_numpy()) < 1e-9


@pytest.mark.parametrize(
    ("step", "name"),
    [(RobustMAD, "fixture_robustized_intensities"), (Standardize, "fixture_standardized_intensities")],
)
def test_r_cytominer_agrees(real_data, step, name):
    folder = real_data / "cytominer_r"
    cells = pl.read_csv(folder / "fixture_intensities.csv")
    expected = pl.read_csv(folder / f"{name}.csv")
    options = {"ddof": 1} if step is Standardize else {}
    reference = "well_description IN ('A01', 'A02')"
    groups = ["plate_barcode"]
    mine = step(by=groups, reference=reference, features="Intensity_", **options)(cells)
    keys = [name for name in cells.columns if not name.startswith("Intensity_")]
    features = [name for name in cells.columns if name.startswith("Intensity_")]
    found, wanted = mine.sort(keys).select(features).to_numpy(), expected.sort(keys).select(features).to_numpy()
    assert np.allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_jump_target_1_has_64_negative_controls_and_loses_no_well(real_data):
    folder = real_data / "cpjump1" / "metadata"
    wells = pl.DataFrame(
        {"Metadata_Plate": ["BR00116991"] * 384, "Metadata_Well": WELL_NAMES, "Cells_AreaShape_Area": np.arange(384.0)}
    )
    found = Annotate(folder / "JUMP-Target-1_compound_platemap.txt")(wells)
    found = Annotate(folder / "JUMP-Target-1_compound_metadata_targets.tsv", on="Metadata_broad_sample")(found)
    assert found.height == 384
    assert found.filter(pl.col("Metadata_control_type") == "negcon").height == 64


def plain_join(folder) -> pd.DataFrame:
    """Cells, Cytoplasm and Nuclei of one folder by pandas."""
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("Cells", "Cytoplasm", "Nuclei")}
    named = {name: table.add_prefix(f"{name}_") for name, table in tables.items()}
    joined = named["Cytoplasm"].merge(
        named["Cells"],
        left_on=["Cytoplasm_ImageNumber", "Cytoplasm_Parent_Cells"],
        right_on=["Cells_ImageNumber", "Cells_ObjectNumber"],
    )
    return joined.merge(
        named["Nuclei"],
        left_on=["Cytoplasm_ImageNumber", "Cytoplasm_Parent_Nuclei"],
        right_on=["Nuclei_ImageNumber", "Nuclei_ObjectNumber"],
    )


@pytest.mark.parametrize(
    ("source", "folders", "cells"),
    [
        ("collate/analysis", ["collate/analysis/2021_04_20_Target2/BR00121431/analysis/BR00121431-A01-1",
                              "collate/analysis/2021_04_20_Target2/BR00121431/analysis/BR00121431-A02-1"], 125),
        ("cpjump1_BR00116991-A01-1", ["cpjump1_BR00116991-A01-1"], 109),
        ("ExampleHuman", ["ExampleHuman"], 289),
    ],
)  # fmt: skip
def test_real_exports_equal_plain_pandas(real_data, tmp_path, source, folders, cells):
    root = real_data / "single_cell"
    store = cytofast.open_store(tmp_path / "store", create=True)
    store.ingest(root / source)
    found = store.scan("cells").collect()
    assert found.height == cells
    wells = Aggregate()(found)
    assert wells["Metadata_Object_Count"].sum() == cells
    features = [name for name in found.columns if not name.startswith("Metadata_")]
    assert len(features) > 300
    for row, folder in enumerate(folders):
        joined = plain_join(root / folder)
        for name in features:
            values = joined[name].to_numpy(dtype=float)
            # pandas' median in float64 of the float32 values, rounded to float32 once: equal to the last bit.
            stored = values.astype(np.float32).astype(float)
            expected = np.float32(pd.Series(stored).median())
            got = wells[name][row]
            assert (np.isnan(expected) and got is None) or np.float32(got) == expected, (name, got, expected)


def test_sites_without_cells_are_reported(real_data, tmp_path):
    store = cytofast.open_store(tmp_path / "store", create=True)
    summary = store.ingest(real_data / "single_cell" / "collate" / "analysis")
    images = summary.row(by_predicate=pl.col("compartment") == "Image", named=True)
    assert (images["images"], images["rows_joined"], images["orphans"]) == (4, 2, 2)
    empty = store.audit().filter((pl.col("compartment") == "Image") & (pl.col("rows_joined") == 0))
    assert empty.select("well", "site").rows() == [("A01", "2"), ("A02", "2")]
