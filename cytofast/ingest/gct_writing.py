"""Profiles as GCT 1.3, for Morpheus and the tools of the Connectivity Map: features are rows, samples columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from cytofast.blocks import column_blocks
from cytofast.errors import DataError, SchemaError, listed
from cytofast.ingest.gct import SAMPLE_ID
from cytofast.schema import is_metadata

_FILLER = "NA"
"""What stands where metadata of rows and of columns cross, and for missing metadata."""
_MISSING_VALUE = "NaN"
_ROW_FIELD = "cp_feature_name"
"""The one row metadata that pycytominer writes; kept, because sessions of Morpheus name it."""


def gct_lines(profiles: pl.DataFrame | pl.LazyFrame, path: Path, float_format: str | None) -> Iterator[str]:
    """Yield the lines, a block of features at a time, so that memory stays inside the budget.

    Metadata are written without ``Metadata_``, samples are called ``SAMPLE_0`` and so on unless ``Metadata_id`` names
    them; missing values are ``NaN``.

    Raises
    ------
    SchemaError
        Metadata hold a tab, a line end or lists, two would have one name, or there is no feature.
    DataError
        There are no rows, or the rows of a lazy frame come in another order each time.
    """
    schema = profiles.collect_schema()
    features = [name for name, dtype in schema.items() if not is_metadata(name) and dtype.is_numeric()]
    metadata = [name for name in schema if name not in set(features)]
    if not features:
        raise SchemaError(f"{path}: no feature to write; the columns are {listed(schema.names(), 8)}.")
    table = profiles.lazy().select(metadata).collect()
    height = table.height if metadata else profiles.lazy().select(pl.len()).collect().item()
    if not height:
        raise DataError(f"{path}: the table has columns but no rows, and GCT needs at least one sample.")
    called = _called([name for name in metadata if name != SAMPLE_ID], path)
    ids = _text(table[SAMPLE_ID], path) if SAMPLE_ID in metadata else [f"SAMPLE_{i}" for i in range(height)]
    yield "#1.3\n"
    yield f"{len(features)}\t{height}\t1\t{len(called)}\n"
    yield "\t".join(["id", _ROW_FIELD, *ids]) + "\n"
    for name, short in called.items():
        yield "\t".join([short, _FILLER, *_text(table[name], path)]) + "\n"
    for frame, block in column_blocks(profiles, metadata, features):
        if not frame.select(metadata).equals(table):
            raise DataError(
                f"{path}: the rows come in another order each time they are read. Hint: collect() them first."
            )
        for name in block:
            yield "\t".join([_field(name, path), _field(name, path), *_numbers(frame[name], float_format)]) + "\n"


def _called(metadata: list[str], path: Path) -> dict[str, str]:
    """What metadata are called in the file."""
    called = {name: name.removeprefix("Metadata_") for name in metadata}
    twice = [name for name, short in called.items() if list(called.values()).count(short) > 1 or short in {"id", ""}]
    if twice:
        raise SchemaError(
            f"{path}: {listed(twice)} would have the name of another column there. Hint: rename or drop them."
        )
    return {name: _field(short, path) for name, short in called.items()}


def _text(column: pl.Series, path: Path) -> list[str]:
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise SchemaError(f"{path}: {column.name!r} holds {column.dtype}, which GCT cannot. Hint: cast it to text.")
    return [_FILLER if value is None else _field(value, path, column.name) for value in column.cast(pl.String)]


def _field(text: str, path: Path, column: str | None = None) -> str:
    if any(mark in text for mark in "\t\n\r"):
        where = f"column {column!r}: " if column else ""
        raise SchemaError(f"{path}: {where}{text!r} holds a tab or a line end, which GCT cannot. Hint: replace it.")
    return '"' + text.replace('"', '""') + '"' if text.startswith('"') else text


def _numbers(column: pl.Series, float_format: str | None) -> list[str]:
    if float_format is None:
        text = (column.fill_nan(None) if column.dtype.is_float() else column).cast(pl.String)
        return text.fill_null(_MISSING_VALUE).to_list()
    return [_MISSING_VALUE if value is None else float_format % value for value in column.fill_nan(None)]
