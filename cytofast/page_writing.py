"""Write Parquet at the speed of a copy: each feature of a row group is one uncompressed page of plain floats.

A general writer takes 8 ns a value of thousands of nullable columns, which is most of what a pass over single cells takes;
this one 1 to 2. Metadata columns are left to pyarrow, which also says how the schema is written down: they are copied, with
what its footer says of them, out of a small file in memory.

Formats: https://parquet.apache.org/docs/file-format/ and its parquet.thrift, whose numbers of fields stand here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import RawIOBase
from math import isnan
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cytofast.compact_protocol import (
    BINARY,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    Struct,
    around,
    decode,
    encode,
    field,
    number,
    sequence,
    varint,
)

Values = NDArray[np.floating[Any]]
Features = Mapping[str, Values]
"""The values of each feature, missing as NaN."""

_MARK = b"PAR1"
_TWO_STOPS = b"\x00\x00"
_PAGE_BYTES = 1 << 30
_FLOAT, _DOUBLE = 4, 5
_PLAIN, _LEVELS = 0, 3
_UNCOMPRESSED = 0
# FileMetaData, RowGroup, ColumnChunk and ColumnMetaData.
_ROWS, _GROUPS = 3, 4
_COLUMNS, _BYTES, _GROUP_ROWS, _STORED_BYTES, _ORDINAL = 1, 2, 3, 6, 7
_OFFSET, _META = 2, 3
_PATH, _DATA, _INDEX, _DICTIONARY = 3, 9, 10, 11


class PageWriter:
    """One Parquet file, a row group a call.

    Parameters
    ----------
    file
        What is written to, from its begin.
    empty
        All columns in their order, without rows.
    features
        Those that are plain pages: float32 or float64, nullable.
    """

    def __init__(self, file: RawIOBase, empty: pa.Table, features: Sequence[str]) -> None:
        self._file = file
        schema = empty.schema
        self._names = schema.names
        chosen = set(features)
        others = [name for name in schema.names if name not in chosen]
        self._options: dict[str, Any] = {
            "use_dictionary": others,
            "compression": dict.fromkeys(others, "zstd"),
            # Bounds of thousands of features would double the footer, which every reader must parse.
            "write_statistics": others,
            "data_page_size": _PAGE_BYTES,
            "max_rows_per_page": _PAGE_BYTES,
            "write_page_index": False,
            "store_schema": False,
        }
        self._before, self._after = around(_footer(_in_memory(empty, 1, self._options)), _ROWS, _GROUPS)
        self._begins = _chunk_begins({name: _kind(schema.field(name).type) for name in features})
        self._groups: list[bytes] = []
        self._rows = 0
        self._at = 0
        self._put(_MARK)

    def _put(self, data: Any) -> None:
        size = memoryview(data).nbytes
        if size:
            self._file.write(data)
            self._at += size

    def write(self, others: pa.Table, features: Features, rows: int) -> None:
        """Append a row group.

        Parameters
        ----------
        others
            The columns that are no features.
        features
            All of the features, each contiguous.
        """
        begin = self._at
        chunks: dict[str, list[bytes]] = {}
        # What is first in the schema is first in the file: some readers take its place for that of the row group.
        features_first = self._names[0] in features
        if others.num_columns and not features_first:
            self._copy(others, rows, chunks)
        # Of a sum of squares only whether it is a number is wanted.
        with np.errstate(over="ignore", invalid="ignore"):
            pages = _Pages(rows)
            for name, values in features.items():
                page, present, described = pages.of(values)
                chunks[name] = [self._begins[name] + described + number(self._at) + _TWO_STOPS]
                self._put(page)
                self._put(present)
        if others.num_columns and features_first:
            self._copy(others, rows, chunks)
        self._rows += rows
        of_columns = [chunk for name in self._names for chunk in chunks[name]]
        group: Struct = {
            _COLUMNS: (LIST, (STRUCT, of_columns)),
            _BYTES: (I64, self._at - begin),
            _GROUP_ROWS: (I64, rows),
            _STORED_BYTES: (I64, self._at - begin),
        }
        if len(self._groups) < 1 << 15:
            group[_ORDINAL] = (I16, len(self._groups))
        self._groups.append(encode(group))

    def _copy(self, others: pa.Table, rows: int, chunks: dict[str, list[bytes]]) -> None:
        """Columns as pyarrow writes them, moved to where they come to lie in this file."""
        written = _in_memory(others, rows, self._options)
        footer = decode(_footer(written))
        moved = self._at - len(_MARK)
        # Exactly one row group: pyarrow makes several of more than 2^26 rows.
        (written_group,) = footer[_GROUPS][1][1]
        ((_, (_, columns)), *_) = written_group.values()
        for column in columns:
            kind, meta = column[_META]
            for which in (_DATA, _INDEX, _DICTIONARY):
                if which in meta:
                    meta[which] = (meta[which][0], meta[which][1] + moved)
            column[_META] = (kind, meta)
            column[_OFFSET] = (I64, 0)
            top = meta[_PATH][1][1][0].decode()
            chunks.setdefault(top, []).append(encode(column))
        self._put(written[len(_MARK) : _footer_begin(written)])

    def finish(self) -> None:
        """Write the footer, without which the file is none."""
        # Encoded behind the schema (field 2), and without a stop, which is the end of what comes after.
        rows = field(_ROWS - 1, _ROWS, I64) + number(self._rows)
        groups = field(_ROWS, _GROUPS, LIST) + sequence(STRUCT, len(self._groups))
        footer = b"".join([self._before, rows, groups, *self._groups, self._after])
        self._put(footer)
        self._put(len(footer).to_bytes(4, "little") + _MARK)


def _in_memory(table: pa.Table, rows: int, options: dict[str, Any]) -> memoryview:
    """A file with one row group (none for a table without rows)."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        if table.num_rows:
            writer.write_table(table, row_group_size=rows)
    return memoryview(sink.getvalue())


def _footer_begin(file: memoryview) -> int:
    return len(file) - 8 - int.from_bytes(file[-8:-4], "little")


def _footer(file: memoryview) -> bytes:
    return bytes(file[_footer_begin(file) : -8])


def _kind(dtype: pa.DataType) -> int:
    return {pa.float32(): _FLOAT, pa.float64(): _DOUBLE}[dtype]


class _Pages:
    """Pages of so many rows; what is the same for all without gaps is made once."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._levels = varint(rows << 1) + b"\x01"
        self._whole: dict[int, tuple[bytes, bytes]] = {}

    def of(self, values: Values) -> tuple[bytes, Values, bytes]:
        """What stands before the values on their page, those not missing, and what the footer says up to the place."""
        # A sum of squares is NaN if a value is, and only then: one quick pass over the many pages without gaps.
        if not isnan(np.dot(values, values)):
            if values.nbytes not in self._whole:
                self._whole[values.nbytes] = self._described(self._levels, values.nbytes)
            page, described = self._whole[values.nbytes]
            return page, values, described
        there = ~np.isnan(values)
        bits = np.packbits(there, bitorder="little").tobytes()
        present = values[there]
        page, described = self._described(varint(len(bits) << 1 | 1) + bits, present.nbytes)
        return page, present, described

    def _described(self, levels: bytes, size: int) -> tuple[bytes, bytes]:
        content, rows = number(4 + len(levels) + size), number(self._rows)
        # A data page (0) of this size, stored as it is; values, plain, with levels of definition and no others.
        header = (
            b"\x15\x00\x15" + content + b"\x15" + content + b"\x2c\x15" + rows + b"\x15\x00\x15\x06\x15\x06\x00\x00"
        )
        page = header + len(levels).to_bytes(4, "little") + levels
        stored = number(len(page) + size)
        # Values (field 5), size before and after compression (6, 7), and where the page is (9), which comes after.
        return page, b"\x16" + rows + b"\x16" + stored + b"\x16" + stored + b"\x26"


def _chunk_begins(kinds: Mapping[str, int]) -> dict[str, bytes]:
    """What the footer says of each feature in every row group: the begin of a ColumnChunk, up to its number of values."""
    before: dict[int, bytes] = {}
    for kind in set(kinds.values()):
        meta: Struct = {1: (I32, kind), 2: (LIST, (I32, [_PLAIN, _LEVELS])), _PATH: (LIST, (BINARY, []))}
        # Up to the list of names, which has one.
        before[kind] = encode({_OFFSET: (I64, 0), _META: (STRUCT, meta)})[:-3] + sequence(BINARY, 1)
    after = field(_PATH, 4, I32) + number(_UNCOMPRESSED)
    begins = {}
    for name, kind in kinds.items():
        path = name.encode()
        begins[name] = before[kind] + varint(len(path)) + path + after
    return begins
