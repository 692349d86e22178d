"""Figures of results, as Plotly figures: the ones of the report, for notebooks and for papers.

Each takes the table of an answer (a store's question, retrieval, a benchmark) and gives a ``plotly.graph_objects.Figure``.
``figure.layout.meta`` holds its caption and a description for those who cannot see it. Nothing is computed here.

>>> import cytofast, polars as pl
>>> found = pl.DataFrame({"mean_average_precision": [0.9, 0.2], "q_value": [0.01, 0.5], "Metadata_time": ["24", "48"]})
>>> cytofast.figures.map_boxes(found, by="Metadata_time").layout.xaxis.ticktext
('24', '48')
"""

from __future__ import annotations

from cytofast.report.direction_figures import directionality, pair_similarities
from cytofast.report.mechanism_figures import class_scores, cluster_jaccard, mechanism_differences, mechanism_scores
from cytofast.report.modality_figures import (
    contribution_heatmap,
    percent_predictable,
    score_distribution,
    score_heatmap,
)
from cytofast.report.neighbour_figures import neighbour_labels
from cytofast.report.plate_figures import cell_counts, control_drift, edge_effect
from cytofast.report.plate_maps import plates
from cytofast.report.retrieval_figures import fractions, map_against_p, map_boxes
from cytofast.report.step_figures import dropped_by_kind, dropped_by_rule, profile_map, reference_spread

__all__ = [
    "cell_counts",
    "class_scores",
    "cluster_jaccard",
    "contribution_heatmap",
    "control_drift",
    "directionality",
    "dropped_by_kind",
    "dropped_by_rule",
    "edge_effect",
    "fractions",
    "map_against_p",
    "map_boxes",
    "mechanism_differences",
    "mechanism_scores",
    "neighbour_labels",
    "pair_similarities",
    "percent_predictable",
    "plates",
    "profile_map",
    "reference_spread",
    "score_distribution",
    "score_heatmap",
]
