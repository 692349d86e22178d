"""The section on plates: cells, missing wells, edges, drift and replicates, every well at its place."""

from __future__ import annotations

import polars as pl

from cytofast.report import plate_figures
from cytofast.report.evidence import Evidence
from cytofast.report.parts import Drawn, Listed, Part, Prose, Section, counted
from cytofast.report.plate_maps import plates
from cytofast.schema import BATCH, PLATE, WELL

_FAR = 1.0
_KEYS = {BATCH: "batch", PLATE: "plate", WELL: "well"}


def plates_section(evidence: Evidence) -> Section:
    """All that is asked about plates."""
    if not evidence.content["levels"] and not evidence.content["annotated_plates"]:
        return Section("plates", "Plates", [Prose("There is no plate in the store.", "note")])
    parts: list[Part] = []
    news: list[Prose] = []
    parts += _maps(evidence)
    parts += _coverage(evidence, news)
    parts += _drift(evidence, news)
    parts += _edge(evidence)
    return Section("plates", "Plates", parts, news)


def _maps(evidence: Evidence) -> list[Part]:
    """Every well of every plate, by several values."""
    wells = evidence.wells
    if not wells.table.height:
        return [*wells.notes, Prose("No well is known, so no plate can be drawn.", "note")]
    table, labels = wells.table, {}
    if table["cells"].is_not_null().any():
        labels["cells"] = "cells"
    chosen = {}
    if evidence.edge.table.height:
        chosen[evidence.edge.table["feature"][0]] = "strongest edge effect"
    drifted = (
        evidence.drift.table.filter(evidence.drift.table["most_drifted_feature"].is_not_null())
        if evidence.drift.table.height
        else evidence.drift.table
    )
    if drifted.height:
        worst = drifted.sort("largest_drift", descending=True, nulls_last=True)["most_drifted_feature"][0]
        chosen[worst] = f"{chosen[worst]} and drift" if worst in chosen else "strongest drift"
    if chosen:
        values = evidence.well_values(list(chosen))
        if values.table.height:
            table = table.join(values.table, on=list(_KEYS.values()), how="left", nulls_equal=True)
            labels |= {name: f"{name} ({why})" for name, why in chosen.items()}
    replicates = _replicates(evidence)
    for frame, name, label in replicates:
        table = table.join(
            frame, on=[key for key in _KEYS.values() if key in frame.columns], how="left", nulls_equal=True
        )
        labels[name] = label
    if not labels:
        return [*wells.notes, Prose("Neither cells nor values of wells are known, so plates are not drawn.", "note")]
    drawn = plates(table, labels)
    lost = table.filter(table["plate_row"].is_null())["well"].unique()
    notes: list[Part] = (
        [Prose(f"{len(lost)} names are no wells and have no place: {', '.join(lost.head(5))}.", "note")]
        if len(lost)
        else []
    )
    return [*wells.notes, *notes, Drawn("plates", "Every well at its place", drawn, table)]


def _replicates(evidence: Evidence) -> list[tuple[pl.DataFrame, str, str]]:
    """What retrieval says of each well: how well its perturbation repeats, and how well it finds its replicates."""
    keys = [name for name in _KEYS if name in evidence.profiles.table.columns]
    if len(keys) < len(_KEYS):
        return []
    precision, correlation = [], []
    for answer in evidence.activity:
        if answer.of_wells.table.height:
            precision.append(answer.of_wells.table.select(*keys, "average_precision"))
        if answer.replicates.table.height:
            repeats = answer.replicates.table
            sameby = [name for name in repeats.columns if name.startswith("Metadata_")]
            joined = answer.profiles.select(*keys, *sameby).join(repeats, on=sameby, how="inner")
            correlation.append(joined.select(*keys, "replicate_correlation"))
    found = []
    if correlation:
        found.append(
            (
                pl.concat(correlation).rename(_KEYS).unique(_KEYS.values()),
                "replicate_correlation",
                "replicate correlation of the well's perturbation",
            )
        )
    if precision:
        found.append(
            (
                pl.concat(precision).rename(_KEYS).unique(_KEYS.values()),
                "average_precision",
                "average precision: does the well find its replicates",
            )
        )
    return found


def _coverage(evidence: Evidence, news: list[Prose]) -> list[Part]:
    """How complete plates are."""
    coverage = evidence.ask("plate_coverage")
    parts: list[Part] = [*coverage.notes]
    if coverage.table.height:
        parts.append(
            Listed(
                "coverage",
                "Coverage",
                coverage.table,
                "Wells of the platemap, wells with cells, wells without, and cells, by plate.",
                opened=coverage.table.height <= 12,
            )
        )
    missing = evidence.ask("missing_wells")
    parts += missing.notes
    if missing.table.height and "cells" in evidence.content["levels"]:
        n, plates = missing.table.height, missing.table.select("batch", "plate").unique().height
        controls = missing.table["control_type"].is_not_null().sum()
        text = f"Without cells: {counted(n, 'well')} of the platemap, on {counted(plates, 'plate')}; {controls:,} are controls."
        parts += [
            Prose(text, "warning"),
            Listed(
                "missing",
                "Missing wells",
                missing.table,
                "Wells that stand in the platemap but have no cells.",
                opened=n <= 12,
            ),
        ]
        news.append(Prose(text, "warning"))
    elif "cells" in evidence.content["levels"]:
        parts.append(
            Prose(
                "Every well of the platemap has cells."
                if evidence.content["annotated_plates"]
                else "No platemap is known, so missing wells cannot be told.",
                "note",
            )
        )
    outliers = evidence.ask("cell_count_outliers")
    parts += outliers.notes
    if outliers.table.height:
        parts.append(
            Listed(
                "outliers",
                "Wells with unusual cell counts",
                outliers.table,
                "At least 3 robust standard deviations from the plate's median. Few cells may be toxicity, or a failure.",
                opened=False,
            )
        )
    return parts


def _drift(evidence: Evidence, news: list[Prose]) -> list[Part]:
    """How control wells differ between plates."""
    parts: list[Part] = [*evidence.drift.notes]
    drift = evidence.drift.table
    if drift.height:
        far = drift.filter(drift["median_drift"] > _FAR).height
        if drift.select("batch").n_unique() == drift.height:
            parts.append(
                Prose("Each batch has a single plate with controls, so drift between plates cannot be told.", "note")
            )
        elif far:
            text = (
                f"Plates drift: on {far} of {drift.height} plates the controls' median feature lies more than {_FAR:g} "
                "robust standard deviation from the batch."
            )
            parts.append(Prose(text, "warning"))
            news.append(Prose(text, "warning"))
        else:
            parts.append(
                Prose(
                    f"On no plate does the controls' median feature lie more than {_FAR:g} robust standard deviation "
                    "from the batch.",
                    "good",
                )
            )
        parts.append(Drawn("drift", "Drift of control wells", plate_figures.control_drift(drift), drift))
    elif not evidence.drift.why:
        parts.append(
            Prose(
                "No drift can be told: the store knows no negative controls (Metadata_control_type = 'negcon') with "
                "profiles of level wells.",
                "note",
            )
        )
    counts = evidence.ask("control_cell_counts")
    parts += counts.notes
    if counts.table.height:
        parts.append(
            Drawn("control_cells", "Cells of control wells", plate_figures.cell_counts(counts.table), counts.table)
        )
    return parts


def _edge(evidence: Evidence) -> list[Part]:
    """Rim against inside."""
    edge = evidence.edge
    if edge.table.height:
        return [*edge.notes, Drawn("edge", "Edge effect", plate_figures.edge_effect(edge.table), edge.table)]
    return edge.notes or [
        Prose(
            "No edge effect can be told: level wells is not in the store, or its plates have no rim and inside.", "note"
        )
    ]
