"""What can go wrong, sorted by who must act.

Every message says what was wrong, where (file, plate, column, row) and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Self


def listed(items: Iterable[object], most: int = 5) -> str:
    """Write a list for an error message: the first few items and how many more there are."""
    every = list(items)
    shown = ", ".join(repr(item) for item in every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most:,} more"


class CytofastError(Exception):
    """The root of every error that cytofast raises on purpose."""


class SchemaError(CytofastError):
    """A table does not have the columns or types that a profile table has."""

    @classmethod
    def missing_columns(cls, missing: Sequence[str], available: Sequence[str], where: str) -> Self:
        """Name the absent columns and the nearest ones that exist."""
        hints = []
        for name in missing[:5]:
            near = difflib.get_close_matches(name, available, n=3, cutoff=0.6)
            if near:
                hints.append(f"instead of {name!r} perhaps {listed(near)}")
        hint = "; ".join(hints) if hints else f"the table has {listed(available, 8)}"
        return cls(f"{where}: no column {listed(missing)}. Hint: {hint}.")


class DataError(CytofastError):
    """The values themselves are wrong: a broken file, duplicate keys, a plate without controls."""


class RecipeError(CytofastError):
    """What was asked for makes no sense: an unknown step, key, statistic or option."""

    @classmethod
    def unknown(cls, kind: str, name: str, known: Iterable[str]) -> Self:
        """Name what was not understood and the nearest known names."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {listed(near)}?" if near else f"known: {listed(names, 20)}."
        return cls(f"unknown {kind} {name!r}; {hint}")


class StoreError(CytofastError):
    """The profile store cannot be opened, read or written."""


class ProfileWarning(UserWarning):
    """Something was left out, unmatched or undefined, and is counted here instead of passing silently."""
