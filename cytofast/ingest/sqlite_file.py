"""One SQLite file: opened for reading alone, asked in SQL, answered in Arrow. No Python object is made of a value.

The only module of this room that writes SQL: names of tables and columns come from the file and are quoted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import polars as pl

from cytofast.errors import DataError
from cytofast.ingest.csv_text import NAN_TEXT

ROWID = "row of the table"
"""What the number of a row is called in the frames given here; no column of an export is."""
NO_NUMBER = -(1 << 62)
"""Stands for a key that is there and is no whole number."""
_MAGIC = b"SQLite format 3\0"
_HEAD = 100
_KEYS_AT_ONCE = 65_536
_MOST_COLUMNS = 1_900
"""SQLite gives 2,000 columns at most."""
_MOST_RANGES = 200
_TEXT_ROWS = 1 << 20


def is_database(path: Path) -> bool:
    """Whether a file begins as SQLite files do."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _require_pages(path: Path) -> None:
    """Refuse a file that ends within a page: SQLite takes the rest for zeros."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    # The largest size does not fit into its two bytes, and is written as 1.
    page = int.from_bytes(head[16:18], "big")
    page = 65_536 if page == 1 else page
    if len(head) < _HEAD or not page or size % page:
        raise DataError(f"{path}: {size:,} bytes are no whole number of pages; it was cut off. Hint: copy it again.")


@dataclass(frozen=True)
class Table:
    """A table, or a view, and its columns."""

    name: str
    columns: tuple[str, ...]
    view: bool


class Database:
    """A connection to one file, for one thread at a time; nothing is written, not even beside the file."""

    def __init__(self, path: Path) -> None:
        from adbc_driver_manager import AdbcConnection
        from adbc_driver_sqlite import connect

        self.path = path
        for ending in ("-wal", "-journal"):
            beside = path.with_name(path.name + ending)
            if beside.is_file() and beside.stat().st_size:
                raise DataError(
                    f"{path}: {beside.name} lies beside it, so a program is writing to it or was killed. "
                    "Hint: close the program; then open and close the file once with the sqlite3 command."
                )
        if not is_database(path):
            raise DataError(f"{path}: no SQLite file. Hint: was it copied whole?")
        _require_pages(path)
        with _said_of(path):
            self._database = connect(f"file:{quote(str(path.absolute()))}?immutable=1")
            self._connection = AdbcConnection(self._database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()
        self._database.close()

    def _batches(self, query: str, rows: int) -> Iterator[pl.DataFrame]:
        """Answer a query, ``rows`` at a time. The driver guesses types from the first batch."""
        import pyarrow as pa
        from adbc_driver_manager import AdbcStatement
        from adbc_driver_sqlite import StatementOptions

        with _said_of(self.path), AdbcStatement(self._connection) as statement:
            statement.set_options(**{StatementOptions.BATCH_ROWS.value: str(max(1, rows))})
            statement.set_sql_query(query)
            handle, _ = statement.execute_query()
            with pa.RecordBatchReader._import_from_c(handle.address) as reader:
                for batch in reader:
                    # SQLite holds any bytes as text; Polars takes text for UTF-8 unseen.
                    batch.validate(full=True)
                    yield pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))

    def _whole(self, query: str, rows: int) -> pl.DataFrame:
        return pl.concat(list(self._batches(query, rows)) or [pl.DataFrame()], how="vertical_relaxed")

    def tables(self) -> list[Table]:
        """All tables and views, in the order of their making."""
        found = self._whole(
            "SELECT m.name AS name, m.type = 'view' AS is_view, c.name AS column_name "
            "FROM sqlite_master AS m, pragma_table_info(m.name) AS c "
            "WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite_%' ORDER BY m.rowid, c.cid",
            _TEXT_ROWS,
        )
        if not found.height:
            return []
        return [
            Table(part["name"][0], tuple(part["column_name"].to_list()), bool(part["is_view"][0]))
            for part in found.partition_by("name", maintain_order=True)
        ]

    def damage(self, table: str) -> str | None:
        """What SQLite's own look at every page of a table finds; ``None`` is nothing. Values have no checksum."""
        said = self._whole(f"PRAGMA quick_check({_quoted(table)})", _TEXT_ROWS).to_series().to_list()
        return None if said == ["ok"] else str(said[0] if said else "no answer")

    def text(self, table: str, columns: Sequence[str]) -> pl.DataFrame:
        """Some columns of a small table, as text."""
        chosen = ", ".join(f"CAST({_quoted(name)} AS TEXT) AS {_quoted(name)}" for name in columns)
        found = self._whole(f"SELECT {chosen} FROM {_quoted(table)}", _TEXT_ROWS)
        return found.cast(pl.String) if found.width else pl.DataFrame(schema=dict.fromkeys(columns, pl.String))

    def keys(self, table: str, image: str, number: str | None) -> Iterator[pl.DataFrame]:
        """Rows in the order of the file: :data:`ROWID`, ``image`` (null if it is no whole number), ``table`` as text."""
        own = "NULL" if number is None else f"CAST({_quoted(number)} AS TEXT)"
        query = (
            f"SELECT rowid AS {_quoted(ROWID)}, {_whole_number(image)} AS image, {own} AS number "
            f"FROM {_quoted(table)} ORDER BY rowid"
        )
        for frame in self._batches(query, _KEYS_AT_ONCE):
            yield frame.cast({ROWID: pl.Int64, "image": pl.Int64, "number": pl.String})

    def rows(
        self, table: str, columns: Sequence[str], keys: Mapping[str, str], ranges: Sequence[tuple[int, int]], count: int
    ) -> pl.DataFrame:
        """Rows by ranges of their numbers, sorted by :data:`ROWID`.

        ``keys`` (name here -> column) come as whole numbers, null or :data:`NO_NUMBER`, ``columns`` as they are: one whose
        values are not all numbers comes as text. ``count`` is at least the number of rows: the driver tells types from so many.
        """
        wanted = [
            *(f"{_whole_number(column, str(NO_NUMBER))} AS {_quoted(name)}" for name, column in keys.items()),
            *map(_quoted, columns),
        ]
        parts: list[pl.DataFrame] = []
        for first in range(0, len(wanted), _MOST_COLUMNS):
            chosen = wanted[first : first + _MOST_COLUMNS]
            frames = [
                self._whole(_selected(table, chosen, ranges[at : at + _MOST_RANGES]), count)
                for at in range(0, len(ranges), _MOST_RANGES)
            ]
            part = pl.concat(frames, how="vertical_relaxed") if len(frames) > 1 else frames[0]
            if not part[ROWID].is_sorted():
                part = part.sort(ROWID)
            parts.append(part if not parts else part.drop(ROWID))
        return parts[0] if len(parts) == 1 else pl.concat(parts, how="horizontal")

    def mixed(
        self, table: str, column: str, ranges: Sequence[tuple[int, int]], count: int
    ) -> tuple[pl.Series, pl.Series, pl.Series]:
        """Give a column in which text stands beside numbers: rows, numbers exactly, and text, each null where the other is."""
        name = _quoted(column)
        chosen = [
            f"CASE WHEN typeof({name}) IN ('real', 'integer') THEN CAST({name} AS REAL) END AS number",
            f"CASE typeof({name}) WHEN 'text' THEN {name} WHEN 'blob' THEN 'binary data' END AS written",
        ]
        frames = [
            self._whole(_selected(table, chosen, ranges[at : at + _MOST_RANGES]), count)
            for at in range(0, len(ranges), _MOST_RANGES)
        ]
        found = pl.concat(frames, how="vertical_relaxed").sort(ROWID)
        return found[ROWID], found["number"].cast(pl.Float64), found["written"].cast(pl.String)


def _selected(table: str, chosen: Sequence[str], ranges: Sequence[tuple[int, int]]) -> str:
    where = " OR ".join(f"rowid BETWEEN {int(low)} AND {int(high)}" for low, high in ranges)
    return f"SELECT rowid AS {_quoted(ROWID)}, {', '.join(chosen)} FROM {_quoted(table)} WHERE {where}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _whole_number(column: str, otherwise: str = "NULL") -> str:
    """A whole number, also if it is written as 3.0 or '3'; null if it is missing, ``otherwise`` if it is anything else."""
    name = _quoted(column)
    missing = ", ".join(_text(text) for text in ("", *NAN_TEXT))
    return (
        f"CASE WHEN CAST({name} AS INTEGER) = {name} THEN CAST({name} AS INTEGER) "
        f"WHEN {name} IS NOT NULL AND {name} NOT IN ({missing}) THEN {otherwise} END"
    )


class _said_of:  # noqa: N801  (reads as a word of the sentence that it is in)
    """What the driver says, as an error that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        from adbc_driver_manager import Error
        from pyarrow import ArrowException

        if isinstance(error, Error | ArrowException | OSError):
            said = str(error).split("\n", 1)[0]
            raise DataError(
                f"{self._path}: SQLite cannot read it ({said}). Hint: was it copied whole? The sqlite3 command's "
                "'PRAGMA integrity_check' tells what is damaged."
            ) from error
