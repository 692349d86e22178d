"""What pycytominer and the profiling recipe call the files that hold a level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NORMALIZATIONS = {"robust_mad", "standardize", "robustize"}
_SELECTIONS = {"feature_select", "keep_listed"}
_MORE = {
    "centre_wells": "wellpos",
    "median_polish": "medpolish",
    "regress_cell_count": "cc",
    "inverse_normal": "int",
    "clip_outliers": "outlier",
    "sphere": "spherized",
    "tvn": "tvn",
    "harmonize": "harmony",
    "principal_components": "pca",
}
"""Steps that pycytominer's names know nothing of, in the words of the JUMP profiling recipe where it has one."""
_INGESTED = {"wells": "", "normalized": "_normalized", "profiles": "_normalized_feature_select"}


def suffix_of(level: str, steps: Sequence[dict[str, Any]], extent: str) -> str:
    """What stands after the plate's name: ``_augmented``, ``_normalized_feature_select_negcon_batch`` and so on.

    Parameters
    ----------
    level
        The level's name, which decides where no step made it.
    steps
        All steps from the cells (or whatever was ingested) to this level, as manifests keep them.
    extent
        What features were selected over: ``plate``, ``batch`` or ``all``.

    Examples
    --------
    >>> chain = [{"step": "aggregate"}, {"step": "annotate"}, {"step": "robust_mad", "parameters": {"reference": "x = 1"}}]
    >>> suffix_of("wells", chain[:2], "batch"), suffix_of("profiles", chain, "batch")
    ('_augmented', '_normalized_negcon')
    >>> suffix_of("profiles", [*chain, {"step": "feature_select"}], "batch")
    '_normalized_feature_select_negcon_batch'
    """
    names = [step["step"] for step in steps]
    if not names:
        return _INGESTED.get(level, f"_{level}")
    scaled = [step for step in steps if step["step"] in NORMALIZATIONS]
    selected = any(name in _SELECTIONS or name.startswith("drop_") for name in names)
    negcon = any(step.get("parameters", {}).get("reference") is not None for step in scaled)
    parts = [] if "aggregate" in names or not level.startswith("cells") else ["cells"]
    parts += ["normalized"] if scaled else []
    parts += ["feature_select"] if selected else []
    parts += ["negcon"] if negcon else []
    parts += [extent] if selected else []
    parts += ["augmented"] if "annotate" in names and not scaled and not selected else []
    parts += [_MORE[name] for name in dict.fromkeys(names) if name in _MORE]
    for step in steps:
        if step["step"] == "consensus":
            parts += ["consensus", str(step.get("parameters", {}).get("method", "median"))]
    return "".join(f"_{part}" for part in parts)
