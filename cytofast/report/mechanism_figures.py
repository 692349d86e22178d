"""Mechanisms from two modalities and from both together, drawn: F1 against chance, differences, classes, clusters."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import polars as pl

from cytofast.report.modality_figures import intervals, upright
from cytofast.report.palette import QUIET, colour, figure, limits, nothing, short, symbol
from cytofast.schema import require_columns


def mechanism_scores(table: pl.DataFrame) -> go.Figure:
    """Weighted F1 of each modality and fusion with its interval, and what chance reaches.

    The table is the ``summary()`` of what :meth:`cytofast.Mechanism.classify` gives.

    Examples
    --------
    >>> row = {"classifier": "logistic", "space": "early", "weighted_f1": 0.6, "lower": 0.5, "upper": 0.7, "chance_p95": 0.2}
    >>> [trace.name for trace in mechanism_scores(pl.DataFrame([row])).data]
    ['logistic', 'chance (95 %)']
    """
    columns = ["classifier", "space", "weighted_f1", "lower", "upper", "chance_p95"]
    require_columns(table.schema, columns, "figures.mechanism_scores")
    if not table.height:
        return nothing("No mechanism was classified.")
    parts = table.partition_by("classifier", maintain_order=True)
    traces = [
        intervals(part, "weighted_f1", _lines(part, len(parts)), str(part["classifier"][0]), i, "F1 %{x:.3f}")
        for i, part in enumerate(parts)
    ]
    traces.append(
        go.Scatter(
            x=table["chance_p95"].to_list(),
            y=_lines(table, len(parts)),
            mode="markers",
            name="chance (95 %)",
            marker={"color": QUIET, "symbol": "line-ns-open", "size": 14, "line": {"width": 2}},
            hovertemplate="%{y}<br>95 % of shuffled predictions stay below %{x:.3f}<extra></extra>",
        )
    )
    low, high = limits(table["weighted_f1"])
    return figure(
        traces,
        alt=f"Weighted F1 of {table.height} classifiers and spaces, from {low:.2f} to {high:.2f}.",
        caption="Weighted F1 of perturbations that were held out: each modality alone, then fusions. Whiskers: 95 % interval "
        "from folds. A grey stroke marks what 95 % of shuffled predictions stay below; left of it nothing is learned.",
        height=170 + 26 * table.height,
        xaxis={"title": {"text": "weighted F1"}, "range": [-0.03, 1.03]},
        yaxis={"type": "category", "autorange": "reversed", "tickfont": {"size": 11}},
    )


def mechanism_differences(table: pl.DataFrame) -> go.Figure:
    """Differences of weighted F1 between modalities and fusions on the same folds; ``compare()`` of a mechanism result.

    Examples
    --------
    >>> row = {"classifier": "logistic", "one": "early", "other": "late", "difference": 0.1}
    >>> mechanism_differences(pl.DataFrame([{**row, "lower": 0.0, "upper": 0.2, "p_value": 0.1}])).data[0].x
    (0.1,)
    """
    columns = ["classifier", "one", "other", "difference", "lower", "upper", "p_value"]
    require_columns(table.schema, columns, "figures.mechanism_differences")
    if not table.height:
        return nothing("No two spaces were compared.")
    parts = table.partition_by("classifier", maintain_order=True)
    traces = []
    for i, part in enumerate(parts):
        prefix = f"{part['classifier'][0]}: " if len(parts) > 1 else ""
        labels = [f"{prefix}{one} \u2212 {other}" for one, other in part.select("one", "other").rows()]
        traces.append(intervals(part, "difference", labels, str(part["classifier"][0]), i, "difference %{x:.3f}"))
    return figure(
        traces,
        alt=f"{table.height} differences of weighted F1 with intervals.",
        caption="Difference of weighted F1 on the same folds, with its 95 % interval (widened, because training sets of folds "
        "overlap; not corrected for the number of comparisons). Right of the line the first is better.",
        height=160 + 24 * table.height,
        xaxis={"title": {"text": "difference of weighted F1"}},
        yaxis={"type": "category", "autorange": "reversed", "tickfont": {"size": 11}},
        shapes=[upright(0.0)],
        showlegend=len(parts) > 1,
    )


def class_scores(table: pl.DataFrame) -> go.Figure:
    """F1 of each class from each modality and fusion; ``per_class()`` of a mechanism result.

    Examples
    --------
    >>> row = {"classifier": "logistic", "space": "early", "class": "EGFR", "n_groups": 6, "f1": 0.5}
    >>> class_scores(pl.DataFrame([row])).data[0].y
    ('EGFR (6)',)
    """
    require_columns(table.schema, ["classifier", "space", "class", "n_groups", "f1"], "figures.class_scores")
    return _by_class(
        table,
        "f1",
        "classifier",
        "n_groups",
        None,
        "F1",
        "F1 of each class, of all perturbations that were held out, from each modality and fusion; in brackets how many "
        "perturbations a class has. Classes are in the order of their best F1.",
        "No mechanism was classified.",
    )


def cluster_jaccard(table: pl.DataFrame) -> go.Figure:
    """How much of a class one cluster holds, by modality and fusion; the table of ``Mechanism.cluster``.

    Examples
    --------
    >>> row = {"space": "early", "class": "EGFR", "n_rows": 6, "jaccard": 0.5, "chance_jaccard": 0.1}
    >>> [trace.name for trace in cluster_jaccard(pl.DataFrame([row])).data]
    ['early', 'chance']
    """
    require_columns(table.schema, ["space", "class", "n_rows", "jaccard", "chance_jaccard"], "figures.cluster_jaccard")
    return _by_class(
        table,
        "jaccard",
        None,
        "n_rows",
        "chance_jaccard",
        "Jaccard index",
        "Jaccard index of each class and the cluster (k-means, as many as classes) that is most like it: 1 is a cluster of "
        "just this class. Grey strokes: the mean for shuffled labels, in the space where it is largest. In brackets how many "
        "rows a class has.",
        "No class was clustered.",
    )


def _lines(table: pl.DataFrame, classifiers: int) -> list[str]:
    """One line a classifier and space."""
    rows = table.select("classifier", "space").rows()
    return [space if classifiers == 1 else f"{classifier}: {space}" for classifier, space in rows]


def _by_class(
    table: pl.DataFrame,
    value: str,
    menu: str | None,
    size: str,
    chance: str | None,
    axis: str,
    caption: str,
    empty: str,
) -> go.Figure:
    """One line a class, one mark a space; a menu where there are several classifiers."""
    known = table.filter(table[value].is_not_null())
    if not known.height:
        return nothing(empty)
    best = known.group_by("class", maintain_order=True).agg(pl.max(value, size)).sort(value, descending=True)
    label = {name: f"{short(name, 50)} ({n:,})" for name, n in best.select("class", size).rows()}
    spaces = known["space"].unique(maintain_order=True).to_list()
    choices = [None] if menu is None else known[menu].unique(maintain_order=True).to_list()
    traces: list[Any] = []
    for choice in choices:
        mine = known if menu is None else known.filter(known[menu] == choice)
        for series, space in enumerate(spaces):
            part = mine.filter(mine["space"] == space)
            traces.append(
                go.Scatter(
                    x=part[value].to_list(),
                    y=[label[name] for name in part["class"]],
                    mode="markers",
                    name=space,
                    visible=choice == choices[0],
                    marker={"color": colour(series), "symbol": symbol(6 * series), "size": 9, "opacity": 0.85},
                    hovertemplate="%{y}<br>" + f"{short(space)}: {axis} %{{x:.3f}}<extra></extra>",
                )
            )
    if chance is not None:
        line = known.group_by("class", maintain_order=True).agg(pl.max(chance))
        traces.append(
            go.Scatter(
                x=line[chance].to_list(),
                y=[label[name] for name in line["class"]],
                mode="markers",
                name="chance",
                marker={"color": QUIET, "symbol": "line-ns-open", "size": 12, "line": {"width": 2}},
                hovertemplate="%{y}<br>chance %{x:.3f}<extra></extra>",
            )
        )
    buttons = [
        {
            "label": str(choice),
            "method": "update",
            "args": [{"visible": [i // len(spaces) == k for i in range(len(traces))]}, {}],
        }
        for k, choice in enumerate(choices)
    ]
    return figure(
        traces,
        alt=f"{axis} of {len(label)} classes in {len(spaces)} spaces, from {limits(known[value])[0]:.2f} to "
        f"{limits(known[value])[1]:.2f}.",
        caption=caption,
        height=170 + 22 * len(label),
        xaxis={"title": {"text": axis}, "range": [-0.03, 1.03]},
        yaxis={
            "type": "category",
            "autorange": "reversed",
            "categoryorder": "array",
            "categoryarray": list(label.values()),
            "tickfont": {"size": 11},
        },
        updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}]
        if len(choices) > 1
        else [],
    )
