"""Benchmarks by name: which tasks, over which conditions, and what was published."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from cytofast.errors import RecipeError
from cytofast.tasks.detection import Detection
from cytofast.tasks.directionality import Directionality, PercentMatching
from cytofast.tasks.matching import CrossMatching, SisterMatching
from cytofast.tasks.neighbours import NearestNeighbourAccuracy
from cytofast.tasks.results import AGAINST
from cytofast.tasks.task import Task

KINDS: dict[str, type[Task]] = {
    "detection": Detection,
    "sister_matching": SisterMatching,
    "cross_matching": CrossMatching,
    "percent_matching": PercentMatching,
    "directionality": Directionality,
    "nearest_neighbour": NearestNeighbourAccuracy,
}
"""Tasks by the name that they have in TOML."""
_KEYS = ("title", "level", "conditions", "where", "defaults", "task", "published")


@dataclass(frozen=True)
class Benchmark:
    """Tasks over conditions, with the column names of an experiment; ``Benchmark.named("cpjump1")`` comes with cytofast.

    Attributes
    ----------
    tasks
        In the order of the result.
    conditions
        Columns whose combinations are the conditions; none: all wells are one condition.
    where
        SQL predicate: which wells take part at all.
    level
        The level of a store to ask.
    published
        What others found: rows of ``task``, condition columns (with ``_against`` for the second side) and ``value``.
    title, source
        For people: what it is, and where the published values come from.

    Examples
    --------
    >>> benchmark = Benchmark.named("cpjump1")
    >>> benchmark.conditions
    ('Metadata_Perturbation', 'Metadata_Cell_type', 'Metadata_Time')
    >>> benchmark.with_options(null="labels", null_size=1000).tasks[0].null
    'labels'
    """

    tasks: tuple[Task, ...]
    conditions: tuple[str, ...]
    where: str | None = None
    level: str = "profiles"
    published: tuple[Mapping[str, Any], ...] = ()
    title: str = ""
    source: str = ""

    @classmethod
    def named(cls, name: str) -> Self:
        """A benchmark that comes with cytofast.

        Raises
        ------
        RecipeError
            There is none of this name; the message lists those there are.
        """
        shipped = files("cytofast.tasks") / "shipped"
        names = [entry.name.removesuffix(".toml") for entry in shipped.iterdir() if entry.name.endswith(".toml")]
        if name not in names:
            raise RecipeError.unknown("benchmark", name, names)
        return cls.from_toml((shipped / f"{name}.toml").read_text(encoding="utf-8"), name)

    @classmethod
    def read(cls, name: str | Path) -> Self:
        """A benchmark by name, or from a TOML file of one's own."""
        path = Path(name)
        if path.suffix != ".toml":
            return cls.named(str(name))
        try:
            return cls.from_toml(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: the benchmark cannot be read ({error})") from error

    @classmethod
    def from_toml(cls, text: str, where: str = "benchmark") -> Self:
        """Read a benchmark: ``conditions``, ``where``, ``[defaults]``, ``[[task]]`` and ``[published]``.

        Raises
        ------
        RecipeError
            The text is not TOML, a key or task is unknown, or a value is of the wrong kind.
        """
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{where}: not TOML ({error})") from error
        for key in content:
            if key not in _KEYS:
                raise RecipeError(f"{where}: {RecipeError.unknown('key', key, _KEYS)}")
        if "conditions" not in content or not content.get("task"):
            raise RecipeError(
                f"{where}: a benchmark needs conditions = [...] (which may be empty) and at least one [[task]]"
            )
        _check_shape(content, where)
        defaults = content.get("defaults", {})
        tasks = tuple(_task(entry, defaults, f"{where}: task {i}") for i, entry in enumerate(content["task"], 1))
        published = content.get("published", {})
        columns = published.get("columns", [])
        _check_published(columns, published.get("rows", []), content["conditions"], where)
        rows = tuple(
            {name: value for name, value in zip(columns, row, strict=True) if name == "value" or value not in ("", 0)}
            for row in published.get("rows", [])
        )
        return cls(
            tasks,
            tuple(content["conditions"]),
            " ".join(content["where"].split()) if content.get("where") else None,
            content.get("level", "profiles"),
            rows,
            content.get("title", ""),
            published.get("source", ""),
        )

    def with_options(self, **options: Any) -> Self:
        """The same benchmark with fields of every task changed: ``null``, ``null_size``, ``seed``, ``features``, ..."""
        for key in options:
            if key not in Task.__dataclass_fields__ or key in ("name", "only"):
                raise RecipeError.unknown("option of all tasks", key, set(Task.__dataclass_fields__) - {"name", "only"})
        return replace(self, tasks=tuple(replace(task, **options) for task in self.tasks))

    def by(self, *columns: str) -> Self:
        """The same benchmark, each condition cut further by these columns: a feature set, a model, a laboratory."""
        return replace(self, conditions=tuple(dict.fromkeys([*self.conditions, *columns])))


def _check_shape(content: Mapping[str, Any], where: str) -> None:
    """Refuse values of the wrong kind by name; what is inside a task is the task's to check."""
    for key, ok, what in (
        ("conditions", _texts, "a list of columns"),
        ("task", lambda v: _all(v, dict), "written as [[task]], one or more"),
        ("where", lambda v: isinstance(v, str), "a SQL predicate"),
        ("level", lambda v: isinstance(v, str), "text"),
        ("title", lambda v: isinstance(v, str), "text"),
        ("defaults", lambda v: isinstance(v, dict), "a table of fields, written as [defaults]"),
        ("published", lambda v: isinstance(v, dict), "a table, written as [published]"),
    ):
        if key in content and not ok(content[key]):
            raise RecipeError(f"{where}: {key} must be {what}, not {content[key]!r}")
    published = content.get("published", {})
    for key in published:
        if key not in ("source", "columns", "rows"):
            raise RecipeError(f"{where}: [published]: {RecipeError.unknown('key', key, ('source', 'columns', 'rows'))}")
    if not _texts(published.get("columns", [])) or not _all(published.get("rows", []), list):
        raise RecipeError(f"{where}: [published] needs columns = [...] and rows = [[...], ...]")


def _check_published(columns: list[str], rows: list[list[Any]], conditions: list[str], where: str) -> None:
    """Refuse published values that no condition would ever show."""
    known = ["task", "value", *conditions, *(name + AGAINST for name in conditions)]
    for name in columns:
        if name not in known:
            raise RecipeError(f"{where}: [published]: {RecipeError.unknown('column', name, known)}")
    if rows and not {"task", "value"} <= set(columns):
        raise RecipeError(f"{where}: [published]: columns must have 'task' and 'value', not {columns} only")
    for row in rows:
        if len(row) != len(columns):
            raise RecipeError(f"{where}: [published]: {row} has {len(row)} values for {len(columns)} columns")
        value = row[columns.index("value")]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RecipeError(f"{where}: [published]: value must be a number in {row}")


def _all(values: object, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _texts(values: object) -> bool:
    return _all(values, str)


def _task(entry: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> Task:
    kind = entry.get("task", "")
    if kind not in KINDS:
        raise RecipeError(f"{where}: {RecipeError.unknown('task', str(kind), KINDS)}")
    chosen = {**defaults, **{key: value for key, value in entry.items() if key != "task"}}
    known = KINDS[kind].__dataclass_fields__
    for key in chosen:
        if key not in known:
            raise RecipeError(f"{where}: {RecipeError.unknown(f'key of task {kind!r}', key, known)}")
    try:
        return KINDS[kind](**chosen)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error
