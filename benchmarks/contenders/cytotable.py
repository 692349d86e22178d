"""CytoTable, in an environment of its own: it needs an older DuckDB and extensions that it fetches from the network."""

from __future__ import annotations

import os
import shutil

import cytotable
import cytotable.presets
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


def _converted(source, out, **options):
    def work():
        shutil.rmtree(out / "cells.parquet", ignore_errors=True)
        # Its task engine starts faster with threads than with processes, and all of its memory is then this process's.
        threads = Config(executors=[ThreadPoolExecutor(max_threads=len(os.sched_getaffinity(0)))])
        cytotable.convert(
            source_path=str(source),
            dest_path=str(out / "cells.parquet"),
            dest_datatype="parquet",
            join=True,
            parsl_config=threads,
            **options,
        )
        return out / "cells.parquet"

    return work


def ingest_csv(source, out, shape):
    return _converted(source / "export" / "analysis", out, source_datatype="csv", preset="cellprofiler_csv")


ingest_sites = ingest_csv


def ingest_sqlite(source, out, shape):
    preset = "cellprofiler_sqlite_cpg0016_jump"
    joins = cytotable.presets.config[preset]["CONFIG_JOINS"]
    for name in ("Metadata_Plate", "Metadata_Well"):  # as cytominer-database calls them
        joins = joins.replace(f"image.{name}", f"image.Image_{name}")
    return _converted(source / "EX00100001.sqlite", out, source_datatype="sqlite", preset=preset, joins=joins)
