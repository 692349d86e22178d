"""Which questions a benchmark asks: each task in the conditions that it is for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from cytofast.blocks import predicate_columns, reference_mask
from cytofast.errors import RecipeError
from cytofast.schema import require_columns
from cytofast.tasks.directionality import PairTask
from cytofast.tasks.matching import CrossTask
from cytofast.tasks.preset import Benchmark
from cytofast.tasks.task import Task


@dataclass(frozen=True)
class Question:
    """A task in a condition (``first``), or in pairs of conditions; several pairs only where they are pooled."""

    task: Task
    first: tuple[int, ...]
    second: tuple[int, ...] = ()


def questions_of(benchmark: Benchmark, conditions: pl.DataFrame) -> tuple[list[Question], list[tuple[Task, str]]]:
    """All questions, and the tasks that have none, with the reason.

    Raises
    ------
    RecipeError
        A predicate or ``apart=`` names what is no condition column, or two tasks of one name meet in a condition.
    """
    asked: list[Question] = []
    idle: list[tuple[Task, str]] = []
    for task in benchmark.tasks:
        found = _across(task, conditions) if isinstance(task, CrossTask) else _within(task, conditions)
        if not found:
            said = (
                f"first={task.first!r}, second={task.second!r}"
                if isinstance(task, CrossTask)
                else f"only={task.only!r}"
            )
            idle.append((task, f"no condition satisfies {said}"))
        asked += found
    seen: set[tuple[str, int, int]] = set()
    for question in asked:
        for pair in zip(question.first, question.second or (-1,) * len(question.first), strict=True):
            key = (question.task.name, *pair)
            if key in seen:
                shown = " ".join(str(value) for value in conditions.row(pair[0]))
                raise RecipeError(
                    f"two tasks are called {question.task.name!r} in condition {shown}. Hint: give them names."
                )
            seen.add(key)
    return asked, idle


def _chosen(task: Task, predicate: str | None, conditions: pl.DataFrame) -> list[int]:
    where = f"task {task.name!r}"
    require_columns(conditions.schema, predicate_columns(predicate), f"{where}: among the condition columns")
    mask = reference_mask(conditions, predicate, where)
    return list(range(conditions.height)) if mask is None else np.flatnonzero(mask).tolist()


def _within(task: Task, conditions: pl.DataFrame) -> list[Question]:
    return [Question(task, (k,)) for k in _chosen(task, task.only, conditions)]


def _across(task: CrossTask, conditions: pl.DataFrame) -> list[Question]:
    if task.first is None or task.second is None:
        raise RecipeError(f"task {task.name!r}: conditions are paired by first= and second=, and one is missing")
    require_columns(conditions.schema, task.apart, f"task {task.name!r}: apart= among the condition columns")
    allowed = set(_chosen(task, task.only, conditions))
    alike = [name for name in conditions.columns if name not in task.apart]
    keys = _rows(conditions, alike)
    pairs = [
        (i, j)
        for i in _chosen(task, task.first, conditions)
        for j in _chosen(task, task.second, conditions)
        if i != j and i in allowed and keys[i] == keys[j]
    ]
    pool = task.pool if isinstance(task, PairTask) else ()
    rest = _rows(conditions, [name for name in conditions.columns if name not in pool])
    together: dict[object, list[tuple[int, int]]] = {}
    for i, j in pairs:
        together.setdefault((rest[i], rest[j]), []).append((i, j))
    groups = together.values() if pool else [[pair] for pair in pairs]
    return [Question(task, tuple(i for i, _ in group), tuple(j for _, j in group)) for group in groups]


def _rows(conditions: pl.DataFrame, names: list[str]) -> list[tuple[object, ...]]:
    """Values of some condition columns; of none, a frame would have no rows."""
    return conditions.select(names).rows() if names else [()] * conditions.height
