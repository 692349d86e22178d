"""The plates' wells, each at its place, coloured by what tells of trouble: cells, rims, drift, replicates."""

from __future__ import annotations

import polars as pl

from cytofast.report.evidence import Evidence
from cytofast.report.parts import Drawn, Part, Prose, counted
from cytofast.report.plate_maps import plates
from cytofast.schema import BATCH, PLATE, WELL

_KEYS = {BATCH: "batch", PLATE: "plate", WELL: "well"}
_PLACE = list(_KEYS.values())
_MOST_PLATES = 110
"""More would make the page too large to open; those whose controls drift most are drawn."""


def wells_parts(evidence: Evidence) -> list[Part]:
    """Every well of every plate, by as many values as there are."""
    wells = evidence.wells
    if not wells.table.height:
        return [*wells.notes, Prose("No well is known, so no plate can be drawn.", "note")]
    parts: list[Part] = [*wells.notes]
    table, labels = wells.table, {}
    if table["cells"].is_not_null().any():
        labels["cells"] = "cells"
    for frame, name, label in [*_features(evidence), *_replicates(evidence)]:
        table = table.join(frame.select(*_PLACE, name), on=_PLACE, how="left", nulls_equal=True)
        labels[name] = label
    if not labels:
        return [*parts, Prose("Neither cells nor values of wells are known, so plates are not drawn.", "note")]
    known = table.select("batch", "plate").unique(maintain_order=True)
    if known.height > _MOST_PLATES:
        drift = evidence.drift.table
        first = drift.select("batch", "plate") if drift.height >= _MOST_PLATES else known
        table = table.join(first.head(_MOST_PLATES), on=["batch", "plate"], how="semi", nulls_equal=True)
        parts.append(
            Prose(
                f"{_MOST_PLATES} of {counted(known.height, 'plate')} are drawn, where drift is known those that "
                "drift most; "
                "cytofast ask well_counts tells of all.",
                "note",
            )
        )
    nowhere = table.filter(table["plate_row"].is_null())["well"].unique().sort().cast(pl.String)
    if nowhere.len():
        names = ", ".join(nowhere.head(5))
        parts.append(
            Prose(
                f"Without a place on a plate, because the name is no well's: {counted(nowhere.len(), 'name')} ({names}).",
                "warning",
            )
        )
    return [*parts, Drawn("plates", "Every well at its place", plates(table, labels), table)]


def _features(evidence: Evidence) -> list[tuple[pl.DataFrame, str, str]]:
    """The feature with the strongest edge effect and the one that drifts most, with their values."""
    chosen: dict[str, str] = {}
    if evidence.edge.table.height:
        chosen[evidence.edge.table["feature"][0]] = "strongest edge effect"
    drift = evidence.drift.table
    if drift.height and drift["largest_drift"].is_not_null().any():
        worst = drift.sort("largest_drift", descending=True, nulls_last=True)["most_drifted_feature"][0]
        chosen[worst] = f"{chosen[worst]} and drift" if worst in chosen else "strongest drift"
    values = evidence.well_values(list(chosen)) if chosen else None
    if values is None or not values.table.height:
        return []
    return [(values.table, name, f"{name} ({why})") for name, why in chosen.items()]


def _replicates(evidence: Evidence) -> list[tuple[pl.DataFrame, str, str]]:
    """What retrieval says of each well: how well its perturbation repeats, and how well it finds its replicates."""
    keys = [name for name in _KEYS if name in evidence.profiles.table.columns]
    if len(keys) < len(_KEYS):
        return []
    found: dict[str, list[pl.DataFrame]] = {"replicate_correlation": [], "average_precision": []}
    for answer in evidence.activity:
        precision, repeats = answer.of_wells.table, answer.replicates.table
        if precision.height:
            found["average_precision"].append(precision.select(*keys, "average_precision"))
        if repeats.height:
            sameby = [name for name in repeats.columns if name.startswith("Metadata_")]
            joined = answer.profiles.select(list(dict.fromkeys([*keys, *sameby]))).join(repeats, on=sameby, how="inner")
            found["replicate_correlation"].append(joined.select(*keys, "replicate_correlation"))
    labels = {
        "replicate_correlation": "replicate correlation of the well's perturbation",
        "average_precision": "average precision: does the well find its replicates",
    }
    return [
        (pl.concat(tables).rename(_KEYS).unique(_PLACE, keep="first", maintain_order=True), name, labels[name])
        for name, tables in found.items()
        if tables
    ]
