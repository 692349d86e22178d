"""CellProfiler CSV exports as tables of cells: a plan from headers and ``Image.csv``, then the cells, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cytofast import resources
from cytofast.errors import DataError, SchemaError, listed
from cytofast.ingest.audit import Audit
from cytofast.ingest.csv_text import Header, parse_header, read_header_line, require_text_columns
from cytofast.ingest.discovery import PlateExport
from cytofast.ingest.images import read_images
from cytofast.ingest.joining import Links, find_links
from cytofast.ingest.plan import Plan, sites_of


@dataclass(frozen=True)
class CsvPlan(Plan):
    """A plan of CSV files.

    Attributes
    ----------
    headers
        The header of each compartment's file.
    missing
        How many of the plate's features each file lacks.
    """

    headers: Mapping[Path, Header]
    missing: Mapping[Path, int]

    def read(self, audit: Audit) -> Iterator[pl.DataFrame]:
        """Yield the cells of some sites after the other, features in float32."""
        from cytofast.ingest.reading import read_sites

        return read_sites(self, audit)


def plan(export: PlateExport) -> CsvPlan:
    """Look at the headers and ``Image.csv`` of every folder of a plate.

    Raises
    ------
    DataError
        A file is missing or empty, a header lacks key columns, a folder's name contradicts its ``Image.csv``, two
        exports hold the same image, or there is no compartment at all.
    """
    compartments = export.compartments
    read = {folder: folder.image for folder in export.folders if folder.image is not None}
    with ThreadPoolExecutor(max(1, resources.current().threads)) as pool:
        files = pool.map(lambda path: read_images(path, compartments), read.values())
        image_files = dict(zip(read, files, strict=True))
    sites, left_out = sites_of(export, image_files)
    headers = _headers(export)
    if not headers:
        named = ", ".join(f"{name}.csv" for name in compartments)
        raise DataError(
            f"plate {export.plate!r}: {len(sites) + len(left_out):,} images, but none has {named} beside its Image.csv "
            f"(first looked in {export.folders[0].path}). Hint: was only the Image table exported or copied?"
        )
    links = _links(export, headers)
    by_compartment: dict[str, dict[str, None]] = {name: {} for name in compartments}
    distinct: dict[tuple[str, int], tuple[str, ...]] = {}
    first: dict[str, Path] = {}
    for folder in export.folders:
        for name, path in folder.objects:
            known = distinct.setdefault((name, id(headers[path])), headers[path].features)
            if len(by_compartment[name]) != len(known) or by_compartment[name].keys() != set(known):
                if name in first and export.choice.strict:
                    raise columns_differ(path, known, first[name], list(by_compartment[name]))
                by_compartment[name].update(dict.fromkeys(known))
            first.setdefault(name, path)
    missing = {
        path: len(by_compartment[name]) - len(distinct[name, id(headers[path])])
        for folder in export.folders
        for name, path in folder.objects
    }
    features = tuple(f"{name}_{column}" for name in compartments for column in by_compartment[name])
    chosen = export.choice.of_features(features, f"plate {export.plate!r}")
    return CsvPlan(export, chosen, sites, left_out, links, image_files, headers, missing)


def columns_differ(path: Path, columns: Sequence[str], first: Path, known: Sequence[str]) -> SchemaError:
    """Say how the columns of a file differ from those of the first one; for ``strict``."""
    more = [name for name in columns if name not in set(known)]
    less = [name for name in known if name not in set(columns)]
    told = [f"{what} {listed(names)}" for what, names in (("has besides", more), ("lacks", less)) if names]
    return SchemaError(
        f"{path}: other columns than {first}: {' and '.join(told)}. Hint: without strict, all columns are kept, with "
        "nulls where a file lacks one, and counted."
    )


def _headers(export: PlateExport) -> dict[Path, Header]:
    """Headers of all files. Most are the same bytes, which are taken apart once."""
    seen: dict[bytes, Header] = {}
    found: dict[Path, Header] = {}
    for folder in export.folders:
        present = [name for name, _ in folder.objects]
        absent = [name for name in export.compartments if name not in present]
        if present and absent:
            raise DataError(
                f"{folder.path}: {listed([f'{name}.csv' for name in absent])} is missing, but {listed(present)} are "
                f"there. Hint: copy the file again, or choose other compartments."
            )
        for _, path in folder.objects:
            line = read_header_line(path)
            header = seen.get(line)
            if header is None:
                header = seen[line] = parse_header(line, path)
                require_text_columns(header, ["ImageNumber", "ObjectNumber"], path)
            own_table = "TableNumber" in header.position
            if folder.image is not None and own_table != read_images(folder.image, export.compartments).has_table:
                raise DataError(
                    f"{path}: {'has' if own_table else 'lacks'} a column TableNumber and {folder.image.name} does not "
                    f"agree. Hint: export objects and images with the same settings."
                )
            found[path] = header
    return found


def _links(export: PlateExport, headers: Mapping[Path, Header]) -> Links:
    first = next(folder for folder in export.folders if folder.objects)
    parents = {
        name: [c for c in export.compartments if f"Parent_{c}" in headers[path].position]
        for name, path in first.objects
    }
    links = find_links(export.compartments, parents, str(first.path), export.choice.duplicates)
    checked: set[tuple[str, int]] = set()
    for folder in export.folders:
        for name, path in folder.objects:
            if (name, id(headers[path])) not in checked:
                require_text_columns(headers[path], links.columns.get(name, []), path)
                checked.add((name, id(headers[path])))
    return links
