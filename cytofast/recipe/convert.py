"""The YAML configuration of the profiling-recipe as a recipe of ours, and what cannot be said in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import inf
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
_SECTIONS = {
    "aggregate",
    "annotate",
    "normalize",
    "normalize_negcon",
    "feature_select",
    "feature_select_negcon",
    "quality_control",
    "options",
}
_NAMES = {"pipeline", "output_dir"}
"""What a configuration says of itself and of folders, which a store has its own of."""


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
        No step is performed, or a value is of another kind than the profiling-recipe has there.
    """
    documents = _documents(path)
    settings = _sections(documents[0], path)
    lost: list[str] = []
    levels: dict[str, list[dict[str, Any]]] = {}
    source = "wells"
    aggregate = settings["aggregate"]
    if aggregate.get("perform"):
        source = "cells"
        levels["wells"] = [
            {"step": "aggregate", "by": _strata(aggregate), "statistic": aggregate.get("method", "median")}
        ]
        lost += _unexpressed(
            "aggregate", aggregate, {"perform", "method", "plate_column", "well_column"}, {"fields": "all"}
        )
    annotate = settings["annotate"]
    if annotate.get("perform"):
        level = "wells" if "wells" in levels else "augmented"
        levels.setdefault(level, []).append({"step": "annotate"})
        external = annotate["external"]
        if external.get("perform"):
            lost.append(
                f"annotate: external metadata {external.get('file')!r}: give it with `cytofast ingest --external`, "
                f'or as platemap = in the annotate step, on = "Metadata_{external.get("merge_column")}"'
            )
        lost += _unexpressed(
            "annotate",
            annotate,
            {"perform", "external"},
            {"well_column": aggregate.get("well_column", "Metadata_Well")},
        )
    levels.update(_normalizations(settings, lost, path))
    if not levels:
        raise RecipeError(f"{path}: no step of this configuration is performed")
    for key in ("quality_control", "options"):
        lost += [
            f"{key}: {name}" for name, value in settings[key].items() if value and (name, value) != ("samples", "all")
        ]
    lost += [
        f"{key} = {value!r}"
        for key, value in documents[0].items()
        if key not in _SECTIONS | _NAMES and value is not None
    ]
    lost += _batches(documents[1:])
    text = _toml(path.name, source, levels)
    Recipe.from_toml(text, str(path))
    return text, lost


def _documents(path: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        documents = [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {error}") from error
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise DataError(f"{path}: not a configuration of the profiling-recipe")
    return documents


def _sections(document: dict[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    """The sections, those that are absent or empty without content; whether they are performed is checked."""
    found = {name: _section(document.get(name), name, path) for name in sorted(_SECTIONS)}
    found["annotate"] = {
        **found["annotate"],
        "external": _section(found["annotate"].get("external"), "annotate: external", path),
    }
    return found


def _section(content: Any, name: str, path: Path) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: {name}: must hold keys and values, not {content!r}")
    perform = content.get("perform")
    if perform is not None and not isinstance(perform, bool):
        raise RecipeError(f"{path}: {name}: perform must be true or false, not {perform!r}")
    return content


def _strata(aggregate: dict[str, Any]) -> list[str]:
    return [aggregate.get("plate_column", "Metadata_Plate"), aggregate.get("well_column", "Metadata_Well")]


def _normalizations(
    settings: dict[str, dict[str, Any]], lost: list[str], path: Path
) -> dict[str, list[dict[str, Any]]]:
    """Both branches, all wells and negative controls; ours is one chain, so the second wins and the first is named."""
    levels: dict[str, list[dict[str, Any]]] = {}
    normalized = _last_branch("normalize", settings, lost)
    for branch in normalized:
        normalize = settings[f"normalize{branch}"]
        method = str(normalize.get("method", "standardize"))
        if method not in _METHODS:
            raise RecipeError(f"{path}: {RecipeError.unknown('normalization method', method, _METHODS)}")
        step: dict[str, Any] = {"step": _METHODS[method], "by": _strata(settings["aggregate"])[0]}
        if branch:
            step["reference"] = _NEGCON
        if method == "mad_robustize" and normalize.get("mad_robustize_fudge_factor"):
            step["epsilon"] = _number(normalize["mad_robustize_fudge_factor"], f"{path}: mad_robustize_fudge_factor")
        known = {"perform", "method", "mad_robustize_fudge_factor"}
        lost += _unexpressed(f"normalize{branch}", normalize, known, {"features": "infer", "image_features": False})
        levels["normalized"] = [step]
    for branch in _last_branch("feature_select", settings, lost):
        select = settings[f"feature_select{branch}"]
        if normalized and branch not in normalized:
            lost.append(
                f"feature_select{branch} of normalize{branch}: here it is of normalize{normalized[-1]}, the level before it"
            )
        operations = select.get("operations") or []
        rules = []
        for operation in [operations] if isinstance(operations, str) else operations:
            if isinstance(operation, str) and operation in _OPERATIONS:
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


def _last_branch(section: str, settings: dict[str, dict[str, Any]], lost: list[str]) -> list[str]:
    """The branch that is converted, if any is performed; the other one is said to be left out."""
    branches = [branch for branch in ("", "_negcon") if settings[f"{section}{branch}"].get("perform")]
    lost += [
        f"{section}{skipped} beside {section}{branches[-1]}: a recipe is one chain; run another one for it"
        for skipped in branches[:-1]
    ]
    return branches[-1:]


def _number(value: Any, what: str) -> float:
    """A number, also one such as 1e-18, which YAML takes for text."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{what} must be a number, not {value!r}") from error
    if not 0 <= number < inf:
        raise RecipeError(f"{what} must be 0 or a positive number, not {value!r}")
    return number


def _unexpressed(section: str, content: dict[str, Any], known: set[str], harmless: dict[str, Any]) -> Iterator[str]:
    for key, value in content.items():
        if key not in known and value and harmless.get(key) != value:
            yield f"{section}: {key} = {value!r}"


def _batches(documents: list[dict[str, Any]]) -> list[str]:
    """What is lost of the lists of plates: a run takes every plate, also those that were not to be processed."""
    plates = skipped = 0
    for document in documents:
        for plate in document.get("plates") or []:
            plates += 1
            asked = plate.get("process", True) if isinstance(plate, dict) else True
            skipped += not (asked and document.get("process", True))
    if not plates:
        return []
    unwanted = f", also the {skipped} that say process: false" if skipped else ""
    return [f"the list of {plates} plates: a run takes every plate of the store{unwanted}"]


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
    return json.dumps(value, ensure_ascii=False)
