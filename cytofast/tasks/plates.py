"""What is known of plates, joined to their wells when a benchmark is asked: cell type, time point, treatment of the plate."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cytofast.errors import SchemaError
from cytofast.metadata_tables import name_plates_and_wells, read_metadata_table
from cytofast.schema import BATCH, PLATE
from cytofast.steps.annotate import Annotate


def with_plates(profiles: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    """Join a table of plates, by batch and plate if it names batches, else by plate.

    Plates that the table has and the profiles lack do not matter: a table of a whole project is fine.

    Raises
    ------
    SchemaError
        The table names no plate, or has a column of the profiles with other content.
    DataError
        A plate stands in the table twice.
    """
    table = name_plates_and_wells(read_metadata_table(path), str(path))
    schema = profiles.collect_schema()
    if PLATE not in table.columns or PLATE not in schema:
        raise SchemaError.missing_columns([PLATE], table.columns, f"{path}: a table of plates")
    keys = [name for name in (BATCH, PLATE) if name in table.columns and name in schema]
    present = profiles.select(keys).unique().collect()
    table = table.join(present.cast(dict.fromkeys(keys, pl.String)), on=keys, how="semi", nulls_equal=True)
    step = Annotate(table, on=keys)
    return step.apply(profiles, step.fit(profiles))
