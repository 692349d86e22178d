"""What is measured together: ``smoke`` (seconds), ``usual`` (about ten minutes), ``full`` (the README's figures; hours)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from benchmarks.tasks import TASKS, Shape, filled

OURS = ("cytofast",)
ONCE: dict[str, int] = {"rounds": 1, "repeats": 0}
BRIEF: dict[str, int] = {"rounds": 1, "repeats": 1}


@dataclass(frozen=True)
class Measurement:
    """One task at one size by some contenders."""

    task: str
    shape: Shape = field(default_factory=dict)
    contenders: tuple[str, ...] = ()
    rounds: int = 3
    """Of all contenders, one after the other, in changing order."""
    repeats: int = 2
    """Further calls in each process."""
    cold: bool = False
    """Whether files are taken out of the page cache before each process."""

    @property
    def who(self) -> tuple[str, ...]:
        return self.contenders or TASKS[self.task].contenders

    @property
    def whole_shape(self) -> Shape:
        return filled(self.task, self.shape)

    @property
    def name(self) -> str:
        """A file's name."""
        parts = [self.task, *(f"{key}={value}" for key, value in sorted(self.shape.items())), *["cold"] * self.cold]
        return re.sub(r"[^A-Za-z0-9=_.-]+", "_", "-".join(parts))


@dataclass(frozen=True)
class Command:
    """A benchmark that stands by itself: ``python -m benchmarks.MODULE ARGUMENTS`` prints a line of JSON last."""

    module: str
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return re.sub(r"[^A-Za-z0-9=_.]+", "-", "-".join([self.module, *self.arguments]))


def _many(task: str, *shapes: Shape, **options) -> list[Measurement]:
    return [Measurement(task, shape, **options) for shape in shapes]


def _curve(*shapes: Shape) -> list[Measurement]:
    return _many("profile_wells", *shapes, contenders=OURS, **ONCE)


SMOKE = [Measurement(name, task.smoke, rounds=1, repeats=1) for name, task in TASKS.items()] + [
    Measurement("aggregate", {"cells": 3_000, "features": 40, "layout": "others"}, ("cytofast", "polars"), 1, 0)
]

PLATE = {"cells": 700_000, "features": 5_792}
FEWER = {"cells": 100_000, "features": 5_792, "memory": "1GB"}
QUERIES = ("open", "count by plate", "well median of three", "join, count by target", "filter, five columns")
BY_HAND = ("cytofast", "numpy", "polars_blocks", "pycytominer")
USUAL = [
    *_many("profile_wells", {"cells": 100_000, "features": 2_000}, contenders=BY_HAND, repeats=0),
    *_many("aggregate", {"cells": 100_000, "features": 1_000, "layout": "others"}, **BRIEF),
    *_many("normalize_cells", {"cells": 100_000, "features": 1_000}, **ONCE),
    *_many("recipe", {"cells": 80_000, "features": 1_000, "plates": 4}, **ONCE),
    *_many("normalize_wells", {"rows": 3_840, "features": 2_000}, **BRIEF),
    *_many("select_correlated", {"rows": 5_000, "features": 2_000}, {"rows": 1_000, "features": 1_000, "gaps": "some"}),
    *_many("modz", {"rows": 1_500, "features": 1_000}, **BRIEF),
    *_many("sphere", {"rows": 5_000, "features": 500}, repeats=1),
    *_many("activity", {"rows": 2_960}, {"rows": 2_960, "null": "labels"}),
    *_many("consistency", {"rows": 1_000}, {"rows": 1_000, "null": "labels"}, rounds=1),
    *_many("average_precision", {"rows": 3_000}, contenders=("cytofast", "numpy")),
    *_many("null_generation", {"total": 1_000}),
    *_many("configurations", {"configurations": 500}, contenders=OURS),
    *_many("ingest_csv", {"cells": 5_000, "wells": 96}, rounds=1),
    *_many("ingest_sqlite", {"cells": 5_000, "features": 300}, rounds=1),
    *_many("sql", *({"cells": 2_000_000, "plates": 10, "query": query} for query in QUERIES), rounds=1),
]

# In cells, features, plates, threads and budget; each beside those of FULL.
CURVES = [
    *_curve(*({**PLATE, "cells": cells} for cells in (100_000, 200_000, 400_000))),
    *_curve(*({**PLATE, "features": features} for features in (500, 1_500))),
    *_curve(*({"cells": n * 100_000, "features": 1_500, "plates": n} for n in (1, 2, 4, 8))),
    *_curve(*({**FEWER, "threads": threads} for threads in (1, 2))),
    *_curve(*({**FEWER, "memory": memory} for memory in ("512MB", "4GB"))),
]

FULL = [
    *_many("aggregate", FEWER, rounds=5, repeats=1),
    *_many("aggregate", {"cells": 700_000, "features": 500}, repeats=0),
    *_many("profile_wells", FEWER, contenders=BY_HAND, repeats=0),
    *_many("normalize_cells", FEWER, contenders=("cytofast", "numpy", "pycytominer"), repeats=0),
    *_many("aggregate", {**FEWER, "layout": "others"}, repeats=0),
    *_many("recipe", {"cells": 400_000, "features": 1_500, "plates": 4}, **ONCE),
    *CURVES,
    *_many("normalize_wells", {"rows": 19_968, "features": 5_792}, repeats=1),
    *_many("select_correlated", {"rows": 20_000, "features": 5_792}, repeats=1),
    *_many(
        "select_correlated", {"rows": 5_000, "features": 5_792, "gaps": "some"}, contenders=("cytofast", "pycytominer")
    ),
    *_many("modz", {"rows": 20_000, "features": 5_792}, rounds=1),
    *_many("sphere", {"rows": 20_000, "features": 500}),
    *_many("sphere", {"rows": 40_000, "features": 800}, rounds=1),
    *_many("select_and_sphere", {"rows": 200_000, "features": 2_000}, **ONCE),
    *_many("activity", {"rows": 14_800}, {"rows": 14_800, "null": "labels"}),
    *_many("consistency", {"rows": 6_000}, {"rows": 6_000, "null": "labels"}),
    *_many("average_precision", {"rows": 6_000}),
    *_many("null_generation", {}),
    *_many("configurations", {"configurations": 2_000}, contenders=OURS),
    *_many("activity", {"rows": 60_000}, contenders=OURS, **ONCE),
    *_many("consistency", {"rows": 20_000}, contenders=OURS, **ONCE),
    *_many("ingest_csv", {"cells": 50_000, "wells": 384}, **ONCE),
    *_many("ingest_sites", {"copies": 20}),
    *_many("ingest_sqlite", {"cells": 48_400, "features": 1_201}, repeats=0),
    *_many("ingest_sqlite", {"cells": 48_400, "features": 1_201, "memory": "512MB"}, contenders=OURS, repeats=0),
    *_many("sql", *({"cells": 75_000_000, "plates": 107, "query": query} for query in QUERIES), **ONCE),
    *_many("profile_wells", PLATE, contenders=BY_HAND, repeats=0),
    *_many("profile_wells", PLATE, contenders=OURS, repeats=0, cold=True),
    *_many("normalize_cells", PLATE, contenders=("cytofast", "numpy", "pycytominer"), **ONCE),
    *_many(
        "aggregate", {**PLATE, "layout": "others"}, contenders=("cytofast", "polars_blocks", "polars", "duckdb"), **ONCE
    ),
    Command("power"),
    Command("planted"),
    Command("modalities", ("lasso",)),
    Command("modalities", ("lincs",)),
]

SETS: dict[str, list[Measurement | Command]] = {"smoke": [*SMOKE], "usual": [*USUAL], "full": FULL}
