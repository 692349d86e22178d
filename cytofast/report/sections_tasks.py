"""The section on matching and directionality: what a benchmark's tasks found."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from cytofast.report import direction_figures, retrieval_figures
from cytofast.report.evidence import Evidence
from cytofast.report.parts import Drawn, Listed, Part, Prose, Section
from cytofast.report.results import Given
from cytofast.report.sections_retrieval import found_parts
from cytofast.tasks.results import AGAINST, TaskResults

_STRONGEST = 1_000


def matching_section(evidence: Evidence, given: Given) -> Section:  # noqa: ARG001  (sections are called alike)
    """Summary of all tasks, labels that match, pairs of either direction."""
    parts: list[Part] = []
    news: list[Prose] = []
    for name, results in given.benchmarks.items():
        parts += _benchmark(name, results, news)
    if not given.benchmarks:
        parts.append(
            Prose(
                "Matching and directionality were not computed. They need labels that perturbations share (targets, "
                "genes) and are asked "
                "by a benchmark: cytofast benchmark cpjump1 --store DIR. The report finds its results in the store.",
                "note",
            )
        )
    return Section("matching", "Matching and directionality", parts, news)


def _conditions(results: TaskResults) -> list[str]:
    return [*results.conditions, *(f"{name}{AGAINST}" for name in results.apart)]


def _used(table: pl.DataFrame, by: Sequence[str]) -> list[str]:
    return [name for name in by if name in table.columns and table[name].is_not_null().any()]


def _benchmark(name: str, results: TaskResults, news: list[Prose]) -> list[Part]:
    by = _conditions(results)
    summary = results.summary
    failed = summary.filter(summary["status"] != "done")
    parts: list[Part] = [
        Prose(f"Benchmark {name}: {summary.height:,} tasks and conditions, {summary.height - failed.height:,} done."),
    ]
    for task in summary["task"].unique(maintain_order=True):
        mine = summary.filter(summary["task"] == task)
        drawn = retrieval_figures.fractions(mine)
        parts.append(Drawn(f"summary-{name}-{task}", f"Fractions found: {task}", drawn, mine))
    if failed.height:
        parts += [
            Prose(f"{failed.height:,} could not be done; the table says why.", "warning"),
            Listed(
                f"failed-{name}",
                "Not possible",
                failed.select("task", *_used(failed, by), "note"),
                "Tasks and conditions without an answer.",
            ),
        ]
    for task in results.labels["task"].unique(maintain_order=True):
        table = results.labels.filter(results.labels["task"] == task)
        parts += found_parts(
            table,
            _used(table, by),
            f"{name}-{task}",
            f"Task {task}: labels whose members find each other.",
            news,
            "label",
        )
    directions = results.directions
    if directions.height:
        columns = ["task", *_used(directions, by)]
        parts.append(
            Drawn(
                f"directions-{name}",
                "Alike and opposite pairs",
                direction_figures.directionality(directions, columns),
                directions,
            )
        )
    if results.quantiles.height:
        columns = ["task", *_used(results.quantiles, by)]
        parts.append(
            Drawn(
                f"similarities-{name}",
                "Similarities of true pairs and of others",
                direction_figures.pair_similarities(results.quantiles, columns),
                results.quantiles,
            )
        )
    if results.pairs.height:
        strong = results.pairs.sort(results.pairs["similarity"].abs(), descending=True, nulls_last=True)
        more = f" The {_STRONGEST:,} strongest of {strong.height:,}." if strong.height > _STRONGEST else ""
        parts.append(
            Listed(
                f"pairs-{name}",
                "Strongest pairs",
                strong.head(_STRONGEST),
                f"True pairs by the size of their similarity, of either sign.{more}",
                opened=False,
            )
        )
    return parts
