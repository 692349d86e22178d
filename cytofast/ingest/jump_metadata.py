"""JUMP's tables of metadata: which perturbation was in each well, and what is known of it.

``well.csv.gz`` says which perturbation (``Metadata_JCP2022``) each well holds, ``plate.csv.gz`` of which batch and kind each
plate is; ``compound.csv.gz``, ``crispr.csv.gz`` and ``orf.csv.gz`` describe perturbations
(github.com/jump-cellpainting/datasets).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from cytofast.errors import DataError, listed
from cytofast.metadata_tables import read_metadata_table
from cytofast.schema import BATCH, PLATE, WELL, normalize_wells, require_columns

PERTURBATION = "Metadata_JCP2022"
SOURCE = "Metadata_Source"
PLATE_BATCH = "Metadata_Plate_Batch"
"""The batch as ``plate.csv`` has it: a store may have been given another name for it."""
_PERTURBATIONS = ("compound", "crispr", "orf")
_ENDINGS = (".csv.gz", ".csv", ".parquet")


def jump_tables(folder: Path) -> dict[str, Path]:
    """JUMP's tables in a folder, by name; none where there is no table of wells with perturbations."""
    found: dict[str, Path] = {}
    for name in ("well", "plate", *_PERTURBATIONS):
        present = [folder / f"{name}{ending}" for ending in _ENDINGS if (folder / f"{name}{ending}").is_file()]
        if present:
            found[name] = present[0]
    return found if "well" in found and len(found) > 1 else {}


def read_jump_metadata(tables: dict[str, Path], plates: Sequence[str] | None) -> pl.DataFrame:
    """One row a plate and well, with everything that the tables say of it.

    Raises
    ------
    DataError
        A plate is not in the table of wells, is in two sources, or a key stands twice.
    SchemaError
        A table lacks its keys.
    """
    path = tables["well"]
    wells = read_metadata_table(path)
    require_columns(wells.schema, [PLATE, WELL, PERTURBATION], str(path))
    if plates is not None:
        absent = sorted(set(plates) - set(wells[PLATE].to_list()))
        if absent:
            raise DataError(f"{path}: no rows for plate {listed(absent)}. Hint: are these plates of JUMP's production?")
        wells = wells.filter(wells[PLATE].is_in(list(plates)))
    wells = wells.with_columns(normalize_wells(wells[WELL]))
    doubled = wells.select(PLATE, WELL).is_duplicated()
    if doubled.any():
        row = wells.row(int(doubled.arg_max() or 0), named=True)
        raise DataError(
            f"{path}: plate {row[PLATE]}, well {row[WELL]} stands more than once. Hint: do two sources use one barcode? Keep "
            "the rows of yours."
        )
    if "plate" in tables:
        described = read_metadata_table(tables["plate"])
        keys = [name for name in (SOURCE, PLATE) if name in described.columns and name in wells.columns]
        require_columns(described.schema, [PLATE], str(tables["plate"]))
        described = described.rename({BATCH: PLATE_BATCH} if BATCH in described.columns else {})
        wells = _joined(wells, described, keys, tables["plate"])
    known = [name for name in _PERTURBATIONS if name in tables]
    if known:
        parts = [read_metadata_table(tables[name]) for name in known]
        for name, part in zip(known, parts, strict=True):
            require_columns(part.schema, [PERTURBATION], str(tables[name]))
        together = pl.concat(parts, how="diagonal")
        wells = _joined(wells, together, [PERTURBATION], tables[known[0]])
    first = [PLATE, WELL]
    return wells.select(*first, *(name for name in wells.columns if name not in first))


def _joined(wells: pl.DataFrame, table: pl.DataFrame, keys: list[str], path: Path) -> pl.DataFrame:
    doubled = table.select(keys).is_duplicated()
    if doubled.any():
        row = table.row(int(doubled.arg_max() or 0), named=True)
        raise DataError(
            f"{path}: {listed(row[key] for key in keys)} stands more than once. Hint: keep one of the rows."
        )
    clashes = [name for name in table.columns if name in wells.columns and name not in keys]
    if clashes:
        raise DataError(f"{path}: {listed(clashes)} stand in the table of wells too. Hint: rename them in one of them.")
    return wells.join(table, on=keys, how="left", maintain_order="left")
