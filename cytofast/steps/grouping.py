"""What the steps that make one row of many have in common: the groups, and what metadata they keep."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import polars as pl

from cytofast.blocks import Groups, group_rows, take_columns
from cytofast.errors import ProfileWarning, RecipeError, listed
from cytofast.schema import KEYS, is_metadata


def require_other_names(by: Sequence[str], made: Sequence[str], where: str) -> None:
    """The columns that a step makes cannot make its groups."""
    taken = [name for name in by if name in made]
    if taken:
        raise RecipeError(
            f"{where}: by= cannot name {listed(taken)}, because the result has a column of this name. Hint: rename yours."
        )


def heads(
    profiles: pl.DataFrame | pl.LazyFrame,
    by: list[str],
    features: Sequence[str],
    made: Sequence[str],
    where: str,
    groups: Groups | None = None,
) -> pl.DataFrame:
    """One row a group, sorted: its key, the metadata that is constant within all groups, and the number of its rows.

    Parameters
    ----------
    made
        Names of columns that the step makes, the number of rows first; older ones are not kept.
    groups
        Those of the rows, where they are known.
    """
    # The schema of a frame is made anew each time it is asked for, which for thousands of columns takes a while.
    names = profiles.columns if isinstance(profiles, pl.DataFrame) else profiles.collect_schema().names()
    chosen = {*features, *by}
    others = [name for name in names if name not in chosen and not is_metadata(name)]
    if others:
        warnings.warn(
            f"{where}: {len(others)} columns are neither metadata nor features and are left out: {listed(others)}.",
            ProfileWarning,
            stacklevel=4,
        )
    dropped = {*chosen, *KEYS, *made}
    kept = [name for name in names if is_metadata(name) and name not in dropped]
    table = take_columns(profiles, [*by, *kept]).lazy().collect()
    codes, keys = groups or group_rows(table, by)
    first = np.full(keys.height, -1, dtype=np.int64)
    first[codes[::-1]] = np.arange(table.height)[::-1]
    constant = [name for name in kept if table[name].eq_missing(table[name].gather(first).gather(codes)).all()]
    counts = pl.Series(made[0], np.bincount(codes, minlength=keys.height).astype(np.int64))
    return keys.hstack([table[name].gather(first) for name in constant]).with_columns(counts)
