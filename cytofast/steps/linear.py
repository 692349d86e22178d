"""What the linear corrections share: a matrix for each group, learned from sums, applied well by well."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast.blocks import (
    Profiles,
    Reference,
    float_type,
    predicate,
    predicate_columns,
    require_polars,
    require_rows,
    to_frame,
    to_matrix,
)
from cytofast.errors import ProfileWarning, RecipeError, listed
from cytofast.schema import PLATE, Features, as_columns, require_columns, resolve_features
from cytofast.steps.fitted import FittedGroups, fitted_groups, require_free_names
from cytofast.steps.step import Scope, Step

Doubles = NDArray[np.float64]
_ROWS = 4096


class LinearMap(NamedTuple):
    """``(x - centre) @ matrix``: ``float64[f]`` and ``float64[f, n_outputs]``."""

    centre: Doubles
    matrix: Doubles


@dataclass(frozen=True, kw_only=True)
class LinearStep(Step):
    """A correction that mixes features: every well of a group is shifted and multiplied by the group's matrix."""

    measured: ClassVar[tuple[str, ...]] = ()
    """The columns of the fit, beside the ``by`` columns."""

    reference: Reference = None
    by: str | Sequence[str] | None = None
    features: Features = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_free_names(self.by, self.measured, type(self).__name__)
        if self.reference is not None:
            predicate(self.reference)

    @property
    def scope(self) -> Scope:
        """A plate, if the groups lie inside plates; else all rows, through sums that merge."""
        return Scope.PLATE if PLATE in as_columns(self.by) else Scope.DATASET

    def columns(self) -> list[str]:
        """The ``by`` columns and those of the reference."""
        return list(dict.fromkeys([*as_columns(self.by), *predicate_columns(self.reference)]))

    def checked(self, profiles: pl.DataFrame | pl.LazyFrame) -> list[str]:
        """The features, after all that the step needs was found."""
        where = type(self).__name__
        require_polars(profiles, where)
        schema = profiles.collect_schema()
        require_columns(schema, self.columns(), where)
        features = resolve_features(schema, self.features, where, as_columns(self.by))
        require_rows(profiles, where)
        return features

    def outputs_of(self, fit: pl.DataFrame) -> list[str]:
        """Names of the columns that come out; the features themselves, unless they are mixed beyond recognition."""
        names: list[str] = fit["feature"].unique(maintain_order=True).to_list()
        return names

    def map_of(self, part: pl.DataFrame) -> LinearMap:
        """The map of one group, from its rows of the fit, which are in the order of the features."""
        raise NotImplementedError

    def apply(self, profiles: Profiles, fit: pl.DataFrame) -> Profiles:
        """Shift and multiply each well, in float64, rounded once to the type of the input. A LazyFrame stays lazy.

        A well that lacks a feature of the fit has no corrected profile: all its features become null, with a
        :class:`~cytofast.errors.ProfileWarning`.

        Raises
        ------
        DataError
            A group of the profiles is not in the fit, or the fit has other groups than ``by`` makes.
        RecipeError
            A component would have the name of a column that is there already.
        SchemaError
            A feature of the fit is missing or not numeric.
        """
        where = type(self).__name__
        require_polars(profiles, where)
        schema = profiles.collect_schema()
        groups = fitted_groups(fit, as_columns(self.by), self.measured, schema, where)
        features = groups.features
        maps, outputs = [self.map_of(part) for part in groups.parts(fit)], self.outputs_of(fit)
        replaced = set(features)
        taken = [name for name in outputs if name in schema and name not in replaced]
        if taken:
            raise RecipeError(
                f"{where}: its components are to be called {listed(taken)}, and the profiles have such columns already. "
                "Hint: rename or drop those."
            )
        single = all(float_type(schema[name]) == pl.Float32 for name in features)
        dtypes = dict.fromkeys(outputs, pl.Float32() if single else pl.Float64())

        def mapped(frame: pl.DataFrame) -> pl.DataFrame:
            columns = to_matrix(frame, features).T
            out = np.empty((len(outputs), frame.height), dtype=np.float32 if single else np.float64)
            for code, rows in _rows_of_groups(frame, groups):
                centre, matrix = maps[code]
                with np.errstate(invalid="ignore", over="ignore"):
                    out[:, rows] = matrix.T @ (columns[:, rows] - centre[:, None])
            gaps = np.flatnonzero(~np.isfinite(columns).all(axis=0))
            if len(gaps):
                _warn_of_gaps(gaps, frame, where)
                out[:, gaps] = np.nan
            out = out.T
            if outputs == features:
                return frame.with_columns(to_frame(out, dtypes))
            return frame.drop(features).hstack(to_frame(out, dtypes))

        if isinstance(profiles, pl.DataFrame):
            return mapped(profiles)
        kept = {name: dtype for name, dtype in schema.items() if outputs == features or name not in replaced}
        return profiles.map_batches(mapped, schema=pl.Schema({**kept, **dtypes}), streamable=True)


def _rows_of_groups(frame: pl.DataFrame, groups: FittedGroups) -> list[tuple[int, slice | NDArray[np.int64]]]:
    """Code of each group in the fit, and its rows in this frame, a few thousand at a time."""
    if not groups.by:
        return [(0, slice(start, start + _ROWS)) for start in range(0, frame.height, _ROWS)]
    codes = groups.of(frame)
    pieces: list[tuple[int, slice | NDArray[np.int64]]] = []
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        pieces += [(int(code), rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)]
    return pieces


def _warn_of_gaps(gaps: NDArray[np.int64], frame: pl.DataFrame, where: str) -> None:
    plate = f" (plate {frame[PLATE][int(gaps[0])]!r} and perhaps others)" if PLATE in frame.columns else ""
    warnings.warn(
        f"{where}: {len(gaps):,} of {frame.height:,} wells{plate} lack values of features that are mixed, and become "
        "null. Hint: drop features with missing values first, DropMissing(cutoff=0, infinite=True).",
        ProfileWarning,
        stacklevel=4,
    )
