"""Sections on what is in the store, and on where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import polars as pl

from cytofast.report.evidence import Evidence
from cytofast.report.palette import limits
from cytofast.report.parts import Listed, Part, Prose, Section, counted
from cytofast.store.manifest import Manifest

_LIBRARIES = ("cytofast", "polars", "duckdb", "numpy", "numba", "plotly")


def store_section(evidence: Evidence) -> Section:
    """Levels, their rows, features and plates; how often perturbations stand on plates."""
    levels = [{"level": name, **numbers} for name, numbers in evidence.content["levels"].items()]
    if not levels:
        text = "The store is empty: no plate was ingested yet. Ingest one with: cytofast ingest SOURCE --store DIR."
        return Section("store", "Store", [Prose(text, "warning")], [Prose(text, "warning")])
    parts: list[Part] = [
        Prose(
            "Each level is made from the one before: cells become wells, wells become profiles. A plate is outdated "
            "where its "
            "source was made anew since."
        ),
        Listed("levels", "Levels", pl.DataFrame(levels), "What the store holds."),
    ]
    news = []
    for row in levels:
        if row["outdated"]:
            text = (
                f"Level {row['level']!r}: {row['outdated']} of {counted(row['plates'], 'plate')} are older than what they "
                "were made from. Run their recipe again."
            )
            parts.append(Prose(text, "warning"))
            news.append(Prose(text, "warning"))
    if not evidence.content["annotated_plates"]:
        parts.append(
            Prose(
                "No plate has a platemap in the store; what is said of treatments comes from the profiles alone.",
                "note",
            )
        )
    if evidence.perturbation:
        counts = evidence.ask("replicate_counts", by=evidence.perturbation)
        parts += counts.notes
        if counts.table.height:
            few, many = limits(counts.table["wells"])
            parts += [
                Prose(
                    f"{counts.table.height:,} perturbations ({evidence.perturbation.removeprefix('Metadata_')}) stand in "
                    + (
                        f"{counted(int(few), 'well')} each."
                        if few == many
                        else f"{few:,.0f} to {many:,.0f} wells each."
                    )
                ),
                Listed("replicates", "Perturbations", counts.table, "Wells, plates and batches of each.", opened=False),
            ]
        lonely = (counts.table["wells"] < 2).sum() if counts.table.height else 0
        if lonely:
            parts.append(
                Prose(
                    f"{lonely:,} perturbations stand in a single well: nothing can be said about how well they repeat.",
                    "note",
                )
            )
    elif evidence.chosen is not None:
        parts.append(
            Prose("No column that usually names perturbations was found in the store, so they are not counted.", "note")
        )
    return Section("store", "Store", parts, news)


def facts_of(evidence: Evidence) -> list[tuple[str, str]]:
    """A few numbers for the top of the page."""
    levels: dict[str, Any] = evidence.content["levels"]
    facts = [("plates", f"{max((level['plates'] for level in levels.values()), default=0):,}")]
    for name, label in (("cells", "cells"), ("wells", "wells"), (evidence.chosen or "", "profiles")):
        if name in levels and (label, name) != ("profiles", "wells"):
            facts.append((label, f"{levels[name]['rows']:,}"))
    if evidence.chosen in levels:
        facts.append((f"features of {evidence.chosen}", f"{levels[evidence.chosen]['features']:,}"))
    return facts


def provenance_section(evidence: Evidence, given: Sequence[tuple[str, str]]) -> Section:
    """Recipes, versions, inputs, audits: where every number came from."""
    made = [p.manifest for level in evidence.store.levels() for p in evidence.store.partitions(level)]
    parts: list[Part] = _recipes(made)
    runs = pl.DataFrame(
        [
            (
                m.level,
                m.batch,
                m.plate,
                m.rows,
                m.features,
                " → ".join(_step(step) for step in m.steps),
                ", ".join(f"{k} {v}" for k, v in m.versions.items()),
                ", ".join(f"{k} {v}" for k, v in m.inputs.items()),
                m.key,
            )
            for m in made
        ],
        schema=["level", "batch", "plate", "rows", "features", "steps", "versions", "inputs", "key"],
        orient="row",
    )
    if made:
        parts.append(
            Listed("runs", "Runs", runs, "One row a level and plate. Equal keys mean equal content.", opened=False)
        )
    else:
        parts.append(Prose("Nothing was made in this store yet.", "note"))
    losses = evidence.ask("ingest_losses")
    parts += losses.notes
    if losses.table.height:
        lost = losses.table["orphans"].sum()
        parts += [
            Prose(
                f"Ingest read {losses.table['rows_read'].sum():,} rows, joined {losses.table['rows_joined'].sum():,} "
                "and set aside "
                f"{lost:,}: objects without a partner, and images without cells."
            ),
            Listed(
                "audit",
                "Audit of ingest",
                losses.table,
                "What was read, joined and set aside, by plate and compartment.",
                opened=False,
            ),
        ]
    unmatched = evidence.ask("unmatched_wells")
    parts += unmatched.notes
    if unmatched.table.height:
        parts.append(
            Listed(
                "unmatched",
                "Wells that an annotation did not match",
                unmatched.table,
                "Profiles without a row in the platemap, and rows without a profile.",
                opened=False,
            )
        )
    versions = pl.DataFrame([(name, version(name)) for name in _LIBRARIES], schema=["library", "version"], orient="row")
    parts.append(
        Listed(
            "versions",
            "Versions that made this page",
            versions,
            "Versions that made each plate are in its manifest.",
            opened=False,
        )
    )
    if given:
        files = pl.DataFrame(list(given), schema=["file", "taken as"], orient="row")
        parts.append(Listed("given", "Files that were given to this report", files, "Each with what it was taken as."))
    return Section("provenance", "Provenance", parts)


def _recipes(made: list[Manifest]) -> list[Part]:
    """Steps and parameters of each level, in words."""
    found: list[Part] = []
    for level in dict.fromkeys(m.level for m in made):
        ways = dict.fromkeys(" → ".join(_step(step) for step in m.steps) for m in made if m.level == level)
        if len(ways) > 1:
            found.append(
                Prose(
                    f"The plates of level {level!r} were made in {len(ways)} different ways; compare them with care.",
                    "warning",
                )
            )
        found += [Prose(f"{level}: {way}") for way in list(ways)[:3] if way]
    return found


def _step(step: Mapping[str, Any]) -> str:
    given = step.get("parameters") or {}
    shown = ", ".join(f"{key} = {_shown(value)}" for key, value in given.items() if value not in (None, [], {}, ""))
    return f"{step.get('step', '?')} ({shown})" if shown else str(step.get("step", "?"))


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return (
            "["
            + ", ".join(_step(item) if isinstance(item, Mapping) and "step" in item else _shown(item) for item in value)
            + "]"
        )
    return str(value)
