"""What one task found in one condition, kept in a folder so that a stopped benchmark goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from cytofast.errors import StoreError
from cytofast.store.partition import read_frame, write_frame, write_text

FOLDER = "parts"


@dataclass(frozen=True)
class Part:
    """The answer to one task in one condition.

    Attributes
    ----------
    tables
        Frames by the names of :class:`cytofast.tasks.results.TaskResults`, without ``task`` and conditions, except where
        conditions were pooled.
    summary
        ``n``, ``n_retrieved``, ``n_untested``, ``fraction_retrieved``, ``low``, ``high``, ``mean_average_precision``.
    notes
        What was left out; or why there is no answer.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    done: bool = True


def digest(*content: object) -> str:
    """A digest of frames and of anything that prints."""
    found = hashlib.blake2b(digest_size=16)
    for one in content:
        if isinstance(one, pl.DataFrame):
            stream = io.BytesIO()
            one.rechunk().write_ipc(stream)
            found.update(stream.getbuffer())
        else:
            found.update(repr(one).encode())
    return found.hexdigest()


def keep(folder: Path, key: str, part: Part) -> None:
    """Write a part; it exists when its JSON does."""
    for name, table in part.tables.items():
        write_frame(folder / FOLDER / key / f"{name}.parquet", table)
    content = {"summary": part.summary, "notes": list(part.notes), "done": part.done, "tables": sorted(part.tables)}
    write_text(folder / FOLDER / key / "part.json", json.dumps(content, indent=1) + "\n")


def kept(folder: Path, key: str) -> Part | None:
    """A part that was written earlier, or ``None``."""
    path = folder / FOLDER / key / "part.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tables = {name: read_frame(path.parent / f"{name}.parquet") for name in content["tables"]}
        return Part(tables, content["summary"], content["notes"], content["done"])
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path}: cannot be read ({error}). Hint: delete {folder / FOLDER} and run again.") from error


def forget(folder: Path, keys: set[str]) -> None:
    """Take away parts that belong to other settings or other data."""
    for path in (folder / FOLDER).glob("*/part.json"):
        if path.parent.name not in keys:
            path.unlink()
            for table in path.parent.glob("*.parquet"):
                table.unlink()
            path.parent.rmdir()
