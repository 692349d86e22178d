"""Figures draw what the tables say, and say so where there is nothing to draw."""

import inspect

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest

import cytofast
from cytofast import SchemaError, figures
from cytofast.report.packing import figure_content, slug, table_content
from cytofast.report.palette import short
from cytofast.report.retrieval_figures import conditions_of
from tests.report.pages import results

WELLS = pl.DataFrame(
    {
        "batch": ["B1", "B1", "B1", "B2"],
        "plate": ["P1", "P1", "P2", "P1"],
        "well": ["A01", "H12", "B03", "A01"],
        "plate_row": [1, 8, 2, 1],
        "plate_column": [1, 12, 3, 1],
        "cells": [10, 0, None, 7],
        "z": [-1.0, 2.0, None, 0.5],
        "perturbation": ["x", None, "y", "x"],
    }
)


def test_figures_are_reached_from_the_package():
    assert cytofast.figures is figures
    for name in figures.__all__:
        assert ">>> " in inspect.getdoc(getattr(figures, name)), f"{name} needs an example"


def test_plates_put_every_well_at_its_place():
    drawn = figures.plates(WELLS, {"cells": "cells", "z": "a feature"})
    heatmaps = [trace for trace in drawn.data if trace.type == "heatmap"]
    assert [np.asarray(trace.z).shape for trace in heatmaps] == [(8, 12)] * 3
    assert np.asarray(heatmaps[0].z)[0, 0] == 10
    assert np.isnan(np.asarray(heatmaps[1].z)).all()
    assert heatmaps[0].text[7][11] == "H12"
    assert heatmaps[0].text[0][0] == "A01 · x"
    assert [note.text for note in drawn.layout.annotations] == ["B1 / P1", "B1 / P2", "B2 / P1"]
    cross = drawn.data[3]
    assert (cross.x, cross.y, cross.text) == ((12,), (8,), ("H12",))
    menu = drawn.layout.updatemenus[0].buttons
    assert [button.label for button in menu] == ["cells", "a feature"]
    assert menu[1].args[1]["coloraxis"]["cmin"] == -menu[1].args[1]["coloraxis"]["cmax"]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("plates", ["plate", "well", "plate_row", "plate_column", "cells"]),
        ("control_drift", ["plate", "median_drift", "largest_drift", "most_drifted_feature"]),
        ("cell_counts", ["plate", "median_cells", "fewest_cells", "most_cells"]),
        ("edge_effect", ["feature", "plates", "median_shift", "largest_shift"]),
        ("reference_spread", ["plate", "lower_quartile", "median_spread", "upper_quartile"]),
        ("dropped_by_rule", ["level", "number", "step", "feature"]),
        ("dropped_by_kind", ["feature"]),
        ("map_boxes", ["mean_average_precision", "q_value"]),
        ("map_against_p", ["mean_average_precision", "p_value", "q_value"]),
        ("fractions", ["task", "fraction_retrieved", "low", "high"]),
        ("directionality", ["share_below", "share_above", "odds_ratio", "p_value", "n_same"]),
        ("pair_similarities", ["quantile", "same", "different"]),
        ("neighbour_labels", ["label", "neighbour_label", "correct"]),
    ],
)
def test_an_empty_table_gives_a_figure_that_says_so(name, columns):
    kinds = {"plate": pl.String, "well": pl.String, "feature": pl.String, "task": pl.String, "step": pl.String}
    empty = pl.DataFrame(schema={column: kinds.get(column, pl.Float64) for column in columns})
    drawn = getattr(figures, name)(empty)
    assert isinstance(drawn, go.Figure)
    assert not drawn.data
    assert drawn.layout.annotations[0].text.startswith("No ")
    if len(columns) > 1:
        with pytest.raises(SchemaError, match=f"figures.{name}: no column"):
            getattr(figures, name)(empty.drop(columns[0]))


def test_fractions_stand_above_their_boxes():
    table = pl.DataFrame(
        {
            "Metadata_Time": ["24", "24", "48", "48"],
            "mean_average_precision": [0.9, 0.2, 0.1, None],
            "q_value": [0.01, 0.5, 0.6, None],
        }
    )
    drawn = figures.map_boxes(table, by="Metadata_Time")
    assert [note.text.split("<br>")[0] for note in drawn.layout.annotations] == ["0.50", "0.00"]
    assert [len(trace.y) for trace in drawn.data] == [2, 1]


def test_a_second_side_stands_after_a_cross():
    summary = results().summary
    by = ["Metadata_Time", "Metadata_Time_against"]
    assert conditions_of(summary, by).to_list() == ["24", "48 \u00d7 96"]
    assert figures.fractions(summary).data[-1].name == "published"


def test_directions_and_curves():
    found = results()
    bars = figures.directionality(found.directions, ["Metadata_Time"])
    assert bars.data[0].x == (0.3, 0.05)
    assert bars.data[1].y == ("24", "48")
    curves = figures.pair_similarities(found.quantiles, ["Metadata_Time"])
    assert [trace.visible for trace in curves.data] == [True, True, False, False]
    assert curves.layout.updatemenus[0].buttons[1].args[0] == {"visible": [False, False, True, True]}


def test_one_odd_profile_does_not_hide_the_map():
    table = pl.DataFrame({"PC_1": [*np.linspace(0, 1, 999), 1e6], "PC_2": np.linspace(0, 1, 1000)})
    drawn = figures.profile_map(table, "PC_1", "PC_2")
    assert drawn.layout.xaxis.range[1] < 3
    assert "1 of them lie outside" in drawn.layout.meta["caption"]
    assert len(drawn.data[0].x) == 1000


def test_content_is_small_and_whole():
    content = figure_content(figures.plates(WELLS, ["cells", "z"]))
    assert content["data"][0]["text"][0][0] == content["words"].index("A01 · x")
    assert {"dtype", "bdata", "shape"} == set(content["layout"]["updatemenus"][0]["buttons"][1]["args"][0]["z"][0])
    table = pl.DataFrame(
        {
            "Metadata_a": ["x", "x", "x", None],
            "n": [1, None, 3, 4],
            "f": [0.1, float("nan"), 1e-20, 2.0],
            "b": [True, False, None, True],
        }
    )
    columns = table_content(table)["columns"]
    assert columns[0] == {"name": "a", "number": False, "words": ["x"], "values": [0, 0, 0, None]}
    assert columns[1]["values"] == [1, None, 3, 4]
    assert columns[2]["values"] == [0.1, None, 1e-20, 2]
    assert (columns[3]["words"], columns[3]["values"]) == (["yes", "no"], [0, 1, None, 0])
    assert "packed" in table_content(pl.DataFrame({"f": np.zeros(2000)}))["columns"][0]


def test_names_fit():
    assert slug('a"b c') == "a_b_c"
    assert len(short("x" * 100, 20)) == 20
    assert short(None) == ""


def test_captions_of_labels_do_not_speak_of_replicates_and_controls():
    table = pl.DataFrame(
        {"name": ["A", "B"], "mean_average_precision": [0.5, 1.0], "p_value": [0.5, 0.01], "q_value": [0.5, 0.02]}
    ).with_columns(retrieved=pl.col("q_value") < 0.05)
    for draw in (figures.map_boxes, figures.map_against_p):
        assert "replicates" in draw(table).layout.meta["caption"]
        told = draw(table, kind="label").layout.meta
        assert "members" in told["caption"]
        assert "labels" in told["alt"]
        assert not any(
            word in told["caption"] + told["alt"] for word in ("replicates", "perturbation", "negative control")
        )
