"""Checks of settings before any work: numbers that are whole, finite and within what they mean."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cytofast.errors import RecipeError
from cytofast.retrieval.profiles import whole_number

_SEEDS = 2**32
"""scikit-learn's generators know no larger seeds."""


def set_whole(question: object, least: Mapping[str, int]) -> None:
    """Replace settings by plain integers: numpy's are the same question, and so the same checkpoint."""
    where = type(question).__name__
    for name, minimum in least.items():
        object.__setattr__(question, name, whole_number(name, getattr(question, name), minimum, where))
    seed = getattr(question, "seed", 0)
    if seed >= _SEEDS:
        raise RecipeError(f"{where}: seed must be below {_SEEDS:,}, not {seed:,}")


def require_between(question: object, name: str, low: float, high: float) -> None:
    """A finite number above ``low`` and below ``high``."""
    value = getattr(question, name)
    if not _finite(value) or not low < value < high:
        raise RecipeError(
            f"{type(question).__name__}: {name} must be a number"
            + (f" in ({low:g}, {high:g})" if math.isfinite(low) else "")
            + f", not {value!r}"
        )


def require_numbers(question: object, name: str) -> None:
    """A sequence of finite numbers of at least 0, and not an empty one."""
    values = getattr(question, name)
    listlike = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str)
    if not listlike or not len(values) or not all(_finite(value) and value >= 0 for value in values):
        raise RecipeError(f"{type(question).__name__}: {name} must be finite numbers of at least 0, not {values!r}")


def require_once(question: object, name: str) -> None:
    """Names, in a list and not in one text, each of them once."""
    names = getattr(question, name)
    if isinstance(names, str):
        raise RecipeError(f"{type(question).__name__}: {name} is a list of names, such as [{names!r}]")
    twice = sorted({one for one in names if list(names).count(one) > 1})
    if twice:
        raise RecipeError(f"{type(question).__name__}: {name} has {twice[0]!r} more than once")


def _finite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
