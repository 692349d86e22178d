"""Profiles as matrices, some rows at a time, and the co-moments gathered from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import Reference, predicate, reference_mask, take_columns, to_matrix
from cytofast.errors import DataError, listed
from cytofast.kernels.comoments import CoMoments, absorb, comoments

_COPIES = 6
_CHUNK_ROWS = 1024
"""Rows taken at once, at least, or as many as features: few enough to stay in cache, and enough that the product of a
chunk outweighs adding it to the others'."""


def in_reference(
    profiles: pl.DataFrame | pl.LazyFrame, reference: Reference, where: str
) -> pl.DataFrame | pl.LazyFrame:
    """The rows that the reference takes; a null answer counts as no."""
    if reference is None:
        return profiles
    expression = predicate(reference)
    # Asked of no rows, because a lazy table would complain only when it is read.
    reference_mask(profiles.head(0).lazy().collect(), reference, where)
    return profiles.filter(expression)


def require_reference(
    every: pl.DataFrame | None, chosen: pl.DataFrame, by: list[str], reference: Reference, where: str
) -> None:
    """Each group must have reference rows; otherwise name those that have none."""
    hint = f"Hint: is the reference {str(reference)!r} right, and are the profiles annotated?"
    if every is None:
        if chosen.height == 0:
            raise DataError(f"{where}: no row is in the reference. {hint}")
        return
    lacking = every.join(chosen.select(by).unique(), on=by, how="anti", nulls_equal=True)
    if lacking.height:
        groups = listed(["/".join(str(value) for value in row) for row in lacking.rows()])
        raise DataError(
            f"{where}: {lacking.height} of {every.height} groups {'/'.join(by)} have no reference row: {groups}. {hint}"
        )


def chunks(
    profiles: pl.DataFrame | pl.LazyFrame, features: Sequence[str], extra: Sequence[str] = ()
) -> Iterator[pl.DataFrame]:
    """Frames of some rows with the features (and ``extra`` columns), in the order of the table."""
    most = resources.current().working_bytes // (_COPIES * 8 * max(1, len(features)))
    rows = max(1, min(max(_CHUNK_ROWS, len(features)), most))
    chosen = take_columns(profiles, list(dict.fromkeys([*extra, *features])))
    if isinstance(chosen, pl.DataFrame):
        yield from chosen.iter_slices(rows)
        return
    for frame in chosen.collect_batches(chunk_size=rows, maintain_order=True):
        # A batch may be as long as a row group; the copies that follow must not be.
        yield from frame.iter_slices(rows)


def matrices(profiles: pl.DataFrame | pl.LazyFrame, features: Sequence[str]) -> Iterator[NDArray[np.floating]]:
    """``float[f, k]`` of some rows at a time; missing is NaN."""
    for frame in chunks(profiles, features):
        if frame.height:
            yield to_matrix(frame, features).T


def finite_comoments(profiles: pl.DataFrame | pl.LazyFrame, features: Sequence[str]) -> CoMoments | None:
    """Co-moments of all rows in one pass; ``None`` as soon as a value is missing or infinite."""
    total: CoMoments | None = None
    for columns in matrices(profiles, features):
        if not np.isfinite(columns).all():
            return None
        part = comoments(columns)
        total = part if total is None else absorb(total, part)
    return total or CoMoments(0, np.zeros(len(features)), np.zeros((len(features), len(features))))


def rounding(schema: pl.Schema, features: Sequence[str], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rounding of each feature's values: what its type cannot tell apart near its mean."""
    eps = [np.finfo(np.float32 if schema[name] == pl.Float32 else np.float64).eps for name in features]
    return np.array(eps) * np.abs(mean)


def require_finite(profiles: pl.DataFrame | pl.LazyFrame, features: Sequence[str], where: str) -> CoMoments:
    """Co-moments of all rows, or an error that names the features with missing or infinite values."""
    moments = finite_comoments(profiles, features)
    if moments is not None:
        return moments
    bad = np.zeros(len(features), dtype=np.int64)
    for columns in matrices(profiles, features):
        bad += (~np.isfinite(columns)).sum(axis=1)
    names = [f"{features[i]} ({bad[i]:,})" for i in np.argsort(-bad, kind="stable") if bad[i]]
    raise DataError(
        f"{where}: {len(names):,} of {len(features):,} features have missing or infinite values, "
        f"which no covariance can be made of: {listed(names)}. Hint: drop them first with DropMissing(cutoff=0, infinite=True)."
    )
