import polars as pl
import pytest
from polars.testing import assert_frame_equal

from cytofast.errors import StoreError
from cytofast.modalities.predict import CrossModalPrediction
from cytofast.modalities.tables import clustering_tables, prediction_tables, read_tables
from tests.modalities.planted import pair

NOTES = pl.DataFrame({"note": ["left out: no label"], "n_rows": [3]})


@pytest.fixture(scope="module")
def tables():
    return prediction_tables(CrossModalPrediction(model="ridge", inner_folds=3).predict(pair(n=40), "morphology"))


def test_tables_come_back_as_they_were_written(tables, tmp_path):
    tables.write(tmp_path / "x")
    again = read_tables(tmp_path / "x")
    assert (again.kind, again.about) == (tables.kind, tables.about)
    assert again.tables.keys() == tables.tables.keys()
    for name, table in tables.tables.items():
        assert_frame_equal(again.tables[name], table)
    null = tables.tables["null"]
    assert null.height == 20
    assert null["median_r2"].quantile(0.99, "linear") == pytest.approx(tables.tables["percent"]["t99"][0])
    assert tables.tables["strongest"].group_by("target").len()["len"].to_list() == [5] * 6


def test_another_analysis_takes_the_whole_place(tables, tmp_path):
    tables.write(tmp_path / "x")
    clusters = pl.DataFrame({"space": ["a", "b"], "class": ["c", "c"], "n_rows": [3, 3], "jaccard": [0.5, 0.4]})
    clustering_tables(clusters, "Metadata_moa", NOTES).write(tmp_path / "x")
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [
        "about.parquet",
        "clusters.parquet",
        "notes.parquet",
    ]
    assert read_tables(tmp_path / "x").tables["notes"]["note"].to_list() == ["left out: no label: 3 rows"]


def test_other_peoples_folders_are_left_alone(tables, tmp_path):
    (tmp_path / "scores.parquet").write_bytes(b"mine")
    with pytest.raises(StoreError, match="holds something else"):
        tables.write(tmp_path)
    assert (tmp_path / "scores.parquet").read_bytes() == b"mine"
    with pytest.raises(StoreError, match="no finished analysis"):
        read_tables(tmp_path)


def test_damaged_folders_are_told(tables, tmp_path):
    tables.write(tmp_path / "x")
    (tmp_path / "x" / "targets.parquet").unlink()
    with pytest.raises(StoreError, match="tables are missing: 'targets'"):
        read_tables(tmp_path / "x")
    pl.DataFrame({"name": ["kind"], "value": ["poem"]}).write_parquet(tmp_path / "x" / "about.parquet")
    with pytest.raises(StoreError, match="unknown kind, 'poem'"):
        read_tables(tmp_path / "x")
    pl.DataFrame({"kind": ["prediction"]}).write_parquet(tmp_path / "x" / "about.parquet")
    with pytest.raises(StoreError, match="not written by cytofast"):
        read_tables(tmp_path / "x")
