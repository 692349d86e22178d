"""CellProfiler SQLite files as plates: which are in them, and what reading one will give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cytofast.errors import DataError
from cytofast.ingest.audit import Audit
from cytofast.ingest.cellprofiler import columns_differ
from cytofast.ingest.choice import EVERYTHING, Choice
from cytofast.ingest.discovery import (
    COMPARTMENTS,
    ExportFolder,
    PlateExport,
    checked_compartments,
    plates_in,
    plates_of_images,
)
from cytofast.ingest.failures import Failures
from cytofast.ingest.images import ImageFile
from cytofast.ingest.joining import find_links
from cytofast.ingest.plan import Plan, sites_of
from cytofast.ingest.sqlite_shape import Shape, shape_of


@dataclass(frozen=True)
class DatabasePlan(Plan):
    """A plan of SQLite files."""

    shapes: Mapping[ExportFolder, Shape]
    missing: Mapping[tuple[str, str], int]
    """How many of the plate's features a file lacks, by the file's name and the compartment."""

    def read(self, audit: Audit) -> Iterator[pl.DataFrame]:
        """Yield the cells of some sites after the other, features in float32."""
        from cytofast.ingest.sqlite_reading import read_databases

        return read_databases(self, audit)


def discover_databases(
    paths: Mapping[str, Path],
    root: Path,
    *,
    batch: str | None = None,
    plate: str | None = None,
    compartments: Sequence[str] = COMPARTMENTS,
    choice: Choice = EVERYTHING,
    failures: Failures | None = None,
) -> list[PlateExport]:
    """Find the plates in SQLite files.

    Parameters
    ----------
    paths
        Files by names that are the same wherever they lie.
    root
        Where they were looked for.
    batch, plate
        Names for what the files do not tell; a plate without a name is called as its file is.
    compartments, choice, failures
        As in :func:`cytofast.ingest.discovery.discover`.
    """
    wanted = checked_compartments(compartments)
    named: dict[ExportFolder, dict[tuple[str, str], str]] = {}
    failures = failures or Failures()
    for name, path in paths.items():
        with failures.apart(path):
            shape = shape_of(path, wanted)
            objects = tuple((compartment, path) for compartment in wanted)
            folder = ExportFolder(path.parent, name, path, objects, database=shape.image_table)
            named[folder] = plates_of_images(folder, shape.images, batch, plate)
    with failures.apart():
        return plates_in(named, wanted, (batch, plate), choice, root)
    return []


def plan_databases(export: PlateExport) -> DatabasePlan:
    """Look at the tables of a plate's files.

    Raises
    ------
    DataError
        A file is damaged, tables lack keys or parents, or two files hold the same image.
    """
    shapes: dict[ExportFolder, Shape] = {}
    for folder in export.folders:
        if folder.image is None:
            raise DataError(f"{folder.path}: no file of images")
        shapes[folder] = shape_of(folder.image, export.compartments)
    files = {folder: ImageFile(shape.images, "", shape.size, shape.has_table) for folder, shape in shapes.items()}
    sites, left_out = sites_of(export, files)
    found: dict[str, dict[str, None]] = {name: {} for name in export.compartments}
    first = next(iter(shapes.values()))
    parents = {name: list(table.parents) for name, table in first.objects.items()}
    links = find_links(export.compartments, parents, str(first.path), export.choice.duplicates)
    for shape in shapes.values():
        for name, table in shape.objects.items():
            known = tuple(table.features)
            if found[name] and export.choice.strict and found[name].keys() != set(known):
                raise columns_differ(shape.path, known, first.path, list(found[name]))
            found[name].update(dict.fromkeys(known))
            absent = [
                column for column in links.columns.get(name, []) if column.removeprefix("Parent_") not in table.parents
            ]
            if absent:
                raise DataError(
                    f"{shape.path}, table {table.table}: no column {name}_{absent[0]}, which {first.path.name} has."
                )
    features = tuple(feature for name in export.compartments for feature in found[name])
    missing = {
        (folder.name, name): len(found[name]) - len(table.features)
        for folder, shape in shapes.items()
        for name, table in shape.objects.items()
    }
    chosen = export.choice.of_features(features, f"plate {export.plate!r}")
    return DatabasePlan(export, chosen, sites, left_out, links, files, shapes, missing)
