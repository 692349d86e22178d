"""Which table of a database is which compartment, and what its columns are called in a table of cells.

CellProfiler's ExportToDatabase writes ``Per_Image``, ``Per_Cells``, ... (or all objects side by side in ``Per_Object``),
often with the experiment's name before; cytominer-database writes ``Image``, ``Cells``, ... with ``TableNumber``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cytofast.errors import DataError, listed
from cytofast.ingest.csv_text import KEYS, TEXT_COLUMNS
from cytofast.ingest.file_state import FileState, state_of
from cytofast.ingest.images import Image, image_columns, images_of
from cytofast.ingest.sqlite_file import Database, Table

_TABLE = re.compile(r"(?:(?:.*_)?Per_)?(?P<object>[A-Za-z0-9]+)", re.DOTALL)
_COMBINED = "object"


@dataclass(frozen=True)
class ObjectTable:
    """The rows of one compartment: its table, and what the columns mean."""

    compartment: str
    table: str
    features: dict[str, str]
    """Name in the table of cells -> name in the file."""
    image: str
    number: str
    """Column of the object's number."""
    of_table: str | None
    """Column of the number of the export, where several were put into one file."""
    parents: dict[str, str]
    """Parent -> column with its object number."""
    text_columns: int = 0
    present: str | None = None
    """In a table that holds several compartments side by side: null in this column means no object."""


@dataclass(frozen=True)
class Shape:
    """A database as an export of CellProfiler."""

    path: Path
    image_table: str
    images: tuple[Image, ...]
    has_table: bool
    objects: dict[str, ObjectTable]
    state: FileState

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.state.size


def shape_of(path: Path, compartments: tuple[str, ...]) -> Shape:
    """Look at the tables of a file, and read its images.

    Raises
    ------
    DataError
        The file is damaged, has no table of images or none of the compartments, or an image stands twice.
    """
    return _shape_of(path, compartments, state_of(path))


@lru_cache(maxsize=64)
def _shape_of(path: Path, compartments: tuple[str, ...], state: FileState) -> Shape:
    with Database(path) as database:
        tables = database.tables()
        named = _by_object(tables, {"image", _COMBINED, *(name.lower() for name in compartments)}, path)
        image = named.get("image")
        objects = {name: named[name.lower()] for name in compartments if name.lower() in named}
        if image is None or (not objects and _COMBINED not in named):
            has = f"it has {listed((table.name for table in tables), 12)}" if tables else "it is empty"
            wanted = ", ".join(f"Per_{name} or {name}" for name in ("Image", *compartments))
            raise DataError(
                f"{path}: no export of CellProfiler, whose tables are {wanted}; {has}. "
                "Hint: ingest reads what ExportToDatabase or cytominer-database wrote."
            )
        columns = {_bare(name, "Image"): name for name in image.columns}
        wanted_columns = [name for name in image_columns(compartments) if name in columns]
        if "ImageNumber" not in columns:
            raise DataError(f"{path}, table {image.name}: no column ImageNumber; it has {listed(image.columns)}.")
        text = database.text(image.name, [columns[name] for name in wanted_columns])
        images = images_of(
            text.rename(dict(zip(text.columns, wanted_columns, strict=True))).to_dict(as_series=False),
            compartments,
            f"{path}, table {image.name}",
        )
    if objects:
        absent = [name for name in compartments if name not in objects]
        if absent:
            raise DataError(
                f"{path}: no table of {listed(absent)} beside {listed(table.name for table in objects.values())}. "
                "Hint: choose other compartments (--compartment), or was only a part exported?"
            )
        found = {name: _one_object(name, table, path, list(compartments)) for name, table in objects.items()}
    else:
        found = _side_by_side(named[_COMBINED], compartments, path)
    has_table = "TableNumber" in columns
    for table in found.values():
        if (table.of_table is not None) != has_table:
            raise DataError(
                f"{path}: table {table.table} {'has' if table.of_table else 'lacks'} a column TableNumber and "
                f"{image.name} does not agree. Hint: were the tables put together from different exports?"
            )
    return Shape(path, image.name, images, has_table, found, state)


def _by_object(tables: Sequence[Table], wanted: set[str], path: Path) -> dict[str, Table]:
    """Tables by the object that they are of, in lower case; views only where there is no such table."""
    found: dict[str, Table] = {}
    for table in sorted(tables, key=lambda table: table.view):
        match = _TABLE.fullmatch(table.name)
        if match is None or match["object"].lower() not in wanted:
            continue
        name = match["object"].lower()
        if name in found and not table.view:
            raise DataError(
                f"{path}: tables {found[name].name} and {table.name} are both of {match['object']}, so the file holds two "
                "experiments. Hint: export each into a file of its own."
            )
        found.setdefault(name, table)
    return found


def _bare(column: str, table: str) -> str:
    """A column's name without its table's: ``Image_Metadata_Plate`` is ``Metadata_Plate``."""
    prefix = f"{table}_"
    return column[len(prefix) :] if column.lower().startswith(prefix.lower()) else column


def _one_object(name: str, table: Table, path: Path, compartments: list[str]) -> ObjectTable:
    where = f"{path}, table {table.name}"
    if table.view:
        raise DataError(f"{where}: a view, and not a table. Hint: export the tables that it shows.")
    bare = {_bare(column, name): column for column in table.columns}
    if len(bare) < len(table.columns):
        twice = sorted(set(table.columns) - set(bare.values()))
        raise DataError(f"{where}: {listed(twice)} stand with and without {name}_. Hint: which of them is right?")
    number = next((bare[key] for key in ("ObjectNumber", "Number_Object_Number") if key in bare), None)
    if "ImageNumber" not in bare or number is None:
        raise DataError(
            f"{where}: no column ImageNumber or {name}_Number_Object_Number; it starts with {listed(table.columns, 4)}."
        )
    left_out = [key for key in bare if key.startswith(TEXT_COLUMNS)]
    features = {f"{name}_{key}": column for key, column in bare.items() if key not in (*KEYS, *left_out)}
    parents = {other: bare[f"Parent_{other}"] for other in compartments if f"Parent_{other}" in bare and other != name}
    return ObjectTable(
        name,
        table.name,
        features,
        bare["ImageNumber"],
        number,
        bare.get("TableNumber"),
        parents,
        text_columns=len(left_out),
    )


def _side_by_side(table: Table, compartments: tuple[str, ...], path: Path) -> dict[str, ObjectTable]:
    """``Per_Object``: a row holds what CellProfiler matched by the objects' numbers."""
    where = f"{path}, table {table.name}"
    if table.view:
        raise DataError(f"{where}: a view, and not a table. Hint: export the tables that it shows.")
    for key in ("ImageNumber", "ObjectNumber"):
        if key not in table.columns:
            raise DataError(f"{where}: no column {key}; it starts with {listed(table.columns, 4)}.")
    found: dict[str, ObjectTable] = {}
    for name in compartments:
        own = [column for column in table.columns if column.startswith(f"{name}_")]
        if not own:
            raise DataError(f"{where}: no column {name}_... . Hint: choose other compartments (--compartment).")
        left_out = [column for column in own if _bare(column, name).startswith(TEXT_COLUMNS)]
        numbered = f"{name}_Number_Object_Number"
        found[name] = ObjectTable(
            name,
            table.name,
            {column: column for column in own if column not in left_out},
            "ImageNumber",
            "ObjectNumber",
            "TableNumber" if "TableNumber" in table.columns else None,
            {other: "ObjectNumber" for other in compartments if other != name} if not found else {},
            text_columns=len(left_out),
            present=numbered if numbered in own else own[0],
        )
    return found
