"""The door of this room: a table of profiles becomes metadata and a matrix whose rows can be compared."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import predicate_columns, reference_mask, require_rows
from cytofast.errors import DataError, ProfileWarning, RecipeError, listed
from cytofast.kernels.rng import row_digests
from cytofast.kernels.similarity import CORRELATION, EUCLIDEAN, METRICS, unit_rows
from cytofast.schema import Features, is_metadata, require_columns, resolve_features

Doubles = NDArray[np.float64]

Policy = Literal["error", "drop"]
_CHUNK = 8192
_OWN = frozenset({"average_precision", "n_pos_pairs", "n_total_pairs", "normalized_average_precision"})


@dataclass(frozen=True)
class Comparable:
    """Profiles that can be compared.

    Attributes
    ----------
    metadata
        What is known about each profile, features left out.
    units
        ``float64[n_profiles, n_features]``, scaled so that products are similarities.
    metric
        Code of the metric, see :mod:`cytofast.kernels.similarity`.
    digests
        ``uint64[n_profiles]``: the content of each profile as it came, for an order that is not that of the table.
    scale
        What euclidean profiles were divided by.
    """

    metadata: pl.DataFrame
    units: Doubles
    metric: int
    digests: NDArray[np.uint64]
    scale: float = 1.0

    def shown(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Products as people read them: distances become ``1 / (1 + distance)``, everything else stays."""
        if self.metric != EUCLIDEAN:
            return values
        shown: NDArray[np.floating] = 1.0 / (1.0 + self.scale * np.sqrt(np.maximum(-values, 0.0)))
        return shown


def metric_code(metric: str) -> int:
    """The kernel's code of a metric."""
    if metric not in METRICS:
        raise RecipeError.unknown("metric", metric, METRICS)
    return METRICS[metric]


def rows_shown(metadata: pl.DataFrame, rows: NDArray[np.int64]) -> str:
    """Name rows for a message: their numbers and the first metadata that tells them apart."""
    columns = [name for name in metadata.columns if is_metadata(name)][:3]
    shown = []
    for row in rows[:5].tolist():
        values = ", ".join(f"{name}={metadata[name][row]!r}" for name in columns)
        shown.append(f"row {row} ({values})" if values else f"row {row}")
    more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
    return "; ".join(shown) + more


def report_dropped(count: int, total: int, why: str) -> None:
    """Say that rows are left out, as a warning."""
    warnings.warn(f"{count:,} of {total:,} profiles left out: {why}", ProfileWarning, stacklevel=5)


def collect(
    profiles: pl.DataFrame | pl.LazyFrame,
    features: Features,
    needed: Iterable[str],
    where: str,
    keep: str | None = None,
) -> tuple[pl.DataFrame, list[str]]:
    """Read the metadata and features of profiles, and of these only the rows that the predicate ``keep`` takes."""
    if not isinstance(profiles, pl.DataFrame | pl.LazyFrame):
        raise RecipeError(f"{where}: profiles must be a Polars DataFrame or LazyFrame, not {type(profiles).__name__}")
    schema = profiles.collect_schema()
    names = resolve_features(schema, features, where)
    needed = [*needed, *predicate_columns(keep)]
    require_columns(schema, needed, where)
    chosen = set(names)
    metadata = [
        name
        for name, dtype in schema.items()
        if name in needed or (name not in chosen and name not in _OWN and (is_metadata(name) or not dtype.is_float()))
    ]
    table = profiles.lazy().select([*metadata, *(name for name in names if name not in metadata)]).collect()
    require_rows(table, where)
    mask = reference_mask(table.select(metadata), keep, where)
    if mask is not None:
        if not mask.any():
            raise DataError(f"{where}: no row satisfies {keep!r}. Hint: is the value written as in the table?")
        table = table.filter(pl.Series(mask))
    return table, names


def comparable(
    table: pl.DataFrame, features: list[str], metric: int, where: str, on_invalid: Policy = "error"
) -> Comparable:
    """Scale the profiles for a metric.

    Raises
    ------
    DataError
        Profiles hold NaN, nulls or infinities, or have no direction (all zero; for correlations, all equal), and
        ``on_invalid`` is ``"error"``. The message names the rows and columns.
    """
    metadata = table.select(name for name in table.columns if name not in set(features) or is_metadata(name))
    units = np.empty((table.height, len(features)), dtype=np.float64)
    values = table.select(features)
    for start in range(0, table.height, _CHUNK):
        units[start : start + _CHUNK] = values.slice(start, _CHUNK).cast(pl.Float64).to_numpy()
    # A sum is finite only if every value is, unless it overflows: then look closer.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = np.flatnonzero(~np.isfinite(units.sum(axis=1)))
    bad = suspicious[~np.isfinite(units[suspicious]).all(axis=1)]
    if bad.size:
        columns = [features[i] for i in np.flatnonzero(~np.isfinite(units[bad]).all(axis=0))]
        why = f"NaN, nulls or infinities in columns {listed(columns)}"
        metadata, units = _without(metadata, units, bad, why, where, on_invalid)
    digests = np.empty(len(units), dtype=np.uint64)
    row_digests(units.view(np.uint64), digests)
    flags, scale = unit_rows(units, metric)
    empty = np.flatnonzero(flags)
    if empty.size:
        why = (
            "all features are equal, so a correlation is undefined"
            if metric == CORRELATION
            else "all features are zero, so there is no direction"
        )
        metadata, units = _without(metadata, units, empty, why, where, on_invalid)
        digests = np.delete(digests, empty)
    return Comparable(metadata, units, metric, digests, scale)


def _without(
    metadata: pl.DataFrame, units: Doubles, bad: NDArray[np.int64], why: str, where: str, on_invalid: Policy
) -> tuple[pl.DataFrame, Doubles]:
    if on_invalid == "error":
        raise DataError(
            f"{where}: {len(bad):,} of {metadata.height:,} profiles cannot be compared ({why}): {rows_shown(metadata, bad)}. "
            'Hint: impute or select features first, or leave such profiles out with on_invalid="drop".'
        )
    report_dropped(len(bad), metadata.height, why)
    keep = np.ones(metadata.height, dtype=np.bool_)
    keep[bad] = False
    if not keep.any():
        raise DataError(f"{where}: no profile is left ({why}).")
    return metadata.filter(pl.Series(keep)), units[keep]
