"""The section on plates: cells, missing wells, edges, drift and replicates, every well at its place."""

from __future__ import annotations

from cytofast.report import plate_figures
from cytofast.report.evidence import Evidence
from cytofast.report.parts import Drawn, Listed, Part, Prose, Section, counted
from cytofast.report.sections_wells import wells_parts

_FAR = 1.0


def plates_section(evidence: Evidence) -> Section:
    """All that is asked about plates."""
    if not evidence.content["levels"] and not evidence.content["annotated_plates"]:
        return Section("plates", "Plates", [Prose("There is no plate in the store.", "note")])
    parts: list[Part] = []
    news: list[Prose] = []
    parts += wells_parts(evidence)
    parts += _coverage(evidence, news)
    parts += _drift(evidence, news)
    parts += _edge(evidence)
    return Section("plates", "Plates", parts, news)


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
                "No drift can be told: the store knows no negative controls "
                f"({evidence.controls.predicate or 'Metadata_control_type = ' + repr('negcon')}) with profiles of level wells. "
                "Say which they are: cytofast report --controls SQL.",
                "note",
            )
        )
    counts = evidence.control_cells
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
