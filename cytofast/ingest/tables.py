"""Tables of cells, wells or profiles that others made: which plates are in them, and of which level they are.

CytoTable and pycytominer write the same things under many names; here they get the names of :mod:`cytofast.schema`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.ingest.choice import Choice
from cytofast.ingest.discovery import UNBATCHED
from cytofast.ingest.endings import kind_of
from cytofast.ingest.failures import Failures
from cytofast.ingest.file_state import FileState, require_unchanged, state_of
from cytofast.ingest.flags import name_flags
from cytofast.ingest.images import table_number
from cytofast.ingest.mapping import ColumnMapping, read_mapped
from cytofast.ingest.profiles import read_profiles
from cytofast.ingest.readable import readable
from cytofast.ingest.walking import OnTrouble, refuse, walk
from cytofast.metadata_tables import PLATE_NAMES, WELL_NAMES
from cytofast.schema import (
    BATCH,
    IMAGE_NUMBER,
    OBJECT_NUMBER,
    PLATE,
    SITE,
    TABLE_NUMBER,
    WELL,
    is_metadata,
    normalize_wells,
)

if TYPE_CHECKING:
    from cytofast.ingest.table_reading import TablePlan

KEYS = (BATCH, PLATE, WELL, SITE, TABLE_NUMBER, IMAGE_NUMBER, OBJECT_NUMBER)
ROW = "row of the file"
"""What the number of a row is called in the frames given here."""
_NAMES: dict[str, tuple[str, ...]] = {
    BATCH: (BATCH, "Image_Metadata_Batch"),
    PLATE: (*PLATE_NAMES, "Image_Metadata_Plate", "Image_Metadata_Barcode"),
    WELL: (*WELL_NAMES, "Image_Metadata_Well"),
    SITE: (SITE, "Image_Metadata_Site", "Metadata_Field", "Image_Metadata_FieldID"),
    TABLE_NUMBER: (TABLE_NUMBER, "TableNumber"),
    IMAGE_NUMBER: (IMAGE_NUMBER, "ImageNumber"),
    OBJECT_NUMBER: (
        OBJECT_NUMBER,
        "Metadata_Cells_Number_Object_Number",
        "Metadata_Nuclei_Number_Object_Number",
        "ObjectNumber",
        "Cells_Number_Object_Number",
        "Nuclei_Number_Object_Number",
    ),
}
_MOST = 2.0**63
_INDEX = re.compile(r"__index_level_[0-9]+__|Unnamed: [0-9]+|")
"""What pandas calls a column that only counts rows."""
_SELECTED = re.compile(r"feature_?select|featselect")
_NORMALIZED = re.compile(r"normali[sz]ed")
_IN_FOLDERS = ("parquet", "gct", "gctx", "h5ad")
_TEXT_IN_FOLDERS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
"""``.txt`` is left out: it may be anything."""


@dataclass(frozen=True)
class TableFile:
    """A file of profiles with its keys under their usual names."""

    path: Path
    label: str
    level: str
    keys: pl.DataFrame
    """One row a row of the file: :data:`KEYS`; what the file does not tell is null."""
    renamed: dict[str, str]
    """Key -> column of the file."""
    notes: tuple[str, ...]
    state: FileState
    mapping: ColumnMapping | None = None

    def open(self) -> pl.LazyFrame:
        """The whole table, as it is in the file or as a mapping calls its columns; it must be that whose keys were read."""
        require_unchanged(self.path, self.state)
        return _opened(self.path, self.state, self.mapping)


@dataclass(frozen=True)
class TableSource:
    """The rows of one plate, in one table or several."""

    batch: str
    plate: str
    level: str
    files: tuple[TableFile, ...]
    choice: Choice
    compartments: tuple[str, ...] = ()

    @property
    def named_files(self) -> dict[str, Path]:
        """Its files, under names that are the same wherever they lie."""
        return {file.label: file.path for file in self.files}

    @property
    def places(self) -> list[Path]:
        """The files that it is put together from."""
        return [file.path for file in self.files]

    @property
    def split(self) -> bool:
        """Whether it is put together from several files."""
        return len(self.files) > 1

    def plan(self) -> TablePlan:
        """Look at the keys of every row, before a feature is read."""
        from cytofast.ingest.table_reading import plan_table

        return plan_table(self)


def discover_tables(
    root: Path,
    *,
    batch: str | None,
    plate: str | None,
    choice: Choice,
    level: str | None,
    failures: Failures | None = None,
) -> list[TableSource]:
    """Find the plates in a table, or in all tables below a folder.

    Parameters
    ----------
    root
        A file, or a folder: in the layout of JUMP's production, ``profiles/<batch>/<plate>/<plate>.parquet`` names batch
        and plate where the tables do not.
    batch, plate
        Names for what neither tables nor folders tell.
    choice
        What is wanted; plates that are not are left out.
    level
        The level of all tables. ``None``: cells where a column numbers the objects; where a well has one row,
        ``normalized`` or (selected features) ``profiles`` if the file's name says so, else ``wells``.
    failures
        Keeps what is wrong with a file, so that the others can be found; ``None`` raises it.

    Raises
    ------
    DataError
        There is no table, or one has no wells or plates; the message names the file.
    """
    failures = failures or Failures()
    paths = list(tables_below(root, failures.add)) if root.is_dir() else [root]
    if not paths and not failures.errors:
        raise DataError(
            f"{root}: no file here or below that cytofast reads: {', '.join(_TEXT_IN_FOLDERS)}, .parquet, ..."
        )
    if not root.is_dir():
        _require_table(root)
    plates: dict[tuple[str, str, str], list[TableFile]] = {}
    for path in paths:
        label = path.relative_to(root).as_posix() if root.is_dir() else path.name
        with failures.apart(path):
            file = _table_file(path, label, batch, plate, level, choice.mapping)
            for key in file.keys.select(BATCH, PLATE).unique(maintain_order=True).rows():
                plates.setdefault((file.level, *key), []).append(file)
    with failures.apart():
        choice.require_plates((of_plate for _, _, of_plate in plates), str(root))
    levels = sorted({of_level for of_level, _, _ in plates})
    if len(levels) > 1 and choice.cells_per_well:
        raise RecipeError(f"{root}: holds tables of {listed(levels)}; cells_per_well is for cells alone")
    return [
        TableSource(of_batch, of_plate, of_level, tuple(files), choice)
        for (of_level, of_batch, of_plate), files in sorted(plates.items(), key=lambda item: item[0])
        if not choice.plates or of_plate in choice.plates
    ]


def tables_below(root: Path, trouble: OnTrouble = refuse) -> Iterator[Path]:
    """Files below a folder that look like tables of profiles; links are followed, loops of them end, hidden files are not."""
    for folder, files in walk(root, trouble):
        for name in files:
            path = folder / name
            if name.startswith("."):
                continue
            try:
                kind = kind_of(path)
            except RecipeError:
                continue
            if kind in _IN_FOLDERS or name.lower().endswith(_TEXT_IN_FOLDERS):
                yield path


def _require_table(path: Path) -> None:
    try:
        kind_of(path)
    except RecipeError as error:
        raise DataError(
            f"{path}: what is this? cytofast ingests folders of CellProfiler's CSV files, SQLite files, and tables of cells, "
            "wells or profiles. Hint: a table's name must end in .parquet, .csv, .csv.gz, .tsv, .gct, .h5ad, ..."
        ) from error


@lru_cache(maxsize=4)
def _opened(path: Path, _state: FileState, mapping: ColumnMapping | None) -> pl.LazyFrame:
    # A file with many plates is opened once: text is parsed then.
    return name_flags(read_profiles(path) if mapping is None else read_mapped(path, mapping), path)


def _table_file(
    path: Path, label: str, batch: str | None, plate: str | None, level: str | None, mapping: ColumnMapping | None
) -> TableFile:
    state = state_of(path)
    lazy = _opened(path, state, mapping)
    schema = lazy.collect_schema()
    renamed = {key: name for key, names in _NAMES.items() if (name := next((n for n in names if n in schema), None))}
    if IMAGE_NUMBER not in renamed and not is_metadata(renamed.get(OBJECT_NUMBER, OBJECT_NUMBER)):
        # The mean of the cells' numbers, in a table of wells.
        del renamed[OBJECT_NUMBER]
    if WELL not in renamed:
        hint = (
            "an export of CellProfiler is ingested as a whole folder"
            if "ImageNumber" in schema
            else "cytofast needs Metadata_Plate and Metadata_Well, or names that a mapping file gives"
        )
        raise SchemaError(f"{path}: no column of wells; it starts with {listed(schema.names(), 6)}. Hint: {hint}.")
    with readable(path):
        raw = lazy.select(list(renamed.values())).collect()
    jump = _from_path(path)
    columns = [
        _text(raw, renamed, BATCH, path, batch or jump[0] or UNBATCHED),
        _text(raw, renamed, PLATE, path, plate or jump[1]),
        _wells(raw[renamed[WELL]], path),
        _site(raw, renamed),
        _table_numbers(raw, renamed),
        *(_whole(raw, renamed, key, path) for key in (IMAGE_NUMBER, OBJECT_NUMBER)),
    ]
    keys = pl.DataFrame(columns)
    for name, given in ((PLATE, plate), (BATCH, batch)):
        if name in renamed and given is not None and set(keys[name].to_list()) != {given}:
            raise DataError(
                f"{path}: {name} is {listed(keys[name].unique(maintain_order=True))} here, but {given!r} was asked for. "
                "Hint: leave the name away; it is only for tables that do not tell it."
            )
    for name in (PLATE, WELL):
        if keys[name].null_count():
            row = int(keys[name].is_null().arg_max() or 0) + 1
            said = f"row {row:,} has no {name}" if name in renamed else f"no column {name}"
            raise DataError(f"{path}: {said}. Hint: {'give --plate NAME' if name == PLATE else 'name every well'}.")
    found, notes = _level(path, keys, level)
    if found == "cells" and keys[OBJECT_NUMBER].null_count() == keys.height:
        keys = keys.with_columns(pl.int_range(1, keys.height + 1, eager=True).alias(OBJECT_NUMBER))
        notes = (*notes, "objects are numbered by the rows of the file")
    return TableFile(path, label, found, keys, renamed, notes, state, mapping)


def _from_path(path: Path) -> tuple[str | None, str | None]:
    """Batch and plate in JUMP's layout ``profiles/<batch>/<plate>/<plate>.parquet``."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  (a link keeps the name that it has here)
    folder = absolute.parent
    if absolute.name.split(".", 1)[0] != folder.name and not absolute.name.startswith(f"{folder.name}_"):
        return None, None
    return (folder.parent.name if folder.parent.parent.name in ("profiles", "backend") else None), folder.name


def _text(raw: pl.DataFrame, renamed: dict[str, str], key: str, path: Path, otherwise: str | None) -> pl.Series:
    if key not in renamed:
        return pl.Series(key, [otherwise], dtype=pl.String).new_from_index(0, raw.height)
    column = raw[renamed[key]]
    if column.dtype.is_nested() or column.dtype == pl.Binary:
        raise SchemaError(
            f"{path}: {renamed[key]} holds {column.dtype}, but names are needed. Hint: write them as text."
        )
    if column.dtype.is_float() and ((column % 1) == 0).all() and (column.abs() < _MOST).all():
        column = column.cast(pl.Int64)
    text = column.cast(pl.String)
    text = text.set(text == "", None)
    return (text.fill_null(otherwise) if otherwise else text).alias(key)


def _wells(column: pl.Series, path: Path) -> pl.Series:
    try:
        return normalize_wells(column.alias(WELL))
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from error


def _site(raw: pl.DataFrame, renamed: dict[str, str]) -> pl.Series:
    """Sites are whole numbers if all are, else text."""
    if SITE not in renamed:
        return pl.Series(SITE, [None], dtype=pl.Int64).new_from_index(0, raw.height)
    column = raw[renamed[SITE]].alias(SITE)
    numbers = column.cast(pl.Float64, strict=False)
    whole = (numbers.drop_nulls() % 1 == 0).all() and (numbers.drop_nulls().abs() < _MOST).all()
    if numbers.null_count() > column.null_count() or not whole:
        return column.cast(pl.String)
    return numbers.cast(pl.Int64)


def _table_numbers(raw: pl.DataFrame, renamed: dict[str, str]) -> pl.Series:
    if TABLE_NUMBER not in renamed:
        return pl.Series(TABLE_NUMBER, [None], dtype=pl.Int64).new_from_index(0, raw.height)
    column = raw[renamed[TABLE_NUMBER]].alias(TABLE_NUMBER)
    if column.dtype.is_integer() and column.dtype != pl.UInt64:
        return column.cast(pl.Int64)
    text = column.cast(pl.String)
    known = {name: table_number(name) for name in text.drop_nulls().unique().to_list()}
    return text.replace_strict(known, default=None, return_dtype=pl.Int64) if known else text.cast(pl.Int64)


def _whole(raw: pl.DataFrame, renamed: dict[str, str], key: str, path: Path) -> pl.Series:
    if key not in renamed:
        return pl.Series(key, [None], dtype=pl.Int64).new_from_index(0, raw.height)
    column = raw[renamed[key]].alias(key)
    numbers = column.cast(pl.Float64, strict=False)
    wrong = column.is_not_null() & (numbers.is_null() | (numbers % 1 != 0) | (numbers.abs() >= _MOST))
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(f"{path}, row {row + 1:,}, column {renamed[key]!r}: {column[row]!r} is no whole number.")
    return column.cast(pl.Int64) if column.dtype.is_integer() else numbers.cast(pl.Int64)


def _level(path: Path, keys: pl.DataFrame, told: str | None) -> tuple[str, tuple[str, ...]]:
    """Cells have object numbers; a well or a profile has one row a well."""
    if told is not None:
        return told, ()
    if keys[OBJECT_NUMBER].null_count() < keys.height:
        return "cells", ()
    places = keys.select(BATCH, PLATE, WELL)
    doubled = places.is_duplicated()
    if doubled.any():
        row = places.row(int(doubled.arg_max() or 0))
        raise DataError(
            f"{path}: plate {row[1]}, well {row[2]} has more than one row, and no column numbers objects. Hint: if its rows "
            "are cells, say so (--level cells); if they are sites, aggregate them first."
        )
    name = path.name.lower()
    found = "profiles" if _SELECTED.search(name) else "normalized" if _NORMALIZED.search(name) else "wells"
    return found, (f"level recognised by {'the name of the file' if found != 'wells' else 'one row a well'}",)


def columns_of(file: TableFile) -> tuple[list[str], list[str], list[str]]:
    """Columns beside the keys: metadata, features, and those that are left out because they only count rows."""
    schema = file.open().collect_schema()
    # The number of an object may be one of its features, too.
    keys = {name for name in file.renamed.values() if not name.endswith("_Number_Object_Number") or is_metadata(name)}
    metadata: list[str] = []
    features: list[str] = []
    left_out: list[str] = []
    for name, dtype in schema.items():
        if name in keys:
            continue
        if _INDEX.fullmatch(name):
            left_out.append(name)
        elif is_metadata(name) or not dtype.is_numeric():
            metadata.append(name)
        else:
            features.append(name)
    return metadata, features, left_out
