"""What of a source is wanted, and what becomes of rows that claim one object: said once, at the door."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import polars as pl

from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.ingest.mapping import ColumnMapping
from cytofast.schema import normalize_wells

Duplicates = Literal["refuse", "first"]


@dataclass(frozen=True)
class Choice:
    """A part of a source, and the policies of reading it. Empty means everything.

    Parameters
    ----------
    plates, wells, sites
        Barcodes, well names (``a1`` is ``A01``) and sites to read; of the others only the names are looked at.
    columns
        Features to keep: names, or patterns such as ``"Cells_AreaShape_*"``. Keys and metadata always stay.
    cells_per_well
        Keep so many cells of each well, chosen by ``seed`` and each cell's own keys: the same cells whatever the order
        of the files, the number of threads, and the columns.
    seed
        Another seed, another sample.
    strict
        Refuse files whose columns differ, and images of which fewer objects are there than were counted; otherwise all
        columns of all files are kept, with nulls and a count, and missing objects are noted in the audit.
    duplicates
        Two rows with one object number, two cytoplasms of one cell, two nuclei of one cell: ``"refuse"`` the plate, or keep
        the ``"first"`` (of nuclei and cytoplasms the lowest number) and set the others aside, counted.
    mapping
        What the columns of another program's tables are.
    """

    plates: tuple[str, ...] = ()
    wells: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    cells_per_well: int | None = None
    seed: int = 0
    strict: bool = False
    duplicates: Duplicates = "refuse"
    mapping: ColumnMapping | None = None

    def __post_init__(self) -> None:
        for name in ("plates", "wells", "sites", "columns"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise RecipeError(f"{name}={value!r}: give a list, such as [{value!r}].")
            object.__setattr__(self, name, tuple(str(item) for item in value or ()))
        if self.wells:
            try:
                wells = normalize_wells(pl.Series("wells", self.wells)).to_list()
            except SchemaError as error:
                raise RecipeError(str(error)) from error
            object.__setattr__(self, "wells", tuple(wells))
        for name in ("cells_per_well", "seed"):
            number = getattr(self, name)
            if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
                raise RecipeError(f"{name}={number!r}: give a whole number.")
        if self.cells_per_well is not None and self.cells_per_well < 1:
            raise RecipeError(f"cells_per_well={self.cells_per_well}: a well needs at least one cell.")
        if self.seed < 0:
            raise RecipeError(f"seed={self.seed}: a seed is a whole number from 0.")
        if self.duplicates not in get_args(Duplicates):
            raise RecipeError.unknown("duplicates", str(self.duplicates), get_args(Duplicates))

    @property
    def key(self) -> dict[str, Any]:
        """What differs from the default: part of what a plate was made of."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    def holds(self, well: str | None, site: object) -> bool:
        """Whether an image of this well and site is wanted."""
        return (not self.wells or well in self.wells) and (not self.sites or str(site) in self.sites)

    def of_features(self, features: Sequence[str], where: str) -> tuple[str, ...]:
        """The features to keep, in their order; a pattern that no feature has is an error."""
        if not self.columns:
            return tuple(features)
        kept = {name: set(fnmatch.filter(features, name)) for name in self.columns}
        nothing = [name for name, found in kept.items() if not found]
        if nothing:
            raise SchemaError.missing_columns(nothing, features, f"{where}: columns")
        chosen = set().union(*kept.values())
        return tuple(name for name in features if name in chosen)

    def require_plates(self, present: Iterable[str], where: str) -> None:
        """Raise a :class:`DataError` if a plate that is asked for is not there."""
        there = sorted(set(present))
        absent = [name for name in self.plates if name not in there]
        if absent:
            raise DataError(f"{where}: no plate {listed(absent)}. Hint: it has {listed(there)}.")

    def require_places(self, places: Iterable[tuple[str | None, object]], where: str) -> None:
        """Raise a :class:`DataError` if a well or site that is asked for is not there."""
        pairs = list(places)
        for what, asked, there in (
            ("well", self.wells, {well for well, _ in pairs}),
            ("site", self.sites, {str(site) for _, site in pairs if site is not None}),
        ):
            absent = [name for name in asked if name not in there]
            if absent:
                found = listed(sorted(name for name in there if name is not None))
                raise DataError(f"{where}: no {what} {listed(absent)}. Hint: it has {found or 'none that is named'}.")


EVERYTHING = Choice()
"""All of a source, and duplicates refused."""
