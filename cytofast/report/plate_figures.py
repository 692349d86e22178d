"""What is said of plates as a whole, drawn."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import polars as pl

from cytofast.report.palette import QUIET, colour, figure, limits, nothing, short
from cytofast.schema import require_columns


def plate_names(table: pl.DataFrame) -> list[str]:
    """Names of plates, with their batch where a barcode occurs twice."""
    if "batch" in table.columns and table["plate"].is_duplicated().any():
        return [f"{batch} / {plate}" for batch, plate in table.select("batch", "plate").rows()]
    return [str(plate) for plate in table["plate"]]


def control_drift(table: pl.DataFrame) -> go.Figure:
    """How far the control wells of each plate lie from those of the batch; the answer of the question ``control_drift``.

    Examples
    --------
    >>> drift = pl.DataFrame({"plate": ["P1"], "median_drift": [0.4], "largest_drift": [2.0], "most_drifted_feature": ["x"]})
    >>> [trace.name for trace in control_drift(drift).data]
    ['median over features', 'most drifted feature']
    """
    require_columns(
        table.schema, ["plate", "median_drift", "largest_drift", "most_drifted_feature"], "figures.control_drift"
    )
    if not table.height:
        return nothing("No plate has control wells to compare.")
    shown = table.sort([name for name in ("batch", "plate") if name in table.columns])
    names = plate_names(shown)
    return figure(
        [
            _dots(names, shown["median_drift"], "median over features", 0, names),
            _dots(names, shown["largest_drift"], "most drifted feature", 1, shown["most_drifted_feature"].to_list()),
        ],
        alt=f"Drift of the control wells of {table.height} plates; the median drift lies between "
        f"{_span(table['median_drift'])} robust standard deviations.",
        caption="How far the control wells of each plate lie from the control wells of all plates of the batch, in robust "
        "standard deviations. Circles: the median feature; diamonds: the feature that drifted most. A plate whose "
        "circle lies "
        "above 1 differs by more than its controls vary.",
        xaxis={"type": "category", "tickangle": -60, "tickfont": {"size": 10}, "showgrid": False},
        yaxis={"title": {"text": "drift, robust SD"}, "rangemode": "tozero"},
        shapes=[_line(1.0)],
        meta={"least": 8 * table.height, "most": 420 + 60 * table.height},
    )


def _line(height: float) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": height,
        "y1": height,
        "line": {"color": QUIET, "dash": "dot", "width": 1},
    }


def _span(values: pl.Series) -> str:
    low, high = limits(values)
    return f"{low:.2g} and {high:.2g}"


def _dots(names: list[str], values: pl.Series, name: str, series: int, hover: list[Any]) -> go.Scatter:
    return go.Scatter(
        x=names,
        y=values.to_list(),
        mode="markers",
        name=name,
        text=[str(text) for text in hover],
        hovertemplate="%{x}<br>%{y:.3g}<br>%{text}<extra></extra>",
        marker={"color": colour(series), "symbol": "circle" if series == 0 else "diamond", "size": 8},
    )


def cell_counts(table: pl.DataFrame) -> go.Figure:
    """Cells of the control wells of each plate: median, fewest and most; the answer of ``control_cell_counts``.

    Examples
    --------
    >>> counts = pl.DataFrame({"plate": ["P1"], "median_cells": [90.0], "fewest_cells": [60], "most_cells": [120]})
    >>> cell_counts(counts).data[0].error_y.array
    (30.0,)
    """
    require_columns(table.schema, ["plate", "median_cells", "fewest_cells", "most_cells"], "figures.cell_counts")
    if not table.height:
        return nothing("No plate has control wells with cells.")
    shown = table.sort([name for name in ("batch", "plate") if name in table.columns])
    middle = shown["median_cells"]
    return figure(
        [
            go.Scatter(
                x=plate_names(shown),
                y=middle.to_list(),
                mode="markers",
                marker={"color": colour(0), "size": 8},
                error_y={
                    "type": "data",
                    "array": (shown["most_cells"] - middle).to_list(),
                    "arrayminus": (middle - shown["fewest_cells"]).to_list(),
                    "color": QUIET,
                    "thickness": 1,
                    "width": 2,
                },
                hovertemplate="%{x}<br>median %{y:.0f} cells<extra></extra>",
            )
        ],
        alt=f"Cells of control wells on {table.height} plates; plates' medians lie between {_span(middle)}.",
        caption="Cells of a control well, by plate: the median, and from the fewest to the most. Plates that lie "
        "apart were "
        "seeded, treated or segmented differently.",
        xaxis={"type": "category", "tickangle": -60, "tickfont": {"size": 10}, "showgrid": False},
        yaxis={"title": {"text": "cells of a control well"}, "rangemode": "tozero"},
        meta={"least": 8 * table.height, "most": 420 + 60 * table.height},
    )


def edge_effect(table: pl.DataFrame, most: int = 20) -> go.Figure:
    """The features that differ most between the rim and the inside of plates; the answer of the question ``edge_effect``.

    Examples
    --------
    >>> edge = pl.DataFrame({"feature": ["Cells_x"], "plates": [2], "median_shift": [0.4], "largest_shift": [0.6]})
    >>> edge_effect(edge).data[0].x
    (0.4,)
    """
    require_columns(table.schema, ["feature", "plates", "median_shift", "largest_shift"], "figures.edge_effect")
    shown = table.head(most).reverse()
    if not shown.height:
        return nothing("No feature can be compared between rim and inside.")
    return figure(
        [
            go.Bar(
                x=shown["median_shift"].to_list(),
                y=[short(name) for name in shown["feature"]],
                orientation="h",
                marker={"color": [colour(0) if value < 0 else colour(1) for value in shown["median_shift"]]},
                customdata=shown.select("feature", "plates", "largest_shift").rows(),
                hovertemplate="%{customdata[0]}<br>median over %{customdata[1]} plates: %{x:.3g}<br>"
                "largest: %{customdata[2]:.3g}<extra></extra>",
            )
        ],
        alt=f"Bars of the {shown.height} features with the largest edge effect; the largest is "
        f"{shown['median_shift'][-1]:.2g} robust standard deviations.",
        caption="How far the wells on the rim lie from those inside, in robust standard deviations of the plate, "
        "median over "
        f"plates: the {shown.height} strongest of {table.height:,} features. Above about 0.5 a position effect is worth "
        "correcting; it also appears where the layout puts other treatments on the rim.",
        height=120 + 20 * shown.height,
        xaxis={"title": {"text": "rim minus inside, robust SD"}},
        yaxis={"tickfont": {"size": 10}},
    )
