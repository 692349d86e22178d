"""The SQL that ships with cytofast, one file a query, by name: what it answers, its parameters, its grain."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import polars as pl

from cytofast.errors import RecipeError

Kind = Literal["macros", "views", "questions"]
Value = str | int | float | bool | None

_PARAMETER = re.compile(r"-- param (\w+) (VARCHAR|INTEGER|DOUBLE|BOOLEAN)(?: = ('[^']*'|\S+))?  (\S.*)")
_GRAIN = re.compile(r"-- grain (.+)")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Parameter:
    """A value that a query asks for; it is bound, never pasted."""

    name: str
    type: str
    doc: str
    required: bool
    default: Value = None

    @property
    def shown(self) -> str:
        """As ``name``, or ``name=default``."""
        return self.name if self.required else f"{self.name}={'NULL' if self.default is None else self.default}"

    def convert(self, value: Any, where: str) -> Value:
        """The value as the declared type; text is read, as from a command line."""
        if value is None:
            return None
        wrong = RecipeError(f"{where}: parameter {self.name!r} is a {self.type}, and {value!r} is not")
        if self.type == "VARCHAR":
            if isinstance(value, str | int | float):
                return str(value)
            raise wrong
        if self.type == "BOOLEAN":
            if str(value).lower() not in _WORDS:
                raise wrong
            return _WORDS[str(value).lower()]
        try:
            number = float(value)
        except (ValueError, TypeError) as error:
            raise wrong from error
        if isinstance(value, bool) or not math.isfinite(number):
            raise wrong
        if self.type == "DOUBLE":
            return number
        if not number.is_integer():
            raise wrong
        return int(number)


@dataclass(frozen=True)
class Query:
    """One file of SQL: its name is the file's, its header says the rest."""

    name: str
    kind: Kind
    doc: str
    parameters: tuple[Parameter, ...]
    grain: tuple[str, ...]
    text: str

    def values(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """All parameters with their values: given, or the default.

        Raises
        ------
        RecipeError
            A parameter is unknown, missing, or of another type.
        """
        where = f"question {self.name!r}"
        known = {parameter.name for parameter in self.parameters}
        for name in given:
            if name not in known:
                if not known:
                    raise RecipeError(f"{where} takes no parameters, not even {name!r}")
                raise RecipeError.unknown(f"parameter of {where}", name, known)
        values = {}
        for parameter in self.parameters:
            if given.get(parameter.name) is not None:
                values[parameter.name] = parameter.convert(given[parameter.name], where)
            elif parameter.name in given and (parameter.required or parameter.default is not None):
                raise RecipeError(f"{where}: parameter {parameter.name!r} needs a value, and None is none")
            elif parameter.required:
                raise RecipeError(f"{where} needs a value for {parameter.name!r}: {parameter.doc}")
            else:
                values[parameter.name] = parameter.default
        return values


def _default(text: str) -> Value:
    if text == "NULL":
        return None
    if text.startswith("'"):
        return text[1:-1]
    if text in {"TRUE", "FALSE"}:
        return text == "TRUE"
    return float(text) if "." in text else int(text)


def read_query(name: str, kind: Kind, text: str, where: str | None = None) -> Query:
    """Read a file's header: sentences, ``-- param name TYPE [= default]  meaning``, ``-- grain column, column``.

    A query of the caller's, from the file ``where``, need not say what it gives.

    Raises
    ------
    RecipeError
        The header does not follow this form.
    """
    file = f"sql/{kind}/{name}.sql" if where is None else where
    sentences: list[str] = []
    parameters: list[Parameter] = []
    grain: tuple[str, ...] = ()
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if match := _PARAMETER.fullmatch(line):
            parameter, type_, default, doc = match.groups()
            parameters.append(
                Parameter(parameter, type_, doc, default is None, None if default is None else _default(default))
            )
        elif match := _GRAIN.fullmatch(line):
            grain = tuple(column.strip() for column in match[1].split(","))
        elif line.startswith(("-- param", "-- grain")):
            raise RecipeError(
                f"{file}: the header line {line!r} cannot be read. Hint: write -- param NAME TYPE = DEFAULT  MEANING, with "
                "VARCHAR, INTEGER, DOUBLE or BOOLEAN, and two spaces before the meaning."
            )
        else:
            sentences.append(line.removeprefix("--").strip())
    if where is None and (not sentences or (kind != "macros" and not grain)):
        raise RecipeError(f"{file}: the header must say what the query gives, and its grain")
    return Query(name, kind, " ".join(sentences), tuple(parameters), grain, text)


@lru_cache(maxsize=3)
def queries(kind: Kind) -> dict[str, Query]:
    """All shipped queries of a kind, sorted by name."""
    folder = files("cytofast.sql") / kind
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return {
        name: read_query(name, kind, entry.read_text(encoding="utf-8"))
        for entry in found
        for name in [entry.name.removesuffix(".sql")]
    }


def described(kind: Kind) -> pl.DataFrame:
    """One row a query: its name, what it gives, its parameters and its grain."""
    rows = [
        (
            query.name,
            query.doc,
            ", ".join(parameter.shown for parameter in query.parameters),
            ", ".join(query.grain),
        )
        for query in queries(kind).values()
    ]
    return pl.DataFrame(rows, orient="row", schema=["question", "answer", "parameters", "grain"])


def question(name: str) -> Query:
    """One question by its name.

    Raises
    ------
    RecipeError
        There is no such question; the message names the nearest.

    Examples
    --------
    >>> question("replicate_counts").grain
    ('perturbation',)
    """
    known = queries("questions")
    if name not in known:
        raise RecipeError.unknown("question", name, known)
    return known[name]
