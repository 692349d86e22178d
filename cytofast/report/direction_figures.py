"""Pairs that should be alike or opposite, drawn: shares beyond chance, and both distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import polars as pl

from cytofast.report.palette import QUIET, colour, figure, limits, nothing, short
from cytofast.report.retrieval_figures import conditions_of
from cytofast.schema import require_columns


def directionality(table: pl.DataFrame, by: Sequence[str] = ()) -> go.Figure:
    """Shares of true pairs beyond the 5th and 95th percentile of other pairs; the ``directions`` of a benchmark.

    Examples
    --------
    >>> found = pl.DataFrame({"share_below": [0.04], "share_above": [0.2], "odds_ratio": [5.0], "p_value": [0.1], "n_same": [8]})
    >>> [trace.name for trace in directionality(found).data]
    ['alike (above the 95th percentile)', 'opposite (below the 5th)']
    """
    require_columns(
        table.schema, ["share_below", "share_above", "odds_ratio", "p_value", "n_same", *by], "figures.directionality"
    )
    known = table.filter(table["share_above"].is_not_null() & table["share_below"].is_not_null())
    if not known.height:
        return nothing("No true pair could be compared.")
    labels = [short(label, 60) for label in conditions_of(known, by)]
    told = known.select("n_same", "odds_ratio", "p_value").rows()

    def bars(values: pl.Series, name: str, series: int) -> go.Bar:
        return go.Bar(
            x=values.to_list(),
            y=labels,
            orientation="h",
            name=name,
            marker={"color": colour(series)},
            customdata=told,
            hovertemplate="%{y}<br>%{x:.3f} of %{customdata[0]:,} pairs<br>"
            "odds ratio %{customdata[1]:.3g}, p %{customdata[2]:.2g}<extra></extra>",
        )

    return figure(
        [
            bars(known["share_above"], "alike (above the 95th percentile)", 0),
            bars(known["share_below"], "opposite (below the 5th)", 1),
        ],
        alt=f"Shares of true pairs beyond chance in {known.height} conditions; the largest share alike is "
        f"{limits(known['share_above'])[1]:.2f}, opposite {limits(known['share_below'])[1]:.2f}.",
        caption="Share of true pairs (same gene or target) that are more alike, or more opposite, than 95 % of the "
        "pairs of different "
        "genes. Chance gives 0.05 to each (dotted). Fisher's exact test tells whether one direction outweighs the "
        "other; hover for it.",
        height=150 + 40 * known.height,
        barmode="group",
        xaxis={"title": {"text": "share of true pairs"}, "rangemode": "tozero"},
        yaxis={"type": "category", "autorange": "reversed", "tickfont": {"size": 11}},
        shapes=[
            {
                "type": "line",
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "x0": 0.05,
                "x1": 0.05,
                "line": {"color": QUIET, "dash": "dot"},
            }
        ],
    )


def pair_similarities(table: pl.DataFrame, by: Sequence[str] = ()) -> go.Figure:
    """Similarities of true pairs and of pairs of different genes, as cumulative curves; the ``quantiles`` of a benchmark.

    Examples
    --------
    >>> curve = pl.DataFrame({"quantile": [0.0, 1.0], "same": [0.0, 0.9], "different": [-0.5, 0.5]})
    >>> [trace.name for trace in pair_similarities(curve).data]
    ['same', 'different']
    """
    require_columns(table.schema, ["quantile", "same", "different", *by], "figures.pair_similarities")
    known = table.filter(table["same"].is_not_null())
    if not known.height:
        return nothing("No true pair could be compared.")
    labels = conditions_of(known, by)
    order = labels.unique(maintain_order=True).to_list()
    traces: list[Any] = []
    for index, label in enumerate(order):
        part = known.filter(labels == label).sort("quantile")
        for series, name in enumerate(("same", "different")):
            traces.append(
                go.Scatter(
                    x=part[name].to_list(),
                    y=part["quantile"].to_list(),
                    mode="lines",
                    name=name,
                    visible=index == 0,
                    line={"color": colour(series), "dash": ("solid", "dash")[series], "width": 2},
                    hovertemplate=f"{name}: %{{y:.0%}} lie below %{{x:.3f}}<extra></extra>",
                )
            )
    buttons = [
        {
            "label": short(label, 70),
            "method": "update",
            "args": [{"visible": [at // 2 == index for at in range(len(traces))]}, {}],
        }
        for index, label in enumerate(order)
    ]
    return figure(
        traces,
        alt=f"Cumulative curves of similarities of true pairs and of other pairs, in {len(order)} conditions.",
        caption="Which share of pairs has a lower similarity than this. Where the solid curve (true pairs) lies to "
        "the right of the dashed one "
        "(pairs of different genes), true pairs are more alike; where its left end reaches further left, some are "
        "opposite.",
        xaxis={"title": {"text": "cosine similarity"}},
        yaxis={"title": {"text": "share of pairs below"}, "range": [-0.02, 1.02]},
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.12, "yanchor": "bottom"}]
        if len(order) > 1
        else [],
    )
