"""Sections on what normalization and selection did, and the map of profiles."""

from __future__ import annotations

from cytofast.report import step_figures
from cytofast.report.evidence import Evidence
from cytofast.report.parts import Drawn, Listed, Part, Prose, Section
from cytofast.schema import BATCH, PLATE


def normalization_section(evidence: Evidence) -> Section:
    """Spread of the reference wells, and features without any."""
    spread, zero = evidence.ask("reference_spread"), evidence.ask("zero_spread_features")
    parts: list[Part] = [*spread.notes, *zero.notes]
    for level in spread.table["level"].unique(maintain_order=True) if spread.table.height else ():
        mine = spread.table.filter(spread.table["level"] == level)
        for number in mine["number"].unique(maintain_order=True):
            part = mine.filter(mine["number"] == number)
            step = part["step"][0]
            parts.append(
                Drawn(
                    f"spread-{level}-{number}",
                    f"Spread of reference wells ({level}, {step})",
                    step_figures.reference_spread(part),
                    part,
                )
            )
    if zero.table.height:
        n = zero.table["feature"].n_unique()
        parts += [
            Prose(
                f"{n:,} features had no spread among the reference wells of some plate and could not be scaled "
                "there; they are missing (null) on it, or as the recipe says.",
                "note",
            ),
            Listed(
                "zero_spread",
                "Features without spread",
                zero.table,
                "On how many plates, on which, and what their value was.",
                opened=n <= 12,
            ),
        ]
    elif spread.table.height:
        parts.append(Prose("Every feature had a spread among the reference wells of every plate.", "good"))
    if not parts:
        parts.append(Prose("No step of the store's recipes scaled plates by reference wells.", "note"))
    return Section("normalization", "Normalization", parts)


def selection_section(evidence: Evidence) -> Section:
    """What was dropped, by rule and by compartment and channel."""
    dropped = evidence.ask("dropped_feature_reasons")
    if not dropped.table.height:
        why = Prose("No feature was dropped: the store's recipes select none, or all passed.", "note")
        return Section("selection", "Selection", dropped.notes or [why])
    table = dropped.table
    kept = {name: level["features"] for name, level in evidence.content["levels"].items()}
    n = table["feature"].n_unique()
    parts: list[Part] = [
        *dropped.notes,
        Prose(
            f"{n:,} features were dropped; features of each level: "
            f"{', '.join(f'{name} {count:,}' for name, count in kept.items())}."
        ),
        Drawn("dropped_rules", "Dropped by rule", step_figures.dropped_by_rule(table), table),
        Drawn(
            "dropped_kinds",
            "Dropped by compartment and channel",
            step_figures.dropped_by_kind(table),
            step_figures.kinds_dropped(table),
        ),
    ]
    return Section("selection", "Selection", parts)


def map_section(evidence: Evidence) -> Section:
    """Profiles in the plane of their first two principal components."""
    placed = evidence.map
    if not placed.table.height:
        return Section("map", "Map", placed.notes)
    axes = [name for name in placed.table.columns if name.startswith("PC_")][:3]
    if len(axes) < 2:
        return Section(
            "map",
            "Map",
            [
                *placed.notes,
                Prose("One principal component holds nearly all variance, so there is no plane to draw.", "note"),
            ],
        )
    table = placed.table
    name = evidence.perturbation if evidence.perturbation in table.columns else None
    candidates = [*evidence.conditions, "Metadata_control_type", "Metadata_moa", BATCH, PLATE]
    colours = [
        column for column in dict.fromkeys(candidates) if column in table.columns and table[column].n_unique() > 1
    ]
    metadata = [column for column in table.columns if column.startswith("Metadata_")]
    shown = table.select(*metadata, *axes)
    whole = evidence.profiles.table.height
    points = (
        "profiles"
        if table.height == whole
        else "medians of perturbations"
        if "Metadata_Replicate_Count" in table.columns
        else "profiles with all features"
    )
    parts: list[Part] = [
        *placed.notes,
        Prose(
            f"{table.height:,} {points} of level {evidence.chosen}, by principal components of "
            f"{len(evidence.features):,} features."
        ),
    ]
    chosen: list[str | None] = [*colours[:2]] or [None]
    for column in chosen:
        label = "" if column is None else f", by {column.removeprefix('Metadata_')}"
        figure = step_figures.profile_map(shown, axes[0], axes[1], column, name)
        parts.append(
            Drawn(
                f"map{'' if column is None else '-' + column.removeprefix('Metadata_')}",
                f"Principal components{label}",
                figure,
                shown,
            )
        )
    return Section("map", "Map", parts)
