import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytofast import StoreError
from cytofast.parquet import ProfileWriter
from cytofast.plain_pages import PlainReader


def written(path, values: np.ndarray, group: int) -> list[str]:
    """A file of our own with row groups of ``group`` rows."""
    names = [f"Cells_F{i}" for i in range(values.shape[1])]
    frame = pl.DataFrame({"Metadata_Well": ["A01"] * len(values), **{n: values[:, i] for i, n in enumerate(names)}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytofast.parquet.row_group_rows", lambda _schema: group)
        with ProfileWriter(path) as writer:
            writer.write(frame)
    return names


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 6),
    group=st.integers(1, 17),
    holes=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_any_part_equals_what_polars_reads(tmp_path, rows, columns, group, holes, seed, data):
    rng = np.random.Generator(np.random.PCG64(seed))
    values = rng.normal(size=(rows, columns)).astype(np.float32)
    values[rng.random(values.shape) < holes] = np.nan
    path = tmp_path / "p.parquet"
    names = written(path, values, group)
    reader = PlainReader(path)
    asked = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    low = data.draw(st.integers(0, rows))
    high = data.draw(st.integers(low, rows))
    assert reader.reads(asked)
    expected = pl.read_parquet(path).select(asked)[low:high].fill_null(float("nan")).to_numpy()
    assert np.array_equal(reader.read(asked, low, high).T, expected, equal_nan=True)
    if high > low:
        assert np.array_equal(reader.frame(asked, low, high).to_numpy(), expected, equal_nan=True)


def test_foreign_files_are_left_to_others(tmp_path):
    frame = pl.DataFrame({"Cells_F0": pl.Series([1.0, 2.0], dtype=pl.Float32), "Cells_F1": [1.0, 2.0]})
    frame.write_parquet(tmp_path / "foreign.parquet")
    reader = PlainReader(tmp_path / "foreign.parquet")
    assert not reader.reads(["Cells_F0"])
    assert not reader.reads(["Cells_F1"])
    assert not reader.reads(["Cells_F9"])


def test_a_truncated_or_overwritten_file_is_noticed(tmp_path):
    path = tmp_path / "p.parquet"
    names = written(path, np.ones((20, 3), dtype=np.float32), 10)
    reader = PlainReader(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:150])
    with pytest.raises(StoreError, match="ends early"):
        reader.read(names)
    path.write_bytes(b"\x00" * len(whole))
    with pytest.raises(StoreError, match="not what the footer says"):
        reader.read(names)
