"""Which folders hold CellProfiler exports, and which plates are in them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytofast.errors import DataError, RecipeError, listed
from cytofast.ingest.choice import EVERYTHING, Choice
from cytofast.ingest.csv_text import is_number
from cytofast.ingest.failures import Failures
from cytofast.ingest.images import Image, read_images
from cytofast.ingest.walking import walk
from cytofast.schema import BATCH, PLATE

if TYPE_CHECKING:
    from cytofast.ingest.plan import Plan

COMPARTMENTS = ("Cells", "Cytoplasm", "Nuclei")
UNBATCHED = "unbatched"

_SITE_FOLDER = re.compile(r"(?:(?P<plate>.+)-)?(?P<well>[A-Za-z]{1,2}[0-9]{1,2})(?:-(?P<site>[0-9]+))?", re.DOTALL)


@dataclass(frozen=True)
class ExportFolder:
    """A folder with ``Image.csv`` and a file for each compartment that was exported."""

    path: Path
    name: str
    """The folder's path relative to its plate: stable wherever the plate lies."""
    image: Path | None
    objects: tuple[tuple[str, Path], ...]
    """``(compartment, file)`` of the files that are there."""
    batch: str | None = None
    plate: str | None = None
    well: str | None = None
    site: str | None = None
    gallery: bool = False
    """The folder's name is the Cell Painting Gallery's, so what it says must agree with ``Image.csv``."""
    database: str | None = None
    """In a database, ``image`` and ``objects`` are all that one file, and this is its table of images."""

    def label(self, path: Path) -> str:
        """What a file is called wherever the plate lies."""
        return self.name if self.database else f"{self.name}/{path.name}"

    @property
    def images_are(self) -> str:
        """What says which images there are, for a note."""
        return f"table {self.database}" if self.database else "Image.csv"

    @property
    def images_at(self) -> str:
        """The same with the file's path, for an error message."""
        return f"{self.image}, table {self.database}," if self.database else str(self.image)

    @property
    def table_number(self) -> int:
        """A number of this export that is the same on every machine, so that equal ImageNumbers do not collide."""
        hashed = hashlib.blake2b(self.name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(hashed, "big") >> 1

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that will be read."""
        return (*((self.image,) if self.image else ()), *(path for _, path in self.objects))


@dataclass(frozen=True)
class PlateExport:
    """One plate of a source: where its files are.

    Several plates may share a folder, where one ``Image.csv`` names images of several plates.
    """

    batch: str
    plate: str
    folders: tuple[ExportFolder, ...]
    compartments: tuple[str, ...]
    named_by: str
    """Who says what the plate is called: Image.csv, a folder's name, or the caller."""
    given: tuple[str | None, str | None] = (None, None)
    """Batch and plate as the caller named them, for images that say nothing."""
    choice: Choice = EVERYTHING
    """What is wanted of the plate."""
    level = "cells"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files whose content decides the plate's cells."""
        return tuple(path for folder in self.folders for path in folder.files)

    @property
    def named_files(self) -> dict[str, Path]:
        """The same under names that are equal wherever the plate lies."""
        return {folder.label(path): path for folder in self.folders for path in folder.files}

    @property
    def places(self) -> list[Path]:
        """The folders, or databases, that it is put together from."""
        return [folder.image if folder.database and folder.image else folder.path for folder in self.folders]

    @property
    def split(self) -> bool:
        """Whether it is put together from several exports; of a single image there must be others."""
        first = self.folders[0]
        if len(self.folders) > 1 or first.database or first.image is None:
            return len(self.folders) > 1
        return first.site is not None or len(read_images(first.image, self.compartments).images) == 1

    def plan(self) -> Plan:
        """Look at what will be read, before a cell is."""
        if any(folder.database for folder in self.folders):
            from cytofast.ingest.sqlite_plan import plan_databases

            return plan_databases(self)
        from cytofast.ingest.cellprofiler import plan

        return plan(self)

    def holds(self, folder: ExportFolder, image: Image) -> bool:
        """Whether an image of a folder is of this plate."""
        return identify(folder, image, *self.given)[:2] == (self.batch, self.plate)


def discover(
    source: str | Path,
    *,
    batch: str | None = None,
    plate: str | None = None,
    compartments: Sequence[str] = COMPARTMENTS,
    choice: Choice = EVERYTHING,
    failures: Failures | None = None,
) -> list[PlateExport]:
    """Find the plates below a folder of CellProfiler CSV exports.

    Three layouts are understood, from any level down: the Cell Painting Gallery's
    ``analysis/<batch>/<plate>/analysis/<plate>-<well>-<site>/{Image,Cells,Cytoplasm,Nuclei}.csv``; one folder
    with these files; and folders of such folders. Plate, well and site come from ``Image.csv``, else from a folder's
    name, else from the arguments.

    Parameters
    ----------
    source
        A folder; links are followed, loops of them end.
    batch, plate
        Names for what neither ``Image.csv`` nor a folder's name tells.
    compartments
        Objects to read, in the order of their columns; the first one (or ``Cells``) numbers the cells.
    choice
        What is wanted; plates that are not are left out.
    failures
        Keeps what is wrong with a folder, so that the others can be found; ``None`` raises it.

    Returns
    -------
    list of PlateExport
        Sorted by batch and plate.

    Raises
    ------
    DataError
        No export is found, or names contradict each other.
    """
    root = Path(source)
    wanted = checked_compartments(compartments)
    failures = failures or Failures()
    if not root.exists():
        raise DataError(f"{root}: no such folder. Hint: give the folder that holds the CellProfiler output.")
    if not root.is_dir():
        raise DataError(f"{root}: a file, but CellProfiler exports are folders with Image.csv and {wanted[0]}.csv.")
    exports = list(_export_folders(root, wanted, failures))
    if not exports and not failures.errors:
        raise DataError(
            f"{root}: no CellProfiler export found in this folder or below. Looked for Image.csv and "
            f"{', '.join(f'{name}.csv' for name in wanted)} in one folder, as in "
            f"analysis/<batch>/<plate>/analysis/<plate>-<well>-<site>/.{_near_misses(root)}"
        )
    named = {}
    for folder in exports:
        with failures.apart(folder.path):
            named[folder] = _plates_of(folder, batch, plate, wanted)
    with failures.apart():
        return plates_in(named, wanted, (batch, plate), choice, root)
    return []


def checked_compartments(compartments: Sequence[str]) -> tuple[str, ...]:
    """Compartments, each once."""
    wanted = tuple(compartments)
    if not wanted or len(set(wanted)) < len(wanted) or "Image" in wanted:
        raise RecipeError(f"compartments={listed(wanted)}: name each object once, for example Cells, Cytoplasm, Nuclei")
    return wanted


def plates_in(
    exports: Mapping[ExportFolder, Mapping[tuple[str, str], str]],
    compartments: tuple[str, ...],
    given: tuple[str | None, str | None],
    choice: Choice,
    root: Path,
) -> list[PlateExport]:
    """Gather the exports of each plate; ``exports`` says which plates each holds, and who named them."""
    plates: dict[tuple[str, str], dict[ExportFolder, str]] = {}
    for folder, names in exports.items():
        for key, named_by in names.items():
            plates.setdefault(key, {})[folder] = named_by
    choice.require_plates((plate for _, plate in plates), str(root))
    return [
        PlateExport(*key, tuple(folders), compartments, ", ".join(sorted(set(folders.values()))), given, choice)
        for key, folders in sorted(plates.items())
        if not choice.plates or key[1] in choice.plates
    ]


def identify(
    folder: ExportFolder, image: Image, batch: str | None = None, plate: str | None = None
) -> tuple[str, str, str]:
    """``(batch, plate, who named the plate)`` of an image, or a :class:`DataError` where two names contradict."""
    if folder.gallery and image.plate not in (None, folder.plate):
        raise DataError(
            f"{folder.image}: Metadata_Plate is {image.plate!r}, but the folder {folder.path.name!r} is of plate "
            f"{folder.plate!r}. Hint: was a site copied into the wrong plate?"
        )
    said_plate = image.plate or folder.plate
    said_batch = image.batch or folder.batch
    for column, said, given in ((PLATE, said_plate, plate), (BATCH, said_batch, batch)):
        if given is not None and said not in (None, given):
            raise DataError(
                f"{folder.path}: {column} is {said!r} here, but {given!r} was asked for. "
                f"Hint: leave the name away; it is only for exports that do not tell it."
            )
    named_by = folder.images_are if image.plate else "the folder's name" if folder.plate or not plate else "the caller"
    absolute = Path(os.path.abspath(folder.path))  # noqa: PTH100  (a link keeps the name that it has here)
    fallback = absolute.name if folder.name == "." else absolute.parent.name
    if folder.database and folder.image is not None:
        fallback, named_by = folder.image.stem, named_by.replace("folder", "file")
    return said_batch or batch or UNBATCHED, said_plate or plate or fallback, named_by


def _plates_of(
    folder: ExportFolder, batch: str | None, plate: str | None, compartments: tuple[str, ...]
) -> dict[tuple[str, str], str]:
    if folder.image is None:
        raise DataError(
            f"{folder.path}: holds {listed(path.name for _, path in folder.objects)} but no Image.csv, which says of "
            f"which plate and well the objects are. Hint: export the Image table too."
        )
    if folder.gallery:
        # The path tells; that Image.csv agrees is checked when it is read, so that discovering a screen stays quick.
        assert folder.plate is not None  # noqa: S101  (for the type checker: _named sets it)
        unsaid = Image(0, None, None, None, None, None, {})
        found = identify(folder, unsaid, batch, plate)
        return {found[:2]: found[2]}
    images = read_images(folder.image, compartments).images
    return plates_of_images(folder, images, batch, plate)


def plates_of_images(
    folder: ExportFolder, images: Sequence[Image], batch: str | None, plate: str | None
) -> dict[tuple[str, str], str]:
    """The plates that an export's images are of, and who named them."""
    named = [identify(folder, image, batch, plate) for image in images]
    return {(of_batch, of_plate): named_by for of_batch, of_plate, named_by in named}


def _export_folders(root: Path, compartments: tuple[str, ...], failures: Failures) -> Iterator[ExportFolder]:
    lowered = {f"{name}.csv".lower(): name for name in compartments}
    absolute = Path(os.path.abspath(root))  # noqa: PTH100  (resolve would replace a link's name by its target's)
    for here, files in walk(root, failures.add):
        images = [name for name in files if name.lower() == "image.csv"]
        objects = sorted((lowered[name.lower()], name) for name in files if name.lower() in lowered)
        for names in (images, [of for of, _ in objects]):
            if len(names) > len(set(names)) or len(images) > 1:
                raise DataError(f"{here}: two files differ only in the case of their names. Hint: keep one of them.")
        if images or objects:
            relative = here.relative_to(root)
            named = _named(absolute / relative, relative)
            order = {name: i for i, name in enumerate(compartments)}
            yield ExportFolder(
                here,
                image=here / images[0] if images else None,
                objects=tuple((of, here / name) for of, name in sorted(objects, key=lambda pair: order[pair[0]])),
                **named,
            )


def _named(path: Path, relative: Path) -> dict[str, Any]:
    """Tell what the names of a folder and of those above it tell."""
    match = _SITE_FOLDER.fullmatch(path.name)
    above, plate_folder = path.parent, path.parent.parent
    if above.name == "analysis" and plate_folder.name and path.name.startswith(f"{plate_folder.name}-"):
        rest = _SITE_FOLDER.fullmatch(path.name.removeprefix(f"{plate_folder.name}-"))
        if rest and rest["plate"] is None:
            batch_folder = plate_folder.parent
            batch = batch_folder.name if batch_folder.parent.name == "analysis" else None
            return {
                "name": path.name,
                "batch": batch,
                "plate": plate_folder.name,
                "well": _well(rest["well"]),
                "site": _site(rest["site"]),
                "gallery": True,
            }
    if match is None or match["site"] is None:
        return {"name": relative.as_posix()}
    return {
        "name": relative.as_posix(),
        "plate": match["plate"],
        "well": _well(match["well"]),
        "site": _site(match["site"]),
    }


def _well(name: str) -> str:
    letters = name.rstrip("0123456789")
    return f"{letters.upper()}{int(name.removeprefix(letters)):02d}"


def _site(number: str | None) -> str | None:
    return number if number is None or not is_number(number) else str(int(number))


def _near_misses(root: Path) -> str:
    """Give a hint where files look like an export with a prefix, or are of another kind."""
    for folder, files in walk(root):
        for name in files:
            if name.lower().endswith("image.csv"):
                prefix = name[: -len("image.csv")]
                return f" Hint: {folder / name} has the prefix {prefix!r}; rename the files without it."
            if name.lower().endswith((".sqlite", ".db", ".parquet")):
                return f" Hint: {folder / name} is no CSV; export with ExportToSpreadsheet."
    return ""
