"""Answers put together: the tidy table and those behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from cytofast.tasks.directionality import PairTask
from cytofast.tasks.matching import CrossTask
from cytofast.tasks.parts import Part
from cytofast.tasks.preset import Benchmark
from cytofast.tasks.questions import Question
from cytofast.tasks.results import AGAINST, COLUMNS, TABLES, TaskResults
from cytofast.tasks.task import Task


def apart_columns(benchmark: Benchmark) -> list[str]:
    """Condition columns in which the two sides of some task may differ."""
    named = {name for task in benchmark.tasks if isinstance(task, CrossTask) for name in task.apart}
    return [name for name in benchmark.conditions if name in named]


def keys_of(question: Question, conditions: pl.DataFrame, apart: Sequence[str]) -> dict[str, Any]:
    """The condition columns of a question; null for a second side that there is not, and for what was pooled."""
    pool = question.task.pool if isinstance(question.task, PairTask) else ()
    first = conditions.row(question.first[0], named=True)
    second = conditions.row(question.second[0], named=True) if question.second else {}
    keys = {name: None if name in pool else value for name, value in first.items()}
    return keys | {name + AGAINST: None if name in pool else second.get(name) for name in apart}


def tables_of(
    benchmark: Benchmark,
    conditions: pl.DataFrame,
    answers: Sequence[tuple[Question, Part]],
    plates: Sequence[tuple[int, pl.DataFrame]],
    idle: Sequence[tuple[Task, str]],
) -> TaskResults:
    """Every table, in the order of the questions."""
    apart = apart_columns(benchmark)
    schema = conditions.schema
    key_types = {"task": pl.String(), **dict(schema), **{name + AGAINST: schema[name] for name in apart}}
    found: dict[str, list[pl.DataFrame]] = {name: [] for name in TABLES}
    for question, part in answers:
        keys = {"task": question.task.name, **keys_of(question, conditions, apart)}
        status = "done" if part.done else "impossible"
        row = {
            **keys,
            **part.summary,
            "published": _published(benchmark, keys),
            "status": status,
            "note": "; ".join(part.notes) or None,
        }
        found["summary"].append(_typed(pl.DataFrame([row]), "summary", key_types))
        for name, table in part.tables.items():
            found[name].append(_keyed(table, keys, name, key_types))
    for task, why in idle:
        row = {"task": task.name, "status": "impossible", "note": why}
        found["summary"].append(_typed(pl.DataFrame([row]), "summary", key_types))
    for number, table in plates:
        keys = {"task": "plates", **conditions.row(number, named=True)}
        found["plates"].append(_keyed(table, keys, "plates", key_types))
    whole = {
        name: pl.concat(frames) if frames else pl.DataFrame(schema={**key_types, **COLUMNS[name]})
        for name, frames in found.items()
    }
    return TaskResults(**whole, conditions=tuple(conditions.columns), apart=tuple(apart))


def _keyed(
    table: pl.DataFrame, keys: Mapping[str, Any], name: str, key_types: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    added = [pl.lit(value, key_types[key]).alias(key) for key, value in keys.items() if key not in table.columns]
    return _typed(table.with_columns(added), name, key_types)


def _typed(table: pl.DataFrame, name: str, key_types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    wanted = {**key_types, **COLUMNS[name]}
    return table.select(
        (pl.col(key) if key in table.columns else pl.lit(None)).cast(dtype).alias(key) for key, dtype in wanted.items()
    )


def _published(benchmark: Benchmark, keys: Mapping[str, Any]) -> float | None:
    """What was published for this task and condition; where conditions are cut further, for every part of it."""
    second = {name for name, value in keys.items() if name.endswith(AGAINST) and value is not None}
    for row in benchmark.published:
        told = {name: value for name, value in row.items() if name != "value"}
        if second <= set(told) and all(_alike(keys.get(name), value) for name, value in told.items()):
            return float(row["value"])
    return None


def _alike(value: object, told: object) -> bool:
    """Hours may be text in one table and a number in another."""
    if isinstance(told, int | float) and isinstance(value, str):
        return value.strip().removesuffix(".0") == str(told)
    return value == told
