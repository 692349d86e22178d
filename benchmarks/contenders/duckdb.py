"""DuckDB as one would write it."""

from __future__ import annotations

import os

import duckdb

from benchmarks.contenders import cell_files
from benchmarks.sql_store import duckdb_text

FEATURES = "COLUMNS('^(Cells|Cytoplasm|Nuclei)_')"


def _connection(out, shape):
    # It pays no regard to the cores that a process may use.
    settings = {"threads": len(os.sched_getaffinity(0)), "temp_directory": str(out / "spill")}
    if shape.get("memory"):
        settings["memory_limit"] = shape["memory"]
    return duckdb.connect(config=settings)


def aggregate(source, out, shape):
    def work():
        files = ", ".join(f"'{path}'" for path in cell_files(source))
        medians = f"SELECT Metadata_Plate, Metadata_Well, median({FEATURES}) FROM read_parquet([{files}]) GROUP BY ALL"
        _connection(out, shape).execute(f"COPY ({medians}) TO '{out / 'wells.parquet'}'")
        return out / "wells.parquet"

    return work


def sql(source, out, shape):
    return lambda: _connection(out, shape).sql(duckdb_text(source, shape["query"])).pl()
