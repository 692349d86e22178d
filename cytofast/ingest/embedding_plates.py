"""Plates of DeepProfiler's sites, as a store ingests them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import to_frame
from cytofast.errors import DataError
from cytofast.ingest.audit import Audit
from cytofast.ingest.choice import Choice
from cytofast.ingest.csv_text import digest_of_file
from cytofast.ingest.deepprofiler import Site, site_metadata, site_schema, sites_below
from cytofast.ingest.discovery import UNBATCHED
from cytofast.ingest.failures import Failures
from cytofast.ingest.sampling import sample_wells
from cytofast.schema import BATCH, PLATE, SITE, WELL, is_metadata

_PREFIX = "DP"
_BATCH_BYTES = 32 << 20
"""Cells are given out in frames of about this size: a call for each of thousands of sites would cost more than the work."""


@dataclass(frozen=True)
class EmbeddingSource:
    """The sites of one plate."""

    batch: str
    plate: str
    root: Path
    sites: tuple[Site, ...]
    choice: Choice
    level: str = "cells"
    compartments: tuple[str, ...] = ()
    split: bool = True
    """A file is a site, so there are others of its plate."""

    @property
    def named_files(self) -> dict[str, Path]:
        """Its files, under names that are the same wherever they lie."""
        return {self.label(site): site.file.path for site in self.sites}

    @property
    def places(self) -> list[Path]:
        """The files that it is put together from."""
        return [site.file.path for site in self.sites]

    def label(self, site: Site) -> str:
        """What the file of a site is called."""
        path = site.file.path
        return path.relative_to(self.root).as_posix() if path != self.root else path.name

    def plan(self) -> EmbeddingPlan:
        """Look at what is wanted of it."""
        where = f"plate {self.plate!r}"
        self.choice.require_places(((site.metadata[WELL], site.metadata[SITE]) for site in self.sites), where)
        chosen = tuple(site for site in self.sites if self.choice.holds(site.metadata[WELL], site.metadata[SITE]))
        schema = site_schema(chosen, _PREFIX)
        metadata = {name: dtype for name, dtype in schema.items() if is_metadata(name) and name != BATCH}
        every = [name for name in schema if not is_metadata(name)]
        features = self.choice.of_features(every, where)
        place = {name: number for number, name in enumerate(every)}
        columns = None if len(features) == len(every) else np.array([place[name] for name in features])
        kept = pl.Schema({BATCH: pl.String(), **metadata, **dict.fromkeys(features, pl.Float32())})
        return EmbeddingPlan(self, chosen, kept, columns)


@dataclass(frozen=True)
class EmbeddingPlan:
    """What reading a plate will give.

    Attributes
    ----------
    schema
        The columns of the cells, features in Float32.
    columns
        Which features of a file those are; ``None`` is all.
    """

    source: EmbeddingSource
    sites: tuple[Site, ...]
    schema: pl.Schema
    columns: NDArray[np.int64] | None

    @property
    def parts(self) -> int:
        """How many sites there are to read."""
        return len(self.sites)

    @property
    def says(self) -> str:
        """The same in words."""
        return f"{len(self.sites):,} sites"

    def names(self) -> Iterator[tuple[str | None, str | None, str, int]]:
        """Well, site, file and number of each site with cells."""
        for site in self.sites:
            if site.file.rows:
                yield site.metadata[WELL], str(site.metadata[SITE]), self.source.label(site), site.image

    def cells(self, audit: Audit) -> Iterator[pl.DataFrame]:
        """Yield the cells in order of wells and sites; the audit is complete after the last frame."""
        frames = self._frames(audit)
        yield from sample_wells(frames, self.source.choice, audit) if self.source.choice.cells_per_well else frames

    def _frames(self, audit: Audit) -> Iterator[pl.DataFrame]:
        at_once = max(1, min(_BATCH_BYTES, resources.current().working_bytes // 8) // (4 * len(self.schema)))
        waiting: list[Site] = []
        for site in self.sites:
            if site.file.rows:
                waiting.append(site)
            if sum(site.file.rows for site in waiting) >= at_once:
                yield self._together(waiting)
                waiting = []
            audit.add(self._rows(site))
        if waiting:
            yield self._together(waiting)

    def _together(self, sites: list[Site]) -> pl.DataFrame:
        values = np.concatenate([site.file.features() for site in sites]).astype(np.float32, copy=False)
        if self.columns is not None:
            values = values[:, self.columns]
        keys = pl.concat([site_metadata(site, self.schema) for site in sites])
        keys = keys.with_columns(pl.lit(self.source.batch).alias(BATCH))
        features = {name: dtype for name, dtype in self.schema.items() if not is_metadata(name)}
        return keys.hstack(to_frame(values, features))

    def _rows(self, site: Site) -> list[dict[str, Any]]:
        """What became of a file: its site, and its cells."""
        rows, path = site.file.rows, site.file.path
        common: dict[str, Any] = {
            "batch": self.source.batch,
            "plate": self.source.plate,
            "well": site.metadata[WELL],
            "site": str(site.metadata[SITE]),
            "table_number": 0,
            "image_number": site.image,
            "file": self.source.label(site),
            "columns_missing": 0,
            "bytes": site.file.state.size,
            "digest": digest_of_file(path),
        }
        image = {"compartment": "Image", "rows_read": 1, "rows_joined": int(rows > 0), "orphans": int(rows == 0)}
        cells = {"compartment": "Cells", "rows_read": rows, "rows_joined": rows, "orphans": 0}
        return [{**common, **image, "note": None if rows else "no cells"}, {**common, **cells, "note": None}]


def discover_embeddings(
    root: Path, *, batch: str | None, plate: str | None, choice: Choice, failures: Failures | None = None
) -> list[EmbeddingSource]:
    """Find the plates in a file of DeepProfiler, or in all files below a folder.

    Raises
    ------
    DataError
        A file is damaged, or contradicts its name or what was asked for.
    """
    failures = failures or Failures()
    plates: dict[tuple[str, str], list[Site]] = {}
    for site in sites_below(root, plate=plate, failures=failures):
        said = site.metadata.get(BATCH)
        with failures.apart(site.file.path):
            if said is not None and batch is not None and str(said) != batch:
                raise DataError(f"{site.file.path}: its batch is {said!r}, but {batch!r} was asked for.")
            plates.setdefault((str(said or batch or UNBATCHED), site.metadata[PLATE]), []).append(site)
    with failures.apart():
        choice.require_plates((of_plate for _, of_plate in plates), str(root))
    found = []
    for (of_batch, of_plate), sites in sorted(plates.items(), key=lambda item: item[0]):
        if not choice.plates or of_plate in choice.plates:
            numbered = tuple(replace(site, image=number) for number, site in enumerate(sites, 1))
            found.append(EmbeddingSource(of_batch, of_plate, root, numbered, choice))
    return found
