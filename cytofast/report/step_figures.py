"""What normalization and selection did, drawn."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from cytofast.report.palette import AMOUNT, QUIET, colour, figure, limits, nothing, short
from cytofast.report.plate_figures import plate_names
from cytofast.schema import parse_features, require_columns


def reference_spread(table: pl.DataFrame) -> go.Figure:
    """Spread of the reference wells of each plate; the answer of the question ``reference_spread``.

    Examples
    --------
    >>> spread = pl.DataFrame({"plate": ["P1"], "lower_quartile": [0.9], "median_spread": [1.0], "upper_quartile": [1.2]})
    >>> reference_spread(spread).data[0].y
    (1.0,)
    """
    require_columns(
        table.schema, ["plate", "lower_quartile", "median_spread", "upper_quartile"], "figures.reference_spread"
    )
    known = table.filter(table["median_spread"].is_not_null())
    if not known.height:
        return nothing("No plate was scaled by reference wells.")
    middle = known["median_spread"]
    return figure(
        [
            go.Scatter(
                x=plate_names(known),
                y=middle.to_list(),
                mode="markers",
                marker={"color": colour(0), "size": 8},
                error_y={
                    "type": "data",
                    "array": (known["upper_quartile"] - middle).to_list(),
                    "arrayminus": (middle - known["lower_quartile"]).to_list(),
                    "color": QUIET,
                    "thickness": 1,
                    "width": 2,
                },
                hovertemplate="%{x}<br>%{y:.3g} times the usual spread<extra></extra>",
            )
        ],
        alt=f"Spread of reference wells on {known.height} plates, from {limits(middle)[0]:.2g} to {limits(middle)[1]:.2g} "
        "times the usual.",
        caption="Spread of the wells that each plate was scaled by, feature by feature as a multiple of the "
        "feature's median "
        "spread over plates: median and quartiles over features. A plate far above 1 has noisy controls, and its "
        "profiles are "
        "scaled down accordingly; far below 1, they are blown up.",
        xaxis={"type": "category", "tickangle": -60, "tickfont": {"size": 10}, "showgrid": False},
        yaxis={"title": {"text": "spread / usual spread"}, "rangemode": "tozero"},
        shapes=[
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": 1,
                "y1": 1,
                "line": {"color": QUIET, "dash": "dot"},
            }
        ],
        meta={"least": 8 * known.height, "most": 420 + 60 * known.height},
    )


def dropped_by_rule(table: pl.DataFrame) -> go.Figure:
    """How many features each rule of a selection dropped; the answer of the question ``dropped_feature_reasons``.

    Examples
    --------
    >>> dropped = pl.DataFrame({"level": ["profiles"], "number": [2], "step": ["drop_missing"], "feature": ["Cells_x"]})
    >>> dropped_by_rule(dropped).data[0].x
    (1,)
    """
    require_columns(table.schema, ["level", "number", "step", "feature"], "figures.dropped_by_rule")
    if not table.height:
        return nothing("No selection dropped a feature.")
    counts = table.group_by("level", "number", "step").agg(features="feature").sort("level", "number", "step")
    sizes = [len(set(names)) for names in counts["features"]]
    labels = [f"{step} ({level})" for level, step in counts.select("level", "step").rows()]
    return figure(
        [
            go.Bar(
                x=sizes[::-1],
                y=labels[::-1],
                orientation="h",
                marker={"color": colour(0)},
                text=sizes[::-1],
                textposition="auto",
                hovertemplate="%{y}: %{x:,} features<extra></extra>",
            )
        ],
        alt="Bars of features dropped by rule: "
        + ", ".join(f"{n} by {name}" for n, name in zip(sizes, labels, strict=True)),
        caption="Features that each rule dropped. Rules are applied in order, so a feature that two rules would drop "
        "counts for the first.",
        height=110 + 34 * len(labels),
        xaxis={"title": {"text": "features dropped"}},
    )


def dropped_by_kind(table: pl.DataFrame) -> go.Figure:
    """Dropped features by compartment and channel; the answer of the question ``dropped_feature_reasons``.

    Examples
    --------
    >>> dropped = pl.DataFrame({"feature": ["Cells_Intensity_MeanIntensity_DNA", "Cells_AreaShape_Area"]})
    >>> dropped_by_kind(dropped).data[0].x
    ('DNA', 'no channel')
    """
    grid = kinds_dropped(table)
    if not grid.height:
        return nothing("No selection dropped a feature.")
    columns = sorted(set(grid["channel"]), key=lambda name: (name == "no channel", name))
    rows = sorted(set(grid["compartment"]), reverse=True)
    counts = {(c, k): n for c, k, n in grid.rows()}
    values = [[counts.get((row, column), 0) for column in columns] for row in rows]
    return figure(
        [
            go.Heatmap(
                x=columns,
                y=rows,
                z=values,
                colorscale=AMOUNT,
                texttemplate="%{z}",
                showscale=False,
                xgap=2,
                ygap=2,
                hovertemplate="%{y}, %{x}: %{z:,} features dropped<extra></extra>",
            )
        ],
        alt=f"Counts of {grid['features'].sum():,} dropped features by compartment and channel.",
        caption="Dropped features by compartment and channel, a feature of two channels (a correlation) under both "
        "together. A column or "
        "row that stands out tells of a stain or a segmentation that carries little, or repeats itself.",
        height=130 + 46 * len(rows),
        xaxis={"type": "category"},
        yaxis={"type": "category"},
    )


def kinds_dropped(table: pl.DataFrame) -> pl.DataFrame:
    """``compartment, channel, features``: how many distinct features were dropped of each."""
    require_columns(table.schema, ["feature"], "figures.dropped_by_kind")
    parsed = parse_features(table["feature"].unique(maintain_order=True).to_list())
    channel = parsed["channels"].list.join(" + ").replace("", "no channel").alias("channel")
    named = parsed.with_columns(channel, parsed["compartment"].fill_null("other"))
    return named.group_by("compartment", "channel").len("features").sort("compartment", "channel")


def profile_map(
    table: pl.DataFrame, x: str, y: str, colour_by: str | None = None, name: str | None = None
) -> go.Figure:
    """Profiles as points in a plane: principal components, UMAP or any two columns.

    Parameters
    ----------
    table
        One row a profile, with metadata.
    x, y
        The columns of the plane.
    colour_by
        A column that gives series; the six most frequent values get colours, others are grey.
    name
        What to show on hovering.

    Examples
    --------
    >>> points = pl.DataFrame({"PC_1": [0.0, 1.0], "PC_2": [1.0, 0.0], "Metadata_kind": ["a", "b"]})
    >>> [trace.name for trace in profile_map(points, "PC_1", "PC_2", "Metadata_kind").data]
    ['a (1)', 'b (1)']
    """
    require_columns(table.schema, [x, y, *filter(None, (colour_by, name))], "figures.profile_map")
    if not table.height:
        return nothing("No profile to place on a map.")
    kinds = table[colour_by].cast(pl.String).fill_null("none") if colour_by else pl.Series(["profiles"] * table.height)
    frequent = kinds.value_counts(sort=True).rows()
    drawn = []
    for index, (kind, count) in enumerate(frequent[:6]):
        drawn.append((f"{kind} ({count:,})", colour(index), table.filter(kinds == kind)))
    if len(frequent) > 6:
        rest = {kind for kind, _ in frequent[6:]}
        others = table.filter(kinds.is_in(list(rest)))
        drawn.insert(0, (f"{len(rest)} others ({others.height:,})", QUIET, others))
    traces = [
        go.Scatter(
            x=part[x].cast(pl.Float32).to_numpy(),
            y=part[y].cast(pl.Float32).to_numpy(),
            mode="markers",
            name=short(label, 40),
            text=part[name].cast(pl.String).to_list() if name else None,
            hovertemplate=("%{text}<br>" if name else "") + "%{x:.3g}, %{y:.3g}<extra>%{fullData.name}</extra>",
            marker={"color": tone, "size": 5, "opacity": 0.75},
        )
        for label, tone, part in drawn
    ]
    across, up = _view(table[x]), _view(table[y])
    inside = table[x].is_between(across[0], across[1]) & table[y].is_between(up[0], up[1])
    far = table.height - int(inside.sum())
    outside = f"{far:,} of them lie outside of the part that is shown; a double click shows all. " if far else ""
    return figure(
        traces,
        alt=f"A map of {table.height:,} profiles by {x} and {y}"
        + (f", coloured by {colour_by}." if colour_by else "."),
        caption=f"Each point is a profile; {x} and {y} are the axes. {outside}Points that lie together look alike. "
        "Groups by "
        "plate or "
        "batch mean that technical differences outweigh biology. Click on the legend to hide a group.",
        height=560,
        xaxis={"title": {"text": x.replace("_", " ")}, "range": across},
        yaxis={"title": {"text": y.replace("_", " ")}, "range": up},
    )


def _view(values: pl.Series) -> list[float]:
    """The part of an axis to look at first: one odd profile must not press all others into a dot."""
    low, high = (float(values.quantile(share) or 0.0) for share in (0.005, 0.995))
    least, most = limits(values)
    room = max(high - low, 1e-9)
    return [max(low - 0.5 * room, least - 0.05 * room), min(high + 0.5 * room, most + 0.05 * room)]
