"""Read our own Parquet at the speed of a copy.

The files of a store hold each feature of a row group as one uncompressed page of plain float32, one feature right after
the other. So a block of features of a row group is one read, which a kernel unpacks. Other Parquet is read by Polars;
:meth:`PlainReader.reads` tells.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import accumulate
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cytofast import resources
from cytofast.errors import StoreError
from cytofast.kernels.pages import page_bounds, unpack
from cytofast.schema import is_metadata

_HEADER_BYTES = 96
_ALIGNMENT = 4096
_AHEAD = 4
"""So many parts are held: one is unpacked, the others are read."""
_RUN_BYTES = 2**20
"""So much of a row group is read at once: it stays in a processor's cache until it is unpacked."""
_LARGE_RUN_BYTES = 8 * 2**20
"""So much of a large file, which may come from the disk; it is held beside the matrix that it is copied to."""

Rows = Sequence[tuple[int, int]]
"""Runs ``(first, end)`` of neighbouring rows inside a file, in its order, none with another's rows."""


class PlainReader:
    """Reads float32 features of one file; keeps where each lies.

    Attributes
    ----------
    rows, bounds
        Number of rows, and the row at which each row group begins, and the end.
    schema, metadata
        All columns, and the values of those that are no features, where Polars and Arrow give their types the same names;
        else ``None``. Polars would parse the footer again and keep it: 600 bytes for each feature of each row group.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with pq.ParquetFile(path) as file:
            self._position, self._plain, self.bounds, self._begins, self._sizes = _layout(file.metadata)
            self.schema, self.metadata = _metadata(file)
        self.rows = self.bounds[-1]
        del file
        _give_back()

    def reads(self, columns: Sequence[str]) -> bool:
        """Whether these columns are laid out as this reader needs them."""
        if not columns or not self._plain.issuperset(columns):
            return False
        return self._whole_pages(self._position[columns[0]])

    def _whole_pages(self, index: int) -> bool:
        """Whether a column chunk is one page."""
        with self.path.open("rb") as handle:
            handle.seek(int(self._begins[0, index]))
            header = np.frombuffer(handle.read(_HEADER_BYTES), np.uint8)
        return page_bounds(header, 0, len(header), self.bounds[1])[0] >= 0

    def read(
        self, columns: Sequence[str], rows: Rows | None = None, into: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """``float32[n_columns, n_rows]``: some rows, or all of them, each column contiguous, missing as NaN.

        ``into`` is a flat array to hold the matrix, if it is large enough: fresh memory must be cleared by the system
        first, which on a virtual machine can cost more than reading.

        Raises
        ------
        StoreError
            A page is not what the footer says: the file is damaged.
        """
        rows = [(0, self.rows)] if rows is None else rows
        shape = (len(columns), sum(end - first for first, end in rows))
        reused = into is not None and into.size >= shape[0] * shape[1]
        out = into[: shape[0] * shape[1]].reshape(shape) if into is not None and reused else np.empty(shape, np.float32)
        positions = [self._position[name] for name in columns]
        run_bytes = _LARGE_RUN_BYTES if _is_large(self.path) else _RUN_BYTES
        pieces = _by_row_group(self.bounds, rows)
        parts = [
            (group, start, stop)
            for group in pieces
            for start, stop in _neighbours(positions, max(1, run_bytes // (4 * self._height(group))))
        ]
        places = [self._place(group, positions[start], stop - start) for group, start, stop in parts]
        with closing(_Source(self.path)) as source:
            for (group, start, stop), raw in zip(parts, source.parts(places), strict=True):
                done = unpack(raw, stop - start, self._height(group), pieces[group], out.view(np.uint8), start)
                if done < stop - start:
                    raise StoreError(
                        f"{self.path}: a page is not what the footer says; the file is damaged. Hint: make it again."
                    )
        return out

    def _height(self, group: int) -> int:
        return self.bounds[group + 1] - self.bounds[group]

    def _place(self, group: int, first: int, count: int) -> tuple[int, int]:
        """Where neighbouring columns of a row group lie in the file: begin and size in bytes."""
        begin, last = int(self._begins[group, first]), first + count - 1
        return begin, int(self._begins[group, last] + self._sizes[group, last]) - begin


def _by_row_group(bounds: Sequence[int], rows: Rows) -> dict[int, NDArray[np.int64]]:
    """For each row group that has some of the rows, ``int64[n, 3]``: rows to skip, rows to take, where they go to."""
    pieces: dict[int, list[tuple[int, int, int]]] = {}
    offset = 0
    for begin, end in rows:
        first, group = begin, bisect_right(bounds, begin) - 1
        while first < end:
            taken = min(end, bounds[group + 1]) - first
            if taken:
                pieces.setdefault(group, []).append((first - bounds[group], taken, offset))
            first, offset, group = first + taken, offset + taken, group + 1
    return {group: np.array(found, dtype=np.int64) for group, found in pieces.items()}


def _layout(
    footer: pq.FileMetaData,
) -> tuple[dict[str, int], set[str], list[int], NDArray[np.int64], NDArray[np.int64]]:
    """Places of the columns, which are plain, bounds of the row groups, and where in the file each part of a column lies.

    The footer itself is not kept: for thousands of features it takes half a gigabyte.
    """
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    # Not of its schema, which holds the footer that holds it: only the garbage collector would take both away.
    names = [groups[0].column(i).path_in_schema for i in range(footer.num_columns)] if groups else []
    bounds = [0, *accumulate(group.num_rows for group in groups)]
    begins = np.zeros((len(groups), len(names)), dtype=np.int64)
    sizes = np.zeros_like(begins)
    for number, group in enumerate(groups):
        # One column at a time: thousands of objects would be searched for cycles.
        parts = (group.column(index) for index in range(len(names)))
        both = (value for part in parts for value in (part.data_page_offset, part.total_compressed_size))
        begins[number], sizes[number] = np.fromiter(both, np.int64, 2 * len(names)).reshape(-1, 2).T
    plain = {name for index, name in enumerate(names) if _is_plain(groups[0].column(index))}
    return {name: index for index, name in enumerate(names)}, plain, bounds, begins, sizes


def _metadata(file: pq.ParquetFile) -> tuple[pl.Schema | None, pl.DataFrame | None]:
    arrow = file.schema_arrow
    if not all(_is_simple(field.type) for field in arrow):
        return None, None
    read = file.read([name for name in arrow.names if is_metadata(name)], use_threads=False)
    metadata = cast("pl.DataFrame", pl.from_arrow(read))
    types = pl.from_arrow(pa.Table.from_batches([], schema=arrow))
    return cast("pl.DataFrame", types).schema, metadata


def _is_simple(dtype: pa.DataType) -> bool:
    """Text, whole numbers, floats and truths: what profiles are made of."""
    types = pa.types
    kinds = (types.is_string, types.is_integer, types.is_float32, types.is_float64, types.is_boolean)
    return any(kind(dtype) for kind in kinds)


def _is_plain(part: pq.ColumnChunkMetaData) -> bool:
    """Whether a column is float32 without dictionary or compression; the path of a nested one is no column's name."""
    plain = set(part.encodings) <= {"PLAIN", "RLE"} and part.compression == "UNCOMPRESSED"
    return plain and part.physical_type == "FLOAT"


def _give_back() -> None:
    """Return to the system what was freed in small pieces, which the C library of Linux keeps otherwise."""
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Source:
    """Reads parts of a file into a few buffers in turn.

    What the page cache does not hold of a large file is read past it: it would only push everything else out.

    A fresh buffer for every read costs more than the read: its pages must be mapped and cleared first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffers = [mmap.mmap(-1, _ALIGNMENT) for _ in range(_AHEAD)]
        self._handles = [os.open(path, os.O_RDONLY)]
        if _is_large(path) and hasattr(os, "O_DIRECT"):
            # A file system without direct reads refuses them.
            with suppress(OSError):
                self._handles.append(os.open(path, os.O_RDONLY | os.O_DIRECT))

    def parts(self, places: Sequence[tuple[int, int]]) -> Iterator[NDArray[np.uint8]]:
        """The bytes of each place ``(begin, size)``, good until the next is asked for.

        Raises
        ------
        StoreError
            The file ends early.
        """
        if len(self._handles) == 1:
            yield from (self._read(number, place) for number, place in enumerate(places))
            return
        # The disk reads the next parts while this one is unpacked; two at once, so that it never waits for Python.
        with ThreadPoolExecutor(2) as disk:
            coming = deque(disk.submit(self._read, number, place) for number, place in enumerate(places[:_AHEAD]))
            for number in range(len(places)):
                yield coming.popleft().result()
                following = number + _AHEAD
                if following < len(places):
                    coming.append(disk.submit(self._read, following, places[following]))

    def _read(self, number: int, place: tuple[int, int]) -> NDArray[np.uint8]:
        begin, size = place
        start = begin - begin % _ALIGNMENT
        wanted = -(-(begin + size - start) // _ALIGNMENT) * _ALIGNMENT
        which = number % _AHEAD
        if len(self._buffers[which]) < wanted:
            self._buffers[which] = mmap.mmap(-1, wanted)
        view = memoryview(self._buffers[which])[:wanted]
        past_cache = len(self._handles) > 1 and not _is_cached(self._handles[0], start, size)
        handle = self._handles[-1 if past_cache else 0]
        done = 0
        while done < wanted:
            got = os.preadv(handle, [view[done:]], start + done)
            done += got
            if got == 0 or done % _ALIGNMENT:
                break  # the end of the file
        if done < begin - start + size:
            raise StoreError(f"{self._path}: the file ends early. Hint: was it copied completely?")
        return np.frombuffer(self._buffers[which], np.uint8, size, begin - start)

    def close(self) -> None:
        """Give the file back; the buffers go with their last views."""
        for handle in self._handles:
            os.close(handle)


def _is_large(path: Path) -> bool:
    """Whether a file would push everything else out of the page cache."""
    return path.stat().st_size > resources.machine_memory() // 4


def _is_cached(handle: int, start: int, size: int) -> bool:
    """Whether the page cache holds all of a part of a file, which reading past it would fetch from the disk again.

    Asking by a read that does not wait (``RWF_NOWAIT``) would make the system fetch what is not there.
    """
    pages = np.zeros(-(-size // mmap.PAGESIZE), dtype=np.uint8)
    try:
        with mmap.mmap(handle, size, prot=mmap.PROT_READ, offset=start) as mapped:
            place = ctypes.c_void_p(np.frombuffer(mapped, np.uint8).ctypes.data)
            asked: int = ctypes.CDLL(None).mincore(place, ctypes.c_size_t(size), pages.ctypes.data_as(ctypes.c_char_p))
    except (AttributeError, OSError, ValueError):
        return False  # a system that does not tell, or a file that has become shorter
    return asked == 0 and bool((pages & 1).all())


def _neighbours(positions: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Runs of columns that are neighbours in the file, none longer than ``most``."""
    start = 0
    for index in range(1, len(positions) + 1):
        if index == len(positions) or positions[index] != positions[index - 1] + 1 or index - start == most:
            yield start, index
            start = index
