"""CellProfiler CSV exports as tables of cells: a plan from headers and ``Image.csv``, then the cells, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cytofast import resources
from cytofast.errors import DataError, listed
from cytofast.ingest.audit import Audit
from cytofast.ingest.csv_text import Header, parse_header, read_header_line, require_text_columns
from cytofast.ingest.discovery import ExportFolder, PlateExport
from cytofast.ingest.images import Image, ImageFile, read_images
from cytofast.ingest.joining import Links, find_links
from cytofast.schema import BATCH, IMAGE_NUMBER, OBJECT_NUMBER, PLATE, SITE, TABLE_NUMBER, WELL


@dataclass(frozen=True)
class Site:
    """One image of a plate: where its rows are, and what names them."""

    folder: ExportFolder
    image: Image
    well: str | None
    site: str | None
    table: int
    alone: bool
    """Whether the folder holds no other image."""

    @property
    def order(self) -> tuple[bool, str, bool, int, str, int, int]:
        """Wells, then sites (numbers before text), then tables and images; what has no name comes last."""
        number = self.site is not None and self.site.isascii() and self.site.isdigit()
        return (
            self.well is None,
            self.well or "",
            self.site is None,
            int(self.site or 0) if number else 1 << 62,
            self.site or "",
            self.table,
            self.image.number,
        )


@dataclass(frozen=True)
class Plan:
    """What reading a plate will give: its columns and its sites, known before a single cell is parsed.

    Attributes
    ----------
    features
        Every feature that some file of the plate has, compartment by compartment, in the order of the first file.
    sites
        In the order in which their cells come.
    headers
        The header of each compartment's file.
    links
        How the compartments are joined.
    missing
        How many of the plate's features each file lacks.
    """

    export: PlateExport
    features: tuple[str, ...]
    sites: tuple[Site, ...]
    headers: Mapping[Path, Header]
    image_files: Mapping[Path, ImageFile]
    links: Links
    missing: Mapping[Path, int]

    @property
    def schema(self) -> pl.Schema:
        """Columns of the cells: keys, then features in Float32.

        A site is an integer if every site of the plate is one, else text.
        """
        whole = all(site.site is None or (site.site.isascii() and site.site.isdigit()) for site in self.sites)
        keys: dict[str, pl.DataType] = {
            BATCH: pl.String(),
            PLATE: pl.String(),
            WELL: pl.String(),
            SITE: pl.Int64() if whole else pl.String(),
            TABLE_NUMBER: pl.Int64(),
            IMAGE_NUMBER: pl.Int64(),
            OBJECT_NUMBER: pl.Int64(),
        }
        return pl.Schema({**keys, **dict.fromkeys(self.features, pl.Float32())})

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that will be read."""
        return self.export.files

    def cells(self, audit: Audit | None = None) -> Iterator[pl.DataFrame]:
        """Yield the plate's cells, some images at a time, sorted by well, site, table, image and object number.

        Images are parsed side by side, a few ahead of the one that is given out, so that memory does not grow with
        the plate. The number of threads is that of :func:`cytofast.resources.limits`.

        Parameters
        ----------
        audit
            Is told what became of every row; complete after the last frame.

        Raises
        ------
        DataError
            A file is damaged, or an object is claimed twice. Nothing after it is read.
        """
        from cytofast.ingest.reading import read_plate

        yield from read_plate(self, audit if audit is not None else Audit())


def plan(export: PlateExport) -> Plan:
    """Look at the headers and ``Image.csv`` of every folder of a plate.

    Raises
    ------
    DataError
        A file is missing or empty, a header lacks key columns, a folder's name contradicts its ``Image.csv``, two
        exports hold the same image, or there is no compartment at all.
    """
    compartments = export.compartments
    paths = [folder.image for folder in export.folders if folder.image is not None]
    with ThreadPoolExecutor(max(1, resources.current().threads)) as pool:
        image_files = dict(zip(paths, pool.map(lambda path: read_images(path, compartments), paths), strict=True))
    sites = [site for folder in export.folders for site in _sites_of(folder, image_files, export)]
    _require_distinct_images(sites)
    headers = _headers(export)
    if not headers:
        named = ", ".join(f"{name}.csv" for name in compartments)
        raise DataError(
            f"plate {export.plate!r}: {len(sites):,} images, but none has {named} beside its Image.csv "
            f"(first looked in {export.folders[0].path}). Hint: was only the Image table exported or copied?"
        )
    links = _links(export, headers)
    by_compartment: dict[str, dict[str, None]] = {name: {} for name in compartments}
    distinct: dict[tuple[str, int], tuple[str, ...]] = {}
    for folder in export.folders:
        for name, path in folder.objects:
            known = distinct.setdefault((name, id(headers[path])), headers[path].features)
            if len(by_compartment[name]) != len(known) or by_compartment[name].keys() != set(known):
                by_compartment[name].update(dict.fromkeys(known))
    missing = {
        path: len(by_compartment[name]) - len(distinct[name, id(headers[path])])
        for folder in export.folders
        for name, path in folder.objects
    }
    features = tuple(f"{name}_{column}" for name in compartments for column in by_compartment[name])
    ordered = tuple(sorted(sites, key=lambda site: site.order))
    return Plan(export, features, ordered, headers, image_files, links, missing)


def _sites_of(folder: ExportFolder, image_files: Mapping[Path, ImageFile], export: PlateExport) -> Iterator[Site]:
    assert folder.image is not None  # noqa: S101  (discovery refuses folders without Image.csv)
    file = image_files[folder.image]
    for image in file.images:
        if not export.holds(folder, image):
            continue
        for what, said, named in (("well", image.well, folder.well), ("site", image.site, folder.site)):
            if folder.gallery and said is not None and named is not None and said != named:
                raise DataError(
                    f"{folder.image}: Metadata_{what.capitalize()} is {said!r}, but the folder {folder.path.name!r} is "
                    f"of {what} {named!r}. Hint: was a site copied over another?"
                )
        table = folder.table_number if image.table is None else image.table
        yield Site(
            folder, image, image.well or folder.well, image.site or folder.site, table, alone=len(file.images) == 1
        )


def _require_distinct_images(sites: list[Site]) -> None:
    seen: dict[tuple[int, int], Site] = {}
    for site in sites:
        first = seen.setdefault((site.table, site.image.number), site)
        if first is not site:
            raise DataError(
                f"{site.folder.path} and {first.folder.path} both hold TableNumber {site.table}, ImageNumber "
                f"{site.image.number}. Hint: is one export there twice? Keep one of them."
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
    links = find_links(export.compartments, parents, str(first.path))
    checked: set[tuple[str, int]] = set()
    for folder in export.folders:
        for name, path in folder.objects:
            if (name, id(headers[path])) not in checked:
                require_text_columns(headers[path], links.columns.get(name, []), path)
                checked.add((name, id(headers[path])))
    return links
