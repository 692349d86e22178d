"""What a report is made of: sections, and in them sentences, figures with their tables, and tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import plotly.graph_objects as go
import polars as pl

from cytofast.errors import CytofastError, ProfileWarning

Tone = Literal["plain", "good", "note", "warning"]


@dataclass(frozen=True)
class Prose:
    """A paragraph; a tone other than plain stands out."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Drawn:
    """A figure with the table that it draws."""

    name: str
    title: str
    figure: go.Figure
    table: pl.DataFrame


@dataclass(frozen=True)
class Listed:
    """A table to read and to search."""

    name: str
    title: str
    table: pl.DataFrame
    caption: str
    opened: bool = True


Part = Prose | Drawn | Listed


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it; headlines also stand at the top of the page."""

    key: str
    title: str
    parts: list[Part] = field(default_factory=list)
    headlines: list[Prose] = field(default_factory=list)

    @property
    def answered(self) -> bool:
        """Whether it has anything but sentences."""
        return any(not isinstance(part, Prose) for part in self.parts)


@dataclass(frozen=True)
class Answer:
    """What a question gave, or why it gave nothing; and what it said on the way."""

    value: Any = None
    why: str = ""
    said: tuple[str, ...] = ()

    @property
    def table(self) -> pl.DataFrame:
        """The value, where it is a table; an empty one where there is no answer."""
        return self.value if isinstance(self.value, pl.DataFrame) else pl.DataFrame()

    @property
    def notes(self) -> list[Part]:
        """What was said, and why there is no answer, as paragraphs."""
        missing: list[Part] = [Prose(self.why, "warning")] if self.why else []
        return [*missing, *(Prose(text, "note") for text in self.said)]


def counted(number: int, thing: str) -> str:
    """A number with its noun.

    >>> counted(1, "plate"), counted(1200, "well")
    ('1 plate', '1,200 wells')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def attempt(call: Callable[..., Any], *given: Any, **named: Any) -> Answer:
    """Ask; an error that says what is wrong with the data becomes the answer, warnings are kept."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ProfileWarning)
        try:
            value, why = call(*given, **named), ""
        except CytofastError as error:
            value, why = None, str(error)
    said = dict.fromkeys(str(entry.message) for entry in caught if issubclass(entry.category, ProfileWarning))
    for entry in caught:
        if not issubclass(entry.category, ProfileWarning):
            warnings.warn_explicit(entry.message, entry.category, entry.filename, entry.lineno)
    return Answer(value, why, tuple(said))
