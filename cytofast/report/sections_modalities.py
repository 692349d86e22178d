"""The section on two modalities: what one predicts of the other, and what both tell of mechanisms."""

from __future__ import annotations

import polars as pl

from cytofast.modalities.tables import ModalityTables
from cytofast.report import mechanism_figures, modality_figures
from cytofast.report.parts import Drawn, Listed, Part, Prose, Section
from cytofast.report.results import Given


def modalities_section(given: Given) -> Section:
    """Predictions across modalities, mechanisms by classification and by clustering."""
    parts: list[Part] = []
    news: list[Prose] = []
    predictions = {name: found for name, found in given.modalities.items() if found.kind == "prediction"}
    if predictions:
        rows = [found.tables["percent"].with_columns(pl.lit(name).alias("name")) for name, found in predictions.items()]
        table = pl.concat(rows).select("name", pl.all().exclude("name"))
        parts.append(
            Drawn(
                "percent-predictable",
                "Percent predictable",
                modality_figures.percent_predictable(table),
                table,
            )
        )
    for name, found in predictions.items():
        parts += _prediction(name, found, news)
    for name, found in given.modalities.items():
        if found.kind == "classification":
            parts += _classification(name, found, news)
        elif found.kind == "clustering":
            parts += _clustering(name, found)
    if not given.modalities:
        parts.append(
            Prose(
                "Two modalities were not compared. Where the same perturbations were seen twice (morphology and expression, "
                "say), ask: cytofast crossmodal STORE --from A --to B --on COLUMN, or cytofast mechanism. The report finds "
                "their results in the store.",
                "note",
            )
        )
    return Section("modalities", "Two modalities", parts, news)


def _notes(found: ModalityTables) -> list[Part]:
    notes: list[Part] = [
        Prose(text, "warning" if "LEAKED" in text else "note") for text in found.tables["notes"]["note"]
    ]
    return notes


def _prediction(name: str, found: ModalityTables, news: list[Prose]) -> list[Part]:
    row = found.tables["percent"].row(0, named=True)
    about = found.about
    leaked = about.get("compat") == "rosetta"
    verdict = Prose(
        f"{name}: {about['model']} predicts {row['n_predictable']:,} of {row['n_targets']:,} targets of {about['target']} "
        f"from {about['source']} ({row['percent']:.1f} %, 95 % interval {row['lower']:.1f} to {row['upper']:.1f} %)"
        + (", by the published procedure whose scores are LEAKED." if leaked else "; perturbations were held out."),
        "warning" if leaked or not row["n_predictable"] else "good",
    )
    news.append(verdict)
    tables = found.tables
    parts: list[Part] = [
        verdict,
        *_notes(found),
        Drawn(
            f"scores-{name}",
            f"Scores against chance: {name}",
            modality_figures.score_distribution(tables["targets"], tables["null"], tables["percent"]),
            tables["targets"].sort("median_r2", descending=True, nulls_last=True),
        ),
    ]
    if tables["map"].height:
        drawn = modality_figures.score_heatmap(tables["map"])
        parts.append(
            Drawn(f"score-map-{name}", f"Predictability by feature group and channel: {name}", drawn, tables["map"])
        )
    if tables["contributions"].height:
        drawn = modality_figures.contribution_heatmap(tables["contributions"])
        parts.append(Drawn(f"contributions-{name}", f"What predicts: {name}", drawn, tables["contributions"]))
    if tables["strongest"].height:
        caption = (
            "The strongest features of each predictable target: coefficient (mean over folds, per standard deviation of the "
            "feature) and stability (share of folds that agree in its sign)."
        )
        parts.append(
            Listed(f"strongest-{name}", f"Strongest features: {name}", tables["strongest"], caption, opened=False)
        )
    if tables["associations"].height:
        caption = (
            "Gene sets whose genes are more often predictable than others: Fisher's exact test, one-sided, and q-values "
            "after Benjamini and Hochberg over these sets. The smallest p first."
        )
        parts.append(Listed(f"sets-{name}", f"Gene sets: {name}", tables["associations"], caption))
    return parts


def _classification(name: str, found: ModalityTables, news: list[Prose]) -> list[Part]:
    tables = found.tables
    tried = tables["summary"].height
    best = tables["summary"].sort("weighted_f1", descending=True).row(0, named=True)
    # The best of several is found by looking: its p-value is multiplied by how many there are.
    beyond = best["p_value"] * tried < 0.05
    verdict = Prose(
        f"{name}: classes of {found.about['label'].removeprefix('Metadata_')} are told best (of {tried}) by {best['classifier']} "
        f"from {best['space']}, weighted F1 {best['weighted_f1']:.2f} (95 % interval {best['lower']:.2f} to {best['upper']:.2f}; "
        f"chance {best['chance_f1']:.2f}{'' if beyond else ': not beyond chance'}).",
        "good" if beyond else "warning",
    )
    news.append(verdict)
    return [
        verdict,
        *_notes(found),
        Drawn(
            f"mechanism-{name}",
            f"Modalities and fusions: {name}",
            mechanism_figures.mechanism_scores(tables["summary"]),
            tables["summary"],
        ),
        Drawn(
            f"differences-{name}",
            f"Differences on the same folds: {name}",
            mechanism_figures.mechanism_differences(tables["comparisons"]),
            tables["comparisons"],
        ),
        Drawn(
            f"classes-{name}", f"Classes: {name}", mechanism_figures.class_scores(tables["classes"]), tables["classes"]
        ),
    ]


def _clustering(name: str, found: ModalityTables) -> list[Part]:
    table = found.tables["clusters"]
    return [
        Prose(f"{name}: clusters against the classes of {found.about['label'].removeprefix('Metadata_')}."),
        *_notes(found),
        Drawn(f"clusters-{name}", f"Clusters and classes: {name}", mechanism_figures.cluster_jaccard(table), table),
    ]
