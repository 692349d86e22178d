"""Nearest neighbours, drawn: which mechanism the neighbour of a treatment has."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import polars as pl

from cytofast.report.palette import AMOUNT, figure, nothing, short
from cytofast.schema import require_columns


def neighbour_labels(table: pl.DataFrame) -> go.Figure:
    """Mechanisms of treatments against those of their nearest neighbours; the table ``neighbours`` of a benchmark.

    Examples
    --------
    >>> found = pl.DataFrame({"label": ["X", "X", "Y"], "neighbour_label": ["X", "Y", "Y"], "correct": [True, False, True]})
    >>> neighbour_labels(found).data[0].z.tolist()
    [[1.0, 1.0], [nan, 1.0]]
    """
    require_columns(table.schema, ["label", "neighbour_label", "correct"], "figures.neighbour_labels")
    known = table.filter(table["neighbour_label"].is_not_null())
    if not known.height:
        return nothing("No treatment has a neighbour.")
    labels = sorted({*known["label"], *known["neighbour_label"]})
    place = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)))
    for label, other in known.select("label", "neighbour_label").rows():
        counts[place[label], place[other]] += 1
    names = [short(label) for label in labels]
    right, tested = int(known["correct"].sum()), known["correct"].drop_nulls().len()
    return figure(
        [
            go.Heatmap(
                z=np.where(counts > 0, counts, np.nan),
                x=names,
                y=names,
                text=[[f"{count:.0f}" if count else "" for count in row] for row in counts],
                texttemplate="%{text}",
                hovertemplate="%{y}: %{z:.0f} next to %{x}<extra></extra>",
                hoverongaps=False,
                colorscale=AMOUNT,
                showscale=False,
                xgap=1,
                ygap=1,
            )
        ],
        alt=f"Heatmap of {len(labels)} mechanisms against those of nearest neighbours; {right} of {tested} are the same.",
        caption="Each row is a mechanism; its numbers say how many of its treatments have their nearest neighbour, a treatment "
        "of another compound, among those of the column. On the diagonal the two are the same.",
        height=190 + 26 * len(labels),
        xaxis={"tickangle": -45, "showgrid": False, "type": "category"},
        yaxis={"autorange": "reversed", "showgrid": False, "type": "category"},
        meta={"least": 160 + 26 * len(labels), "most": 300 + 60 * len(labels)},
    )
