"""Figures and tables as JSON inside a page: small, and nothing in it that could end the script that holds it."""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from numpy.typing import NDArray

_DIGITS = 6
_LONG = 1_000
"""Rows from which numbers are packed as float32, which is what profiles are."""


def slug(name: str) -> str:
    """A name that may stand in an attribute and in a file's name.

    >>> slug("map-Metadata time/h")
    'map-Metadata_time_h'
    """
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)


def embedded(key: str, content: dict[str, Any]) -> str:
    """JSON as an element of the page; a text in it cannot end the element.

    >>> embedded("x", {"a": "</script>"}).count("</script>")
    1
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f'<script type="application/json" id="{key}">{text.replace("<", chr(92) + "u003c")}</script>\n'


def figure_content(figure: go.Figure) -> dict[str, Any]:
    """Data and layout as Plotly's script takes them; text that stands in many wells is numbered."""
    content = json.loads(str(figure.to_json(validate=False)))
    words: dict[str, int] = {}
    for trace in content["data"]:
        if trace["type"] == "heatmap" and trace.get("text"):
            trace["text"] = [[words.setdefault(text, len(words)) for text in row] for row in trace["text"]]
    for menu in content["layout"].get("updatemenus", ()):
        for button in menu["buttons"]:
            grids = button["args"][0].get("z")
            if grids:
                button["args"][0]["z"] = [_packed_grid(grid) for grid in grids]
    return {"data": content["data"], "layout": content["layout"], "words": list(words)}


def _packed_grid(grid: Any) -> dict[str, str]:
    """Rows of numbers as Plotly's own short form; a figure has it for its data, but not for what a menu puts there."""
    if isinstance(grid, dict):
        return grid
    values = np.array(grid, dtype="<f4")
    return {"dtype": "f4", "bdata": _base64(values), "shape": f"{values.shape[0]}, {values.shape[1]}"}


def _base64(values: NDArray[np.float32]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def table_content(table: pl.DataFrame) -> dict[str, Any]:
    """A table column by column; text that repeats is numbered, since plates have many wells."""
    return {"rows": table.height, "columns": [_column(series) for series in table.get_columns()]}


def _column(series: pl.Series) -> dict[str, Any]:
    name, kind = series.name.removeprefix("Metadata_"), series.dtype
    if kind == pl.Boolean:
        words = {True: "yes", False: "no"}
        series, kind = series.replace_strict(words, default=None, return_dtype=pl.String), pl.String()
    if kind.is_integer():
        return {"name": name, "number": True, "values": series.to_list()}
    if kind.is_numeric():
        if series.len() >= _LONG:
            packed = series.cast(pl.Float32).fill_null(float("nan")).to_numpy().astype(np.dtype("<f4"))
            return {"name": name, "number": True, "packed": _base64(packed)}
        return {"name": name, "number": True, "values": [_rounded(value) for value in series.cast(pl.Float64)]}
    if isinstance(kind, pl.List):
        series = series.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    texts = series.cast(pl.String)
    distinct = texts.drop_nulls().unique(maintain_order=True)
    if distinct.len() > 0.5 * series.len():
        return {"name": name, "number": False, "values": texts.to_list()}
    codes = {word: code for code, word in enumerate(distinct)}
    return {"name": name, "number": False, "words": list(codes), "values": [codes.get(text) for text in texts]}


def _rounded(value: float | None) -> float | int | None:
    """Six digits; what is not finite has no place in JSON."""
    if value is None or not math.isfinite(value):
        return None
    shown = float(f"{value:.{_DIGITS}g}")
    return int(shown) if shown.is_integer() and abs(shown) < 2**53 else shown
