"""The YAML configuration of the profiling-recipe as a recipe of ours, and what cannot be said in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cytofast.errors import DataError, RecipeError
from cytofast.recipe.recipe import Recipe

_METHODS = {"standardize": "standardize", "robustize": "robustize", "mad_robustize": "robust_mad"}
_OPERATIONS = {
    "variance_threshold": {"step": "drop_low_frequency"},  # its meaning in every published pipeline (<= 1.6.1)
    "frequency_threshold": {"step": "drop_low_frequency"},
    "correlation_threshold": {"step": "drop_correlated"},
    "drop_na_columns": {"step": "drop_missing"},
    "blocklist": {"step": "drop_listed"},
    "drop_outliers": {"step": "drop_outliers"},
}
_NEGCON = "Metadata_control_type = 'negcon'"


def convert_profiling_recipe(path: Path) -> tuple[str, list[str]]:
    """Convert a configuration file of the profiling-recipe (several YAML documents, the first one the pipeline).

    Returns
    -------
    tuple
        The TOML, which :class:`Recipe` reads, and a line for everything that it does not express.

    Raises
    ------
    DataError
        The file cannot be read or is not YAML.
    RecipeError
        No step is performed.
    """
    documents = _documents(path)
    settings = documents[0]
    lost: list[str] = []
    levels: dict[str, list[dict[str, Any]]] = {}
    source = "wells"
    aggregate = settings.get("aggregate", {})
    if aggregate.get("perform"):
        source = "cells"
        levels["wells"] = [
            {"step": "aggregate", "by": _strata(aggregate), "statistic": aggregate.get("method", "median")}
        ]
        lost += _unexpressed(
            "aggregate", aggregate, {"perform", "method", "plate_column", "well_column"}, {"fields": "all"}
        )
    annotate = settings.get("annotate", {})
    if annotate.get("perform"):
        level = "wells" if "wells" in levels else "augmented"
        levels.setdefault(level, []).append({"step": "annotate"})
        external = annotate.get("external", {})
        if external.get("perform"):
            lost.append(
                f"annotate: external metadata {external.get('file')!r}: give it with `cytofast ingest --external`, "
                f'or as platemap = in the annotate step, on = "Metadata_{external.get("merge_column")}"'
            )
    levels.update(_normalizations(settings, lost))
    if not levels:
        raise RecipeError(f"{path}: no step of this configuration is performed")
    for key in ("quality_control", "options"):
        lost += [f"{key}: {name}" for name, value in (settings.get(key) or {}).items() if value and name != "samples"]
    plates = [
        plate.get("name")
        for document in documents[1:]
        for plate in document.get("plates", [])
        if isinstance(plate, dict)
    ]
    if plates:
        lost.append(f"the list of {len(plates)} plates: a run takes every plate of the store")
    text = _toml(path.name, source, levels)
    Recipe.from_toml(text, str(path))
    return text, lost


def _documents(path: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        documents = [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {error}") from error
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise DataError(f"{path}: not a configuration of the profiling-recipe")
    return documents


def _strata(aggregate: dict[str, Any]) -> list[str]:
    return [aggregate.get("plate_column", "Metadata_Plate"), aggregate.get("well_column", "Metadata_Well")]


def _normalizations(settings: dict[str, Any], lost: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Both branches, all wells and negative controls; ours is one chain, so the second wins and the first is named."""
    levels: dict[str, list[dict[str, Any]]] = {}
    branches = [b for b in ("", "_negcon") if settings.get(f"normalize{b}", {}).get("perform")]
    lost += [
        f"normalize{skipped} beside normalize{branches[-1]}: a recipe is one chain; run another one for it"
        for skipped in branches[:-1]
    ]
    for branch in branches[-1:]:
        normalize = settings[f"normalize{branch}"]
        method = str(normalize.get("method", "standardize"))
        if method not in _METHODS:
            raise RecipeError.unknown("normalization method", method, _METHODS)
        step: dict[str, Any] = {"step": _METHODS[method], "by": "Metadata_Plate"}
        if branch:
            step["reference"] = _NEGCON
        if method == "mad_robustize" and normalize.get("mad_robustize_fudge_factor"):
            step["epsilon"] = float(normalize["mad_robustize_fudge_factor"])
        known = {"perform", "method", "mad_robustize_fudge_factor"}
        lost += _unexpressed(f"normalize{branch}", normalize, known, {"features": "infer", "image_features": False})
        levels["normalized"] = [step]
    selections = [b for b in ("", "_negcon") if settings.get(f"feature_select{b}", {}).get("perform")]
    for branch in selections[-1:]:
        select = settings[f"feature_select{branch}"]
        rules = []
        for operation in select.get("operations", []):
            if operation in _OPERATIONS:
                rules.append(_OPERATIONS[operation])
            else:
                lost.append(f"feature_select{branch}: operation {operation!r}")
        if str(select.get("level", "batch")) == "plate":
            lost.append(f"feature_select{branch}: level plate; features are selected over all plates of the store")
        known = {"perform", "operations", "level"}
        lost += _unexpressed(f"feature_select{branch}", select, known, {"features": "infer", "image_features": False})
        if rules:
            levels["profiles"] = [{"step": "feature_select", "steps": rules}]
    return levels


def _unexpressed(section: str, content: dict[str, Any], known: set[str], harmless: dict[str, Any]) -> Iterator[str]:
    for key, value in content.items():
        if key not in known and value and harmless.get(key) != value:
            yield f"{section}: {key} = {value!r}"


def _toml(name: str, source: str, levels: dict[str, list[dict[str, Any]]]) -> str:
    lines = [f"# Converted from {name} of the profiling-recipe.", "", f"source = {json.dumps(source)}"]
    for level, steps in levels.items():
        for step in steps:
            lines += ["", f"[[{level}]]", *(f"{key} = {_written(value)}" for key, value in step.items())]
    return "\n".join(lines) + "\n"


def _written(value: Any) -> str:
    """A value in TOML: strings, numbers and lists as JSON writes them, tables inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_written(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    return json.dumps(value)
