"""Flags of single-cell quality that another program has set: coSMicQC's columns ``cqc.<rule>.is_outlier``."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
from polars import selectors

from cytofast.errors import SchemaError
from cytofast.ingest.readable import readable

_FLAG = re.compile(r"(Metadata_)?cqc[._].*", re.DOTALL)
_TRUTH = {"True": True, "true": True, "TRUE": True, "False": False, "false": False, "FALSE": False}


def name_flags(table: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    """Call flags, and the scores beside them, metadata, so that no step takes them for features; text becomes true or false.

    Raises
    ------
    SchemaError
        A column is there twice, with and without ``Metadata_``.
    """
    schema = table.collect_schema()
    found = [name for name in schema if _FLAG.fullmatch(name)]
    names = {name: f"Metadata_{name}" for name in found if not name.startswith("Metadata_")}
    for name, new in names.items():
        if new in schema:
            raise SchemaError(f"{path}: both {name!r} and {new!r} are there. Hint: drop one.")
    text = [name for name in found if schema[name] == pl.String]
    if text:
        with readable(path):
            written = table.select(text).collect()
        # What is neither true nor false stays as it is, and whoever uses it as a flag is told.
        text = [name for name in text if set(written[name].drop_nulls().unique().to_list()) <= set(_TRUTH)]
    told = [selectors.by_name(name).replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean) for name in text]
    return table.with_columns(told).rename(names) if found else table
