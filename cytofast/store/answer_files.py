"""Answers as text and files: CSV and JSON a row at a time, Parquet, each file whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from cytofast.durable import appear
from cytofast.errors import RecipeError, StoreError
from cytofast.parquet import ProfileWriter

FORMATS = ("csv", "json", "parquet", "table")


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: there is no NaN in JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists and structs as JSON text, for formats that have neither."""
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    texts = [
        pl.Series(
            name,
            [
                None if v is None else json.dumps(_plain(v), ensure_ascii=False, default=str)
                for v in frame[name].to_list()
            ],
            dtype=pl.String,
        )
        for name in nested
    ]
    return frame.with_columns(texts)


def as_text(frames: Iterable[pl.DataFrame], form: str) -> Iterator[str]:
    """An answer as CSV, or as a JSON list with one row a line."""
    first = True
    if form == "csv":
        for frame in frames:
            yield _flat(frame).write_csv(include_header=first)
            first = False
        return
    for frame in frames:
        for row in frame.iter_rows(named=True):
            yield ("[" if first else ",\n ") + json.dumps(_plain(row), ensure_ascii=False, default=str)
            first = False
    yield "[]\n" if first else "]\n"


def write_frames(frames: Iterable[pl.DataFrame], path: Path, form: str) -> int:
    """Write an answer to a file, which appears when it is complete; gives the number of rows.

    Raises
    ------
    RecipeError
        The format is unknown.
    StoreError
        The file cannot be written.
    """
    if form not in FORMATS:
        raise RecipeError.unknown("format", form, FORMATS)
    rows = 0

    def counted() -> Iterator[pl.DataFrame]:
        nonlocal rows
        for frame in frames:
            rows += frame.height
            yield frame

    if form == "parquet":
        with ProfileWriter(path) as writer:
            for frame in counted():
                writer.write(frame)
        return rows
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            if form == "table":
                with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=200, tbl_width_chars=10_000):
                    whole = pl.concat(list(counted()))
                    handle.write(f"{whole}\n")
            else:
                for piece in as_text(counted(), form):
                    handle.write(piece)
        appear(temporary, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return rows
