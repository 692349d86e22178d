"""What tests of the report share: reading a page, and results to draw."""

import json
import re

import polars as pl

from cytofast.tasks.results import TaskResults


def embedded(text: str) -> dict[str, dict]:
    """Everything that a page carries as JSON, by its name."""
    found = re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', text, re.DOTALL)
    assert len({name for name, _ in found}) == len(found)
    return {name: json.loads(content) for name, content in found}


def results() -> TaskResults:
    """A benchmark of two conditions, one of which could not be asked."""
    condition = {"Metadata_Time": [24, 48]}
    tested = {
        "name": ["BRD-1", "BRD-2"],
        "about": ["EGFR", "<b>&TP53"],
        "mean_average_precision": [0.9, 0.1],
        "mean_normalized_average_precision": [0.9, 0.0],
        "p_value": [0.001, 0.8],
        "p_method": ["exact", "exact"],
        "q_value": [0.002, 0.8],
        "n_profiles": [4, 4],
        "retrieved": [True, False],
    }
    summary = {
        "n": [2, 0],
        "fraction_retrieved": [0.5, None],
        "low": [0.0, None],
        "high": [1.0, None],
        "published": [0.7, None],
        "n_retrieved": [1, 0],
        "n_untested": [0, 2],
        "mean_average_precision": [0.5, None],
        "status": ["done", "impossible"],
        "note": [None, "48: each perturbation has one replicate"],
    }
    directions = {
        "n_same": [20, 20],
        "n_different": [100, 100],
        "low_threshold": [-0.4, -0.4],
        "high_threshold": [0.4, 0.4],
        "n_below": [1, 0],
        "n_above": [6, 1],
        "share_below": [0.05, 0.0],
        "share_above": [0.3, 0.05],
        "odds_ratio": [6.0, None],
        "p_value": [0.01, 1.0],
        "p_below": [0.5, 1.0],
        "p_above": [0.001, 0.6],
    }
    curve = {"quantile": [0.0, 0.5], "same": [-0.1, 0.2], "different": [-0.5, 0.0]}
    pairs = {
        "first": ["a", "b"],
        "second": ["c", "d"],
        "shared": ["EGFR", "TP53"],
        "similarity": [0.9, -0.8],
        "beyond": ["above", "below"],
    }

    def table(task: str, columns: dict, twin: bool = False) -> pl.DataFrame:
        against = {"Metadata_Time_against": [None, 96]} if twin else {}
        return pl.DataFrame({"task": [task, task], **condition, **against, **columns})

    return TaskResults(
        summary=table("detection", summary, twin=True),
        plates=pl.DataFrame(),
        perturbations=table("detection", tested),
        labels=table("sisters", tested),
        directions=table("directionality", directions, twin=True),
        pairs=table("directionality", pairs),
        quantiles=table("directionality", curve),
        conditions=("Metadata_Time",),
        apart=("Metadata_Time",),
    )
