"""Which perturbation has which class: labels of several words, classes that are too small, all of it counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.errors import DataError, SchemaError, listed
from cytofast.schema import require_columns

Integers = NDArray[np.int64]
Several = Literal["rarest", "leave_out"]


@dataclass(frozen=True)
class Labelled:
    """Rows with their class.

    Attributes
    ----------
    rows
        Their positions in the pair.
    classes
        ``int64[n_rows]``, codes into ``names``.
    groups
        ``int64[n_rows]``.
    notes
        ``note, n_rows``: rows that were left out or had several classes.
    """

    rows: Integers
    classes: Integers
    groups: Integers
    names: list[str]
    notes: pl.DataFrame

    def table(self) -> pl.DataFrame:
        """One row a class: ``class, n_rows, n_groups``."""
        rows = pl.DataFrame({"code": self.classes, "group": self.groups})
        counts = rows.group_by("code").agg(pl.len().alias("n_rows"), pl.col("group").n_unique().alias("n_groups"))
        names = pl.DataFrame({"code": np.arange(len(self.names)), "class": self.names})
        return names.join(counts, on="code", how="left", maintain_order="left").drop("code")


def label_rows(
    metadata: pl.DataFrame, label: str, groups: Integers, separator: str, smallest: int, several: Several = "rarest"
) -> Labelled:
    """Give rows their class, until every class has at least ``smallest`` groups; the rarest class goes first.

    Raises
    ------
    DataError
        Fewer than two classes are left.
    """
    require_columns(metadata.schema, [label], "Mechanism: label")
    column = metadata[label]
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.List(pl.String):
        words = column
    elif column.dtype == pl.String:
        words = column.str.split(separator)
    else:
        raise SchemaError(f"Mechanism: column {label!r} holds {column.dtype}; a label is text or a list of text.")
    sets = [
        frozenset() if word is None else frozenset(w.strip() for w in word if w is not None and w.strip())
        for word in words.to_list()
    ]
    everything = _sizes(sets, groups)
    # A class goes one at a time: a row that it leaves may then be of a single class, and make that class larger.
    kept = {name: n for name, n in everything.items() if n >= smallest}
    while True:
        mine = [_chosen(s & kept.keys(), kept, several) for s in sets]
        sizes = _sizes([frozenset() if name is None else frozenset([name]) for name in mine], groups)
        small = [name for name in kept if sizes.get(name, 0) < smallest]
        if not small:
            break
        del kept[min(small, key=lambda name: (sizes.get(name, 0), name))]
    if len(kept) < 2:
        largest = sorted(everything.items(), key=lambda item: (-item[1], item[0]))[:5]
        raise DataError(
            f"Mechanism: {len(kept)} classes of {label!r} have at least {smallest} perturbations of their own; "
            f"two are needed. The largest are {listed([f'{name}: {n}' for name, n in largest])}. "
            "Hint: take a smaller smallest_class, or a coarser label."
        )
    names = sorted(kept)
    place = {name: i for i, name in enumerate(names)}
    code = np.array([-1 if name is None else place[name] for name in mine], dtype=np.int64)
    ambiguous = sum(len(s & kept.keys()) > 1 for s in sets)
    notes = {
        "left out: no label": sum(not s for s in sets),
        f"left out: classes of fewer than {smallest} perturbations": sum(bool(s) and not s & kept.keys() for s in sets),
        "left out: several classes" if several == "leave_out" else "several classes: counted as the rarest": ambiguous,
    }
    table = pl.DataFrame(
        {"note": list(notes), "n_rows": list(notes.values())}, schema={"note": pl.String, "n_rows": pl.Int64}
    )
    rows = np.flatnonzero(code >= 0)
    return Labelled(rows, code[rows], groups[rows], names, table.filter(pl.col("n_rows") > 0))


def _chosen(words: frozenset[str], sizes: dict[str, int], several: Several) -> str | None:
    """The class of a row that has these."""
    if not words or (len(words) > 1 and several == "leave_out"):
        return None
    return min(words, key=lambda name: (sizes[name], name))


def _sizes(sets: list[frozenset[str]], groups: Integers) -> dict[str, int]:
    """How many groups each class has."""
    members: dict[str, set[int]] = {}
    for s, group in zip(sets, groups.tolist(), strict=True):
        for word in s:
            members.setdefault(word, set()).add(group)
    return {word: len(found) for word, found in members.items()}
