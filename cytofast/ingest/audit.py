"""What became of every row that was read: an audit that balances, and its summary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

AUDIT_SCHEMA = pl.Schema(
    {
        "batch": pl.String,
        "plate": pl.String,
        "well": pl.String,
        "site": pl.String,
        "table_number": pl.Int64,
        "image_number": pl.Int64,
        "file": pl.String,
        "compartment": pl.String,
        "rows_read": pl.Int64,
        "rows_joined": pl.Int64,
        "orphans": pl.Int64,
        "columns_missing": pl.Int64,
        "bytes": pl.Int64,
        "digest": pl.String,
        "note": pl.String,
    }
)
"""One row for each image and compartment. ``rows_read`` is always ``rows_joined + orphans``. The rows of compartment
``Image`` stand for the images themselves: joined if they have cells. ``bytes`` and ``digest`` are the whole file's."""


@dataclass
class Audit:
    """Collects the rows of an audit while a plate is read; complete when its last cell was given out."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take the rows of one image."""
        self.rows.extend(rows)

    @property
    def images(self) -> int:
        """How many images were read so far."""
        return sum(row["compartment"] == "Image" for row in self.rows)

    def table(self) -> pl.DataFrame:
        """Give the audit as a table, in the order of reading."""
        return pl.DataFrame(self.rows, schema=AUDIT_SCHEMA)


def summarize(audit: pl.DataFrame) -> pl.DataFrame:
    """One row a plate and compartment: what was read, joined and left over.

    Parameters
    ----------
    audit
        The table of :meth:`Audit.table`, of one plate or many.

    Returns
    -------
    polars.DataFrame
        ``batch, plate, compartment, images, rows_read, rows_joined, orphans, images_without_rows, columns_missing,
        notes``. In the row of compartment ``Image`` the orphans are the sites without cells. ``columns_missing`` is
        the largest number of the plate's columns that one file lacks. ``notes`` holds each distinct note and how often
        it was made.
    """
    keys = ["batch", "plate", "compartment"]
    rows = []
    for key, part in audit.group_by(keys, maintain_order=True):
        noted = part["note"].drop_nulls()
        counted = noted.value_counts(sort=False).sort("note") if noted.len() else None
        notes = [] if counted is None else [f"{note} ({n} x)" if n > 1 else note for note, n in counted.rows()]
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "images": part.height,
                "rows_read": part["rows_read"].sum(),
                "rows_joined": part["rows_joined"].sum(),
                "orphans": part["orphans"].sum(),
                "images_without_rows": int((part["rows_read"] == 0).sum()),
                "columns_missing": part["columns_missing"].max(),
                "notes": notes,
            }
        )
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        **dict.fromkeys(keys, pl.String),
        **dict.fromkeys(["images", "rows_read", "rows_joined", "orphans", "images_without_rows"], pl.Int64),
        "columns_missing": pl.Int64,
        "notes": pl.List(pl.String),
    }
    return pl.DataFrame(rows, schema=schema)
