"""Values out of plain pages of Parquet, many columns a call and without the GIL.

Formats: https://parquet.apache.org/docs/file-format/data-pages/ and the Thrift compact protocol.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled

Bytes = NDArray[np.uint8]
_MISSING = np.array([np.nan], dtype=np.float32).view(np.uint8)


@compiled
def _varint(raw: Bytes, at: int, stop: int) -> tuple[int, int]:
    """A number of varying length and where the next begins; beyond ``stop`` if there is none."""
    value, shift = 0, 0
    while at < stop and shift < 56:
        byte = int(raw[at])
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, stop + 1


@compiled
def page_bounds(raw: Bytes, at: int, stop: int, rows: int) -> tuple[int, int]:
    """Where the content of the page at ``at`` begins and ends; ``(-1, -1)`` unless it is a plain data page of so many rows.

    The header stands before ``stop``; the content may end beyond it.
    """
    # Kind of page, size, values, encoding.
    found = np.full(4, -1, dtype=np.int64)
    numbers = np.zeros(4, dtype=np.int64)
    depth, inside = 0, 0
    while at < stop:
        byte = int(raw[at])
        at += 1
        if byte == 0:
            if depth == 0:
                size = int(found[1])
                plain = found[0] == 0 and found[3] == 0 and found[2] == rows
                return (at, at + size) if plain and size >= 4 else (-1, -1)
            depth -= 1
            continue
        kind = byte & 0x0F
        if byte >> 4:
            numbers[depth] += byte >> 4
        else:
            zigzag, at = _varint(raw, at, stop)
            numbers[depth] = (zigzag >> 1) ^ -(zigzag & 1)
        number = int(numbers[depth])
        if 4 <= kind <= 6:
            zigzag, at = _varint(raw, at, stop)
            value = (zigzag >> 1) ^ -(zigzag & 1)
            if depth == 0 and number in (1, 3):
                found[number // 2] = value
            elif depth == 1 and inside == 5 and number in (1, 2):
                found[1 + number] = value
        elif kind == 12 and depth < 3:
            if depth == 0:
                inside = number
            depth += 1
            numbers[depth] = 0
        elif kind not in (1, 2):
            break
    return -1, -1


@compiled
def _span(
    raw: Bytes, source: int, there: bool, row: int, count: int, skip: int, taken: int, line: Bytes, offset: int
) -> None:
    """Copy the values of neighbouring rows, or say that they are missing, where they are asked for."""
    low, high = max(row, skip), min(row + count, skip + taken)
    if low >= high:
        return
    begin, size = 4 * (offset + low - skip), 4 * (high - low)
    if there:
        start = source + 4 * (low - row)
        # A loop over two slices becomes a copy of vectors, which the assignment of one to the other does not.
        values, places = raw[start : start + size], line[begin : begin + size]
        for k in range(size):
            places[k] = values[k]
    else:
        for k in range(size):
            line[begin + k] = _MISSING[k % 4]


@compiled
def _page(raw: Bytes, content: int, end: int, rows: int, skip: int, taken: int, line: Bytes, offset: int) -> bool:
    """One page between ``content`` and ``end``; whether it is as it should be."""
    levels: int = 0
    for k in range(4):
        levels |= int(raw[content + k]) << (8 * k)
    level, values = content + 4, content + 4 + levels
    if values > end:
        return False
    row, source = 0, values
    while row < rows:
        header, level = _varint(raw, level, values)
        if level >= values:
            return False
        if header & 1:
            packed = min(header >> 1, values - level)
            wanted = min(8 * packed, rows - row)
            source = _packed(raw, level, wanted, source, end, row, skip, taken, line, offset)
            if packed == 0 or source < 0:
                return False
            level += packed
            row += wanted
        else:
            run = min(header >> 1, rows - row)
            there = bool(raw[level] != 0)
            if run == 0 or (there and source + 4 * run > end):
                return False
            _span(raw, source, there, row, run, skip, taken, line, offset)
            source += 4 * run if there else 0
            level += 1
            row += run
    return source == end


@compiled
def _packed(
    raw: Bytes,
    level: int,
    wanted: int,
    source: int,
    end: int,
    row: int,
    skip: int,
    taken: int,
    line: Bytes,
    offset: int,
) -> int:
    """Rows whose presence is a bit each; where the values after theirs begin, or -1 if they are not there."""
    k, run = 0, 0
    while k <= wanted:
        bits = int(raw[level + k // 8]) if k < wanted else 0
        if bits == 255 and k % 8 == 0 and k + 8 <= wanted:
            run += 8
            k += 8
            continue
        if k < wanted and (bits >> (k % 8)) & 1:
            run += 1
        else:
            # One that is missing, or the end: what stood side by side before it is copied at once.
            if source + 4 * run > end:
                return -1
            _span(raw, source, True, row + k - run, run, skip, taken, line, offset)
            source += 4 * run
            run = 0
            if k < wanted:
                _span(raw, source, False, row + k, 1, skip, taken, line, offset)
        k += 1
    return source


@compiled
def unpack(raw: Bytes, count: int, rows: int, pieces: NDArray[np.int64], out: Bytes, first: int) -> int:
    """Values of ``count`` neighbouring pages of ``rows`` rows, missing ones as NaN.

    Parameters
    ----------
    raw
        The pages, one after the other: headers, definition levels of width 1, plain float32.
    pieces
        ``int64[n_pieces, 3]``: so many rows are skipped, so many taken, and they go to the line from this value on.
    out
        ``uint8[n, 4 * width]``, the bytes of a float32 matrix: line ``first + i`` takes page ``i``.

    Returns
    -------
    int
        How many pages were read: the next is not as it should be, if there is one.
    """
    stop = raw.shape[0]
    at = 0
    for page in range(count):
        content, end = page_bounds(raw, at, stop, rows)
        if content < 0 or end > stop:
            return page
        for piece in range(pieces.shape[0]):
            skip, taken, offset = pieces[piece]
            if not _page(raw, content, end, rows, skip, taken, out[first + page], offset):
                return page
        at = end
    return count
