"""The least work that a task asks for: what decoding, one selection or one matrix product cost here. It gives no answer."""

from __future__ import annotations

import numpy as np
import polars as pl

from benchmarks.contenders import blocks, cell_files, is_feature


def aggregate(source, out, shape):
    """Decode every column once and select one order statistic of each well, on one thread."""

    def work():
        for path in cell_files(source):
            names = [name for name in pl.read_parquet_schema(path) if is_feature(name)]
            for block in blocks(names):
                columns = pl.read_parquet(path, columns=block, hive_partitioning=False)
                for name in block:
                    wells = columns[name].to_numpy().reshape(384, -1)
                    np.partition(wells, wells.shape[1] // 2, axis=1)

    return work


def profile_wells(source, out, shape):
    """The medians cost all but a thousandth of it."""
    return aggregate(source, out, shape)


def normalize_cells(source, out, shape):
    """Read every byte twice and write it once."""

    def work():
        for path in cell_files(source):
            with path.open("rb", buffering=0) as once:
                while once.read(1 << 25):
                    pass
            with path.open("rb", buffering=0) as again, (out / "copy").open("wb", buffering=0) as target:
                while chunk := again.read(1 << 25):
                    target.write(chunk)

    return work


def select_correlated(source, out, shape):
    """One symmetric product of single floats."""
    table = pl.read_parquet(source / "wells.parquet")
    x = table.select(pl.selectors.starts_with("Cells")).fill_null(0).to_numpy()
    return lambda: float((x.T @ x)[0, 0])


def average_precision(source, out, shape):
    """One product of all profiles with all, and one pass over what it gives."""
    table = pl.read_parquet(source / "profiles.parquet")
    x = np.ascontiguousarray(table.select(pl.selectors.starts_with("Cells")).to_numpy())
    return lambda: float((x @ x.T).sum())
