"""Which rows of the compartments are one cell.

CellProfiler says it in ``Parent_`` columns: a cytoplasm knows its cell and its nucleus, a cell its nucleus. The
*anchor* is the compartment that reaches most others by its parents; a cell is a row of the anchor whose parents are all
there. Other objects that name a parent (spots in a nucleus) are attached: a cell without one keeps nulls, and of
several the one with the lowest number is taken; the others are set aside with the orphans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytofast.errors import DataError, listed
from cytofast.ingest.choice import Duplicates

Rows = NDArray[np.int64]
_CORE = ("Cells", "Cytoplasm", "Nuclei")
_LOWEST = -(1 << 53)
"""No object number is lower; those that are mark rows that were set aside."""


@dataclass(frozen=True)
class Link:
    """``child``'s column ``Parent_<parent>`` holds object numbers of ``parent``."""

    child: str
    parent: str


@dataclass(frozen=True)
class Links:
    """How to join: from the anchor up to its parents, then the attached objects."""

    anchor: str
    up: tuple[Link, ...]
    attached: tuple[Link, ...]
    told_again: tuple[Link, ...] = ()
    """Parents that are found another way: the column is not needed, but should say the same."""

    @property
    def primary(self) -> str:
        """The compartment whose object numbers are the cells'."""
        joined = [self.anchor, *(link.parent for link in self.up)]
        return next((name for name in ("Cells", "Nuclei") if name in joined), self.anchor)

    def parents_of(self, child: str) -> list[str]:
        """Every parent that a compartment names, whether it is needed or told again."""
        return [link.parent for link in (*self.up, *self.attached, *self.told_again) if link.child == child]

    @property
    def columns(self) -> dict[str, list[str]]:
        """The parent columns that each compartment must have."""
        needed: dict[str, list[str]] = {}
        for link in (*self.up, *self.attached):
            needed.setdefault(link.child, []).append(f"Parent_{link.parent}")
        return needed


@dataclass(frozen=True)
class Objects:
    """The keys of one compartment in one image."""

    numbers: Rows
    """``int64[n]`` object numbers."""
    parents: Mapping[str, Rows]
    """``int64[n]`` object numbers of the parent, by compartment; 0 is "none"."""


class DuplicateObjectError(DataError):
    """Two rows claim one object; ``rows`` are their positions in the compartment."""

    def __init__(self, compartment: str, column: str, value: int, rows: tuple[int, int]) -> None:
        super().__init__(f"{column} {value} stands more than once in {compartment}")
        self.compartment, self.column, self.value, self.rows = compartment, column, value, rows


def find_links(
    compartments: Sequence[str], parents: Mapping[str, Sequence[str]], where: str, duplicates: Duplicates = "refuse"
) -> Links:
    """Decide how to join from the names of the parent columns.

    Where duplicates are not refused, nuclei (or other objects of every cell) may be those that name their cell as parent:
    of several nuclei of a cell the first is taken.

    >>> find_links(["Cells", "Nuclei"], {"Cells": ["Nuclei"]}, "here").up
    (Link(child='Cells', parent='Nuclei'),)
    """
    known = {child: [p for p in parents.get(child, ()) if p in compartments and p != child] for child in compartments}
    ways = {start: _upwards(start, known) for start in compartments}
    candidates = [name for name in compartments if name in _CORE] or list(compartments)
    anchor = max(candidates, key=lambda name: (len(ways[name]), len(known[name]), -candidates.index(name)))
    up = ways[anchor]
    joined = [anchor, *(link.parent for link in up)]
    attached: list[Link] = []
    waiting = [name for name in compartments if name not in joined]
    while True:
        found = next(((c, p) for c in waiting for p in known[c] if p in joined), None)
        if found is None:
            break
        attached.append(Link(*found))
        joined.append(found[0])
        waiting.remove(found[0])
    lost = waiting + [link.child for link in attached if link.child in _CORE and duplicates == "refuse"]
    if lost:
        have = {name: [f"Parent_{p}" for p in known[name]] for name in compartments}
        raise DataError(
            f"{where}: {listed(lost)} cannot be joined to {anchor}: parent columns are needed (Cytoplasm: Parent_Cells "
            f"and Parent_Nuclei; Cells: Parent_Nuclei), but found {have}. Hint: choose compartments that are related."
        )
    core = [anchor, *(link.parent for link in up)]
    told_again = [
        link
        for child in core
        for link in (Link(child, parent) for parent in known[child])
        if link.parent in core and link not in up
    ]
    return Links(anchor, tuple(up), tuple(attached), tuple(told_again))


def _upwards(start: str, known: Mapping[str, Sequence[str]]) -> list[Link]:
    """Breadth first, so that the anchor's own parent columns are used where it has them."""
    ways: list[Link] = []
    reached = {start}
    queue = [start]
    while queue:
        child = queue.pop(0)
        for parent in known[child]:
            if parent not in reached:
                reached.add(parent)
                ways.append(Link(child, parent))
                queue.append(parent)
    return ways


def join_objects(
    objects: Mapping[str, Objects], links: Links, duplicates: Duplicates = "refuse"
) -> tuple[dict[str, Rows], dict[str, int]]:
    """Find the rows of each compartment that make up each cell, ``int64[n_cells]``, in the order of its numbers.

    A row of a compartment is used at most once. -1 stands for an attached object that a cell does not have. With
    ``duplicates="first"`` the second row of an object number, and the second child of a parent (by its number), are set
    aside; how many, by compartment, is given besides.

    Raises
    ------
    DuplicateObjectError
        An object number stands twice, or two rows that are joined upwards claim one parent.
    """
    aside: dict[str, int] = {}
    if duplicates == "first":
        objects = {name: _first_only(name, table, aside) for name, table in objects.items()}
    for name, table in objects.items():
        _require_distinct(table.numbers, name, "ObjectNumber")
    rows = {links.anchor: np.arange(len(objects[links.anchor].numbers))}
    whole = objects[links.anchor].numbers >= _LOWEST
    for link in links.up:
        child, found = objects[link.child], rows[link.child]
        wanted = np.where(found >= 0, child.parents[link.parent][found], 0) if len(child.numbers) else found * 0
        rows[link.parent] = _find(wanted, objects[link.parent].numbers)
        whole &= rows[link.parent] >= 0
    rows = {name: found[whole] for name, found in rows.items()}
    for link in links.up:
        if duplicates == "first":
            rows = _one_child(rows, objects, link, aside)
        _require_one_child(rows[link.parent], rows[link.child], objects, link)
    for link in links.attached:
        child = objects[link.child]
        at = _find(child.parents[link.parent], objects[link.parent].numbers)
        holder = np.full(len(objects[link.parent].numbers), -1)
        # Of several children of one parent the lowest number stays: it is written last.
        used = np.flatnonzero(at >= 0)
        used = used[np.argsort(-child.numbers[used], kind="stable")]
        holder[at[used]] = used
        parent_rows = rows[link.parent]
        found = holder[parent_rows] if len(holder) else parent_rows
        rows[link.child] = np.where(parent_rows >= 0, found, -1)
    order = np.argsort(objects[links.primary].numbers[rows[links.primary]], kind="stable")
    return {name: found[order] for name, found in rows.items()}, aside


def _first_only(name: str, table: Objects, aside: dict[str, int]) -> Objects:
    """Give every later row of an object number a number that nobody names."""
    _, first = np.unique(table.numbers, return_index=True)
    if len(first) == len(table.numbers):
        return table
    later = np.ones(len(table.numbers), dtype=bool)
    later[first] = False
    aside[name] = aside.get(name, 0) + int(later.sum())
    numbers = np.where(later, _LOWEST - 1 - np.arange(len(later)), table.numbers)
    return Objects(numbers, {parent: np.where(later, 0, named) for parent, named in table.parents.items()})


def _one_child(
    rows: dict[str, Rows], objects: Mapping[str, Objects], link: Link, aside: dict[str, int]
) -> dict[str, Rows]:
    """Of several children of one parent keep the one with the lowest number."""
    order = np.argsort(objects[link.child].numbers[rows[link.child]], kind="stable")
    _, first = np.unique(rows[link.parent][order], return_index=True)
    if len(first) == len(order):
        return rows
    aside[link.child] = aside.get(link.child, 0) + len(order) - len(first)
    kept = np.sort(order[first])
    return {name: found[kept] for name, found in rows.items()}


def _find(wanted: Rows, numbers: Rows) -> Rows:
    """Positions of ``wanted`` in ``numbers``, -1 where absent; 0 is nobody's number."""
    if not len(numbers):
        return np.full(len(wanted), -1)
    order = np.argsort(numbers, kind="stable")
    place = np.minimum(np.searchsorted(numbers[order], wanted), len(numbers) - 1)
    rows = order[place]
    return np.where((numbers[rows] == wanted) & (wanted > 0), rows, -1)


def _first_pair(values: Rows) -> tuple[int, int] | None:
    order = np.argsort(values, kind="stable")
    same = np.flatnonzero(values[order][1:] == values[order][:-1])
    return (int(order[same[0]]), int(order[same[0] + 1])) if len(same) else None


def _require_distinct(numbers: Rows, compartment: str, column: str) -> None:
    pair = _first_pair(numbers)
    if pair:
        raise DuplicateObjectError(compartment, column, int(numbers[pair[0]]), pair)


def _require_one_child(parents: Rows, children: Rows, objects: Mapping[str, Objects], link: Link) -> None:
    pair = _first_pair(parents)
    if pair:
        value = int(objects[link.parent].numbers[parents[pair[0]]])
        raise DuplicateObjectError(
            link.child, f"Parent_{link.parent}", value, (int(children[pair[0]]), int(children[pair[1]]))
        )
