"""What reading a plate of CellProfiler will give, whatever the format: its sites, its columns, and its cells in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cytofast import resources
from cytofast.errors import DataError, listed
from cytofast.ingest.audit import Audit
from cytofast.ingest.choice import Choice
from cytofast.ingest.csv_text import is_number
from cytofast.ingest.discovery import ExportFolder, PlateExport
from cytofast.ingest.images import Image, ImageFile
from cytofast.ingest.joining import Links
from cytofast.ingest.sampling import sample_wells
from cytofast.schema import BATCH, IMAGE_NUMBER, OBJECT_NUMBER, PLATE, SITE, TABLE_NUMBER, WELL

_BATCH_BYTES = 8 << 20
"""Cells are given out in frames of at least this size, less where the memory budget is small."""


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
    def where(self) -> Path:
        """The folder or file that it is in."""
        return self.folder.image if self.folder.database and self.folder.image else self.folder.path

    @property
    def order(self) -> tuple[bool, str, bool, int, str, int, int]:
        """Wells, then sites (numbers before text), then tables and images; what has no name comes last."""
        number = self.site is not None and is_number(self.site)
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
        Every feature that some file of the plate has and that is wanted, compartment by compartment.
    sites
        In the order in which their cells come.
    links
        How the compartments are joined.
    left_out
        Sites that are there and are not read, and why.
    """

    export: PlateExport
    features: tuple[str, ...]
    sites: tuple[Site, ...]
    left_out: tuple[tuple[Site, str], ...]
    links: Links
    image_files: Mapping[ExportFolder, ImageFile]

    @property
    def schema(self) -> pl.Schema:
        """Columns of the cells: keys, then features in Float32.

        A site is an integer if every site of the plate is one, else text.
        """
        every = (*self.sites, *(site for site, _ in self.left_out))
        whole = all(site.site is None or is_number(site.site) for site in every)
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
    def parts(self) -> int:
        """How many images there are to read."""
        return len(self.sites)

    @property
    def says(self) -> str:
        """What will be read, for an error message."""
        return f"{len(self.sites):,} images"

    def names(self) -> Iterator[tuple[str | None, str | None, str, int]]:
        """Well, site, file and number of every image that is read and has objects."""
        for site in self.sites:
            if site.folder.objects and site.folder.image is not None:
                yield site.well, site.site, site.folder.label(site.folder.image), site.image.number

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
        audit = audit if audit is not None else Audit()
        frames = _gathered(self.read(audit))
        choice = self.export.choice
        yield from sample_wells(frames, choice, audit) if choice.cells_per_well else frames
        audit.add(_not_read(self, site, why) for site, why in self.left_out)

    def read(self, audit: Audit) -> Iterator[pl.DataFrame]:
        """Yield the cells of some sites after the other, features in float32."""
        raise NotImplementedError


def _gathered(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Small frames put together: each costs whoever takes it as much as a large one."""
    at_once = max(1, min(_BATCH_BYTES, resources.current().working_bytes // 32))
    waiting: list[pl.DataFrame] = []
    held = 0
    for frame in frames:
        waiting.append(frame)
        held += 4 * frame.height * frame.width
        if held >= at_once:
            yield _whole(waiting)
            waiting, held = [], 0
    if waiting:
        yield _whole(waiting)


def _whole(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames) if len(frames) > 1 else frames[0]


def _not_read(plan: Plan, site: Site, why: str) -> dict[str, object]:
    assert site.folder.image is not None  # noqa: S101  (discovery refuses folders without images)
    return {
        "batch": plan.export.batch,
        "plate": plan.export.plate,
        "well": site.well,
        "site": site.site,
        "table_number": site.table,
        "image_number": site.image.number,
        "file": site.folder.label(site.folder.image),
        "compartment": "Image",
        "rows_read": 1,
        "rows_joined": 0,
        "orphans": 1,
        "columns_missing": 0,
        "bytes": None,
        "digest": None,
        "note": why,
    }


def sites_of(
    export: PlateExport, image_files: Mapping[ExportFolder, ImageFile]
) -> tuple[tuple[Site, ...], tuple[tuple[Site, str], ...]]:
    """All images of a plate: those that are wanted, in order, and those that are not, and why.

    Raises
    ------
    DataError
        A folder's name contradicts its images, one image is there twice, or a well or site that is wanted is not there.
    """
    every = [site for folder in export.folders for site in _of_folder(folder, image_files[folder], export)]
    choice = export.choice
    if choice.duplicates == "refuse":
        _require_distinct(every)
    choice.require_places(((site.well, site.site) for site in every), f"plate {export.plate!r}")
    left_out = [(site, "not asked for, and not read") for site in every if not choice.holds(site.well, site.site)]
    wanted, again = _first_exports([site for site in every if choice.holds(site.well, site.site)], choice)
    if not wanted:
        raise DataError(
            f"plate {export.plate!r}: no image is of the wells {listed(choice.wells)} and sites {listed(choice.sites)}."
        )
    _require_distinct(wanted)
    wanted.sort(key=lambda site: site.order)
    left_out.sort(key=lambda pair: pair[0].order)
    return tuple(wanted), (*left_out, *again)


def _first_exports(sites: Sequence[Site], choice: Choice) -> tuple[list[Site], list[tuple[Site, str]]]:
    """Tell images that are in two exports, as if they were segmented twice: their cells would be counted twice."""
    first: dict[tuple[str, str, int], Site] = {}
    wanted: list[Site] = []
    again: list[tuple[Site, str]] = []
    for site in sites:
        if site.well is None or site.site is None:
            wanted.append(site)
            continue
        before = first.setdefault((site.well, site.site, site.image.number), site)
        if before.folder is site.folder:
            wanted.append(site)
        elif choice.duplicates == "first":
            again.append((site, f"the same image as in {before.folder.name}, set aside"))
        else:
            raise DataError(
                f"{site.where} and {before.where} both hold well {site.well}, site {site.site} as ImageNumber "
                f"{site.image.number}: two exports, or two segmentations, of the same images? Their cells would be counted "
                "twice. Hint: give one of them; or keep the first and count the other, with duplicates='first' "
                "(--duplicates first)."
            )
    return wanted, again


def _of_folder(folder: ExportFolder, file: ImageFile, export: PlateExport) -> Iterator[Site]:
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


def _require_distinct(sites: Sequence[Site]) -> None:
    seen: dict[tuple[int, int], Site] = {}
    for site in sites:
        first = seen.setdefault((site.table, site.image.number), site)
        if first is not site:
            raise DataError(
                f"{site.where} and {first.where} both hold TableNumber {site.table}, ImageNumber "
                f"{site.image.number}. Hint: is one export there twice? Keep one of them."
            )
