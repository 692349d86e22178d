"""Same/differ rules compiled to integer codes. Pairs are never listed: memory is proportional to profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import group_rows
from cytofast.errors import RecipeError

Integers = NDArray[np.int64]
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Lists:
    """Lists of whole numbers, one after the other: list ``i`` is ``items[start[i]:start[i + 1]]``."""

    start: Integers
    items: Integers

    def __getitem__(self, index: int) -> Integers:
        return self.items[self.start[index] : self.start[index + 1]]

    def __len__(self) -> int:
        return len(self.start) - 1

    @classmethod
    def of_codes(cls, codes: Integers, size: int, items: Integers | None = None) -> Lists:
        """The rows (or ``items``) of each code, in order."""
        start = np.zeros(size + 1, dtype=np.int64)
        np.cumsum(np.bincount(codes, minlength=size), out=start[1:])
        order = np.argsort(codes, kind="stable").astype(np.int64)
        return cls(start, order if items is None else items[order])


@dataclass(frozen=True)
class Pairing:
    """A rule on a table.

    A *query instance* is a profile that asks for its positives: once, or with multilabels once a label.

    Attributes
    ----------
    instance_rows, instance_groups
        Profile and positive group of each instance, in the order of the table.
    groups
        Profiles of each positive group (all ``pos_sameby`` columns equal, or the label shared).
    pos_differ
        ``int32[n_columns, n_profiles]``: two positives differ in each of them.
    blocks
        ``neg_sameby`` code of each profile: negatives lie in one block.
    neg_differ
        ``int32[n_columns, n_profiles]``: query and negative differ in each of them.
    labels
        With a multilabel column that negatives must not share: the labels of each profile, else ``None``.
    bearers
        The profiles of each label.
    instance_labels
        Text of the label of each instance, with multilabels.
    """

    n: int
    instance_rows: Integers
    instance_groups: Integers
    groups: Lists
    pos_differ: Codes
    blocks: Integers
    neg_differ: Codes
    labels: Lists | None
    bearers: Lists | None
    instance_labels: pl.Series | None


def split_labels(column: pl.Series, separator: str = "|") -> pl.Series:
    """A column of lists, or of text such as ``"EGFR|ERBB2"``, as sorted lists of distinct labels; nothing is an empty list.

    >>> split_labels(pl.Series("target", ["EGFR|ERBB2", None, "EGFR|EGFR"])).to_list()
    [['EGFR', 'ERBB2'], [], ['EGFR']]
    """
    if column.dtype == pl.String:
        lists = column.to_frame().select(pl.col(column.name).str.split(separator))
    elif isinstance(column.dtype, pl.List):
        lists = column.to_frame().select(pl.col(column.name).cast(pl.List(pl.String)))
    else:
        raise RecipeError(
            f"multilabel column {column.name!r} must hold lists or text with separators, not {column.dtype}"
        )
    label = pl.element().str.strip_chars()
    wanted = pl.col(column.name).list.eval(label.filter(label.is_not_null() & (label != "")))
    return lists.select(wanted.list.unique().list.sort().fill_null([]))[column.name]


def codes_of(metadata: pl.DataFrame, columns: Sequence[str]) -> Codes:
    """``int32[n_columns, n_profiles]``: the values of each column, numbered."""
    out = np.zeros((len(columns), metadata.height), dtype=np.int32)
    for i, name in enumerate(columns):
        out[i] = group_rows(metadata, [name])[0]
    return out


def compile_rule(
    metadata: pl.DataFrame,
    pos_sameby: Sequence[str],
    pos_diffby: Sequence[str],
    neg_sameby: Sequence[str],
    neg_diffby: Sequence[str],
    multilabel: str | None,
    queries: NDArray[np.bool_] | None,
    controls: NDArray[np.bool_] | None = None,
) -> Pairing:
    """Number the groups of a rule. The multilabel column holds sorted lists (see :func:`split_labels`)."""
    n = metadata.height
    asking = np.arange(n) if queries is None else np.flatnonzero(queries)
    single = [name for name in pos_sameby if name != multilabel]
    base, _ = group_rows(metadata, single)
    labels = bearers = instance_labels = None
    if multilabel is not None:
        lists = metadata[multilabel]
        sizes = lists.list.len().to_numpy().astype(np.int64)
        texts = lists.filter(pl.Series(sizes > 0)).explode()
        label_codes, names = group_rows(texts.to_frame(), [multilabel])
        of_row = Lists(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), label_codes)
        rows = np.repeat(np.arange(n), sizes)
        if multilabel in neg_diffby:
            labels, bearers = of_row, Lists.of_codes(label_codes, names.height, rows)
    if multilabel is not None and multilabel in pos_sameby:
        joint, group_codes = np.unique(base[rows] * max(1, names.height) + label_codes, return_inverse=True)
        groups = Lists.of_codes(group_codes, len(joint), rows)
        chosen = np.isin(rows, asking)
        instance_rows, instance_groups = rows[chosen], group_codes[chosen]
        instance_labels = texts.filter(pl.Series(chosen))
    else:
        groups = Lists.of_codes(base, int(base.max(initial=-1)) + 1)
        instance_rows, instance_groups = asking, base[asking]
    differ = codes_of(metadata, [name for name in neg_diffby if name != multilabel])
    if controls is not None:
        # Whoever asks is no control, so what differs from it is one.
        differ = np.vstack([differ, controls[None, :].astype(np.int32)])
    if not len(differ):
        # Nothing else keeps a profile from being its own negative.
        differ = np.arange(n, dtype=np.int32)[None, :]
    return Pairing(
        n=n,
        instance_rows=instance_rows.astype(np.int64),
        instance_groups=instance_groups.astype(np.int64),
        groups=groups,
        pos_differ=codes_of(metadata, pos_diffby),
        blocks=group_rows(metadata, neg_sameby)[0],
        neg_differ=differ,
        labels=labels,
        bearers=bearers,
        instance_labels=instance_labels,
    )
