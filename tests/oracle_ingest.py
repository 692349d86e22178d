"""The plain twin of ingest: Python reads every number of every file, pandas merges."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

KEYS = ["ImageNumber", "ObjectNumber"]


def joined_cells(folder: Path) -> pd.DataFrame:
    """Cells, cytoplasms and nuclei of one export folder, float32 of the float64 text, sorted by image and cell."""
    tables = {}
    for name in ("Cells", "Cytoplasm", "Nuclei"):
        with (folder / f"{name}.csv").open(newline="") as file:
            header, *rows = csv.reader(file)
        values = np.array([[float(field or "nan") for field in row] for row in rows]).reshape(len(rows), len(header))
        tables[name] = pd.DataFrame(values, columns=[f"{name}_{column}" for column in header])
    both = tables["Cytoplasm"].merge(
        tables["Cells"],
        left_on=["Cytoplasm_ImageNumber", "Cytoplasm_Parent_Cells"],
        right_on=["Cells_ImageNumber", "Cells_ObjectNumber"],
        validate="1:1",
    )
    whole = both.merge(
        tables["Nuclei"],
        left_on=["Cytoplasm_ImageNumber", "Cytoplasm_Parent_Nuclei"],
        right_on=["Nuclei_ImageNumber", "Nuclei_ObjectNumber"],
        validate="1:1",
    ).sort_values(["Cells_ImageNumber", "Cells_ObjectNumber"])
    keys = [f"{name}_{key}" for name in tables for key in KEYS]
    features = [f"{name}_{c.split('_', 1)[1]}" for name in tables for c in tables[name].columns]
    values = whole[[name for name in features if name not in keys]].astype(np.float32)
    named = whole[["Cells_ImageNumber", "Cells_ObjectNumber"]].rename(columns=lambda name: name.removeprefix("Cells_"))
    return pd.concat([named, values], axis=1).reset_index(drop=True)
