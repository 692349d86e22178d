"""CytoTable, in an environment of its own: it needs an older DuckDB and extensions that it fetches from the network."""

from __future__ import annotations

import shutil

import cytotable


def _converted(source, out, **options):
    def work():
        shutil.rmtree(out / "cells.parquet", ignore_errors=True)
        cytotable.convert(
            source_path=str(source), dest_path=str(out / "cells.parquet"), dest_datatype="parquet", join=True, **options
        )
        return out / "cells.parquet"

    return work


def ingest_csv(source, out, shape):
    return _converted(source / "export" / "analysis", out, source_datatype="csv", preset="cellprofiler_csv")


def ingest_sqlite(source, out, shape):
    return _converted(
        source / "EX00100001.sqlite", out, source_datatype="sqlite", preset="cellprofiler_sqlite_pycytominer"
    )
