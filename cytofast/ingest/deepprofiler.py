"""DeepProfiler's embeddings: one ``.npz`` a site, with features, locations and metadata, as a table of cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cytofast.blocks import to_frame
from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.ingest.csv_text import is_number
from cytofast.ingest.failures import Failures
from cytofast.ingest.lazily import lazy_parts
from cytofast.ingest.npz import SiteFile, look_at
from cytofast.ingest.walking import OnTrouble, refuse, walk
from cytofast.metadata_tables import name_plates_and_wells, read_metadata_table
from cytofast.schema import (
    BATCH,
    IMAGE_NUMBER,
    MISSING_TEXT,
    OBJECT_NUMBER,
    PLATE,
    SITE,
    TABLE_NUMBER,
    WELL,
    is_metadata,
    normalize_wells,
    require_columns,
)

LOCATION = ("Metadata_Location_Center_X", "Metadata_Location_Center_Y")
"""Where a cell lies in its image, in pixels; metadata, so that no step takes them for features."""
_SITE = re.compile(r"[A-Za-z]{0,8}[0-9]+")
_WELL_SITE = re.compile(rf"([A-Za-z]{{1,2}}[0-9]{{1,3}})_({_SITE.pattern})")
_WELL = re.compile(r"[A-Za-z]{1,2}[0-9]{1,3}")
_PLACE = (PLATE, WELL, SITE)


@dataclass(frozen=True)
class Site:
    """A file, and what its cells are of."""

    file: SiteFile
    metadata: dict[str, Any]
    image: int = 0

    @property
    def order(self) -> tuple[str, str, str, bool, int, str]:
        """Batches and plates, wells, then sites: numbers before text."""
        site = str(self.metadata[SITE])
        number = is_number(site)
        return (
            str(self.metadata.get(BATCH) or ""),
            self.metadata[PLATE],
            self.metadata[WELL],
            not number,
            int(site) if number else 0,
            "" if number else site,
        )


def read_deepprofiler(source: str | Path, *, index: str | Path | None = None, prefix: str = "DP") -> pl.LazyFrame:
    """Read embeddings of DeepProfiler: a site's ``.npz``, or all of them below a folder, one row a cell.

    Plate, well and site are those of the file's metadata, else of its place: ``plate/well_site.npz`` or
    ``plate/well/site.npz``. If both tell a well and a site they must agree. Metadata are pickled in these files; they are read
    without loading the pickle, and only text, numbers, lists and dictionaries are read. A site's cells are numbered in their
    order, their centres are ``Metadata_Location_Center_X`` and ``_Y``. Sites are read when a query reaches them.

    Parameters
    ----------
    source
        A file, or a folder.
    index
        A table with plate, well and site of every file (DeepProfiler's ``index.csv``), in place of the files' own metadata.
    prefix
        Features are called ``DP_0``, ``DP_1`` and so on.

    Raises
    ------
    DataError
        A file is cut off, holds pickled arrays, has another number of features than the others, contradicts its name, or is
        not in the index; or two files hold one site.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "P1"
    >>> folder.mkdir()
    >>> np.savez(folder / "A01_5.npz", features=np.ones((2, 3), np.float32), locations=np.zeros((2, 2)))
    >>> read_deepprofiler(folder).select("Metadata_Plate", "Metadata_Well", "Metadata_Site", "DP_2").collect().row(0)
    ('P1', 'A01', 5, 1.0)
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", prefix) or prefix == "Metadata":
        raise RecipeError(f"prefix={prefix!r} cannot name features; use letters and digits, as in 'DP'")
    sites = sites_below(Path(source), Path(index) if index is not None else None)
    schema = site_schema(sites, prefix)
    return lazy_parts(schema, [partial(site_cells, site, schema) for site in sites])


def has_sites(source: Path) -> bool:
    """Whether a path is a file of DeepProfiler, or a folder with one."""
    if source.is_dir():
        return next(_below(source, lambda *_: None), None) is not None
    return source.name.lower().endswith(".npz") and source.is_file()


def _below(source: Path, trouble: OnTrouble) -> Iterator[Path]:
    for folder, files in walk(source, trouble):
        yield from (folder / name for name in files if name.lower().endswith(".npz") and not name.startswith("."))


def site_files(source: Path, trouble: OnTrouble = refuse) -> list[Path]:
    """The ``.npz`` files at or below a path."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder.")
    found = list(_below(source, trouble))
    if not found:
        raise DataError(f"{source}: no .npz file in this folder or below.")
    return found


def sites_below(
    source: Path, index: Path | None = None, plate: str | None = None, failures: Failures | None = None
) -> list[Site]:
    """Every site, in order, with its metadata."""
    failures = failures or Failures()
    table = None if index is None else _index(index)
    found = []
    for path in site_files(source, failures.add):
        with failures.apart(path):
            file = look_at(path)
            metadata = _metadata(file, plate) if table is None else _indexed(path, table, index)
            found.append(Site(file, metadata))
    sites = sorted(found, key=lambda site: site.order)
    for before, after in pairwise(sites):
        if before.order == after.order:
            what = " ".join(str(before.metadata[name]) for name in _PLACE)
            raise DataError(f"{before.file.path} and {after.file.path} both hold the site {what}. Hint: remove one.")
    numbers: dict[str, int] = {}
    numbered = []
    for site in sites:
        plate = site.metadata[PLATE]
        numbers[plate] = numbers.get(plate, 0) + 1
        numbered.append(Site(site.file, site.metadata, numbers[plate]))
    return numbered


def _place_by_path(path: Path) -> dict[str, str]:
    """Plate, well and site as the path names them, as far as it does."""
    folder = path.absolute().parent
    match = _WELL_SITE.fullmatch(path.stem)
    if match:
        return {PLATE: folder.name, WELL: match[1], SITE: match[2]}
    if _WELL.fullmatch(folder.name) and _SITE.fullmatch(path.stem):
        return {PLATE: folder.parent.name, WELL: folder.name, SITE: path.stem}
    return {}


def _metadata(file: SiteFile, plate: str | None) -> dict[str, Any]:
    """The metadata of a file, with its place; ``plate`` is the plate of files that do not tell theirs themselves."""
    said = {key if is_metadata(key) else f"Metadata_{key}": value for key, value in file.metadata().items()}
    odd = [key for key, value in said.items() if not isinstance(value, str | int | float | bool | None)]
    if odd:
        raise DataError(
            f"{file.path}: metadata {listed(odd)} are no text or number. Hint: give an index= table instead."
        )
    named = _place_by_path(file.path)
    if plate is not None:
        if said.get(PLATE) not in (None, "", plate):
            raise DataError(
                f"{file.path}: its plate is {said[PLATE]!r}, but {plate!r} was asked for. Hint: leave the name away; it is "
                "for files that do not tell it."
            )
        named[PLATE] = plate
    for name in _PLACE:
        if said.get(name) in (None, ""):
            if name not in named:
                raise DataError(
                    f"{file.path}: neither its metadata nor its name tell {name}. Hint: name files plate/well_site.npz, as in "
                    "P1/A01_5.npz, or give an index= table."
                )
            said[name] = named[name]
        elif name in named and name != PLATE and not _same(name, said[name], named[name], file.path):
            raise DataError(
                f"{file.path}: its metadata say {name} {said[name]!r}, its name {named[name]!r}. Hint: was the file renamed "
                "or moved? Put it right, or give an index= table."
            )
    said[PLATE], said[WELL] = str(said[PLATE]), _well(str(said[WELL]), file.path)
    return {key: None if value in MISSING_TEXT else value for key, value in said.items()}


def _same(name: str, one: object, other: str, path: Path) -> bool:
    if name == WELL:
        return _well(str(one), path) == _well(other, path)
    return str(one).lstrip("0") == other.lstrip("0")


@lru_cache(maxsize=4096)
def _normal(text: str) -> str:
    return str(normalize_wells(pl.Series(WELL, [text])).item())


def _well(text: str, path: Path) -> str:
    try:
        return _normal(text)
    except SchemaError as error:
        raise DataError(f"{path}: {error}") from error


def _index(path: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    table = name_plates_and_wells(read_metadata_table(path), str(path))
    require_columns(table.schema, _PLACE, str(path))
    table = table.with_columns(normalize_wells(table[WELL]))
    rows: dict[tuple[str, ...], dict[str, Any]] = {
        (row[PLATE], row[WELL], str(row[SITE]).lstrip("0")): row for row in table.to_dicts()
    }
    if len(rows) < table.height:
        raise DataError(f"{path}: {table.height - len(rows):,} sites stand more than once.")
    return rows


def _indexed(path: Path, table: dict[tuple[str, ...], dict[str, Any]], index: Path | None) -> dict[str, Any]:
    place = _place_by_path(path)
    if not place:
        raise DataError(f"{path}: its name does not tell well and site. Hint: files are named plate/well_site.npz.")
    key = (place[PLATE], _well(place[WELL], path), place[SITE].lstrip("0"))
    if key not in table:
        raise DataError(f"{path}: plate {key[0]}, well {key[1]}, site {place[SITE]} is not in {index}.")
    return table[key]


def site_schema(sites: Sequence[Site], prefix: str) -> pl.Schema:
    """Columns of all sites together: keys, centres, other metadata, features."""
    widths = {site.file.width: site.file.path for site in reversed(sites) if site.file.rows}
    if len(widths) > 1:
        (one, first), (other, second) = list(widths.items())[:2]
        raise DataError(
            f"{first} has {one:,} features and {second} {other:,}. Hint: they are of different models; read each model's folder."
        )
    if not widths:
        raise DataError(f"{sites[0].file.path}: no cells in {'this file' if len(sites) == 1 else 'any of the files'}.")
    wide = any(site.file.dtype.itemsize > 4 or site.file.dtype.kind != "f" for site in sites if site.file.rows)
    whole = all(is_number(str(site.metadata[SITE])) for site in sites)
    keys = {PLATE: pl.String(), WELL: pl.String(), SITE: pl.Int64() if whole else pl.String()}
    numbers = dict.fromkeys((TABLE_NUMBER, IMAGE_NUMBER, OBJECT_NUMBER), pl.Int64())
    centres = dict.fromkeys(LOCATION, pl.Float64()) if any(site.file.located for site in sites) else {}
    others = {name: None for site in sites for name in site.metadata if name not in {*keys, *numbers, *centres}}
    kinds = {name: _type([site.metadata.get(name) for site in sites]) for name in others}
    kind = pl.Float64() if wide else pl.Float32()
    features = {f"{prefix}_{i}": kind for i in range(next(iter(widths)))}
    return pl.Schema({**keys, **numbers, **centres, **kinds, **features})


def _type(values: list[Any]) -> pl.DataType:
    present = {type(value) for value in values if value is not None}
    if present == {bool}:
        return pl.Boolean()
    if present and present <= {int, float}:
        return pl.Int64() if present == {int} else pl.Float64()
    return pl.String()


def site_cells(site: Site, schema: pl.Schema) -> pl.DataFrame:
    """The cells of one site."""
    if not site.file.rows:
        return pl.DataFrame(schema=schema)
    features = {name: dtype for name, dtype in schema.items() if not is_metadata(name)}
    kind = np.float32 if next(iter(features.values())) == pl.Float32 else np.float64
    return site_metadata(site, schema).hstack(to_frame(site.file.features().astype(kind), features))


def site_metadata(site: Site, schema: pl.Schema) -> pl.DataFrame:
    """Keys, centres and other metadata of the cells of a site that has some."""
    rows = site.file.rows
    said = {**site.metadata, TABLE_NUMBER: 0, IMAGE_NUMBER: site.image}
    columns = []
    centres = site.file.locations() if site.file.located else np.full((rows, 2), np.nan)
    for name in schema:
        if name == OBJECT_NUMBER:
            columns.append(pl.Series(name, np.arange(1, rows + 1), dtype=pl.Int64))
        elif name in LOCATION:
            columns.append(pl.Series(name, centres[:, LOCATION.index(name)], nan_to_null=True))
        elif is_metadata(name):
            columns.append(_constant(name, said.get(name), schema[name], rows))
    return pl.DataFrame(columns)


def _constant(name: str, value: Any, dtype: pl.DataType, rows: int) -> pl.Series:
    if value is not None:
        value = str(value) if dtype == pl.String else int(value) if dtype == pl.Int64 else value
    return pl.Series(name, [value], dtype=dtype).new_from_index(0, rows)
