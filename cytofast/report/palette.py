"""How every figure looks: colours that colour-blind people can tell apart, on white and on black, and a plain layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import polars as pl

SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito 2008, the ones that stand out from white and from black."""
QUIET = "#8a939c"
"""What is not significant, or only a frame."""
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")
AMOUNT = "Cividis"
"""From little to much; made for colour-blind eyes (Nuñez et al. 2018)."""
BALANCE = [[0.0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f2f0ec"], [0.75, "#f4a582"], [1.0, "#b2182b"]]
"""From below to above nothing."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def colour(index: int) -> str:
    """The colour of a series."""
    return SERIES[index % len(SERIES)]


def symbol(index: int) -> str:
    """The marker of a series: beyond the last colour, forms tell series apart."""
    return SYMBOLS[(index // len(SERIES)) % len(SYMBOLS)]


def figure(traces: Sequence[Any], *, alt: str, caption: str, height: int = 420, **layout: Any) -> go.Figure:
    """A figure in the house's style; what it shows, for readers and for those who cannot see it, goes into ``layout.meta``.

    Parameters
    ----------
    traces
        Plotly traces.
    alt
        What can be seen, in a sentence.
    caption
        What the figure shows and how to read it.
    height
        In pixels.
    layout
        Further entries of the layout; ``meta`` is added to.
    """
    meta = {"alt": alt, "caption": caption, **layout.pop("meta", {})}
    axis = {"gridcolor": "#dfe3e6", "zerolinecolor": "#b9c0c6", "automargin": True, "title": {"standoff": 8}}
    base: dict[str, Any] = {
        "template": "none",
        "font": {"family": _FONT, "size": 13, "color": "#24292f"},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 60, "r": 20, "t": 64, "b": 50},
        "height": height,
        "hoverlabel": {"align": "left", "namelength": -1},
        "legend": {
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.02,
            "xanchor": "left",
            "x": 0,
            "itemsizing": "constant",
        },
        "meta": meta,
    }
    for name in {"xaxis", "yaxis", *(key for key in layout if key.startswith(("xaxis", "yaxis")))}:
        base[name] = {**axis, **layout.pop(name, {})}
    return go.Figure(list(traces), {**base, **layout})


def nothing(why: str) -> go.Figure:
    """An empty figure that says why it is empty."""
    return figure(
        [],
        alt=f"No figure: {why}",
        caption=why,
        height=120,
        xaxis={"visible": False},
        yaxis={"visible": False},
        annotations=[{"text": why, "showarrow": False, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}],
    )


def short(text: object, most: int = 34) -> str:
    """A label that fits beside an axis; the middle of a long one is left out.

    >>> short("Cytoplasm_Texture_SumAverage_Mito_10_03_256", 20)
    'Cytoplasm_…10_03_256'
    """
    shown = "" if text is None else str(text)
    half = (most - 1) // 2
    return shown if len(shown) <= most else f"{shown[: most - 1 - half]}…{shown[-half:]}"


def limits(values: pl.Series) -> tuple[float, float]:
    """The least and the largest value; 0 and 0 where there is none.

    >>> limits(pl.Series([2, None, 5]))
    (2.0, 5.0)
    """
    known = values.cast(pl.Float64).drop_nulls().to_list()
    return (min(known), max(known)) if known else (0.0, 0.0)
