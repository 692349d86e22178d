"""Every well of every plate at its place, drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from numpy.typing import NDArray

from cytofast.errors import SchemaError
from cytofast.report.palette import AMOUNT, BALANCE, QUIET, colour, figure, nothing, short
from cytofast.schema import require_columns

_SIDES = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
_ROOM = 1000
"""Pixels that a figure is thought to have in width; the page scales its height to what it has."""
_EXTRA = 104
_LEAST = 90
"""Pixels that a plate needs in width; where there is less room, the figure scrolls."""
Singles = NDArray[np.float32]


def plates(
    table: pl.DataFrame,
    values: str | Sequence[str] | Mapping[str, str] = "cells",
    hover: Sequence[str] = ("perturbation", "control_type"),
    columns: int | None = None,
) -> go.Figure:
    """Every plate as a map of its wells, side by side, on one colour scale.

    Parameters
    ----------
    table
        One row a well: ``plate``, ``plate_row``, ``plate_column``, ``well`` and the values, as the question
        ``well_counts`` gives it. With ``batch``, plates of one barcode in two batches stay apart.
    values
        What to colour by: a column, several (a menu chooses), or a mapping of column to label. A column with negative
        numbers gets a scale with a middle.
    hover
        Further columns to show on hovering, where they are there.
    columns
        Plates side by side.

    Raises
    ------
    SchemaError
        A column is missing.

    Examples
    --------
    >>> wells = pl.DataFrame({"plate": ["P1"], "well": ["B02"], "plate_row": [2], "plate_column": [2], "cells": [120]})
    >>> plates(wells).data[0].z[1][1]
    np.float32(120.0)
    """
    labels = {values: values} if isinstance(values, str) else _labels(values)
    require_columns(table.schema, ["plate", "well", "plate_row", "plate_column", *labels], "figures.plates")
    placed = table.filter(table["plate_row"].is_not_null() & table["plate_column"].is_not_null())
    if not placed.height:
        return nothing("No well has a place on a plate.")
    rows, width = sides = _sides(placed)
    keys = [name for name in ("batch", "plate") if name in placed.columns]
    parts = placed.partition_by(keys, maintain_order=True)
    twins = placed.select(keys).unique()["plate"].is_duplicated().any()
    across = columns or min(len(parts), 6 if len(parts) > 8 else 4 if len(parts) > 3 else len(parts))
    corners = [((k % across) * (width + 2), (k // across) * (rows + 3)) for k in range(len(parts))]
    span = across * (width + 2), math.ceil(len(parts) / across) * (rows + 3)
    titles = [" / ".join(map(str, part.select(keys if twins else ["plate"]).row(0))) for part in parts]
    grids = {name: [_grid(part, name, sides) for part in parts] for name in labels}
    scales = {name: _scale(grid, labels[name]) for name, grid in grids.items()}
    first = next(iter(labels))
    drawn: list[Any] = [
        go.Heatmap(
            z=grid,
            x0=left + 1,
            y0=top + 1,
            dx=1,
            dy=1,
            text=_hover(part, hover, sides),
            hovertemplate="%{text}<br>%{z:.4~g}<extra>" + title.replace("%", "%%") + "</extra>",
            coloraxis="coloraxis",
            hoverongaps=False,
        )
        for part, grid, title, (left, top) in zip(parts, grids[first], titles, corners, strict=True)
    ]
    heatmaps = list(range(len(drawn)))
    lost = _without_cells(parts, corners)
    if lost is not None:
        drawn.append(lost)
    buttons = [
        {"label": label, "method": "update", "args": [{"z": grids[name]}, {"coloraxis": scales[name]}, heatmaps]}
        for name, label in labels.items()
    ]
    return figure(
        drawn,
        alt=f"{len(parts)} plates of {rows} x {width} wells as heatmaps, coloured by {', '.join(labels.values())}.",
        caption="Each rectangle is a plate, each square a well; an empty square has no value"
        + (", a cross marks a well of the platemap without cells" if lost is not None else "")
        + ". Stripes or a rim of another colour point to position effects, a plate of another colour to drift. "
        "Colours span the "
        "1st to the 99th percentile. Hover over a well to see what is in it.",
        height=round(_ROOM * span[1] / span[0]) + _EXTRA,
        coloraxis=scales[first],
        annotations=[
            _title(title, left + (width + 1) / 2, top + 0.2) for title, (left, top) in zip(titles, corners, strict=True)
        ],
        shapes=[_frame(left + 0.5, top + 0.5, sides) for left, top in corners],
        margin={"l": 8, "r": 8, "t": 34, "b": 70},
        xaxis={"visible": False, "range": [0, span[0]], "constrain": "domain"},
        yaxis={"visible": False, "range": [span[1] - 1.5, -1.5], "scaleanchor": "x", "constrain": "domain"},
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}]
        if len(labels) > 1
        else [],
        showlegend=False,
        meta={"ratio": span[1] / span[0], "extra": _EXTRA, "least": _LEAST * across, "most": 560 * across},
    )


def _title(text: str, x: float, y: float) -> dict[str, Any]:
    return {"x": x, "y": y, "text": short(text, 28), "showarrow": False, "yanchor": "bottom", "font": {"size": 11}}


def _frame(x: float, y: float, sides: tuple[int, int]) -> dict[str, Any]:
    line = {"color": QUIET, "width": 0.6}
    return {"type": "rect", "x0": x, "x1": x + sides[1], "y0": y, "y1": y + sides[0], "line": line, "layer": "above"}


def _without_cells(parts: Sequence[pl.DataFrame], corners: Sequence[tuple[int, int]]) -> go.Scatter | None:
    """A cross on each well that should have cells and has none."""
    x: list[int] = []
    y: list[int] = []
    names: list[str] = []
    for part, (left, top) in zip(parts, corners, strict=True):
        if "cells" in part.columns:
            lost = part.filter(part["cells"] == 0)
            x += (lost["plate_column"] + left).to_list()
            y += (lost["plate_row"] + top).to_list()
            names += lost["well"].to_list()
    if not x:
        return None
    marker = {"symbol": "x-thin-open", "color": colour(1), "size": 7, "line": {"width": 1.5}}
    return go.Scatter(
        x=x, y=y, text=names, mode="markers", marker=marker, hovertemplate="%{text}: no cells<extra></extra>"
    )


def _labels(values: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    return dict(values) if isinstance(values, Mapping) else {name: name for name in values}


def _sides(placed: pl.DataFrame) -> tuple[int, int]:
    """Rows and columns of the smallest plate that has all these wells."""
    most = int(placed["plate_row"].max()), int(placed["plate_column"].max())  # type: ignore[arg-type]
    fitting = [sides for sides in _SIDES if sides[0] >= most[0] and sides[1] >= most[1]]
    if not fitting:
        raise SchemaError(f"a well in row {most[0]}, column {most[1]} lies on no plate; 32 x 48 wells are the most")
    return fitting[0]


def plate_format(table: pl.DataFrame) -> int | None:
    """How many wells the plates have, 384 say, from the places of the wells that are there."""
    placed = table.filter(table["plate_row"].is_not_null() & table["plate_column"].is_not_null())
    return math.prod(_sides(placed)) if placed.height else None


def _places(part: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of wells, counted from 0."""
    return part["plate_row"].to_numpy() - 1, part["plate_column"].to_numpy() - 1


def _grid(part: pl.DataFrame, name: str, sides: tuple[int, int]) -> Singles:
    grid = np.full(sides, np.nan, dtype=np.float32)
    grid[_places(part)] = part[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return grid


def _hover(part: pl.DataFrame, hover: Sequence[str], sides: tuple[int, int]) -> list[list[str]]:
    text = np.full(sides, "", dtype=object)
    shown = [name for name in hover if name in part.columns]
    for row, column, well, *more in zip(*_places(part), part["well"], *(part[name] for name in shown), strict=True):
        text[row, column] = " · ".join([str(well), *(str(value) for value in more if value is not None)])
    return [list(line) for line in text]


def _scale(grids: list[Singles], label: str) -> dict[str, Any]:
    """Colours from the 1st to the 99th percentile, so that one odd well does not hide all others."""
    values = np.concatenate([grid[np.isfinite(grid)] for grid in grids])
    low, high = np.quantile(values, [0.01, 0.99]).tolist() if len(values) else (0.0, 1.0)
    if low < 0 < high:
        high = max(-low, high)
        low = -high
    bar = {"orientation": "h", "y": 0, "yanchor": "top", "thickness": 10, "len": 0.5, "x": 0, "xanchor": "left"}
    title = {"text": label, "side": "bottom"}
    scale = BALANCE if low < 0 < high else AMOUNT
    return {
        "colorscale": scale,
        "cmin": low,
        "cmax": high if high > low else low + 1,
        "colorbar": {**bar, "title": title},
    }
