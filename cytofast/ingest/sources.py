"""What a source is, and which plates are in it: CellProfiler's folders and databases, and tables of profiles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from cytofast.errors import DataError, ProfileWarning, RecipeError, listed
from cytofast.ingest.audit import Audit
from cytofast.ingest.choice import EVERYTHING, Choice
from cytofast.ingest.deepprofiler import has_sites, site_files
from cytofast.ingest.discovery import COMPARTMENTS, discover
from cytofast.ingest.embedding_plates import discover_embeddings
from cytofast.ingest.failures import Failures
from cytofast.ingest.sqlite_file import is_database
from cytofast.ingest.sqlite_plan import discover_databases
from cytofast.ingest.tables import discover_tables, tables_below
from cytofast.ingest.walking import walk

_DATABASES = (".sqlite", ".sqlite3", ".db")
_COMPARTMENT_FILES = ("image.csv", *(f"{name}.csv".lower() for name in COMPARTMENTS))


class PlatePlan(Protocol):
    """What reading a plate will give."""

    @property
    def parts(self) -> int:
        """How many images (of a table, wells) there are to read."""

    @property
    def says(self) -> str:
        """The same in words."""

    def names(self) -> Iterator[tuple[str | None, str | None, str, int]]:
        """Well, site, file and number of each image; of a table, of each well."""

    @property
    def schema(self) -> pl.Schema:
        """The columns of the rows."""

    def cells(self, audit: Audit) -> Iterator[pl.DataFrame]:
        """The rows, in order; the audit is complete after the last."""


class PlateSource(Protocol):
    """One plate of a source."""

    @property
    def batch(self) -> str:
        """The batch's name."""

    @property
    def plate(self) -> str:
        """The plate's barcode."""

    @property
    def level(self) -> str:
        """The level of a store that it becomes."""

    @property
    def compartments(self) -> tuple[str, ...]:
        """The objects that are joined; none in a table."""

    @property
    def choice(self) -> Choice:
        """What is wanted of it."""

    @property
    def named_files(self) -> dict[str, Path]:
        """Its files, under names that are the same wherever they lie."""

    @property
    def places(self) -> list[Path]:
        """The folders or files that it is put together from."""

    @property
    def split(self) -> bool:
        """Whether a part of it may lie in another file or folder beside these."""

    def plan(self) -> PlatePlan:
        """Look at what will be read."""


def find_plates(
    source: str | Path,
    *,
    batch: str | None = None,
    plate: str | None = None,
    compartments: Sequence[str] | None = None,
    choice: Choice = EVERYTHING,
    level: str | None = None,
    failures: Failures | None = None,
) -> list[PlateSource]:
    """Find the plates in a file or below a folder.

    A folder with CellProfiler's CSV files is read as such; one with SQLite files as databases; any other as tables of
    profiles. A folder that holds both of the first two is refused: the same cells may be in it twice. With a mapping
    everything is a table. ``failures`` keeps what is wrong with a file or folder, so that the others can be found.

    Raises
    ------
    DataError
        There is nothing to read, or more than one kind of it.
    """
    root = Path(source)
    failures = failures or Failures()
    wanted = compartments or COMPARTMENTS
    named: dict[str, Any] = {"batch": batch, "plate": plate, "choice": choice, "failures": failures}
    if choice.mapping is not None and root.exists():
        return list(discover_tables(root, level=level, **named))
    if has_sites(root):
        _require_cells(level, root)
        _say_what_is_left(root, "DeepProfiler's .npz files", site_files(root, lambda *_: None))
        return list(discover_embeddings(root, **named))
    if root.is_dir():
        databases, exports = _look(root, failures)
        if databases and exports:
            raise DataError(
                f"{root}: holds CellProfiler's CSV files (in {exports[0].parent}) and SQLite files ({databases[0]}); are they "
                "of the same cells? Hint: give one of them, as a file or a folder."
            )
        if not databases:
            if not exports and _has_tables(root):
                return list(discover_tables(root, level=level, **named))
            _require_cells(level, root)
            return list(discover(root, compartments=wanted, **named))
        _say_what_is_left(root, "SQLite files", databases)
        paths = {path.relative_to(root).as_posix(): path for path in databases}
    elif _is_one_database(root):
        paths = {root.name: root}
    else:
        return list(discover_tables(root, level=level, **named))
    _require_cells(level, root)
    return list(discover_databases(paths, root, compartments=wanted, **named))


def _is_one_database(path: Path) -> bool:
    """Whether a file is a database, and not a table; a :class:`DataError` if it is neither."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder. Hint: give a folder of CellProfiler's output, or a file.")
    if path.name.lower().endswith(_DATABASES) or is_database(path):
        return True
    if path.name.lower() in _COMPARTMENT_FILES:
        raise DataError(f"{path}: one file of an export. Hint: give its folder, {path.parent}, where all of them lie.")
    return False


def _require_cells(level: str | None, root: Path) -> None:
    if level not in (None, "cells"):
        raise RecipeError(
            f"level={level!r}: {root} holds single cells, as CellProfiler wrote them; leave the level away."
        )


def _look(root: Path, failures: Failures) -> tuple[list[Path], list[Path]]:
    """SQLite files, and one file of each folder with CellProfiler's CSV files."""
    databases: list[Path] = []
    exports: list[Path] = []
    unreadable = Failures(keep_going=True)
    for folder, files in walk(root, unreadable.add):
        databases += [folder / name for name in files if name.lower().endswith(_DATABASES) and not name.startswith(".")]
        exports += [folder / name for name in files if name.lower() in _COMPARTMENT_FILES][:1]
    # Where there is no database the folders are walked once more, which says what cannot be read.
    for path, message in unreadable.errors if databases else ():
        failures.add(path, DataError(message))
    return databases, exports


def _say_what_is_left(root: Path, what: str, ingested: list[Path]) -> None:
    """Beside a plate's database its aggregated table is usual; it is no part of the cells."""
    beside = sorted(set(tables_below(root, lambda *_: None)) - set(ingested)) if root.is_dir() else []
    if beside:
        warnings.warn(
            f"{root}: {len(ingested):,} {what} are ingested; {len(beside):,} tables beside them are not read "
            f"({listed([path.name for path in beside], 3)}). Hint: give a table by its own path to ingest it.",
            ProfileWarning,
            stacklevel=5,
        )


def _has_tables(root: Path) -> bool:
    return next(tables_below(root, lambda *_: None), None) is not None
