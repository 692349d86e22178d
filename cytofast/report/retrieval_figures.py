"""Who finds whom, drawn: mAP by condition, mAP against chance, fractions retrieved, pairs of either direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl

from cytofast.report.palette import QUIET, colour, figure, limits, nothing, short, symbol
from cytofast.retrieval.significance import fraction_retrieved
from cytofast.schema import as_columns, is_metadata, require_columns
from cytofast.tasks.results import AGAINST

_MAP = "mean_average_precision"
_HEADS = 0.13
"""Share of an axis that is left free above the boxes for what is written there."""


def conditions_of(table: pl.DataFrame, by: Sequence[str]) -> pl.Series:
    """One label a row: the values of the condition columns; those of a second side (``_against``) after a cross."""
    if not by:
        return pl.Series(["all"] * table.height, dtype=pl.String)
    texts = table.select(table[name].cast(pl.String) for name in by)
    own = [name for name in by if not name.endswith(AGAINST)] or list(by)
    other = [name for name in by if name not in own]
    label = texts.select(pl.concat_str([texts[name].fill_null("none") for name in own], separator=", ")).to_series()
    if not other:
        return label
    second = texts.select(pl.concat_str([texts[name] for name in other], separator=", ", ignore_nulls=True)).to_series()
    return label.zip_with(second == "", label + " \u00d7 " + second)


def map_boxes(
    table: pl.DataFrame,
    by: str | Sequence[str] | None = None,
    fractions: pl.DataFrame | None = None,
    kind: str = "perturbation",
) -> go.Figure:
    """Box plots of mAP by condition; above each the fraction retrieved and its interval, as Fig. 4 of the CPJUMP1 paper.

    Parameters
    ----------
    table
        What a ``mean_average_precision`` gives: ``mean_average_precision``, ``q_value``, metadata.
    by
        Condition columns.
    fractions
        What :func:`cytofast.fraction_retrieved` gives for the same ``by``; ``None`` asks it.
    kind
        What a row is, for the caption: ``"perturbation"`` or ``"label"``.

    Examples
    --------
    >>> found = pl.DataFrame({"mean_average_precision": [0.9, 0.2], "q_value": [0.01, 0.5]})
    >>> map_boxes(found).layout.annotations[0].text
    '0.50<br>[0.00, 1.00]'
    """
    columns = as_columns(by)
    require_columns(table.schema, [_MAP, "q_value", *columns], "figures.map_boxes")
    known = table.filter(table[_MAP].is_not_null())
    if not known.height:
        return nothing("No perturbation has a mean average precision.")
    shares = fraction_retrieved(table, columns or None) if fractions is None else fractions
    labels = conditions_of(known, columns)
    order = conditions_of(shares, columns).to_list()
    names = _names(known)
    traces, notes = [], []
    for index, label in enumerate(order):
        mine = labels == label
        values = known.filter(mine)
        traces.append(
            go.Box(
                y=values[_MAP].cast(pl.Float32).to_numpy(),
                x=[index] * values.height,
                name=short(label),
                text=names.filter(mine).to_list(),
                hovertemplate="%{text}<br>mAP %{y:.3f}<extra></extra>",
                marker={"color": colour(index // 2), "size": 4, "opacity": 0.7},
                line={"width": 1.5},
                boxpoints="all" if known.height <= 4000 else "outliers",
                jitter=0.5,
                pointpos=0,
                showlegend=False,
            )
        )
        share, low, high = shares.select("fraction_retrieved", "lower", "upper").row(index)
        text = "not tested" if share is None else f"{share:.2f}<br>[{low:.2f}, {high:.2f}]"
        notes.append(
            {"x": index, "y": 1.04, "yanchor": "bottom", "text": text, "showarrow": False, "font": {"size": 11}}
        )
    return figure(
        traces,
        alt=f"Box plots of mean average precision of {known.height:,} {kind}s in {len(order)} conditions.",
        caption=f"Mean average precision (mAP) of each {kind}, by condition: 1 means that all its {_members(kind)} "
        f"are nearer to each other than any {'negative control' if kind == 'perturbation' else 'other'}. "
        "Boxes span the quartiles. Above each box: the fraction retrieved (q < "
        f"0.05), and its 95 % interval over {kind}s.",
        height=480,
        xaxis={
            "tickvals": list(range(len(order))),
            "ticktext": [short(label) for label in order],
            "range": [-0.6, len(order) - 0.4],
            "showgrid": False,
            "zeroline": False,
            "tickangle": -35 if len(order) > 5 else 0,
        },
        yaxis={"title": {"text": "mAP"}, "range": [-0.02, 1.04 + _HEADS], "tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1]},
        annotations=notes,
        meta={"least": 74 * len(order), "most": 320 + 110 * len(order)},
    )


def _members(kind: str) -> str:
    """Who is looked for."""
    return "replicates" if kind == "perturbation" else "members"


def _names(table: pl.DataFrame) -> pl.Series:
    """What to call each row: its metadata, joined."""
    columns = [name for name in table.columns if is_metadata(name) or name in {"name", "about"}][:5]
    if not columns:
        return pl.Series(["" for _ in range(table.height)], dtype=pl.String)
    texts = [
        table[name].list.join("|") if isinstance(table.schema[name], pl.List) else table[name].cast(pl.String)
        for name in columns
    ]
    return table.select(pl.concat_str(texts, separator=" · ", ignore_nulls=True)).to_series()


def map_against_p(table: pl.DataFrame, by: str | Sequence[str] | None = None, kind: str = "perturbation") -> go.Figure:
    """Mean average precision against -log10 p, with names on hovering.

    ``kind`` says what a row is, for the caption: ``"perturbation"`` or ``"label"``.

    Examples
    --------
    >>> found = pl.DataFrame({"mean_average_precision": [0.9], "p_value": [0.01], "q_value": [0.01], "retrieved": [True]})
    >>> map_against_p(found).data[0].y
    array([2.], dtype=float32)
    """
    columns = as_columns(by)
    require_columns(table.schema, [_MAP, "p_value", "q_value", *columns], "figures.map_against_p")
    known = table.filter(table[_MAP].is_not_null() & table["p_value"].is_not_null())
    if not known.height:
        return nothing("No perturbation has a p-value.")
    labels = conditions_of(known, columns)
    order = labels.unique(maintain_order=True).to_list()
    names = _names(known)
    hit = known["retrieved"] if "retrieved" in known.columns else known["q_value"] < 0.05
    draw = go.Scattergl if known.height > 20_000 else go.Scatter
    traces = []
    for index, label in enumerate(order):
        for found in (False, True):
            mine = (labels == label) & (hit == found)
            part = known.filter(mine)
            if not part.height:
                continue
            told = [*([] if label == "all" else [short(label)]), "retrieved" if found else "not retrieved"]
            traces.append(
                draw(
                    x=part[_MAP].cast(pl.Float32).to_numpy(),
                    y=-np.log10(np.maximum(part["p_value"].to_numpy(), 1e-300)).astype(np.float32),
                    mode="markers",
                    name=f"{', '.join(told)} ({part.height:,})",
                    text=names.filter(mine).to_list(),
                    customdata=part["q_value"].cast(pl.Float32).to_numpy(),
                    hovertemplate="%{text}<br>mAP %{x:.3f}, q %{customdata:.2g}<extra>" + short(label) + "</extra>",
                    marker={
                        "color": colour(index) if found else QUIET,
                        "symbol": symbol(index) if found else "circle-open",
                        "size": 7 if found else 5,
                        "opacity": 0.8,
                    },
                    showlegend=found or len(order) == 1,
                )
            )
    return figure(
        traces,
        alt=f"Scatter of mean average precision against -log10 p of {known.height:,} {kind}s; "
        f"{int(hit.sum()):,} are retrieved.",
        caption=f"Each point is a {kind} (in a condition). To the right its {_members(kind)} find each other better; "
        "higher up, chance does so "
        "less often. Coloured: retrieved at q < 0.05. A row of points at the top has the smallest p that so many "
        "draws can give. Hover for names.",
        height=480,
        xaxis={"title": {"text": "mAP"}, "range": [-0.03, 1.03]},
        yaxis={"title": {"text": "-log10 p"}, "rangemode": "tozero"},
    )


def fractions(table: pl.DataFrame, beside: str | None = None) -> go.Figure:
    """Fractions retrieved with their intervals, by task and condition; the table of ``run_conditions``.

    Parameters
    ----------
    table
        As ``run_conditions`` gives it.
    beside
        A condition column whose values stand side by side, each in a colour of its own: models, feature sets.

    Examples
    --------
    >>> grid = pl.DataFrame({"task": ["detection"], "time": [24], "fraction_retrieved": [0.7], "low": [0.6], "high": [0.8]})
    >>> fractions(grid).data[0].name
    'detection'
    """
    require_columns(
        table.schema, ["task", "fraction_retrieved", "low", "high", *([beside] if beside else [])], "figures.fractions"
    )
    known = table.filter(table["fraction_retrieved"].is_not_null())
    if not known.height:
        return nothing("No task gave a fraction.")
    by = [name for name in fraction_conditions(known) if name != beside]
    keys = ["task", *([beside] if beside else [])]
    labels = conditions_of(known, by)
    if not by and known["task"].n_unique() > 1:  # tasks are all there is to tell lines by
        labels, keys = known["task"].cast(pl.String), [beside] if beside else ["status of it"]
        known = known.with_columns(pl.lit("found").alias("status of it"))
    lines = labels.unique(maintain_order=True).to_list()
    place = {label: float(line) for line, label in enumerate(lines)}
    series = known.select(keys).unique(maintain_order=True).rows()
    words = list(zip(*series, strict=True))
    words = [part for part in words if len(set(part)) > 1] or words[:1]
    traces = []
    for index, row in enumerate(series):
        mine = known.select((known[key].eq_missing(value)).alias(key) for key, value in zip(keys, row, strict=True))
        chosen = mine.select(pl.all_horizontal(keys)).to_series()
        part, own = known.filter(chosen), labels.filter(chosen)
        share, name = part["fraction_retrieved"], ", ".join(str(word[index]) for word in words)
        shift = (index - (len(series) - 1) / 2) * min(0.34, 0.7 / len(series))
        traces.append(
            go.Scatter(
                x=share.to_list(),
                y=[place[label] + shift for label in own],
                mode="markers",
                name=name,
                text=own.to_list(),
                error_x={
                    "type": "data",
                    "array": (part["high"] - share).to_list(),
                    "arrayminus": (share - part["low"]).to_list(),
                    "thickness": 1.5,
                    "width": 4,
                },
                marker={"color": colour(index), "symbol": symbol(6 * index), "size": 9},
                hovertemplate="%{text}<br>%{x:.3f}<extra>" + name + "</extra>",
            )
        )
    if "published" in known.columns and known["published"].is_not_null().any():
        told = known.with_columns(labels.alias("line of it")).filter(known["published"].is_not_null())
        told = told.unique(["line of it", "published"], maintain_order=True)
        traces.append(
            go.Scatter(
                x=told["published"].to_list(),
                y=[place[label] for label in told["line of it"]],
                mode="markers",
                name="published",
                text=told["line of it"].to_list(),
                marker={"color": QUIET, "symbol": "line-ns-open", "size": 14, "line": {"width": 2}},
                hovertemplate="%{text}<br>published %{x:.3f}<extra></extra>",
            )
        )
    low, high = limits(known["fraction_retrieved"])
    return figure(
        traces,
        alt=f"Fraction retrieved of {known.height} tasks and conditions, from {low:.2f} to {high:.2f}.",
        caption="Share of what could be tested that was found, by condition, with its 95 % interval: retrieved at "
        "q < 0.05, for pairs beyond the thresholds of chance, for nearest neighbours of the same label. A grey stroke marks a "
        "published number.",
        height=150 + (24 if len(series) < 3 else 10 * len(series)) * len(lines),
        xaxis={"title": {"text": "fraction found"}, "range": [-0.03, 1.03]},
        yaxis={
            "tickvals": list(range(len(lines))),
            "ticktext": [short(label, 60) for label in lines],
            "range": [len(lines) - 0.4, -0.6],
            "tickfont": {"size": 11},
            "zeroline": False,
        },
    )


def fraction_conditions(table: pl.DataFrame) -> list[str]:
    """The columns of a table of fractions that name the condition: those between the task and the numbers."""
    numbers = [table.columns.index(name) for name in ("n", "fraction_retrieved") if name in table.columns]
    return [name for name in table.columns[: min(numbers)] if name != "task"]
