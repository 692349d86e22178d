"""Quotes in CSV tell text from numbers: a compound called ``42`` is written ``"42"`` and read as text again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import polars as pl

_NUMBER = r"^[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|(?i:nan|true|false))$"
"""What a reader of CSV takes for a number or a truth value."""


def misread(column: pl.Series) -> bool:
    """Whether every value of a column of text would be read as a number (missing ones say nothing)."""
    present = column.drop_nulls()
    return bool(len(present)) and bool(present.str.contains(_NUMBER).all())


def quoted(column: pl.Series, separator: str, *, always: bool = False) -> pl.Series:
    """Text with quotes where they are needed, or everywhere."""
    doubled = column.str.replace_all('"', '""', literal=True)
    if always:
        return ('"' + doubled + '"').alias(column.name)
    needed = column.str.contains(f'[{re.escape(separator)}"\r\n]')
    return ('"' + doubled + '"').zip_with(needed.fill_null(value=False), column).alias(column.name)


def quoted_name(name: str, separator: str) -> str:
    """The same for the name of a column."""
    return quoted(pl.Series([name]), separator).item()  # type: ignore[no-any-return]


def written_in_quotes(data: bytes, positions: Sequence[int], separator: str) -> set[int]:
    """Which columns of some CSV lines are written in quotes, judged by the first value that is there.

    Only the first fields of a record are looked at, up to the last one that matters. A file whose every field is in quotes
    says nothing by them.
    """
    if b'"' not in data or not positions:
        return set()
    open_ones, found = set(positions), set()
    for fields in _records(data, max(positions) + 1, separator.encode()):
        present = {i for i in open_ones if i < len(fields) and fields[i] not in {b"", b'""'}}
        found |= {i for i in present if fields[i].startswith(b'"')}
        open_ones -= present
        if not open_ones:
            break
    return found


def _records(data: bytes, width: int, separator: bytes) -> Iterator[list[bytes]]:
    """The first fields of each record, with their quotes."""
    mark = re.escape(separator)
    field = re.compile(rb'("(?:[^"]|"")*"|[^' + mark + rb"\r\n]*)(" + mark + rb"|\r?\n|$)")
    place = 0
    while place < len(data):
        fields: list[bytes] = []
        while place < len(data):
            match = field.match(data, place)
            if match is None:
                return
            place = match.end()
            if len(fields) < width:
                fields.append(match[1])
            if match[2] != separator:
                break
        yield fields
