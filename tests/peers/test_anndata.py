"""The package anndata reads what cytofast writes, and the other way round."""

import numpy as np
import polars as pl
import pytest

from cytofast import read_anndata, write_profiles

anndata = pytest.importorskip("anndata", reason="the package anndata is not installed (extra: peers)")


@pytest.fixture
def wells():
    return pl.DataFrame(
        {
            "Metadata_Plate": ["0042", "0042", "43"],
            "Metadata_Well": ["A01", None, "P24"],
            "Metadata_none": pl.Series([None] * 3, dtype=pl.String),
            "Metadata_dose": [0.5, None, 10.0],
            "Metadata_count": [3, None, 5],
            "Metadata_control": [True, None, False],
            "Metadata_whole": [1, 2, 3],
            "Cells_AreaShape_Area": pl.Series([0.1, 1 / 3, None], dtype=pl.Float32),
            "Nuclei_A_b": pl.Series([float("inf"), -2.5e-30, 1e20], dtype=pl.Float32),
        }
    )


def test_anndata_reads_what_is_written(wells, tmp_path):
    write_profiles(wells, tmp_path / "x.h5ad")
    found = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert found.shape == (3, 2)
    assert list(found.var_names) == ["Cells_AreaShape_Area", "Nuclei_A_b"]
    np.testing.assert_array_equal(found.X, wells.select(found.var_names.to_list()).to_numpy())
    assert [str(kind) for kind in found.obs.dtypes[3:]] == ["float64", "Int64", "boolean", "int64"]
    assert found.obs["Metadata_Well"].isna().tolist() == [False, True, False]


def test_what_anndata_writes_is_read(wells, tmp_path):
    write_profiles(wells, tmp_path / "x.h5ad")
    found = anndata.read_h5ad(tmp_path / "x.h5ad")
    found.write_h5ad(tmp_path / "y.h5ad")
    assert read_anndata(tmp_path / "y.h5ad").collect().equals(wells)
    from scipy.sparse import csr_matrix

    found.X = csr_matrix(np.array([[0, 1.5], [0, 0], [2, 0]], dtype=np.float32))
    found.write_h5ad(tmp_path / "z.h5ad", compression="gzip")
    values = read_anndata(tmp_path / "z.h5ad").select(found.var_names.to_list()).collect()
    assert values.rows() == [(0.0, 1.5), (0.0, 0.0), (2.0, 0.0)]
