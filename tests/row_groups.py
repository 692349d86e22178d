"""Files of our own with row groups of any size, so that small tables have many."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pytest

from cytofast.parquet import ProfileWriter
from cytofast.sharing import Chunk


def written(path: Path, parts: Iterable[pl.DataFrame | Chunk], group: int) -> Path:
    """Write parts, one after the other, in row groups of ``group`` rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytofast.parquet.row_group_rows", lambda _schema: group)
        with ProfileWriter(path) as writer:
            for part in parts:
                writer.write(part)
    return path
