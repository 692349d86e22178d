"""A recipe: which steps make which level; on disk it is TOML."""

from __future__ import annotations

import hashlib
import importlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import polars as pl

from cytofast.errors import RecipeError
from cytofast.steps.step import Step, step_class
from cytofast.store.layout import checked_level

STEP_MODULES = (
    "quality",
    "aggregate",
    "annotate",
    "normalize",
    "transform",
    "select",
    "select_rules",
    "correlated",
    "correct",
    "tvn",
    "position",
    "counts",
    "harmonize",
    "consensus",
)
"""Modules of the steps that a recipe may name."""


def load_steps() -> None:
    """Make every step known by its name."""
    for module in STEP_MODULES:
        importlib.import_module(f"cytofast.steps.{module}")


def shipped_text(name: str) -> str:
    """The TOML of a recipe that comes with cytofast.

    Raises
    ------
    RecipeError
        There is none of this name; the message lists those there are.
    """
    shipped = files("cytofast.recipe") / "shipped"
    names = sorted(entry.name.removesuffix(".toml") for entry in shipped.iterdir() if entry.name.endswith(".toml"))
    if name not in names:
        raise RecipeError(f"there is no recipe file {name!r}; shipped recipes are {', '.join(names)}")
    return (shipped / f"{name}.toml").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Recipe:
    """Levels in the order they are made, each by a tuple of steps from the level before it.

    Parameters
    ----------
    levels
        Level name -> its steps.
    source
        The level that the first one is made from.

    Examples
    --------
    >>> from cytofast import Aggregate, RobustMAD
    >>> recipe = Recipe({"wells": [Aggregate()], "profiles": [RobustMAD(reference="Metadata_control_type = 'negcon'")]})
    >>> list(recipe.levels)
    ['wells', 'profiles']
    """

    levels: Mapping[str, Sequence[Step]]
    source: str = "cells"

    def __post_init__(self) -> None:
        checked_level(self.source)
        if not self.levels:
            raise RecipeError("the recipe makes no level")
        made = {self.source}
        for level, steps in self.levels.items():
            checked_level(level)
            if level in made:
                raise RecipeError(f"level {level!r} is made of itself or made twice")
            made.add(level)
            if not steps:
                raise RecipeError(f"level {level!r} has no step")

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a TOML file, or a recipe that comes with cytofast by its name (``"default"``, ``"single_cells"``).

        Raises
        ------
        RecipeError
            There is no such recipe, it is not TOML, or a step or key in it is unknown.
        """
        given = Path(path)
        if given.is_file():
            try:
                text = given.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise RecipeError(f"{given}: cannot be read as TOML in UTF-8 ({error})") from error
            return cls.from_toml(text, str(given), given.parent)
        return cls.from_toml(shipped_text(str(path)), str(path), Path())

    @classmethod
    def from_toml(cls, text: str, where: str = "recipe", folder: Path | None = None) -> Self:
        """Read TOML: ``source = "cells"``, then for each level a list of tables ``[[level]]`` with ``step`` and its fields.

        Relative file names are taken from ``folder``.
        """
        load_steps()
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{where}: not valid TOML: {error}") from error
        source = content.pop("source", "cells")
        if not isinstance(source, str):
            raise RecipeError(f'{where}: source must be the name of a level, as in source = "cells", not {source!r}')
        levels: dict[str, list[Step]] = {}
        for level, tables in content.items():
            if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
                raise RecipeError(
                    f"{where}: unknown key {level!r}. Hint: a recipe has `source = ...` and, for each level, "
                    f"tables `[[{level}]]` with step = ..."
                )
            levels[level] = [
                _step(dict(table), f"{where}: [[{level}]] {number}", folder) for number, table in enumerate(tables, 1)
            ]
        return cls(levels, source)


def _step(table: dict[str, Any], where: str, folder: Path | None) -> Step:
    name = table.pop("step", None)
    if not isinstance(name, str):
        raise RecipeError(f'{where}: a step needs step = "its name"')
    try:
        kind = step_class(name)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error
    for key in ("platemap",):
        if isinstance(table.get(key), str) and folder is not None:
            table[key] = folder / table[key]
    return kind.from_parameters(table, where)


def fingerprint(step: Step) -> dict[str, Any]:
    """A step as manifests keep it: its name, version and parameters, with files and frames by their content."""
    parameters = {field.name: _content(getattr(step, field.name)) for field in fields(step)}
    return {"step": step.name, "version": step.version, "parameters": parameters}


def _content(value: object) -> object:
    if isinstance(value, pl.DataFrame):
        content = value.rechunk().write_ipc(None, compat_level=pl.CompatLevel.oldest()).getvalue()
        return {"frame": hashlib.blake2b(content, digest_size=16).hexdigest()}
    if isinstance(value, Path):
        if not value.is_file():
            raise RecipeError(f"{value}: no such file")
        return {"file": value.name, "content": hashlib.blake2b(value.read_bytes(), digest_size=16).hexdigest()}
    if isinstance(value, pl.Expr):
        return {"expression": value.meta.serialize(format="json")}
    if isinstance(value, tuple | list):
        return [_content(item) for item in value]
    if isinstance(value, Step):
        return fingerprint(value)
    return value
