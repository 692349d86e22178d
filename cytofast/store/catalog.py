"""A DuckDB view of a store, made from its manifests and never the truth: it can be deleted, and is made anew.

Schema ``stored`` holds what only the manifests know (lists of files, columns, platemaps); the views in ``sql/views`` are
written on top of it. Files are listed by name, never by a pattern, so an unfinished or replaced file is not in a view.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from cytofast.durable import appear
from cytofast.errors import RecipeError, StoreError
from cytofast.schema import BATCH, KEYS, PLATE, WELL, is_metadata
from cytofast.store.layout import ALL
from cytofast.store.queries import queries
from cytofast.store.snapshot import Snapshot, fit_table

if TYPE_CHECKING:
    from cytofast.store.profile_store import ProfileStore

Connection = duckdb.DuckDBPyConnection

PLACE = (BATCH, PLATE, WELL)
NAME = "catalog.duckdb"
PATIENCE = 60.0
"""Seconds in which to begin again when a writer replaces a file that is about to be read."""
_USUAL = ("cells", "wells", "profiles", "consensus")
_TABLES = ("partitions", "columns", "annotations", "cell_annotations", "fit_files")
_DERIVED = ("annotated_cells", "audits", "fits", "well_metadata")
_GIVEN = "Given table"
_NUMBERS = {"Metadata_Site", "Metadata_TableNumber", "Metadata_ImageNumber", "Metadata_ObjectNumber"}
_EMPTY_AUDIT = (
    "NULL::VARCHAR AS batch, NULL::VARCHAR AS plate, NULL::VARCHAR AS well, NULL::VARCHAR AS site, "
    "NULL::BIGINT AS table_number, NULL::BIGINT AS image_number, NULL::VARCHAR AS file, NULL::VARCHAR AS compartment, "
    "NULL::BIGINT AS rows_read, NULL::BIGINT AS rows_joined, NULL::BIGINT AS orphans, NULL::BIGINT AS columns_missing, "
    "NULL::BIGINT AS bytes, NULL::VARCHAR AS digest, NULL::VARCHAR AS note"
)
_EMPTY_FIT = (
    "NULL::VARCHAR AS filename, NULL::VARCHAR AS feature, NULL::VARCHAR AS status, NULL::BOOLEAN AS kept, "
    "NULL::VARCHAR AS measure, NULL::DOUBLE AS value, NULL::DOUBLE AS threshold, NULL::VARCHAR AS partner, "
    "NULL::DOUBLE AS r, NULL::DOUBLE AS centre, NULL::DOUBLE AS spread, NULL::DOUBLE AS scale, "
    "NULL::BIGINT AS n_reference, NULL::VARCHAR AS step, NULL::VARCHAR AS Metadata_Batch, "
    "NULL::VARCHAR AS Metadata_Plate, NULL::VARCHAR AS Metadata_Well"
)


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def view_names(snapshot: Snapshot) -> list[str]:
    """Every view: the shipped ones, and the levels that a recipe named otherwise, each with its long form."""
    levels = [name for level in snapshot.levels for name in (level, f"{level}_long")]
    return list(dict.fromkeys([*queries("views"), *levels]))


class Catalog:
    """Views over one snapshot of a store, in one DuckDB connection; each is made when it is first needed.

    Parameters
    ----------
    root
        What file names begin with: the store's own path, or nothing for names that are relative to it.
    """

    def __init__(self, snapshot: Snapshot, connection: Connection, root: Path | None = None) -> None:
        self.snapshot = snapshot
        self.connection = connection
        self.root = snapshot.store.path.absolute() if root is None else root
        self._made: set[str] = set()
        connection.execute("CREATE SCHEMA IF NOT EXISTS stored")
        macros = queries("macros")
        # One that calls others comes after them.
        for macro in sorted(macros.values(), key=lambda macro: sum(f"{name}(" in macro.text for name in macros)):
            connection.execute(macro.text)

    # --- what can be asked ------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Every view."""
        return view_names(self.snapshot)

    def need(self, text: str) -> None:
        """Make every view that a query may name; a word that is a view's name is enough."""
        words = set(re.findall(r"\w+", text.lower()))
        every = bool(words & {"show", "information_schema", "pg_catalog"}) or "duckdb_" in text.lower()
        for name in self.names():
            if every or name in words:
                self._view(name)
        for name in re.findall(r"\bstored\"?\s*\.\s*\"?(\w+)", text.lower()):
            # The words may stand in a text or a comment; the engine knows what the query means.
            if self._is_stored(name):
                self._stored(name)

    def only(self, level: str, files: Sequence[Path]) -> None:
        """Let a level be some of its files, from now on."""
        self.connection.execute(f"CREATE OR REPLACE VIEW stored.{quoted(level)} AS SELECT * FROM {self._read(files)}")

    def _is_stored(self, name: str) -> bool:
        level = name.removesuffix("_long").removesuffix("_vectors")
        return name in {*_TABLES, *_DERIVED} or level in {*_USUAL, *self.snapshot.levels}

    def everything(self) -> None:
        """Make all views."""
        for name in self.names():
            self._view(name)

    def made(self, name: str) -> bool:
        """Whether a relation of schema ``stored`` was needed."""
        return f"stored.{name}" in self._made

    def files(self) -> list[Path]:
        """The files that the views made so far read."""
        files = self.snapshot.files()
        if self.made("audits"):
            files += self.snapshot.audit_files
        if self.made("fits"):
            files += [fit.path for fit in self.snapshot.fit_files]
        return files

    # --- making them ------------------------------------------------------------------------------------------------

    def _view(self, name: str) -> None:
        if name in self._made:
            return
        self._made.add(name)
        shipped = queries("views").get(name)
        text = shipped.text if shipped else f"SELECT * FROM stored.{quoted(name)}"
        words = set(re.findall(r"\w+", "\n".join(line for line in text.splitlines() if not line.startswith("--"))))
        for other in queries("views"):
            if other in words and other != name and not re.search(rf"stored\.\"?{other}\b", text):
                self._view(other)
        for other in re.findall(r"\bstored\.\"?(\w+)", text):
            self._stored(other)
        self.connection.execute(f"CREATE OR REPLACE VIEW main.{quoted(name)} AS {text}")

    def _stored(self, name: str) -> None:
        if self.made(name):
            return
        self._made.add(f"stored.{name}")
        if name in _TABLES:
            self._table(name)
            return
        if name == "annotated_cells":
            self._stored("cells")
            self._stored("cell_annotations")
            text = self.annotated_cells()
        elif name == "audits":
            text = self._union(self.snapshot.audit_files, _EMPTY_AUDIT)
        elif name == "fits":
            self._stored("fit_files")
            text = self._union([fit.path for fit in self.snapshot.fit_files], _EMPTY_FIT, "filename = true")
        elif name == "well_metadata":
            text = self._well_metadata()
        else:
            text = self._level(name)
        self.connection.execute(f"CREATE OR REPLACE VIEW stored.{quoted(name)} AS {text}")

    def _table(self, name: str) -> None:
        frame = self._frame(name)
        # A name that no table of the caller's can have.
        self.connection.register(_GIVEN, frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
        self.connection.execute(f"CREATE OR REPLACE TABLE stored.{quoted(name)} AS SELECT * FROM {quoted(_GIVEN)}")
        self.connection.unregister(_GIVEN)

    def _frame(self, name: str) -> pl.DataFrame:
        if name == "partitions":
            return self.snapshot.partition_table()
        if name == "columns":
            return self.snapshot.column_table()
        if name == "annotations":
            return self.snapshot.annotations
        if name == "cell_annotations":
            return self.snapshot.cell_annotations
        return fit_table(self.snapshot.fit_files, self.snapshot.store.path)

    def _read(self, paths: Iterable[Path], *options: str) -> str:
        store = self.snapshot.store.path
        names = [literal(str(self.root / path.relative_to(store))) for path in paths]
        return f"read_parquet([{', '.join(names)}], {', '.join(['hive_partitioning = false', *options])})"

    def _union(self, paths: Sequence[Path], empty: str, *options: str) -> str:
        if not paths:
            return f"SELECT {empty} WHERE false"
        read = self._read(paths, "union_by_name = true", *options)
        return f"SELECT {empty} WHERE false UNION ALL BY NAME SELECT * FROM {read}"

    def _level(self, name: str) -> str:
        if name in self.snapshot.levels:
            paths = [partition.path for partition in self.snapshot.levels[name]]
            options = [] if self.snapshot.uniform(name) else ["union_by_name = true"]
            return f"SELECT * FROM {self._read(paths, *options)}"
        if name in _USUAL:
            keys = {"cells": (BATCH, *KEYS), "consensus": (BATCH, PLATE)}.get(name, PLACE)
            types = [f"NULL::{'BIGINT' if key in _NUMBERS else 'VARCHAR'} AS {key}" for key in keys]
            return f"SELECT {', '.join(types)} WHERE false"
        for suffix, make in (("_long", self._long), ("_vectors", self._vectors)):
            level = name.removesuffix(suffix)
            if level != name and (level in self.snapshot.levels or level in _USUAL):
                self._stored("annotated_cells" if level == "cells" else level)
                return make(level)
        raise RecipeError.unknown("relation of schema stored", name, [*_TABLES, *_DERIVED, *self.snapshot.levels])

    def _columns(self, level: str) -> tuple[list[str], list[str]]:
        """Expressions for the metadata columns, the places always among them, and the names of the features."""
        if level not in self.snapshot.levels:
            return [f"NULL::VARCHAR AS {key}" for key in PLACE], []
        own = [name for name in self.snapshot.columns(level) if is_metadata(name)]
        if level == "cells":
            own += [name for name in self.snapshot.cell_annotations.columns if name not in PLACE]
        places = [quoted(key) if key in own else f"NULL::VARCHAR AS {key}" for key in PLACE]
        rest = [quoted(name) for name in own if name not in PLACE]
        return [*places, *rest], self.snapshot.numbers(level)

    def _source(self, level: str) -> str:
        return "stored.annotated_cells" if level == "cells" else f"stored.{quoted(level)}"

    def _long(self, level: str) -> str:
        metadata, features = self._columns(level)
        if not features:
            return f"SELECT {', '.join(metadata)}, NULL::VARCHAR AS feature, NULL::DOUBLE AS value WHERE false"
        names = ", ".join(quoted(name) for name in features)
        types = self.snapshot.columns(level)
        source = self._source(level)
        if len({types[name] for name in features}) > 1:
            values = [f"{quoted(name)}::DOUBLE AS {quoted(name)}" for name in features]
            source = f"(SELECT * REPLACE ({', '.join(values)}) FROM {source})"
        # Casting after the turn, not before: planning thousands of casts takes ten times as long as running them.
        return (
            f"SELECT {', '.join(metadata)}, feature, value::DOUBLE AS value "
            f"FROM {source} UNPIVOT (value FOR feature IN ({names}))"
        )

    def _vectors(self, level: str) -> str:
        metadata, features = self._columns(level)
        if not features:
            return f"SELECT {', '.join(metadata)}, NULL::DOUBLE[] AS vector WHERE false"
        vector = ", ".join(quoted(name) for name in sorted(features))
        return f"SELECT {', '.join(metadata)}, [{vector}]::DOUBLE[] AS vector FROM {self._source(level)}"

    def _well_metadata(self) -> str:
        """The metadata of wells as name and value: platemaps first, then what the levels' files hold."""
        self._stored("annotations")
        sources = [(0, "stored.annotations", self.snapshot.annotations.columns)]
        for rank, (level, partitions) in enumerate(self.snapshot.levels.items(), 1):
            columns = [name for name in self.snapshot.columns(level) if is_metadata(name)]
            if (
                WELL in columns
                and not set(columns) & (_NUMBERS - {"Metadata_Site"})
                and partitions[0].name.plate != ALL
            ):
                self._stored(level)
                sources.append((rank, f"stored.{quoted(level)}", columns))
        parts = [
            _named_values(rank, source, [name for name in columns if name not in PLACE], columns)
            for rank, source, columns in sources
            if set(columns) - set(PLACE)
        ]
        if not parts:
            empty = ", ".join(f"NULL::VARCHAR AS {name}" for name in ("batch", "plate", "well", "name", "value"))
            return f"SELECT {empty} WHERE false"
        return (
            f"SELECT batch, plate, well, name, any_value(value ORDER BY rank) AS value "
            f"FROM ({' UNION ALL BY NAME '.join(parts)}) GROUP BY ALL"
        )

    def annotated_cells(self, *, bare: bool = False) -> str:
        """Cells with their platemap; bare: with nulls in its place, for a query that looks at none of its columns."""
        own = list(self.snapshot.columns("cells")) if "cells" in self.snapshot.levels else [BATCH, *KEYS]
        metadata = [name for name in own if is_metadata(name)]
        added = self.snapshot.cell_annotations
        names = [name for name in added.columns if name not in PLACE]
        columns = [f"c.{quoted(name)}" for name in metadata]
        if bare:
            described = self.connection.execute("DESCRIBE stored.cell_annotations").fetchall()
            types = {row[0]: row[1] for row in described}
            columns += [f"NULL::{types[name]} AS {quoted(name)}" for name in names]
        else:
            columns += [f"a.{quoted(name)}" for name in names]
        if len(metadata) < len(own):
            columns.append(f"c.* EXCLUDE ({', '.join(map(quoted, metadata))})")
        text = f"SELECT {', '.join(columns)} FROM stored.cells AS c"
        if bare or not names:
            return text
        # A missing key matches a missing key. Where platemaps miss none, = says the same, and lets the engine skip cells.
        same = " AND ".join(
            f"c.{key} {'IS NOT DISTINCT FROM' if added[key].null_count() else '='} a.{key}" for key in PLACE
        )
        return f"{text} LEFT JOIN stored.cell_annotations AS a ON {same}"


def _named_values(rank: int, source: str, names: list[str], columns: Sequence[str]) -> str:
    places = [
        f"{key if key in columns else 'NULL'}::VARCHAR AS {short}"
        for key, short in zip(PLACE, ("batch", "plate", "well"), strict=True)
    ]
    values = [f"{quoted(name)}::VARCHAR AS {quoted(name)}" for name in names]
    listed = ", ".join(quoted(name) for name in names)
    return (
        f"SELECT {rank} AS rank, * FROM (SELECT {', '.join([*places, *values])} FROM {source}) "
        f"UNPIVOT (value FOR name IN ({listed}))"
    )


def write_catalog(store: ProfileStore, path: Path | None, *, absolute: bool) -> Path:
    """Write a ``.duckdb`` file of views; see :meth:`ProfileStore.catalog`."""
    target = store.path / NAME if path is None else path
    if target.exists() and not _is_database(target):
        raise StoreError(f"{target}: is there already and no DuckDB file. Hint: give another name, or delete it.")
    patience = time.monotonic() + PATIENCE
    while True:
        snapshot = Snapshot(store)
        try:
            _write(snapshot, target, absolute=absolute)
        except (OSError, StoreError, duckdb.Error) as error:
            if snapshot.changed() and time.monotonic() < patience:
                continue
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{target}: the catalog cannot be written ({error})") from error
        return target


def _is_database(path: Path) -> bool:
    """Whether a file is DuckDB's, or as damaged as it likes under the name that catalogs have."""
    if path.name == NAME or path.is_dir():
        return path.is_file()
    with path.open("rb") as handle:
        return handle.read(12)[8:] == b"DUCK"


def _write(snapshot: Snapshot, target: Path, *, absolute: bool) -> None:
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    options: dict[str, Any] = {"autoload_known_extensions": "false", "autoinstall_known_extensions": "false"}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(str(temporary), config=options) as connection:
            if not absolute:
                # Views are bound when they are made, so their relative names must lead somewhere then, too.
                connection.execute("SET file_search_path = $path", {"path": str(snapshot.store.path.absolute())})
            Catalog(snapshot, connection, None if absolute else Path()).everything()
            connection.execute("CHECKPOINT")
        appear(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
