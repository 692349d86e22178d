"""Some cells of each well, chosen by their own keys: the same cells whatever the order, threads and columns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.ingest.audit import Audit
from cytofast.ingest.choice import Choice
from cytofast.schema import BATCH, IMAGE_NUMBER, OBJECT_NUMBER, PLATE, TABLE_NUMBER, WELL

_NUMBERS = (TABLE_NUMBER, IMAGE_NUMBER, OBJECT_NUMBER)


def sample_wells(frames: Iterator[pl.DataFrame], choice: Choice, audit: Audit) -> Iterator[pl.DataFrame]:
    """Keep ``cells_per_well`` cells of each well; wells come one after the other, cells stay in their order.

    Of a well no more is held than what is kept of it so far and the frame at hand.
    """
    most = choice.cells_per_well or 0
    held: pl.DataFrame | None = None
    digests = np.empty(0, dtype=np.uint64)
    seen = 0
    for frame in frames:
        for part in frame.partition_by(WELL, maintain_order=True):
            if held is not None and held[WELL][0] != part[WELL][0]:
                yield held
                audit.add([_row(held, seen, choice)])
                held, digests, seen = None, digests[:0], 0
            seen += part.height
            digests = np.concatenate([digests, _digests(part, choice.seed)])
            held = part if held is None else pl.concat([held, part])
            if held.height > most:
                kept = np.sort(np.argpartition(digests, most - 1)[:most])
                held, digests = held[kept], digests[kept]
    if held is not None:
        yield held
        audit.add([_row(held, seen, choice)])


def _digests(cells: pl.DataFrame, seed: int) -> NDArray[np.uint64]:
    """64 bits for each cell, of the seed and of what names the cell."""
    from cytofast.kernels.rng import key_of, row_digests

    key = key_of(seed, cells[BATCH][0], cells[PLATE][0], cells[WELL][0])
    bits = np.empty((cells.height, 1 + len(_NUMBERS)), dtype=np.uint64)
    bits[:, 0] = key
    for column, name in enumerate(_NUMBERS, 1):
        bits[:, column] = cells[name].fill_null(-1).to_numpy().astype(np.int64).view(np.uint64)
    found = np.empty(cells.height, dtype=np.uint64)
    row_digests(bits, found)
    return found


def _row(kept: pl.DataFrame, seen: int, choice: Choice) -> dict[str, object]:
    """How many cells of a well were not sampled, as a row of the audit."""
    return {
        "batch": kept[BATCH][0],
        "plate": kept[PLATE][0],
        "well": kept[WELL][0],
        "compartment": "Sample",
        "rows_read": seen,
        "rows_joined": kept.height,
        "orphans": seen - kept.height,
        "note": f"{choice.cells_per_well:,} cells a well, seed {choice.seed}",
    }
