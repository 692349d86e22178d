"""How well replicates correlate, and how often strangers do as well: percent replicating and percent matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import group_rows
from cytofast.errors import DataError, RecipeError
from cytofast.kernels.rng import generator
from cytofast.retrieval.neighbors import prepared
from cytofast.retrieval.pairing import Integers, Lists, codes_of, split_labels
from cytofast.retrieval.profiles import Comparable, Policy, report_dropped, rows_shown, whole_number
from cytofast.schema import Features, as_columns

Doubles = NDArray[np.float64]
Side = Literal["right", "left", "both"]

_TRIES = 20
_BATCH = 1024
_LARGEST = 50
"""Null sets have at most so many profiles: a control may have hundreds of wells, but not hundreds of strangers."""


@dataclass(frozen=True)
class _Sets:
    """Sets of profiles whose correlations are summed up, and what strangers may not share."""

    ready: Comparable
    keys: pl.DataFrame
    groups: list[Integers]
    apart: NDArray[np.int32]
    """``int32[n_columns, n_profiles]``: profiles of a pair that counts differ in each of them."""
    strangers: NDArray[np.int32]
    """``int32[n_columns, n_profiles]``: profiles of a null set differ in each of them."""
    labels: NDArray[np.bool_] | None
    """``bool[n_profiles, n_labels]``: with multilabels, profiles of a null set share none."""
    strata: Integers
    """Null sets lie in one stratum: the same well position, say."""


def _read(
    profiles: pl.DataFrame | pl.LazyFrame,
    sameby: Sequence[str],
    diffby: Sequence[str],
    match: Sequence[str],
    features: Features,
    multilabel: str | None,
    on_invalid: Policy,
    where: str,
) -> _Sets:
    if not sameby:
        raise RecipeError(f"{where}: sameby names no column")
    needed = list(dict.fromkeys([*sameby, *diffby, *match]))
    ready = prepared(profiles, "correlation", features, needed, where, on_invalid)
    if len(ready.units[0]) < 3:
        raise DataError(
            f"{where}: a correlation over {len(ready.units[0])} features says nothing. Hint: give more features."
        )
    metadata = ready.metadata
    if multilabel is not None:
        if list(sameby) != [multilabel]:
            raise RecipeError(f"{where}: with multilabel={multilabel!r} sameby must be just this column")
        metadata = metadata.with_columns(split_labels(metadata[multilabel]))
    known = np.ones(metadata.height, dtype=np.bool_)
    for name in needed:
        absent = metadata[name].list.len() == 0 if name == multilabel else metadata[name].is_null()
        known &= ~absent.to_numpy()
    if not known.all():
        missing = np.flatnonzero(~known)
        if not known.any():
            raise DataError(f"{where}: every profile has a null in {needed}")
        report_dropped(
            len(missing), metadata.height, f"nulls in {', '.join(needed)}: {rows_shown(metadata, missing[:3])}"
        )
        metadata = metadata.filter(pl.Series(known))
        ready = ready.only(known)
    rows = np.arange(metadata.height)
    labels = None
    if multilabel is None:
        codes, keys = group_rows(metadata, sameby)
        strangers = codes.astype(np.int32)[None, :]
    else:
        rows = np.repeat(rows, metadata[multilabel].list.len().to_numpy())
        codes, keys = group_rows(metadata.select(pl.col(multilabel).explode()), [multilabel])
        labels = np.zeros((metadata.height, keys.height), dtype=np.bool_)
        labels[rows, codes] = True
        strangers = np.zeros((0, metadata.height), dtype=np.int32)
    lists = Lists.of_codes(codes, keys.height, rows)
    apart = codes_of(metadata, diffby)
    strata = group_rows(metadata, match)[0]
    groups = [lists[group] for group in range(keys.height)]
    return _Sets(ready, keys, groups, apart, np.vstack([strangers, apart]), labels, strata)


def _correlations(sets: _Sets, rows: Integers) -> Doubles:
    """Correlations of the pairs of a set that count."""
    units = sets.ready.units[rows]
    left, right = np.triu_indices(len(rows), 1)
    apart = np.all(sets.apart[:, rows[left]] != sets.apart[:, rows[right]], axis=0)
    found: Doubles = np.clip((units @ units.T)[left[apart], right[apart]], -1.0, 1.0)
    return found


def _null(sets: _Sets, size: int, null_size: int, seed: int, how: Literal["mean", "median"], where: str) -> Doubles:
    """Mean or median correlations of random sets of strangers, of as many profiles as the replicates are."""
    size = min(size, _LARGEST)
    rng = generator(seed, size)
    members = Lists.of_codes(sets.strata, int(sets.strata.max()) + 1)
    counts = np.diff(members.start)
    left, right = np.triu_indices(size, 1)
    found: list[Doubles] = []
    have = 0
    for _ in range(_TRIES):
        batch = min(_BATCH, null_size - have)
        rows = _strangers(sets, members, counts, size, batch, rng)
        units = sets.ready.units[rows]
        values = np.matmul(units, units.transpose(0, 2, 1))[:, left, right]
        found.append(values.mean(axis=1) if how == "mean" else np.median(values, axis=1))
        have += len(rows)
        if have >= null_size:
            return np.concatenate(found)
    raise DataError(
        f"{where}: cannot draw {null_size:,} sets of {size} profiles that are strangers to each other. "
        "Hint: are there too few perturbations, or does the matched null leave too few profiles together?"
    )


def _strangers(
    sets: _Sets, members: Lists, counts: Integers, size: int, batch: int, rng: np.random.Generator
) -> Integers:
    """Up to ``batch`` sets; a set grows by random profiles of its stratum that are strangers to all in it."""
    rows = np.zeros((batch, size), dtype=np.int64)
    weights = np.where(counts >= size, counts, 0)
    if not weights.any():
        return rows[:0]
    strata = rng.choice(len(counts), size=batch, p=weights / weights.sum())
    filled = np.zeros(batch, dtype=np.int64)
    slots = np.arange(size)
    for _ in range(20 * size):
        growing = np.flatnonzero(filled < size)
        if not len(growing):
            break
        chosen = strata[growing]
        candidates = members.items[members.start[chosen] + rng.integers(0, counts[chosen])]
        taken = rows[growing]
        inside = slots[None, :] < filled[growing][:, None]
        clash = (inside & (taken == candidates[:, None])).any(axis=1)
        for codes in sets.strangers:
            clash |= (inside & (codes[taken] == codes[candidates][:, None])).any(axis=1)
        if sets.labels is not None:
            shared = (sets.labels[taken] & sets.labels[candidates][:, None, :]).any(axis=2)
            clash |= (inside & shared).any(axis=1)
        growing, candidates = growing[~clash], candidates[~clash]
        rows[growing, filled[growing]] = candidates
        filled[growing] += 1
    full: Integers = rows[filled == size]
    return full


def replicate_correlation(
    profiles: pl.DataFrame | pl.LazyFrame,
    sameby: str | Sequence[str],
    features: Features = None,
    null_size: int = 1000,
    seed: int = 0,
    on_invalid: Policy = "error",
) -> pl.DataFrame:
    """Mean pairwise correlation of the replicates of each perturbation, and whether strangers reach it.

    Parameters
    ----------
    profiles
        A DataFrame, a LazyFrame or a level of a store, normalized.
    sameby
        Columns that name a perturbation. Profiles without a name are left out, with a warning.
    features, on_invalid
        As in :class:`cytofast.Retrieval`.
    null_size, seed
        Random sets of as many profiles, each of another perturbation.

    Returns
    -------
    polars.DataFrame
        One row a perturbation, sorted: ``sameby`` columns, ``replicate_correlation`` (Pearson, mean over pairs; null for one
        profile), ``n_profiles``, ``null_p90`` (90th percentile of sets of strangers) and ``high_quality`` (above it), as in
        Haghighi et al. 2022.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = np.repeat(rng.normal(size=(20, 8)), 2, axis=0) + 0.1 * rng.normal(size=(40, 8))
    >>> wells = pl.DataFrame({"Metadata_pert": np.arange(40) // 2, **{f"Cells_{i}": x[:, i] for i in range(8)}})
    >>> replicate_correlation(wells, "Metadata_pert")["high_quality"].mean()
    1.0
    """
    columns = as_columns(sameby)
    null_size, seed = _draws(null_size, seed, "replicate_correlation")
    sets = _read(profiles, columns, [], [], features, None, on_invalid, "replicate_correlation")
    values, limits = np.full(len(sets.groups), np.nan), np.full(len(sets.groups), np.nan)
    nulls: dict[int, float] = {}
    for group, rows in enumerate(sets.groups):
        size = len(rows)
        if size < 2:
            continue
        # Unit rows: the square of their sum is n plus twice the sum of all correlations.
        total = sets.ready.units[rows].sum(axis=0)
        values[group] = (total @ total - size) / (size * (size - 1))
        if size not in nulls:
            nulls[size] = float(np.quantile(_null(sets, size, null_size, seed, "mean", "replicate_correlation"), 0.9))
        limits[group] = nulls[size]
    value, limit = (
        pl.Series("replicate_correlation", values).fill_nan(None),
        pl.Series("null_p90", limits).fill_nan(None),
    )
    sizes = pl.Series("n_profiles", [len(rows) for rows in sets.groups], dtype=pl.Int64)
    return sets.keys.with_columns(value, sizes, limit, (value > limit).alias("high_quality"))


def replicate_scores(
    profiles: pl.DataFrame | pl.LazyFrame,
    sameby: str | Sequence[str],
    diffby: str | Sequence[str] | None = None,
    match: str | Sequence[str] | None = None,
    side: Side = "right",
    features: Features = None,
    multilabel: str | None = None,
    null_size: int = 1000,
    seed: int = 0,
    on_invalid: Policy = "error",
) -> pl.DataFrame:
    """Median correlation of each perturbation's replicates against that of strangers, one by one.

    The parameters are those of :func:`cytofast.percent_replicating`.

    Returns
    -------
    polars.DataFrame
        ``sameby`` columns, ``median_correlation`` (null where no pair counts), ``n_profiles``, ``n_pairs``, ``null_p5``,
        ``null_p95`` and ``beyond``.
    """
    if side not in ("right", "left", "both"):
        raise RecipeError.unknown("side", side, ("right", "left", "both"))
    where = "replicate correlations"
    null_size, seed = _draws(null_size, seed, where)
    sets = _read(
        profiles, as_columns(sameby), as_columns(diffby), as_columns(match), features, multilabel, on_invalid, where
    )
    rows: list[tuple[float | int | None, ...]] = []
    nulls: dict[int, tuple[float, float]] = {}
    for members in sets.groups:
        pairs = _correlations(sets, members)
        if not len(pairs):
            rows.append((None, len(members), 0, None, None, None))
            continue
        size = len(members)
        if size not in nulls:
            low, high = np.quantile(_null(sets, size, null_size, seed, "median", where), [0.05, 0.95])
            nulls[size] = (float(low), float(high))
        low, high = nulls[size]
        median = float(np.median(pairs))
        beyond = (side != "left" and median > high) or (side != "right" and median < low)
        rows.append((median, size, len(pairs), low, high, beyond))
    schema = {
        "median_correlation": pl.Float64,
        "n_profiles": pl.Int64,
        "n_pairs": pl.Int64,
        "null_p5": pl.Float64,
        "null_p95": pl.Float64,
        "beyond": pl.Boolean,
    }
    found = pl.DataFrame(rows, schema=schema, orient="row")
    if found["beyond"].null_count() == found.height:
        raise DataError(f"{where}: no group of {as_columns(sameby)} has two profiles that may be compared")
    return sets.keys.hstack(found)


def percent_replicating(
    profiles: pl.DataFrame | pl.LazyFrame,
    sameby: str | Sequence[str],
    diffby: str | Sequence[str] | None = None,
    match: str | Sequence[str] | None = None,
    side: Side = "right",
    features: Features = None,
    null_size: int = 1000,
    n_bootstrap: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    on_invalid: Policy = "error",
) -> pl.DataFrame:
    """Share of perturbations whose replicates correlate better than strangers do.

    A perturbation replicates if the median pairwise correlation of its replicates lies above the 95th percentile of the
    medians of random sets of as many profiles, each of another perturbation (Chandrasekaran et al., preprint of 2021 and 2022).

    Parameters
    ----------
    profiles
        A DataFrame, a LazyFrame or a level of a store.
    sameby, diffby
        Replicates are equal in ``sameby``, and pairs count that differ in each column of ``diffby``.
    match
        Strangers are equal in these columns: with the well position, a null that knows of plate layout.
    side
        ``"right"`` (above the 95th percentile), ``"left"`` (below the 5th) or ``"both"``.
    features, on_invalid
        As in :class:`cytofast.Retrieval`.
    null_size, seed
        Random sets, drawn for each number of replicates.
    n_bootstrap, confidence
        For the interval over perturbations.

    Returns
    -------
    polars.DataFrame
        One row: ``percent``, ``lower``, ``upper``, ``n_beyond``, ``n_perturbations``, ``n_untested`` (a single profile).
    """
    scores = replicate_scores(profiles, sameby, diffby, match, side, features, None, null_size, seed, on_invalid)
    return _percent(scores, n_bootstrap, confidence, seed)


def percent_matching(
    profiles: pl.DataFrame | pl.LazyFrame,
    sameby: str | Sequence[str],
    diffby: str | Sequence[str] | None = None,
    match: str | Sequence[str] | None = None,
    side: Side = "right",
    features: Features = None,
    multilabel: str | None = None,
    null_size: int = 1000,
    n_bootstrap: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    on_invalid: Policy = "error",
) -> pl.DataFrame:
    """Share of labels (targets, mechanisms) whose perturbations correlate better than strangers do.

    As :func:`cytofast.percent_replicating`, for perturbations with the same label: ``diffby`` names the perturbation, so
    that replicates of one are no match, and ``multilabel`` the column if it holds lists or text separated by ``|``;
    strangers then share no label.
    """
    scores = replicate_scores(profiles, sameby, diffby, match, side, features, multilabel, null_size, seed, on_invalid)
    return _percent(scores, n_bootstrap, confidence, seed)


def _percent(scores: pl.DataFrame, n_bootstrap: int, confidence: float, seed: int) -> pl.DataFrame:
    n_bootstrap = whole_number("n_bootstrap", n_bootstrap, 1, "replicate correlations")
    if not 0 < confidence < 1:
        raise RecipeError(f"confidence must lie in (0, 1), not {confidence}")
    beyond = scores["beyond"].drop_nulls()
    n, hits = beyond.len(), int(beyond.sum())
    shares = generator(int(seed)).binomial(n, hits / n, size=n_bootstrap) / n
    tail = (1 - confidence) / 2
    low, high = np.quantile(shares, [tail, 1 - tail])
    return pl.DataFrame(
        {
            "percent": [100 * hits / n],
            "lower": [100 * float(low)],
            "upper": [100 * float(high)],
            "n_beyond": [hits],
            "n_perturbations": [n],
            "n_untested": [scores.height - n],
        }
    )


def _draws(null_size: int, seed: int, where: str) -> tuple[int, int]:
    return whole_number("null_size", null_size, 1, where), whole_number("seed", seed, 0, where)
