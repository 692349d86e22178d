import os

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytofast import StoreError
from cytofast.kernels.pages import unpack
from cytofast.plain_pages import PlainReader, _is_cached
from tests import row_groups


def written(path, values: np.ndarray, group: int) -> list[str]:
    """A file of our own with row groups of ``group`` rows."""
    names = [f"Cells_F{i}" for i in range(values.shape[1])]
    frame = pl.DataFrame({"Metadata_Well": ["A01"] * len(values), **{n: values[:, i] for i, n in enumerate(names)}})
    row_groups.written(path, [frame], group)
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
    ends = sorted(data.draw(st.lists(st.integers(0, rows), min_size=2, max_size=10)))
    runs = list(zip(ends[::2], ends[1::2], strict=False))
    assert reader.reads(asked)
    whole = pl.read_parquet(path).select(asked).fill_null(float("nan")).to_numpy()
    expected = np.concatenate([whole[first:end] for first, end in runs])
    assert np.array_equal(reader.read(asked, runs).T, expected, equal_nan=True)
    assert np.array_equal(reader.read(asked).T, whole, equal_nan=True)


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


@pytest.mark.parametrize("cached", [True, False])
def test_large_files_are_read_past_the_page_cache(tmp_path, monkeypatch, cached):
    rng = np.random.Generator(np.random.PCG64(3))
    values = rng.normal(size=(5_000, 9)).astype(np.float32)
    values[rng.random(values.shape) < 0.01] = np.nan
    path = tmp_path / "p.parquet"
    names = written(path, values, 700)
    monkeypatch.setattr("cytofast.resources.machine_memory", lambda: 0)
    monkeypatch.setattr("cytofast.plain_pages._LARGE_RUN_BYTES", 4 * 700 * 2)
    monkeypatch.setattr("cytofast.plain_pages._is_cached", lambda *_: cached)
    reader = PlainReader(path)
    for asked in (names, names[::2], names[3:4]):
        positions = [names.index(name) for name in asked]
        for low, high in ((0, 5_000), (699, 701), (2_000, 4_999)):
            np.testing.assert_array_equal(reader.read(asked, [(low, high)]).T, values[low:high, positions])
    path.write_bytes(path.read_bytes()[:90_000])
    with pytest.raises(StoreError, match="ends early"):
        reader.read(names)


def test_the_page_cache_knows_what_was_just_written(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 20_000)
    handle = os.open(path, os.O_RDONLY)
    try:
        assert _is_cached(handle, 4_096, 15_904)
        assert not _is_cached(handle, 16_384, 1_000_000)
    finally:
        os.close(handle)


@pytest.mark.parametrize("holes", ["none", "few", "half", "runs", "all"])
def test_pages_with_runs_of_every_kind(tmp_path, holes):
    rng = np.random.Generator(np.random.PCG64(1))
    values = rng.normal(size=(3_000, 5)).astype(np.float32)
    gone = {"none": 0.0, "few": 0.003, "half": 0.5, "runs": 0.0, "all": 1.0}[holes]
    values[rng.random(values.shape) < gone] = np.nan
    if holes == "runs":
        values[100:900, ::2] = np.nan
        values[905:913] = np.nan
    names = written(tmp_path / "p.parquet", values, 1_024)
    reader = PlainReader(tmp_path / "p.parquet")
    assert reader.reads(names)
    for low, high in ((0, 3_000), (7, 1_030), (1_500, 1_501)):
        np.testing.assert_array_equal(reader.read(names, [(low, high)]).T, values[low:high])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6), st.integers(0, 10**6))
def test_damaged_pages_are_never_read_beyond_their_end(tmp_path, flips, cut):
    rng = np.random.Generator(np.random.PCG64(2))
    values = rng.normal(size=(100, 3)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    path = tmp_path / "p.parquet"
    if not path.exists():
        written(path, values, 100)
    footer = pq.read_metadata(path).row_group(0)
    last = footer.column(3)
    begin, end = footer.column(1).data_page_offset, last.data_page_offset + last.total_compressed_size
    raw = np.frombuffer(path.read_bytes(), np.uint8)[begin:end].copy()
    for place, byte in flips:
        raw[place % raw.size] = byte
    raw = raw[: cut % raw.size + 1] if cut % 3 == 0 else raw
    out = np.zeros((5, 4 * 100), dtype=np.uint8)
    done = unpack(raw, 3, 100, np.array([[0, 100, 0]]), out, 1)
    assert 0 <= done <= 3
    assert not out[0].any()
    assert not out[4].any()
    if not flips and raw.size == end - begin:
        assert done == 3
        np.testing.assert_array_equal(out[1:4].view(np.float32).T, values)


@pytest.mark.parametrize("odd", [None, pl.Date, pl.Datetime("us"), pl.List(pl.Int64), pl.Decimal(9, 2), pl.Binary])
def test_metadata_and_types_are_those_that_polars_reads(tmp_path, odd):
    path = tmp_path / "p.parquet"
    kinds = [pl.String, pl.Categorical, pl.Boolean, pl.Int8, pl.UInt16, pl.Int64, pl.UInt64, pl.Float32, pl.Float64]
    given = {
        f"Metadata_{i}": pl.Series([1, None, 3]).cast(pl.String if i < 2 else kind).cast(kind)
        for i, kind in enumerate(kinds)
    }
    frame = pl.DataFrame({**given, "Cells_a": pl.Series([1.0, None, 3.0], dtype=pl.Float32)})
    if odd is not None:
        frame = frame.with_columns(pl.Series("Metadata_odd", [None] * 3, dtype=odd))
    row_groups.written(path, [frame], 2)
    reader, expected = PlainReader(path), pl.read_parquet(path)
    if odd is not None:
        assert reader.schema is None, "left to Polars"
        assert reader.metadata is None
        return
    assert reader.schema == expected.schema
    assert reader.metadata.equals(expected.select(list(given)))
    assert reader.metadata.schema == expected.select(list(given)).schema
