"""Ask a store: a query sees the manifests as they were when it began, stays in the budget, and can be stopped."""

from __future__ import annotations

import json
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

from cytofast import resources
from cytofast.errors import CytofastError, RecipeError, StoreError, listed
from cytofast.store import plate_by_plate, query_safety
from cytofast.store.answer_files import write_frames
from cytofast.store.catalog import PATIENCE, Catalog, view_names
from cytofast.store.queries import question
from cytofast.store.snapshot import Snapshot

if TYPE_CHECKING:
    from cytofast.store.profile_store import ProfileStore

Connection = duckdb.DuckDBPyConnection
As = Literal["polars", "arrow", "relation"]
Share = Callable[[float], None]
"""Called with the percentage of a query that is done, as far as the engine can tell."""
T = TypeVar("T")

_KEYS_ONLY = {"Metadata_Batch", "Metadata_Plate", "Metadata_Well"}


def _quiet(_share: float) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Limits:
    """How a query may run.

    Parameters
    ----------
    seconds
        Stop it after so long; ``None`` is never.
    unrestricted
        Let it open other files, write, and change settings.
    tables
        Tables of the caller's, by name.
    share
        Called with the percentage done.
    """

    seconds: float | None = None
    unrestricted: bool = False
    tables: Mapping[str, Any] = field(default_factory=dict)
    share: Share = _quiet


@dataclass(frozen=True)
class Prepared:
    """A query, checked and ready to run on its own connection."""

    connection: Connection
    text: str
    values: dict[str, Any]
    catalog: Catalog
    split: plate_by_plate.Split | None

    def relation(self) -> duckdb.DuckDBPyRelation:
        """Begin to run it."""
        if self.split is not None:
            relation = plate_by_plate.run(self.catalog, self.split, self.values)
            if relation is not None:
                return relation
        relation = self.connection.sql(self.text, params=self.values) if self.values else self.connection.sql(self.text)
        if relation is None:
            raise RecipeError("there is no query in this text, and so no answer")
        return relation


def connect(*, unrestricted: bool = False) -> Connection:
    """An empty database in memory, inside the budget, that spills to the scratch directory."""
    chosen = resources.current()
    connection = duckdb.connect(config={} if unrestricted else dict(query_safety.SETTINGS))
    scratch = chosen.scratch or Path(tempfile.gettempdir())
    connection.execute("SET memory_limit = $limit", {"limit": f"{chosen.working_bytes // 2**20}MiB"})
    connection.execute("SET threads = $threads", {"threads": chosen.threads})
    # DuckDB makes this directory when it must spill, and removes it with the connection.
    connection.execute("SET temp_directory = $path", {"path": str(scratch / f"cytofast-sql-{uuid.uuid4().hex}")})
    connection.execute("SET enable_progress_bar = true")
    connection.execute("SET enable_progress_bar_print = false")
    return connection


def prepare(
    snapshot: Snapshot, text: str, parameters: Mapping[str, Any] | Sequence[Any] | None, how: Limits
) -> Prepared:
    """Check a query and make the views it names."""
    if not isinstance(text, str):
        raise RecipeError(f"a query is a text, not {type(text).__name__}")
    if how.seconds is not None and not (isinstance(how.seconds, int | float) and how.seconds > 0):
        raise RecipeError(f"seconds= is a number above 0, not {how.seconds!r}")
    given = _by_name(parameters)
    connection = connect(unrestricted=how.unrestricted)
    wanted = set(given) if how.unrestricted else query_safety.checked(connection, text)
    values = query_safety.bound(wanted, given)
    catalog = Catalog(snapshot, connection)
    _add_tables(catalog, how.tables)
    catalog.need(text)
    parts = None
    if not how.unrestricted:
        query_safety.close_doors(connection, catalog.files())
        _leave_out_platemaps(catalog, text, values)
        query_safety.lock(connection)
        parts = plate_by_plate.split(catalog, text)
    return Prepared(connection, text, values, catalog, parts)


def _by_name(parameters: Mapping[str, Any] | Sequence[Any] | None) -> dict[str, Any]:
    if parameters is None:
        return {}
    if isinstance(parameters, Mapping):
        named = {str(name): value for name, value in parameters.items()}
    elif isinstance(parameters, Sequence) and not isinstance(parameters, str | bytes):
        named = {str(number): value for number, value in enumerate(parameters, 1)}
    else:
        kind = "a text" if isinstance(parameters, str) else type(parameters).__name__
        raise RecipeError(f"parameters= is a mapping of names to values, or a list of values, not {kind}")
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in named.items()}


def _add_tables(catalog: Catalog, tables: Mapping[str, Any]) -> None:
    taken = set(catalog.names())
    for name, table in tables.items():
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
            raise RecipeError(f"{name!r} cannot name a table; use lower-case letters, digits and underscores")
        if name in taken:
            raise RecipeError(f"a table cannot be called {name!r}, because a view of the store is")
        catalog.connection.register(name, as_arrow(table))


def as_arrow(table: Any) -> Any:
    """A table as Arrow: from Polars, pandas, or Arrow itself."""
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    if isinstance(table, pl.DataFrame):
        return table.to_arrow(compat_level=pl.CompatLevel.oldest())
    if hasattr(table, "__arrow_c_stream__"):
        return pl.DataFrame(table).to_arrow(compat_level=pl.CompatLevel.oldest())
    raise RecipeError(
        f"a table is a DataFrame, LazyFrame, pandas DataFrame or pyarrow.Table, not {type(table).__name__}"
    )


def _leave_out_platemaps(catalog: Catalog, text: str, values: dict[str, Any]) -> None:
    """Spare a query the join of cells with platemaps if it looks at no column of the platemaps.

    A left join with one row a well changes nothing else, but for many cells it costs more than the rest. The engine itself
    says which columns a query reads, with every other optimization switched off: those might read what a column is not
    needed for, or turn a filter on it into another kind of join.
    """
    connection = catalog.connection
    if not catalog.made("annotated_cells") or text.lstrip()[:7].upper() == "EXPLAIN":
        return
    others = [
        name
        for (name,) in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()
        if name != "unused_columns"
    ]
    connection.execute("SET disabled_optimizers = $names", {"names": ",".join(others)})
    try:
        plan = connection.execute(f"EXPLAIN (FORMAT json) {text}", values or None).fetchall()[0][1]
    except duckdb.Error:
        # The query is wrong; running it says so with the right words.
        return
    finally:
        connection.execute("RESET disabled_optimizers")
    read = _read_of_platemaps(json.loads(plan))
    if read and read <= _KEYS_ONLY:
        connection.execute(f"CREATE OR REPLACE VIEW stored.annotated_cells AS {catalog.annotated_cells(bare=True)}")


def _read_of_platemaps(plan: Any) -> set[str]:
    """Columns that a plan reads of the platemaps; nothing where the plan does not say."""
    found: set[str] = set()
    waiting = list(plan)
    while waiting:
        node = waiting.pop()
        waiting.extend(node.get("children", []))
        about = node.get("extra_info", {})
        if str(about.get("Table", "")).endswith("cell_annotations"):
            columns = about.get("Projections")
            if not columns or "Filters" in about:
                return set()
            found.update([columns] if isinstance(columns, str) else columns)
    return found


def watched(connection: Connection, work: Callable[[], T], how: Limits) -> T:
    """Run something on a connection; Ctrl-C and the time limit stop it at once.

    The engine does not look for signals while it works, so it works in a thread and this one waits.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []
    # Not thread.join: an interrupt inside it makes a running thread look finished.
    finished = threading.Event()

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001  (raised again by the thread that waits)
            failure.append(error)
        finally:
            finished.set()

    end = None if how.seconds is None else time.monotonic() + how.seconds
    late = False
    threading.Thread(target=run, daemon=True).start()
    try:
        while not finished.wait(0.05):
            how.share(connection.query_progress())
            if end is not None and time.monotonic() > end:
                late = True
                connection.interrupt()
    except BaseException:
        while not finished.wait(0.05):
            connection.interrupt()
        raise
    if late and failure:
        raise StoreError(f"the query was stopped after {how.seconds:g} seconds, as asked")
    if failure:
        raise failure[0]
    return outcome[0]


def answered(
    store: ProfileStore,
    text: str,
    parameters: Mapping[str, Any] | Sequence[Any] | None,
    how: Limits,
    take: Callable[[Prepared], T],
) -> T:
    """Run a query and take its answer; begin again if a writer replaced a file meanwhile."""
    patience = time.monotonic() + PATIENCE
    while True:
        snapshot = Snapshot(store)
        try:
            prepared = prepare(snapshot, text, parameters, how)
            return watched(prepared.connection, partial(take, prepared), how)
        except (duckdb.Error, StoreError, OSError) as error:
            if not how.unrestricted and snapshot.changed() and time.monotonic() < patience:
                continue
            if isinstance(error, CytofastError):
                raise
            raise _explained(error, snapshot) from error


def _explained(error: Exception, snapshot: Snapshot) -> CytofastError:
    text = str(error).strip()
    if isinstance(error, duckdb.PermissionException):
        return RecipeError(f"refused: {text.splitlines()[0]}. SQL over a store may read the store and nothing else.")
    if isinstance(error, duckdb.OutOfMemoryException):
        budget = resources.current().memory
        return StoreError(
            f"the query does not fit into {budget:,} bytes of memory and scratch space ({text.splitlines()[0]}). "
            "Hint: ask for fewer columns or rows, or give more with --memory."
        )
    if isinstance(error, duckdb.InterruptException):
        return StoreError("the query was interrupted")
    if isinstance(error, duckdb.CatalogException):
        return RecipeError(f"{text}\nHint: the views are {listed(view_names(snapshot), 40)}.")
    if isinstance(error, duckdb.IOException | OSError) or any(str(path) in text for path in snapshot.files()):
        # What the engine says first is the file and what is wrong with it.
        text = text.splitlines()[0]
        return StoreError(f"{snapshot.store.path}: {text}")
    return RecipeError(f"the query cannot be run: {text}")


def as_polars(table: Any) -> pl.DataFrame:
    """An answer as a frame; sums of integers, which SQL makes wider than any machine number, as integers again."""
    names = list(table.schema.names)
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len(set(names)) < len(names) else []
    if twice:
        raise RecipeError(
            f"the answer has more than one column called {listed(twice)}. Hint: name the columns (AS), leave some out "
            '(EXCLUDE), join by USING, or take as_="arrow".'
        )
    strange = [column.name for column in table.schema if not _known_to_polars(column.type)]
    if strange:
        raise RecipeError(
            f"the answer holds intervals or unions in {listed(strange)}, and Polars has no type for them. Hint: cast them, "
            'for example to VARCHAR, or take as_="arrow".'
        )
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  (a table has columns)
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Decimal) and dtype.scale == 0 and dtype.precision == 38:
            narrow = frame[name].cast(pl.Int64, strict=False)
            if narrow.null_count() == frame[name].null_count():
                frame = frame.with_columns(narrow)
    return frame


def _known_to_polars(kind: pa.DataType) -> bool:
    if pa.types.is_interval(kind) or pa.types.is_union(kind):
        return False
    return all(_known_to_polars(kind.field(i).type) for i in range(kind.num_fields))


def sql(
    store: ProfileStore, query: str, parameters: Mapping[str, Any] | Sequence[Any] | None, as_: As, how: Limits
) -> Any:
    """Answer a query; see :meth:`ProfileStore.sql`."""
    if as_ == "polars":
        return answered(store, query, parameters, how, lambda ready: as_polars(ready.relation().to_arrow_table()))
    if as_ == "arrow":
        return answered(store, query, parameters, how, lambda ready: ready.relation().to_arrow_table())
    if as_ == "relation":
        return answered(store, query, parameters, how, lambda ready: ready.relation())
    raise RecipeError.unknown("as_", str(as_), ("polars", "arrow", "relation"))


def frames_of(prepared: Prepared) -> Iterator[pl.DataFrame]:
    """An answer, some rows at a time, as few as the memory budget asks for; at least one frame, so that columns are known."""
    relation = prepared.relation()
    width = 8 * max(1, len(relation.columns))
    rows = int(min(2**20, max(2048, resources.current().working_bytes // (8 * width))))
    empty = True
    for batch in relation.to_arrow_reader(rows):
        empty = False
        yield as_polars(batch)
    if empty:
        yield as_polars(prepared.relation().to_arrow_table())


def refuse_inside(store: ProfileStore, path: Path) -> None:
    """Refuse to write into a store what is no part of it: a slip of the hand would replace a plate."""
    if path.resolve().is_relative_to(store.path.resolve()):
        raise RecipeError(f"{path} lies inside the store {store.path}, whose files are its own. Hint: write elsewhere.")


def write(
    store: ProfileStore, query: str, parameters: Mapping[str, Any] | None, path: Path, form: str, how: Limits
) -> int:
    """Write an answer to a file without holding it in memory; gives the number of rows."""
    refuse_inside(store, path)
    return answered(store, query, parameters, how, lambda ready: write_frames(frames_of(ready), path, form))


def ask(store: ProfileStore, name: str, given: Mapping[str, Any], as_: As, how: Limits) -> Any:
    """Answer a named question; see :meth:`ProfileStore.ask`."""
    asked = question(name)
    return sql(store, asked.text, asked.values(given), as_, how)
