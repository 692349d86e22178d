"""The section on matching and directionality: what a benchmark's tasks found."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from cytofast.report import direction_figures, neighbour_figures, retrieval_figures
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


def _beside(summary: pl.DataFrame, conditions: Sequence[str]) -> str | None:
    """The condition column to be drawn side by side: the last, if all its values meet the same other conditions."""
    if len(conditions) < 2 or summary[conditions[-1]].n_unique() < 2:
        return None
    *others, last = conditions
    met = [part.select(others).unique().sort(others) for part in summary.partition_by(last)]
    return last if all(one.equals(met[0]) for one in met) else None


def _neighbours(name: str, results: TaskResults, news: list[Prose]) -> list[Part]:
    """Whose nearest neighbour has the same mechanism."""
    parts: list[Part] = []
    done = results.summary.filter(results.summary["status"] == "done")
    for row in done.rows(named=True):
        found = results.neighbours
        if not found.height or row["task"] not in found["task"]:
            continue
        found = found.filter(found["task"] == row["task"])
        for column in results.conditions:
            found = found.filter(found[column].eq_missing(row[column]))
        where = ", ".join(str(row[column]) for column in results.conditions)
        said = f"{row['task']}{f' ({where})' if where else ''}"
        published = "" if row["published"] is None else f"; published: {row['published']:.2f}"
        text = (
            f"{said}: {row['n_retrieved']} of {row['n']} treatments have a nearest neighbour with the same "
            f"label ({row['fraction_retrieved']:.1%}, 95 % interval {row['low']:.1%} to {row['high']:.1%}{published})."
        )
        news.append(Prose(f"{name}, {text}"))
        parts += [
            Prose(text + (f" Besides: {row['note']}." if row["note"] else "")),
            Drawn(
                "-".join(["neighbours", name, row["task"], *where.split(", ")]).rstrip("-"),
                f"Labels of nearest neighbours: {said}",
                neighbour_figures.neighbour_labels(found),
                found.drop("task", *results.conditions).sort("correct", nulls_last=True, maintain_order=True),
            ),
        ]
    return parts


def _benchmark(name: str, results: TaskResults, news: list[Prose]) -> list[Part]:
    by = _conditions(results)
    summary = results.summary
    failed = summary.filter(summary["status"] != "done")
    parts: list[Part] = [
        Prose(f"Benchmark {name}: {summary.height:,} tasks and conditions, {summary.height - failed.height:,} done."),
    ]
    beside = _beside(summary, results.conditions)
    for mine in summary.partition_by("task", maintain_order=True) if by else [summary]:
        task = mine["task"][0] if by else "all tasks"
        drawn = retrieval_figures.fractions(mine, beside)
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
    parts += _neighbours(name, results, news)
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
