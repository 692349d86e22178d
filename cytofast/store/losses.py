"""What would be lost of a plate if another reading of it took its place; ingest refuses that unless it is told to replace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from cytofast.errors import DataError, listed
from cytofast.ingest.choice import Choice
from cytofast.ingest.sources import PlatePlan
from cytofast.schema import is_metadata
from cytofast.store.partition import Partition

_HINT = "if that is wanted, ingest with replace=True (--replace on the command line)."


def require_no_loss(present: Partition, kept: pl.DataFrame, planned: PlatePlan, choice: Choice) -> None:
    """Refuse a part of a plate: it would take the place of the whole.

    Parameters
    ----------
    present, kept
        The plate as the store has it, and its audit.
    planned, choice
        What would be read.

    Raises
    ------
    DataError
        Images with cells, features, or cells of a well would be lost.
    """
    _require_images(kept, planned)
    if present.whole:
        _require_features(present, planned)
    if choice.cells_per_well is not None:
        _require_cells(kept, choice.cells_per_well)


def _require_images(kept: pl.DataFrame, planned: PlatePlan) -> None:
    rows = kept.filter(kept["compartment"].is_in(["Image", "Table"]) & (kept["rows_joined"] > 0))
    stored = Counter(
        _image_name(well, site, str(Path(file).parent), number)
        for well, site, file, number in rows.select("well", "site", "file", "image_number").rows()
    )
    given = Counter(
        _image_name(well, site, str(Path(file).parent), number) for well, site, file, number in planned.names()
    )
    lost = stored - given
    if lost:
        raise DataError(
            f"{lost.total():,} of the {stored.total():,} images with cells that the store has of this plate are not among "
            f"those that would be read, and would be lost: {listed(sorted(lost), 3)}. Hint: give the folder of the whole "
            f"plate, and every well and site that you want to keep; or, {_HINT}"
        )


def _image_name(well: str | None, site: str | None, folder: str, number: int) -> str:
    """What an image is called wherever the plate lies; one that has no name by its folder and number."""
    if well is None and site is None:
        return f"{folder}, image {number}"
    return ", ".join(filter(None, [well, None if site is None else f"site {site}"]))


def _require_features(present: Partition, planned: PlatePlan) -> None:
    stored = [name for name in present.lazy().collect_schema() if not is_metadata(name)]
    given = set(planned.schema)
    lost = [name for name in stored if name not in given]
    if lost:
        raise DataError(
            f"{len(lost):,} of the {len(stored):,} features that the store has of this plate are not among those that would "
            f"be read, and would be lost: {listed(lost, 3)}. Hint: choose columns and compartments in a recipe, or ingest "
            f"into another store; or, {_HINT}"
        )


def _require_cells(kept: pl.DataFrame, most: int) -> None:
    """A sample is smaller than what it would replace, if that is more than a sample of as many cells."""
    counted = kept.filter(kept["compartment"].is_in(["Sample", "Table"]))
    if not counted.height:
        # An image has as many cells as rows were joined of the compartment that has most: of attached objects it is fewer.
        objects = kept.filter(kept["compartment"] != "Image").sort("rows_joined", descending=True)
        counted = objects.unique(["table_number", "image_number"], keep="first", maintain_order=True)
    sampled = counted.filter(counted["compartment"] == "Sample")
    cells = (sampled if sampled.height else counted).select("well", "rows_joined")
    counts: dict[str | None, int] = {}
    for well, count in cells.rows():
        counts[well] = counts.get(well, 0) + count
    lost = {well: count - most for well, count in counts.items() if count > most}
    if lost:
        well = next(iter(lost))
        raise DataError(
            f"a sample of {most:,} cells a well would replace more: {sum(lost.values()):,} cells that the store has of this "
            f"plate would be lost, {lost[well]:,} of well {well}. Hint: ingest the sample into another store; or, {_HINT}"
        )
