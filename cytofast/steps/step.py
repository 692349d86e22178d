"""The protocol that every step follows: learn a small table, then change profiles row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from math import isnan
from numbers import Integral, Real
from types import UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import Profiles, require_polars
from cytofast.errors import RecipeError
from cytofast.sharing import Chunk


class Scope(StrEnum):
    """How much of the data a step must see at once, which is what it costs."""

    ROW = "row"
    """A row by itself, with a table that is known beforehand (annotate)."""
    PLATE = "plate"
    """The rows of one plate: groups lie inside one partition of a store."""
    FEATURE = "feature"
    """All rows of a few columns, across plates."""
    DATASET = "dataset"
    """All rows and columns, through a small state that merges."""
    WHOLE = "whole"
    """Everything in memory (iterative methods, after selection)."""


_registry: dict[str, type[Step]] = {}


@dataclass(frozen=True)
class Step:
    """A frozen dataclass that is callable on profiles; its fields are the recipe's keys and the CLI's options.

    Subclasses give ``name``, ``separable`` and ``scope``, and override ``fit`` and ``apply``.
    ``step(profiles)`` is ``step.apply(profiles, step.fit(profiles))`` and gives back what it was given:
    a DataFrame for a DataFrame, a LazyFrame for a LazyFrame.
    """

    name: ClassVar[str] = ""
    separable: ClassVar[bool] = True
    """Whether every feature is treated by itself, so that a run may cut the columns into blocks."""
    reduces: ClassVar[bool] = False
    """Whether a row of the result stands for several (aggregate, consensus); other steps keep or drop rows in their order."""
    version: ClassVar[int] = 1
    """Raised when the result for the same input changes, so that stores recompute it."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Make the step known to recipes by its name."""
        super().__init_subclass__(**options)
        if cls.name:
            _registry[cls.name] = cls

    def __post_init__(self) -> None:
        """Check every field against its annotation, and keep lists as tuples, so that steps without frames can be hashed.

        Raises
        ------
        RecipeError
            A value is of the wrong type, or is not a number (NaN).
        """
        hints = get_type_hints(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            hint = hints[field.name]
            if not _accepts(value, hint):
                raise _refusal(type(self).__name__, field.name, value, hint)
            if _is_sequence(value):
                object.__setattr__(self, field.name, tuple(value))
        if getattr(self, "features", None) in ("", ()):
            raise RecipeError(
                f"{type(self).__name__}: features= names no column. Hint: leave it out to infer CellProfiler features."
            )

    @property
    def scope(self) -> Scope:
        """How much of the data the step must see at once."""
        return Scope.ROW

    def columns(self) -> list[str]:
        """Metadata columns that the step reads."""
        return []

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:  # noqa: ARG002  (a step that learns nothing)
        """Learn the small table; a step that learns nothing returns an empty one."""
        return pl.DataFrame()

    def learns_from(self, metadata: pl.DataFrame) -> NDArray[np.bool_] | None:  # noqa: ARG002
        """Which rows :meth:`fit` looks at; ``None`` where that is all of them, or metadata do not tell.

        For steps with a ``reference``: of these rows alone, and with ``reference=None``, they learn the same.
        """
        return None

    def merge(self, fits: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Join fits of several plates or blocks of features into one; the order does not matter."""
        present = [fit for fit in fits if fit.width]
        return pl.concat(present) if present else pl.DataFrame()

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Change profiles by a fit, of these profiles or of others."""
        raise NotImplementedError

    def on_chunks(self, fit: pl.DataFrame, schema: pl.Schema) -> Callable[[Chunk], Chunk] | None:  # noqa: ARG002
        """What :meth:`apply` does, for the chunks of a table of this schema; ``None`` where it takes a frame.

        The values of a chunk may be changed in place.
        """
        return None

    def on_blocks(self, metadata: pl.DataFrame, blocks: Iterable[Chunk]) -> pl.DataFrame | None:  # noqa: ARG002
        """What the step makes of a table given as its metadata and, one after the other, all rows of some features each.

        For steps that reduce and learn nothing; ``None``, before a block is asked for, where it needs frames.
        """
        return None

    def __call__(self, profiles: Profiles) -> Profiles:
        """Fit and apply."""
        require_polars(profiles, type(self).__name__)
        return self.apply(profiles, self.fit(profiles))

    def parameters(self) -> dict[str, Any]:
        """The fields that differ from their defaults, for manifests and recipes."""
        found = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default is MISSING or value is not field.default:
                found[field.name] = value
        return found

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any], where: str) -> Self:
        """Make a step of a recipe's keys.

        Raises
        ------
        RecipeError
            A key is unknown or missing (the message gives the nearest known one), or its value is of the wrong type.
        """
        known = {field.name: field for field in fields(cls)}
        for key in parameters:
            if key not in known:
                raise RecipeError(f"{where}: {RecipeError.unknown(f'key of step {cls.name!r}', key, known)}")
        missing = [
            k for k, f in known.items() if f.default is MISSING and f.default_factory is MISSING and k not in parameters
        ]
        if missing:
            raise RecipeError(f"{where}: step {cls.name!r} needs {', '.join(missing)}")
        try:
            return cls(**parameters)
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from error


def step_class(name: str) -> type[Step]:
    """The step that a recipe calls ``name``."""
    if name not in _registry:
        raise RecipeError.unknown("step", name, _registry)
    return _registry[name]


def as_given(result: pl.DataFrame, profiles: Profiles) -> Profiles:
    """An eager result in the form of the input: lazy for lazy."""
    return result.lazy() if isinstance(profiles, pl.LazyFrame) else result


# --- values against annotations --------------------------------------------------------------------------------------


def _alternatives(hint: Any) -> list[Any]:
    """The types of a union, nested ones too."""
    if get_origin(hint) in (Union, UnionType):
        return [one for part in get_args(hint) for one in _alternatives(part)]
    return [hint]


def _is_sequence(value: object) -> bool:
    """Whether something is a list of things (tuple, set, series, array), and no text, table, frame or expression."""
    return isinstance(value, Iterable) and not isinstance(
        value, str | bytes | Mapping | pl.DataFrame | pl.LazyFrame | pl.Expr
    )


def _accepts(value: object, hint: Any) -> bool:
    return any(_fits(value, one) for one in _alternatives(hint))


def _fits(value: object, hint: Any) -> bool:
    if hint is None or hint is type(None):
        return value is None
    origin = get_origin(hint)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if origin is Sequence:
        # What is in a list of rules is checked by the step that makes them.
        (item,) = get_args(hint)
        return _is_sequence(value) and (item is not str or all(isinstance(one, str) for one in value))  # type: ignore[attr-defined]
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool) and not isnan(value)
    return not isinstance(hint, type) or isinstance(value, hint)


_PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "None"}


def _refusal(step: str, key: str, value: object, hint: Any) -> RecipeError:
    """Say what a value should have been; for a choice, the nearest one that there is."""
    kinds = _alternatives(hint)
    if isinstance(value, str):
        choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        if choices:
            return RecipeError(f"{step}: {RecipeError.unknown(key, value, choices)}")
    wanted = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            wanted.append(f"one of {', '.join(map(repr, get_args(kind)))}")
        elif get_origin(kind) is Sequence:
            wanted.append("a list of text" if get_args(kind) == (str,) else "a list")
        else:
            wanted.append(_PLAIN.get(kind, kind.__name__))
    package = type(value).__module__.split(".", 1)[0]
    shown = f"a {package} {type(value).__name__}"
    plain = isinstance(value, str | int | float | list | tuple | set | dict) and len(repr(value)) < 200
    hint_text = " Hint: convert it with polars.from_pandas." if package == "pandas" else ""
    return RecipeError(
        f"{step}: {key}= must be {' or '.join(wanted)}, not {repr(value) if plain else shown}.{hint_text}"
    )
