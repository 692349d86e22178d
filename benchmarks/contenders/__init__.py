"""One file a library, the same task names in each; a library that cannot do a task lacks the function.

A task function takes ``(source, out, shape)``, loads what the task takes from memory, and gives back the work to be timed: a
callable without arguments. What that gives is the answer: a frame, an array, something that JSON can write, or the path of what
was written. Tasks on single cells go from file to file, so their work reads and writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

KEYS = ["Metadata_Plate", "Metadata_Well"]
CELL_KEYS = [*KEYS, "Metadata_Site", "Metadata_ImageNumber", "Metadata_ObjectNumber"]
ACTIVITY = {
    "pos_sameby": ["Metadata_pert"],
    "pos_diffby": [],
    "neg_sameby": ["Metadata_Plate"],
    "neg_diffby": ["Metadata_neg"],
}
CONSISTENCY = {
    "pos_sameby": ["Metadata_pert"],
    "pos_diffby": [],
    "neg_sameby": [],
    "neg_diffby": ["Metadata_pert"],
}


def cell_files(source: Path) -> list[Path]:
    """The Parquet files of single cells, in our layout or in others'."""
    return sorted([*source.glob("store/level=cells/**/*.parquet"), *source.glob("cells/*.parquet")])


def is_feature(name: str) -> bool:
    return name.startswith(("Cells_", "Cytoplasm_", "Nuclei_"))


def blocks(names: list[str], width: int = 256) -> Iterator[list[str]]:
    """Features, some at a time."""
    for start in range(0, len(names), width):
        yield names[start : start + width]
