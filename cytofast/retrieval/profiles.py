"""The door of this room: a table of profiles becomes metadata and a matrix whose rows can be compared."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import predicate_columns, reference_mask, require_polars, require_rows, take_columns
from cytofast.errors import DataError, ProfileWarning, RecipeError, listed
from cytofast.kernels.jit import over_items
from cytofast.kernels.rng import row_digests
from cytofast.kernels.similarity import (
    CORRELATION,
    EUCLIDEAN,
    METRICS,
    NO_DIRECTION,
    NOT_FINITE,
    USABLE,
    centred_rows,
    unit_rows,
)
from cytofast.schema import Features, is_metadata, require_columns, resolve_features

Doubles = NDArray[np.float64]
Floats = NDArray[np.floating]

Policy = Literal["error", "drop"]
_CHUNK = 16384
"""Rows that are copied out of a table at once."""
_STRIP = 512
"""Rows that a thread scales at once: few enough to stay in its cache."""
_FAR = 1e120
"""Values up to which squares of distances between thousands of features are surely finite."""
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
    rough
        The same in float32, for fast products; for distances the same array.
    metric
        Code of the metric, see :mod:`cytofast.kernels.similarity`.
    content
        The profiles as they came, where ``units`` depend on the other profiles.
    scale
        What euclidean profiles were divided by.
    """

    metadata: pl.DataFrame
    units: Doubles
    rough: Floats
    metric: int
    content: Doubles | None = None
    scale: float = 1.0

    @cached_property
    def digests(self) -> NDArray[np.uint64]:
        """``uint64[n_profiles]``: the content of each profile, for an order that is not that of the table."""
        out = np.empty(len(self.units), dtype=np.uint64)
        row_digests((self.units if self.content is None else self.content).view(np.uint64), out)
        return out

    def shown(self, values: Floats) -> Floats:
        """Products as people read them: distances become ``1 / (1 + distance)``, everything else stays."""
        if self.metric != EUCLIDEAN:
            return values
        shown: Floats = 1.0 / (1.0 + self.scale * np.sqrt(np.maximum(-values, 0.0)))
        return shown

    def only(self, keep: NDArray[np.bool_]) -> Comparable:
        """Some of the profiles."""
        units = self.units[keep]
        rough = units if self.rough is self.units else self.rough[keep]
        content = None if self.content is None else self.content[keep]
        return replace(self, metadata=self.metadata.filter(pl.Series(keep)), units=units, rough=rough, content=content)


def whole_number(name: str, value: object, least: int, where: str) -> int:
    """A setting as a plain integer: draws belong to what a seed prints as, and ``1e5`` is a number of draws, too.

    >>> whole_number("null_size", 1e5, 1, "map")
    100000
    """
    number: int | None = None
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        number = int(value)
    elif isinstance(value, float | np.floating) and float(value).is_integer():
        number = int(float(value))
    if number is None:
        raise RecipeError(f"{where}: {name} must be a whole number, not {value!r}")
    if number < least:
        raise RecipeError(f"{where}: {name} must {f'be at least {least}' if least else 'not be negative'}, not {value}")
    return number


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
    keys: Iterable[str],
    where: str,
    keep: str | None = None,
    looked_at: Sequence[str] = (),
) -> tuple[pl.DataFrame, list[str]]:
    """Read the metadata and features of profiles, and of these only the rows that the predicate ``keep`` takes.

    A key is never taken for a feature; a column that a predicate looks at may be one as well.
    """
    require_polars(profiles, where)
    schema = profiles.collect_schema()
    keys = list(keys)
    names = resolve_features(schema, features, where, by=keys)
    if not names:
        raise RecipeError(f"{where}: features=[] names no feature, so nothing could be compared")
    needed = [*keys, *looked_at, *predicate_columns(keep)]
    require_columns(schema, needed, where)
    chosen = set(names)
    metadata = [
        name
        for name, dtype in schema.items()
        if name in needed or (name not in chosen and name not in _OWN and (is_metadata(name) or not dtype.is_float()))
    ]
    held = set(metadata)
    table = profiles.lazy().select([*metadata, *(name for name in names if name not in held)]).collect()
    require_rows(table, where)
    mask = reference_mask(table.select(metadata), keep, where)
    if mask is not None:
        if not mask.any():
            raise DataError(f"{where}: no row satisfies {keep!r}. Hint: is the value written as in the table?")
        table = table.filter(pl.Series(mask))
    return _without_empty(table, names, where) if features is None else (table, names)


def _without_empty(table: pl.DataFrame, names: list[str], where: str) -> tuple[pl.DataFrame, list[str]]:
    """Leave out inferred features that no profile has a value of, and say so: a store keeps what could not be scaled."""
    missing = take_columns(table, names).null_count().row(0)
    empty = [name for name, count in zip(names, missing, strict=True) if count == table.height]
    if not empty or len(empty) == len(names):
        return table, names
    warnings.warn(
        f"{where}: {len(empty):,} of {len(names):,} features have no value in any profile and are left out: {listed(empty)}.",
        ProfileWarning,
        stacklevel=5,
    )
    gone = set(empty)
    return table.drop(empty), [name for name in names if name not in gone]


def comparable(
    table: pl.DataFrame,
    features: list[str],
    metric: int,
    where: str,
    on_invalid: Policy = "error",
    looked_at: Sequence[str] = (),
) -> Comparable:
    """Scale the profiles for a metric; features that a predicate looks at stay with the metadata.

    Raises
    ------
    DataError
        Profiles hold NaN, nulls or infinities, or have no direction (all zero; for correlations, all equal), and
        ``on_invalid`` is ``"error"``. The message names the rows and columns.
    """
    chosen = set(features) - set(looked_at)
    metadata = table.select(name for name in table.columns if name not in chosen or is_metadata(name))
    values = table.select(features)
    units = np.empty((table.height, len(features)), dtype=np.float64)
    rough = units if metric == EUCLIDEAN else np.empty(units.shape, dtype=np.float32)
    states = np.zeros(table.height, dtype=np.int8)
    for start in range(0, table.height, _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = values[part].to_numpy(order="c")
        if rows.dtype not in (np.float32, np.float64):
            rows = rows.astype(np.float64)
        if metric == EUCLIDEAN:
            units[part] = rows
            states[part] = np.where(np.isfinite(rows).all(axis=1), USABLE, NOT_FINITE)
        else:
            _scale(rows, metric, units[part], rough[part], states[part])
    ready = Comparable(metadata, units, rough, metric)
    if states.any():
        ready = _usable(ready, states, values, where, on_invalid)
    if metric == EUCLIDEAN:
        content = ready.units.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            scale = centred_rows(ready.units)
        _require_comparable(ready, content, where)
        ready = replace(ready, content=content, scale=scale)
    return ready


def _require_comparable(ready: Comparable, content: Doubles, where: str) -> None:
    """Squares of distances must not overflow: then all would be infinite, and tied."""
    largest = np.maximum(np.abs(content).max(axis=1, initial=0.0), np.abs(ready.units).max(axis=1, initial=0.0))
    too_far = ~(largest <= _FAR)  # NaN as well
    if too_far.any():
        raise DataError(
            f"{where}: {int(too_far.sum()):,} profiles hold values beyond {_FAR:g}, or so many times farther out than usual, so "
            f"their distances overflow: {rows_shown(ready.metadata, np.flatnonzero(too_far))}. Hint: clip outliers or drop "
            "the features that hold them first."
        )


def _scale(rows: Floats, metric: int, units: Doubles, rough: Floats, states: NDArray[np.int8]) -> None:
    def work(first: int) -> None:
        part = slice(first, first + _STRIP)
        unit_rows(rows[part], metric, units[part], rough[part], states[part])

    over_items(work, range(0, len(rows), _STRIP), resources.current().threads)


def _usable(
    ready: Comparable, states: NDArray[np.int8], values: pl.DataFrame, where: str, on_invalid: Policy
) -> Comparable:
    """The profiles that can be compared, or an error about the others."""
    bad = np.flatnonzero(states == NOT_FINITE)
    if bad.size:
        broken = ~np.isfinite(values[bad].cast(pl.Float64).to_numpy()).all(axis=0)
        why = f"NaN, nulls or infinities in columns {listed(values.columns[i] for i in np.flatnonzero(broken))}"
    else:
        bad = np.flatnonzero(states == NO_DIRECTION)
        cases = {CORRELATION: "all features are equal, so a correlation is undefined"}
        why = cases.get(ready.metric, "all features are zero, so there is no direction")
    if on_invalid == "error":
        raise DataError(
            f"{where}: {len(bad):,} of {len(states):,} profiles cannot be compared ({why}): {rows_shown(ready.metadata, bad)}. "
            'Hint: impute or select features first, or leave such profiles out with on_invalid="drop".'
        )
    report_dropped(len(bad), len(states), why)
    keep = np.ones(len(states), dtype=np.bool_)
    keep[bad] = False
    if not keep.any():
        raise DataError(f"{where}: no profile is left ({why}).")
    left = states[keep]
    ready = ready.only(keep)
    return _usable(ready, left, values.filter(pl.Series(keep)), where, on_invalid) if left.any() else ready
