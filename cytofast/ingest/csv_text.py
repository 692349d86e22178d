"""One CellProfiler CSV: its header, its lines checked, its numbers typed.

Polars fills short lines with nulls and takes a number cut in half for a number. So the separators of every line are
counted before parsing, and a file must end with its last line.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.errors import DataError, listed
from cytofast.ingest.readable import readable

NAN_TEXT = tuple(sign + text for sign in ("", "-", "+") for text in ("nan", "NaN", "NAN", "Nan"))
"""What CellProfiler, numpy and pandas write for "not a number"; missing, like an empty field."""

KEYS = ("TableNumber", "ImageNumber", "ObjectNumber")
TEXT_COLUMNS = ("FileName_", "PathName_", "URL_", "MD5Digest_", "Metadata_")
MOST_DIGITS = 18
"""Whole numbers of so many digits fit into 64 bits."""
_NEWLINE = 10
_PIECE = 4 << 20
_SMALL = 1 << 20
"""Bytes of a text that is not worth calling a parser of tables."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Header:
    """The first line of a file: its column names, and how many bytes it takes."""

    names: tuple[str, ...]
    size: int
    position: Mapping[str, int] = field(compare=False)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """All columns but keys, and file names and the like, which are known by their names."""
        return tuple(name for name in self.names if name and name not in KEYS and not name.startswith(TEXT_COLUMNS))

    @cached_property
    def text_columns(self) -> tuple[str, ...]:
        """Columns that are left out because they hold text."""
        return tuple(name for name in self.names if name.startswith(TEXT_COLUMNS))


def is_number(text: str) -> bool:
    """Whether text is a whole number from 0 that fits into 64 bits; anything else is a name."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def digest(*data: bytes) -> str:
    """BLAKE2b of a file's content, 128 bits in hexadecimal; the content may come in pieces."""
    hashed = hashlib.blake2b(digest_size=16)
    for piece in data:
        hashed.update(piece)
    return hashed.hexdigest()


def digest_of_file(path: Path, stop: Callable[[], bool] = lambda: False) -> str:
    """The same of a file that is read piece by piece, until it ends or ``stop`` says so."""
    hashed = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb", buffering=0) as stream:
            while not stop() and (chunk := stream.read(_PIECE)):
                hashed.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return hashed.hexdigest()


def read_bytes(path: Path) -> bytes:
    """Read a file's content, or raise a :class:`DataError` with the words of the operating system."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_after(path: Path, size: int) -> tuple[bytes, bytes]:
    """Read a file's content: its first ``size`` bytes, and the others, which are never copied."""
    try:
        with path.open("rb", buffering=0) as stream:
            return stream.read(size), stream.readall()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_header_line(path: Path) -> bytes:
    """Read the first line of a file, newline included."""
    try:
        with path.open("rb") as stream:
            return stream.readline()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def parse_header(line: bytes, path: Path, separator: str = ",") -> Header:
    """Take a header line apart.

    Raises
    ------
    DataError
        The file is empty, the line is cut off or not text, or a column stands twice.
    """
    if not line:
        raise DataError(
            f"{path}: the file is empty (0 bytes). Hint: the export was interrupted; run it again for this site, "
            f"or take the site's folder out of the source."
        )
    if b"\0" in line:
        raise DataError(f"{path}, line 1: holds NUL bytes, so this is no text file. Hint: a damaged copy?")
    if not line.endswith(b"\n"):
        raise DataError(f"{path}, line 1: the header is cut off (no end of line). Hint: copy or export the file again.")
    try:
        text = line.removeprefix(_BOM).decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line 1, byte {error.start}: not UTF-8 text. Hint: save the file as UTF-8.") from error
    try:
        fields = next(csv.reader([text], delimiter=separator, strict=True)) if '"' in text else text.split(separator)
    except csv.Error as error:
        raise DataError(f"{path}, line 1: a quote is not closed ({error}). Hint: a damaged copy?") from error
    names = tuple(fields)
    position = {name: i for i, name in enumerate(names)}
    if len(position) < len(names):
        repeated = list(dict.fromkeys(name for name in names if names.count(name) > 1))
        raise DataError(
            f"{path}, line 1: column {listed(repeated)} stands more than once. Hint: two exports side by side in one "
            f"file? Export each object on its own."
        )
    return Header(names, len(line), position)


def require_text_columns(header: Header, needed: Sequence[str], path: Path) -> None:
    """Raise a :class:`DataError` unless the header has these columns."""
    missing = [name for name in needed if name not in header.position]
    if missing:
        raise DataError(
            f"{path}, line 1: no column {listed(missing)}; the file starts with {listed(header.names, 4)}. "
            f"Hint: cytofast reads what CellProfiler's ExportToSpreadsheet writes, one file an object."
        )


@dataclass(frozen=True)
class Lines:
    """Some lines of a file: their bytes, and where each stretch of them begins in the file."""

    path: Path
    data: bytes
    starts: tuple[tuple[int, int], ...] = ((0, 2),)
    """``(row, line)``: from this row on, lines are numbered from here. Line 1 is the header."""

    def line(self, row: int) -> int:
        """Give the line in the file, counted from 1, of a row counted from 0."""
        first, line = max(start for start in self.starts if start[0] <= row)
        return line + row - first

    def at(self, row: int) -> str:
        """Where a row stands, for an error message."""
        return f"{self.path}, line {self.line(row):,}"


def check_lines(lines: Lines, width: int, separator: str = ",") -> int:
    """Count the rows, after making sure that each has ``width`` fields and that none is cut off."""
    data = lines.data
    if not data:
        return 0
    buffer = np.frombuffer(data, dtype=np.uint8)
    rows = int(np.count_nonzero(buffer == _NEWLINE))
    if b"\0" in data:
        row = data.count(b"\n", 0, data.index(b"\0"))
        raise DataError(f"{lines.at(row)}: holds NUL bytes. Hint: a damaged copy?")
    if not data.endswith(b"\n"):
        raise DataError(
            f"{lines.at(rows)}: the last line has no end, so its last number may be cut short. "
            f"Hint: the export or the copy was interrupted; repeat it."
        )
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            at = lines.at(data.count(b"\n", 0, error.start))
            raise DataError(f"{at}: not UTF-8 text. Hint: save the file as UTF-8.") from error
    if b'"' in data:
        return _check_records(lines, width, separator)
    if int(np.count_nonzero(buffer == ord(separator))) != rows * (width - 1):
        _check_fields(lines, width, separator)
    return rows


def _check_fields(lines: Lines, width: int, separator: str) -> None:
    for row, line in enumerate(lines.data.split(b"\n")[:-1]):
        fields = line.count(separator.encode()) + 1 if line.strip() else 0
        if fields != width:
            raise _ragged(lines, row, fields, width)


def _check_records(lines: Lines, width: int, separator: str) -> int:
    """Count the records of quoted text, where a field may hold separators and line ends, and the fields of each."""
    reader = csv.reader(io.StringIO(lines.data.decode(), newline=""), delimiter=separator, strict=True)
    begin = records = 0
    try:
        for record in reader:
            if len(record) != width:
                raise _ragged(lines, begin, len(record), width)
            begin = reader.line_num
            records += 1
    except csv.Error as error:
        raise DataError(
            f"{lines.at(begin)}: a quote is opened and not closed, or closed within a field ({error}). "
            "Hint: the file is damaged from here on; export or copy it again."
        ) from error
    return records


def _ragged(lines: Lines, row: int, fields: int, width: int) -> DataError:
    return DataError(
        f"{lines.at(row)}: {fields:,} fields, but the header has {width:,}. "
        f"Hint: the file is damaged from here on; export or copy it again."
    )


@dataclass(frozen=True)
class Layout:
    """How the columns of a file are read: ``types`` by their names in the file, and ``names`` to call them by."""

    header: Header
    names: Mapping[str, str]
    types: Mapping[str, Any]

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Every column of the file, in its order; those that are left out as text."""
        return {self.names.get(name, name): self.types.get(name, pl.String) for name in self.header.names}

    @cached_property
    def kept(self) -> list[str]:
        """Columns that are not left out."""
        return [self.names.get(name, name) for name in self.header.names if name in self.types]


def parse_lines(lines: Lines, layout: Layout) -> pl.DataFrame:
    """Type every column that the layout names, and leave the others out.

    Raises
    ------
    DataError
        A line is short, long or cut off, or a field is no number; the message names line, column and value.
    """
    width = len(layout.header.names)
    rows = check_lines(lines, width)
    try:
        frame = _typed(lines.data, layout)
    except pl.exceptions.PolarsError as error:
        if b'"' not in lines.data:
            _check_fields(lines, width, ",")
        raise _not_a_number(lines, layout) or DataError(f"{lines.path}: {error}") from error
    require_rows(frame.height, rows, lines.path)
    return frame


def require_rows(found: int, counted: int, path: Path) -> None:
    """Raise a :class:`DataError` if a parser gives another number of rows than there are."""
    if found != counted:
        raise DataError(
            f"{path}: {counted:,} rows, of which {found:,} can be told apart. Hint: is a quote missing? Export it again."
        )


def parse_together(files: Iterable[Lines], layout: Layout) -> tuple[pl.DataFrame, list[int]]:
    """Type the lines of files with one header, and count the rows of each; the same as :func:`parse_lines` one by one.

    With thousands of columns the parser spends more on each call than on the numbers of a hundred rows. Files are taken
    one after the other, and their text is held no longer than needed.
    """
    width = len(layout.header.names)
    # Grows in place: pieces that are joined at the end would be there twice.
    text = io.BytesIO()
    counts: list[int] = []
    places: list[Lines] = []
    ends: list[int] = []
    quoted = False
    for lines in files:
        counts.append(check_lines(lines, width))
        places.append(replace(lines, data=b""))
        quoted |= b'"' in lines.data
        text.write(lines.data)
        ends.append(text.tell())
        del lines
    data = text.getvalue()
    del text
    # Within quotes a line may end, so that only the parser knows the rows.
    if len(ends) > 1 and not quoted:
        try:
            frame = _typed(data, layout)
        except pl.exceptions.PolarsError:
            frame = None  # parsed again below, one by one, to say which file it is
        if frame is not None and frame.height == sum(counts):
            return frame, counts
    starts = [0, *ends[:-1]]
    frames = [
        parse_lines(replace(lines, data=data[start:end]), layout)
        for lines, start, end in zip(places, starts, ends, strict=True)
    ]
    return pl.concat(frames) if len(frames) > 1 else frames[0], [frame.height for frame in frames]


def _typed(data: bytes, layout: Layout) -> pl.DataFrame:
    if not data:
        return pl.DataFrame(schema=layout.schema)[layout.kept]
    whole = pl.read_csv(data, has_header=False, schema=layout.schema, null_values=list(NAN_TEXT), infer_schema=False)
    return whole[layout.kept]


def _not_a_number(lines: Lines, layout: Layout) -> DataError | None:
    header, types = layout.header, layout.types
    with readable(lines.path):
        text = pl.read_csv(
            lines.data, has_header=False, schema=dict.fromkeys(header.names, pl.String), null_values=list(NAN_TEXT)
        )
    found: tuple[int, str] | None = None
    for name in header.names:
        if name in types and types[name] != pl.String:
            wrong = text[name].is_not_null() & text[name].cast(types[name], strict=False).is_null()
            row = wrong.arg_max() if wrong.any() else None
            if row is not None and (found is None or row < found[0]):
                found = (row, name)
    if found is None:
        return None
    row, name = found
    return DataError(
        f"{lines.at(row)}, column {name!r}: {text[name][row]!r} is not a number. "
        f"Hint: features must be numbers, empty or nan; is a column shifted, or written by another program?"
    )


def whole_numbers(values: pl.Series, lines: Lines, column: str) -> NDArray[np.int64]:
    """Keys as ``int64``: each must be there and be a whole number (``3.0`` is one)."""
    numbers = values.cast(pl.Float64).to_numpy()
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(numbers) < 2.0**53) | (np.rint(numbers) != numbers)
    if wrong.any():
        row = int(np.argmax(wrong))
        shown = "is missing" if values[row] is None else f"is {values[row]}"
        raise DataError(f"{lines.at(row)}, column {column!r}: {shown}, but every object needs a whole number here.")
    return numbers.astype(np.int64)


def read_text_columns(path: Path, data: bytes, wanted: Sequence[str]) -> tuple[Header, dict[str, list[str | None]]]:
    """Read some columns as text, quoted fields and all; for ``Image.csv``, whose fields may hold anything."""
    header = parse_header(data[: data.find(b"\n") + 1 or len(data)], path)
    lines = Lines(path, data[header.size :])
    rows = check_lines(lines, len(header.names))
    chosen = [name for name in wanted if name in header.position]
    if len(data) <= _SMALL:
        # One of a hundred thousand files of one row: a parser of tables would take longer to be called.
        text = lines.data.decode()
        quoted = csv.reader(io.StringIO(text, newline=""))
        records = list(quoted) if '"' in text else [line.rstrip("\r").split(",") for line in text.split("\n")[:-1]]
        missing = {"", *NAN_TEXT}
        of = header.position
        return header, {
            name: [None if row[of[name]] in missing else row[of[name]] for row in records] for name in chosen
        }
    with readable(path):
        frame = pl.read_csv(
            lines.data,
            has_header=False,
            schema=dict.fromkeys(header.names, pl.String),
            columns=sorted(header.position[name] for name in chosen),
            null_values=list(NAN_TEXT),
        )
    require_rows(frame.height, rows, path)
    return header, frame.select(chosen).to_dict(as_series=False)
