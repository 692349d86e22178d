"""Who is held out with whom: groups of rows stay together, in folds and when labels are shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import group_rows
from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.kernels.rng import generator
from cytofast.schema import as_columns, require_columns

Integers = NDArray[np.int64]


def group_codes(metadata: pl.DataFrame, columns: str | Sequence[str], where: str) -> Integers:
    """A whole number for each row that tells its group."""
    names = as_columns(columns)
    if not names:
        raise RecipeError(f"{where}: groups= names no column")
    require_columns(metadata.schema, names, f"{where}: groups")
    codes: Integers = group_rows(metadata, names)[0].astype(np.int64)
    return codes


def joint_codes(
    one: pl.DataFrame, two: pl.DataFrame, columns: str | Sequence[str], where: str
) -> tuple[Integers, Integers]:
    """Codes of groups in two tables, equal where the groups are."""
    names = as_columns(columns)
    for table in (one, two):
        require_columns(table.schema, names, f"{where}: groups")
    kinds = [table.select(names).schema for table in (one, two)]
    if kinds[0] != kinds[1]:
        raise SchemaError(
            f"{where}: groups are of other types in the two data sets, {dict(kinds[0])} and {dict(kinds[1])}. "
            "Hint: cast one, for example to text."
        )
    codes = group_codes(pl.concat([one.select(names), two.select(names)]), names, where)
    return codes[: one.height], codes[one.height :]


def given_folds(folds: Sequence[int], groups: Integers) -> Integers:
    """Folds as they were given, one a row.

    Raises
    ------
    RecipeError
        They are not numbers from 0 without a gap, or tear a group apart.
    """
    try:
        fold: Integers = np.asarray(folds, dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"folds= gives the fold of each row as whole numbers ({error})") from error
    numbers = np.unique(fold)
    if fold.shape != groups.shape or not np.array_equal(numbers, np.arange(len(numbers))) or len(numbers) < 2:
        raise RecipeError(
            f"folds= gives the fold of each of {len(groups):,} rows as numbers from 0 without a gap, not "
            f"{fold.size:,} numbers of {listed(numbers.tolist())}"
        )
    several = len(np.unique(np.stack([groups, fold]), axis=1).T) - len(np.unique(groups))
    if several:
        raise RecipeError(f"folds= tears {several:,} groups apart: a perturbation would be in training and test rows.")
    return fold


def grouped_folds(groups: Integers, folds: int, *key: int) -> Integers:
    """``int64[n_rows]``: the fold of each row; a group lies in one fold, and folds are of about one size.

    Groups go, the largest first and equals in a drawn order, to the fold with the fewest rows.

    Raises
    ------
    DataError
        There are fewer groups than folds.
    """
    names, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if folds < 2:
        raise RecipeError(f"cross-validation needs at least 2 folds, not {folds}")
    if len(names) < folds:
        raise DataError(
            f"{len(names)} groups cannot make {folds} folds: a perturbation, with all its doses and replicates, stays in "
            "one fold. Hint: take fewer folds."
        )
    order = generator(*key).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(folds, dtype=np.int64)
    of_group = np.zeros(len(names), dtype=np.int64)
    for group in order:
        lightest = int(np.argmin(filled))
        of_group[group] = lightest
        filled[lightest] += sizes[group]
    return of_group[codes]


def shuffled_rows(groups: Integers, *key: int) -> Integers:
    """Which row stands in the place of each: groups change places, and the rows of a group stay side by side.

    Where all groups are of one size each goes whole into the place of another; else the row of groups is cut anew.
    """
    members = np.argsort(groups, kind="stable")
    bounds = np.flatnonzero(np.diff(groups[members], prepend=-1, append=-1))
    pieces = [members[a:b] for a, b in pairwise(bounds)]
    order = generator(*key).permutation(len(pieces))
    out = np.empty(len(groups), dtype=np.int64)
    out[members] = np.concatenate([pieces[i] for i in order])
    return out
