"""Where the lines of each image lie in a file that holds many: one scan, so that images can be read one at a time.

A whole plate in one ``Cells.csv`` may take tens of gigabytes; what is kept of it is two numbers for each run of lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from cytofast.errors import DataError
from cytofast.ingest.csv_text import MOST_DIGITS, Lines, parse_header
from cytofast.ingest.file_state import FileState, require_unchanged, state_of

_CHUNK = 8 << 20

Key = tuple[int | None, int]
"""``(TableNumber or None, ImageNumber)``."""


@dataclass(frozen=True)
class Run:
    """Neighbouring lines of one image: bytes ``start`` to ``stop``, ``rows`` lines from line ``line`` on."""

    start: int
    stop: int
    line: int
    rows: int


@dataclass(frozen=True)
class LineIndex:
    """The runs of each image of a file, and the digest of the whole file."""

    path: Path
    runs: dict[Key, tuple[Run, ...]]
    digest: str
    state: FileState

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.state.size

    @property
    def rows(self) -> int:
        """Lines after the header."""
        return sum(run.rows for runs in self.runs.values() for run in runs)

    def bytes_of(self, key: Key) -> int:
        """How much there is to read for an image."""
        return sum(run.stop - run.start for run in self.runs.get(key, ()))

    def read(self, key: Key) -> Lines:
        """Read the lines of one image, or raise a :class:`DataError` if the file changed since it was scanned."""
        parts: list[bytes] = []
        starts: list[tuple[int, int]] = []
        row = 0
        try:
            with self.path.open("rb") as stream:
                for run in self.runs.get(key, ()):
                    stream.seek(run.start)
                    part = stream.read(run.stop - run.start)
                    parts.append(part)
                    starts.append((row, run.line))
                    row += run.rows
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        data = b"".join(parts) if len(parts) != 1 else parts[0]
        require_unchanged(self.path, self.state)
        if len(data) != self.bytes_of(key):
            raise DataError(f"{self.path}: ends early. Hint: copy or export the file again.")
        return Lines(self.path, data, tuple(starts) or ((0, 2),))


def index_lines(path: Path) -> LineIndex:
    """Scan a file once for the runs of lines of each image."""
    return _index_lines(path, state_of(path))


@lru_cache(maxsize=256)
def _index_lines(path: Path, state: FileState) -> LineIndex:
    # Plates that share a file share its index.
    hashed = hashlib.blake2b(digest_size=16)
    runs: dict[Key, list[Run]] = {}
    try:
        with path.open("rb") as stream:
            line = stream.readline()
            header = parse_header(line, path)
            hashed.update(line)
            columns = [header.position.get("TableNumber"), header.position["ImageNumber"]]
            last: tuple[Key, int, int, int] | None = None  # key, start, line and rows of the run at hand
            number = 2
            for offset, block in _whole_lines(stream, len(line), path):
                hashed.update(block)
                ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + 1
                begin = 0
                for end in ends.tolist():
                    key = _key(block[begin:end], columns, path, number)
                    if last is None or last[0] != key:
                        if last is not None:
                            runs.setdefault(last[0], []).append(Run(last[1], offset + begin, last[2], last[3]))
                        last = (key, offset + begin, number, 0)
                    last = (last[0], last[1], last[2], last[3] + 1)
                    begin = end
                    number += 1
            if last is not None:
                runs.setdefault(last[0], []).append(Run(last[1], state.size, last[2], last[3]))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return LineIndex(path, {key: tuple(found) for key, found in runs.items()}, hashed.hexdigest(), state)


def _whole_lines(stream: object, offset: int, path: Path) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines and where they begin in the file."""
    rest = b""
    while chunk := stream.read(_CHUNK):  # type: ignore[attr-defined]
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            rest += chunk
            continue
        block = rest + chunk[:cut]
        rest = chunk[cut:]
        yield offset, block
        offset += len(block)
    if rest:
        raise DataError(
            f"{path}: the last line has no end, so its last number may be cut short. "
            f"Hint: the export or the copy was interrupted; repeat it."
        )


def _key(text: bytes, columns: list[int | None], path: Path, line: int) -> Key:
    furthest = max(column for column in columns if column is not None)
    fields = text.rstrip(b"\r\n").split(b",", furthest + 1)
    found: list[int | None] = []
    for column, name in zip(columns, ("TableNumber", "ImageNumber"), strict=True):
        if column is None:
            found.append(None)
            continue
        number = fields[column].strip(b' "').removesuffix(b".0") if column < len(fields) else b""
        if not number.removeprefix(b"-").isdigit() or len(number) > MOST_DIGITS:
            raise DataError(
                f"{path}, line {line:,}, column {name!r}: {number.decode(errors='replace')!r} is no whole number. "
                f"Hint: the file is damaged from here on; export or copy it again."
            )
        found.append(int(number))
    return found[0], found[1]  # type: ignore[return-value]
