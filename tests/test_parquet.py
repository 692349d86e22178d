"""Profiles as Parquet: what is written is what was given, however it came, and what an ingest does not need is not loaded."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cytofast
from tests.row_groups import written

KINDS = st.sampled_from([pl.Float32, pl.Float64, pl.Int64, pl.String, pl.Boolean])
NAMES = ["Metadata_Well", "Metadata_dose", "Cells_a", "Cells_b", "Nuclei_c", "Nuclei_d"]


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(0, 20))
    columns = []
    for name in draw(st.permutations(NAMES)):
        kind = draw(KINDS)
        floats = st.floats(width=32, allow_nan=True)
        value = {pl.String: st.text(max_size=3), pl.Boolean: st.booleans(), pl.Int64: st.integers(-9, 9)}.get(
            kind, floats
        )
        columns.append(pl.Series(name, draw(st.lists(st.none() | value, min_size=rows, max_size=rows)), dtype=kind))
    return pl.DataFrame(columns)


@given(frame=frames(), group=st.integers(1, 8), cuts=st.lists(st.integers(0, 20), max_size=5))
def test_that_what_is_written_is_what_was_given_in_whole_row_groups(
    tmp_path_factory: pytest.TempPathFactory, frame: pl.DataFrame, group: int, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("written")
    edges = sorted({0, frame.height, *(cut for cut in cuts if cut < frame.height)})
    parts = [frame[low:high] for low, high in pairwise(edges)] or [frame]
    once = written(folder / "profiles.parquet", [frame], group).read_bytes()
    path = written(folder / "profiles.parquet", parts, group)
    assert path.read_bytes() == once
    read = pl.read_parquet(path)
    assert read.equals(frame.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None)))
    assert read.schema == frame.schema
    found = pq.ParquetFile(path).metadata
    sizes = [found.row_group(i).num_rows for i in range(found.num_row_groups)]
    assert all(size == group for size in sizes[:-1])
    assert sum(sizes) == frame.height


def test_that_signs_and_small_numbers_keep_every_bit(tmp_path: Path) -> None:
    values = np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, 3.4028235e38], dtype=np.float32)
    path = written(tmp_path / "profiles.parquet", [pl.DataFrame({"Cells_a": values})], 4)
    assert pl.read_parquet(path)["Cells_a"].to_numpy().tobytes() == values.tobytes()


def test_that_an_ingest_loads_neither_the_compiler_of_the_kernels_nor_pandas(tmp_path: Path) -> None:
    """Both cost tens of megabytes and half a second before the first cell."""
    lines = [
        "import sys, cytofast",
        "cytofast.open_store(sys.argv[2], create=True).ingest(sys.argv[1])",
        "print(sorted({'numba', 'pandas', 'sklearn', 'scipy'} & set(sys.modules)))",
    ]
    cytofast.write_example(tmp_path / "export", plates=1, wells=6, sites=1, cells_per_site=20)
    command = [sys.executable, "-c", "\n".join(lines), str(tmp_path / "export" / "analysis"), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
