"""Two modalities of the same perturbations, drawn: scores against chance, what is predictable, and by which features."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from cytofast.modalities.maps import clustered
from cytofast.report.palette import AMOUNT, QUIET, colour, figure, limits, nothing, short
from cytofast.schema import require_columns

_BINS = 40
_LOWEST = -1.0
"""A worthless model may score below any number; what lies lower stands in the first bar."""

_DOTTED = " Right of the dotted line (a high quantile of chance, and a margin) a target is predictable."


def score_distribution(targets: pl.DataFrame, null: pl.DataFrame, percent: pl.DataFrame | None = None) -> go.Figure:
    """Median R^2 of all targets against those of shuffled rows, with the threshold of what is predictable.

    Parameters
    ----------
    targets
        The ``summary()`` of a prediction.
    null
        Its ``null_scores``.
    percent
        Its ``percent_predictable()``, for the threshold.

    Examples
    --------
    >>> found, chance = pl.DataFrame({"median_r2": [0.8, 0.1]}), pl.DataFrame({"median_r2": [-0.1, 0.0]})
    >>> [trace.name for trace in score_distribution(found, chance).data]
    ['targets (2)', 'shuffled (2)']
    """
    require_columns(targets.schema, ["median_r2"], "figures.score_distribution")
    require_columns(null.schema, ["median_r2"], "figures.score_distribution")
    known, chance = (table["median_r2"].drop_nulls().to_numpy() for table in (targets, null))
    if not len(known):
        return nothing("No target has a score.")
    every = np.concatenate([known, chance])
    edges = np.linspace(max(_LOWEST, float(every.min())), max(float(every.max()), 0.0) + 1e-6, _BINS + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    below = int((known < edges[0]).sum())
    traces = []
    for series, name, values in ((0, "targets", known), (None, "shuffled", chance)):
        counts = np.histogram(np.maximum(values, edges[0]), edges)[0]
        traces.append(
            go.Bar(
                x=middles,
                y=counts / max(len(values), 1),
                width=edges[1] - edges[0],
                name=f"{name} ({len(values):,})",
                customdata=counts,
                marker={"color": QUIET if series is None else colour(series), "opacity": 0.65},
                hovertemplate=f"{name}: %{{customdata:,}} at R\u00b2 %{{x:.2f}}<extra></extra>",
            )
        )
    threshold = None if percent is None else float(percent["threshold"][0])
    hits = "" if threshold is None else f" {int((known > threshold).sum()):,} targets exceed {threshold:.2f}."
    lower = f" {below:,} targets below {edges[0]:.2g} stand in the first bar." if below else ""
    return figure(
        traces,
        alt=f"Histograms of the median R\u00b2 of {len(known):,} targets and of {len(chance):,} shuffled ones.{hits}",
        caption="Share of targets by the median R\u00b2 over folds of perturbations that were held out, and the same for "
        "shuffled rows (grey). 1 is perfect, 0 is no better than the mean; below 0, worse."
        + ("" if threshold is None else _DOTTED)
        + lower,
        barmode="overlay",
        bargap=0,
        xaxis={"title": {"text": "median R\u00b2 over folds"}},
        yaxis={"title": {"text": "share of targets"}, "rangemode": "tozero"},
        shapes=[] if threshold is None else [upright(threshold)],
    )


def percent_predictable(table: pl.DataFrame, name: str = "name") -> go.Figure:
    """How many targets are predictable, with intervals, one line a prediction.

    Parameters
    ----------
    table
        Rows of ``percent_predictable()``, and a column that names the prediction.
    name
        That column.

    Examples
    --------
    >>> rows = pl.DataFrame({"name": ["lasso"], "percent": [30.0], "lower": [20.0], "upper": [41.0], "n_targets": [978]})
    >>> percent_predictable(rows).data[0].y
    ('lasso',)
    """
    require_columns(table.schema, [name, "percent", "lower", "upper", "n_targets"], "figures.percent_predictable")
    if not table.height:
        return nothing("No prediction was made.")
    least, most = limits(table["percent"])
    return figure(
        [intervals(table, "percent", table[name].to_list(), "percent predictable", 0, "%{x:.1f} %")],
        alt=f"Percent of predictable targets of {table.height} predictions, from {least:.1f} to {most:.1f}.",
        caption="Percent of targets whose median R\u00b2 over folds exceeds what shuffled rows reach, and a margin. Intervals: "
        "95 % bootstrap over targets and folds.",
        height=150 + 34 * table.height,
        xaxis={"title": {"text": "percent of targets"}, "range": [-2, 102]},
        yaxis={"type": "category", "autorange": "reversed", "tickfont": {"size": 11}},
        showlegend=False,
    )


def score_heatmap(table: pl.DataFrame, values: str = "percent_predictable") -> go.Figure:
    """Scores by feature group and channel, alike ones side by side; the table of :func:`cytofast.score_map`.

    Examples
    --------
    >>> found = pl.DataFrame({"group": ["Texture"], "channel": ["DNA"], "n_targets": [9], "percent_predictable": [50.0]})
    >>> score_heatmap(found).data[0].z.tolist()
    [[50.0]]
    """
    require_columns(table.schema, ["group", "channel", "n_targets", values], "figures.score_heatmap")
    if not table.height:
        return nothing("No feature group has a score.")
    groups, channels = (table[name].unique(maintain_order=True).to_list() for name in ("group", "channel"))
    grid, counts = (np.full((len(groups), len(channels)), np.nan) for _ in range(2))
    for group, channel, value, n in table.select("group", "channel", values, "n_targets").rows():
        place = groups.index(group), channels.index(channel)
        grid[place], counts[place] = np.nan if value is None else value, n
    filled = np.where(np.isnan(grid), 0.0, grid)
    rows, columns = clustered(filled), clustered(filled.T)
    percent = values.startswith("percent")
    return figure(
        [
            go.Heatmap(
                z=grid[np.ix_(rows, columns)],
                x=[channels[i] for i in columns],
                y=[groups[i] for i in rows],
                customdata=counts[np.ix_(rows, columns)],
                colorscale=AMOUNT,
                zmin=0 if percent else None,
                zmax=100 if percent else None,
                hoverongaps=False,
                xgap=2,
                ygap=2,
                hovertemplate="%{y}, %{x}: %{z:.3~g} of %{customdata} features<extra></extra>",
                colorbar={"title": {"text": "% predictable" if percent else short(values.replace("_", " "))}},
            )
        ],
        alt=f"Heatmap of {values.replace('_', ' ')} by {len(groups)} feature groups and {len(channels)} channels.",
        caption="How well the features of each group and channel are predicted; empty where there is none. A feature of two "
        "channels (a correlation) counts under both. Alike rows and columns stand side by side.",
        height=170 + 30 * len(groups),
        xaxis={"type": "category", "showgrid": False},
        yaxis={"type": "category", "showgrid": False},
    )


def contribution_heatmap(table: pl.DataFrame) -> go.Figure:
    """Which feature groups and channels predict each target; the table of :func:`cytofast.contribution_map`.

    Examples
    --------
    >>> shares = pl.DataFrame({"target": ["TP53"], "Texture DNA": [0.7], "Intensity ER": [0.3]})
    >>> contribution_heatmap(shares).data[0].x
    ('Texture DNA', 'Intensity ER')
    """
    require_columns(table.schema, ["target"], "figures.contribution_heatmap")
    if not table.height or table.width < 2:
        return nothing("No predictable target has coefficients to show.")
    shares = table.drop("target")
    return figure(
        [
            go.Heatmap(
                z=shares.to_numpy().astype(np.float32),
                x=shares.columns,
                y=table["target"].to_list(),
                colorscale=AMOUNT,
                zmin=0,
                hovertemplate="%{y}: %{z:.0%} from %{x}<extra></extra>",
                colorbar={"title": {"text": "share"}, "tickformat": ".0%"},
            )
        ],
        alt=f"Heatmap of {table.height} targets and {shares.width} feature groups and channels that predict them.",
        caption="Each row is a target that is predictable, each column a feature group and channel; the colour is its share "
        "of the model's absolute coefficients, mean over folds. Alike rows and columns stand side by side. Features "
        "that are correlated may stand in for each other: read it as where the signal can be found.",
        height=min(1400, 220 + 14 * table.height),
        xaxis={"type": "category", "showgrid": False, "tickangle": -50, "tickfont": {"size": 10}},
        yaxis={"type": "category", "showgrid": False, "autorange": "reversed", "tickfont": {"size": 10}},
    )


def upright(at: float) -> dict[str, Any]:
    """A dotted line across the figure."""
    return {
        "type": "line",
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "x0": at,
        "x1": at,
        "line": {"color": QUIET, "dash": "dot"},
    }


def intervals(table: pl.DataFrame, value: str, labels: list[str], name: str, series: int, shown: str) -> go.Scatter:
    """Points with what they have below and above as whiskers, ``lower`` and ``upper``."""
    middle = table[value]
    return go.Scatter(
        x=middle.to_list(),
        y=[short(label, 60) for label in labels],
        mode="markers",
        name=name,
        error_x={
            "type": "data",
            "array": (table["upper"] - middle).to_list(),
            "arrayminus": (middle - table["lower"]).to_list(),
            "thickness": 1.5,
            "width": 4,
        },
        customdata=table.select("lower", "upper").rows(),
        marker={"color": colour(series), "size": 9},
        hovertemplate="%{y}<br>" + shown + " [%{customdata[0]:.3g}, %{customdata[1]:.3g}]<extra></extra>",
    )
