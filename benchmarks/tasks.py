"""The work that is measured: what each task begins with, how large it is, and what a table calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import shapes, sql_store, well_shapes

Shape = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One kind of work."""

    says: str
    """For tables; fields of the shape in braces."""
    make: Callable[[Path, Shape], None]
    """Writes what the task begins with."""
    source: tuple[str, ...]
    """The fields of the shape that ``make`` reads: tasks that agree in them share what is made."""
    contenders: tuple[str, ...]
    smoke: Shape
    """A size that takes seconds."""
    from_files: bool = False
    """From file to file: bytes and whole processes matter."""
    defaults: Shape = field(default_factory=dict)
    large: Shape = field(default_factory=dict)
    """What a small table needs besides to take the way of a large one: a budget that does not hold it, more draws."""

    @property
    def warm_up(self) -> Shape:
        """A size of seconds that compiles the kernels of a large table."""
        return self.smoke | self.large


PLATES = ("cells", "features", "plates", "layout")
CELLS = {"plates": 1, "layout": "ours", "memory": "2GB"}
SMALL = {"cells": 3_000, "features": 40}
LARGE = {"cells": 100_000, "features": 200, "memory": "512MB"}
NULL = {"null_size": 100_000}

TASKS: dict[str, Task] = {
    # --- single cells ---
    "aggregate": Task(
        "medians of wells, {cells:,} cells x {features:,} ({layout})", shapes.plates, PLATES,
        ("cytofast", "numpy", "polars_blocks", "polars", "duckdb", "pycytominer"), SMALL, True, CELLS, LARGE,
    ),
    "profile_wells": Task(
        "well medians and their robust z-scores, {plates} x {cells:,} cells x {features:,} ({layout}, {memory})", shapes.plates,
        PLATES, ("cytofast", "numpy", "polars_blocks", "polars", "pycytominer"), SMALL, True, CELLS, LARGE,
    ),
    "normalize_cells": Task(
        "every cell as a robust z-score, {cells:,} cells x {features:,}", shapes.plates, PLATES,
        ("cytofast", "numpy", "polars", "pycytominer"), SMALL, True, CELLS, LARGE,
    ),
    "recipe": Task(
        "cells to selected profiles, {plates} plates, {cells:,} cells x {features:,}", shapes.plates, PLATES,
        ("cytofast", "pycytominer"), SMALL | {"plates": 2}, True, CELLS, LARGE,
    ),
    "recipe_to_map": Task(
        "cells to mAP, {plates} plates, {cells:,} cells x {features:,}", shapes.plates, PLATES,
        ("cytofast",), {"cells": 12_000, "features": 40, "plates": 4, "null_size": 1_000}, True, CELLS, LARGE,
    ),
    # --- wells ---
    "normalize_wells": Task(
        "robust z-scores of {rows:,} wells x {features:,}", well_shapes.wells, ("rows", "features", "gaps"),
        ("cytofast", "polars", "pycytominer"), {"rows": 768, "features": 40},
    ),
    "select_correlated": Task(
        "correlated features of {rows:,} wells x {features:,}, {gaps} missing", well_shapes.wells,
        ("rows", "features", "gaps"), ("cytofast", "numpy", "pycytominer"),
        {"rows": 300, "features": 60, "gaps": "some"}, defaults={"gaps": ""},
    ),
    "modz": Task(
        "modz consensus of {rows:,} wells x {features:,}", well_shapes.wells, ("rows", "features", "gaps"),
        ("cytofast", "pycytominer"), {"rows": 200, "features": 50},
    ),
    "sphere": Task(
        "sphering {rows:,} wells x {features:,}", well_shapes.wells, ("rows", "features", "gaps"),
        ("cytofast", "pycytominer"), {"rows": 400, "features": 40},
    ),
    "select_and_sphere": Task(
        "{rows:,} wells x {features:,} selected and sphered, out of core", well_shapes.many_wells, ("rows", "features"),
        ("cytofast",), {"rows": 600, "features": 60}, True, {"memory": "2GB"},
    ),
    # --- retrieval ---
    "activity": Task(
        "mAP of replicates among controls, {rows:,} profiles x {features:,} (null: {null})", well_shapes.activity,
        ("rows", "features"), ("cytofast", "copairs"), {"rows": 1_480, "features": 20, "null_size": 2_000},
        defaults=NULL | {"null": "ranks", "features": 600},
    ),
    "consistency": Task(
        "mAP of labels, all against all, {rows:,} profiles x {features:,} (null: {null})", well_shapes.consistency,
        ("rows", "features"), ("cytofast", "copairs"), {"rows": 200, "features": 20, "null_size": 2_000},
        defaults=NULL | {"null": "ranks", "features": 600}, large={"rows": 1_000} | NULL,
    ),
    "average_precision": Task(
        "average precision alone, all against all, {rows:,} profiles x {features:,}", well_shapes.consistency,
        ("rows", "features"), ("cytofast", "numpy", "copairs"), {"rows": 200, "features": 20},
        defaults={"features": 600},
    ),
    "null_generation": Task(
        "{null_size:,} draws of the null, {positives} of {total:,}", well_shapes.nothing, (),
        ("cytofast", "copairs"), {"null_size": 5_000, "total": 100},
        defaults=NULL | {"positives": 7, "total": 3_000},
    ),
    "configurations": Task(
        "p-values of {configurations:,} distinct sizes", well_shapes.precisions, ("configurations",),
        ("cytofast", "copairs"), {"configurations": 20, "null_size": 2_000}, defaults=NULL,
    ),
    # --- ingest and SQL ---
    "ingest_csv": Task(
        "ingest of CellProfiler CSV, {cells:,} cells of {wells} wells", well_shapes.csv_export, ("cells", "wells", "sites"),
        ("cytofast", "cytotable"), {"cells": 48, "wells": 12}, True, {"sites": 1},
    ),
    "ingest_sites": Task(
        "ingest of CellProfiler CSV, {copies} copies of the site {site}", well_shapes.site_copies, ("copies", "site"),
        ("cytofast", "cytotable"), {"copies": 2, "site": "example"}, True, {"site": "cpjump1_BR00116991-A01-1"},
    ),
    "ingest_sqlite": Task(
        "ingest of CellProfiler SQLite, {cells:,} cells x {features:,} ({memory})", well_shapes.sqlite_export,
        ("cells", "wells", "features"), ("cytofast", "cytotable", "pycytominer"),
        {"cells": 48, "wells": 12, "features": 9}, True, {"wells": 384, "memory": "2GB"},
    ),
    "sql": Task(
        "SQL: {query} ({cells:,} cells on {plates} plates)", sql_store.make, ("cells", "plates"),
        ("cytofast", "duckdb", "polars"), {"cells": 5_000, "plates": 2, "query": "join, count by target"}, True,
        {"memory": "2GB", "query": "count by plate"},
    ),
}  # fmt: skip


def filled(task: str, shape: Shape) -> Shape:
    """A shape with what its task takes for granted."""
    return {**TASKS[task].defaults, **shape}
