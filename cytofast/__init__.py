"""Cell Painting profiles on one machine: out of core, exact, fast.

The public names, in the order that data flows. They load when first used, so that ``import cytofast`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytofast.errors import CytofastError as CytofastError
    from cytofast.errors import DataError as DataError
    from cytofast.errors import ProfileWarning as ProfileWarning
    from cytofast.errors import RecipeError as RecipeError
    from cytofast.errors import SchemaError as SchemaError
    from cytofast.errors import StoreError as StoreError
    from cytofast.ingest.example import write_example as write_example
    from cytofast.ingest.profiles import read_profiles as read_profiles
    from cytofast.ingest.profiles import write_profiles as write_profiles
    from cytofast.recipe.recipe import Recipe as Recipe
    from cytofast.recipe.run import run as run
    from cytofast.resources import limits as limits
    from cytofast.schema import normalize_wells as normalize_wells
    from cytofast.schema import parse_features as parse_features
    from cytofast.steps.aggregate import Aggregate as Aggregate
    from cytofast.steps.annotate import Annotate as Annotate
    from cytofast.steps.normalize import Robustize as Robustize
    from cytofast.steps.normalize import RobustMAD as RobustMAD
    from cytofast.steps.normalize import Standardize as Standardize
    from cytofast.store.profile_store import ProfileStore as ProfileStore
    from cytofast.store.profile_store import open_store as open_store

_HOMES = {
    "parse_features": "schema",
    "normalize_wells": "schema",
    "limits": "resources",
    "read_profiles": "ingest.profiles",
    "write_profiles": "ingest.profiles",
    "write_example": "ingest.example",
    "open_store": "store.profile_store",
    "ProfileStore": "store.profile_store",
    "Aggregate": "steps.aggregate",
    "Annotate": "steps.annotate",
    "RobustMAD": "steps.normalize",
    "Standardize": "steps.normalize",
    "Robustize": "steps.normalize",
    "Recipe": "recipe.recipe",
    "run": "recipe.run",
    "CytofastError": "errors",
    "SchemaError": "errors",
    "DataError": "errors",
    "RecipeError": "errors",
    "StoreError": "errors",
    "ProfileWarning": "errors",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cytofast")
    if name not in _HOMES:
        raise AttributeError(f"module 'cytofast' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"cytofast.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
