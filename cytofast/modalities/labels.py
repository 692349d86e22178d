"""Which perturbation has which class: labels of several words, classes that are too small, all of it counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.errors import DataError, SchemaError, listed
from cytofast.schema import require_columns

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Rows that have exactly one class.

    Attributes
    ----------
    rows
        Their positions in the pair.
    classes
        ``int64[n_rows]``, codes into ``names``.
    groups
        ``int64[n_rows]``.
    left_out
        ``reason, n_rows``.
    """

    rows: Integers
    classes: Integers
    groups: Integers
    names: list[str]
    left_out: pl.DataFrame

    def table(self) -> pl.DataFrame:
        """One row a class: ``class, n_rows, n_groups``."""
        rows = pl.DataFrame({"code": self.classes, "group": self.groups})
        counts = rows.group_by("code").agg(pl.len().alias("n_rows"), pl.col("group").n_unique().alias("n_groups"))
        names = pl.DataFrame({"code": np.arange(len(self.names)), "class": self.names})
        return names.join(counts, on="code", how="left", maintain_order="left").drop("code")


def label_rows(metadata: pl.DataFrame, label: str, groups: Integers, separator: str, smallest: int) -> Labelled:
    """Give rows their class; classes with fewer than ``smallest`` groups go, then rows that have none or several left.

    Raises
    ------
    DataError
        Fewer than two classes are left.
    """
    require_columns(metadata.schema, [label], "Mechanism: label")
    column = metadata[label]
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
    unlabelled = np.array([not s for s in sets])
    kept, first = sorted({w for s in sets for w in s}), _sizes(sets, groups)
    code = np.full(len(sets), -1, dtype=np.int64)
    sizes = first
    while True:
        # Leaving out rows of several classes makes classes smaller, so it is done until nothing changes.
        small = {name for name in kept if sizes.get(name, 0) < smallest}
        if not small:
            break
        kept = [name for name in kept if name not in small]
        place = {name: i for i, name in enumerate(kept)}
        single = [s & place.keys() if len(s & place.keys()) == 1 else frozenset() for s in sets]
        sizes = _sizes(single, groups)
    place = {name: i for i, name in enumerate(kept)}
    several = np.zeros(len(sets), dtype=np.bool_)
    for i, s in enumerate(sets):
        mine = [place[w] for w in s if w in place]
        several[i] = len(mine) > 1
        if len(mine) == 1:
            code[i] = mine[0]
    present = np.unique(code[code >= 0])
    if len(present) < 2:
        largest = sorted(first.items(), key=lambda item: (-item[1], item[0]))[:5]
        raise DataError(
            f"Mechanism: {len(present)} classes of {label!r} have at least {smallest} perturbations with no other class; "
            f"two are needed. The largest are {listed([f'{name}: {n}' for name, n in largest])}. "
            "Hint: take a smaller smallest_class, or a coarser label."
        )
    rows = np.flatnonzero(code >= 0)
    small_only = ~unlabelled & ~several & (code < 0)
    reasons = {
        "no label": int(unlabelled.sum()),
        f"class of fewer than {smallest} perturbations": int(small_only.sum()),
        "several classes": int(several.sum()),
    }
    left_out = pl.DataFrame(
        {"reason": list(reasons), "n_rows": list(reasons.values())}, schema={"reason": pl.String, "n_rows": pl.Int64}
    )
    names = [kept[i] for i in present]
    return Labelled(
        rows, np.searchsorted(present, code[rows]), groups[rows], names, left_out.filter(pl.col("n_rows") > 0)
    )


def _sizes(sets: list[frozenset[str]], groups: Integers) -> dict[str, int]:
    """How many groups each class has."""
    members: dict[str, set[int]] = {}
    for s, group in zip(sets, groups.tolist(), strict=True):
        for word in s:
            members.setdefault(word, set()).add(group)
    return {word: len(found) for word, found in members.items()}
