"""Principal components in place of features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from cytofast.errors import DataError, ProfileWarning, RecipeError
from cytofast.kernels.whitening import decompose
from cytofast.schema import as_columns
from cytofast.steps.accumulate import in_reference, require_finite
from cytofast.steps.linear import LinearMap, LinearStep
from cytofast.steps.selection import groups_of


@dataclass(frozen=True)
class PrincipalComponents(LinearStep):
    """The principal components that hold a share of the variance: ``PC_1``, ``PC_2``, ... replace the features.

    The ``PCA`` step of the JUMP recipe (scikit-learn's ``PCA(0.98)``), from co-moments. Components are not scaled. With
    ``by`` each group has components of its own, and as many as the group that needs most.

    Parameters
    ----------
    variance
        The smallest share of the variance that the components must hold together.
    reference
        Wells to learn from: a SQL predicate, a Polars expression, or ``None`` for all.
    by
        Learn inside each group.
    features
        Columns to replace: ``None`` infers CellProfiler features, a string is a prefix, a list is names.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [1.0, 2.0, 3.0, 4.0], "Cells_A_b": [1.0, 2.0, 3.0, 4.1]})
    >>> PrincipalComponents(0.98)(wells).columns
    ['PC_1']
    """

    name: ClassVar[str] = "principal_components"
    separable: ClassVar[bool] = False
    measured: ClassVar[tuple[str, ...]] = ("feature", "mean", "weights", "n_reference")

    variance: float = 0.98

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.variance <= 1:
            raise RecipeError(f"PrincipalComponents: variance must be more than 0 and at most 1, not {self.variance}")

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Find the components of the reference.

        Returns
        -------
        polars.DataFrame
            One row a group and feature: the ``by`` columns, ``feature``, ``mean``, ``weights`` (the feature's part in
            each component) and ``n_reference``.

        Raises
        ------
        DataError
            The reference of a group has fewer than two wells, missing or infinite values, or no variance.
        SchemaError
            A column is missing or not numeric.
        """
        features = self.checked(profiles)
        found = []
        for key, rows in groups_of(profiles, as_columns(self.by), "PrincipalComponents"):
            where = "PrincipalComponents: the reference" + ("" if key is None else f" of {key.row(0)}")
            moments = require_finite(in_reference(rows, self.reference, "PrincipalComponents"), features, where)
            if moments.n_rows < 2:
                raise DataError(f"{where} has {moments.n_rows} wells; a covariance needs two.")
            directions, _ = decompose(moments.products, moments.n_rows, np.zeros(len(features)))
            power = np.square(directions.singular[: directions.rank])
            if not power.sum() > 0:
                raise DataError(f"{where} has no variance at all: {moments.n_rows:,} equal wells.")
            # As many as make the share, and no more because a sum was rounded.
            enough = int(np.searchsorted(np.cumsum(power) / power.sum(), self.variance - 1e-12)) + 1
            found.append((key, moments, directions, min(enough, directions.rank)))
        most = max(enough for *_, enough in found)
        if most == len(features):
            warnings.warn(
                f"PrincipalComponents: all {most:,} are needed for {self.variance:.0%} of the variance.",
                ProfileWarning,
                stacklevel=3,
            )
        parts = []
        for key, moments, directions, _ in found:
            heads = key[np.zeros(len(features), dtype=np.int64)].get_columns() if key is not None else []
            weights = np.ascontiguousarray(directions.vectors[:, :most])
            parts.append(
                pl.DataFrame(
                    [
                        *heads,
                        pl.Series("feature", features, dtype=pl.String),
                        pl.Series("mean", moments.mean),
                        pl.Series("weights", weights).cast(pl.List(pl.Float64)),
                        pl.Series("n_reference", [moments.n_rows] * len(features), dtype=pl.Int64),
                    ]
                )
            )
        return self.merge(parts)

    def outputs_of(self, fit: pl.DataFrame) -> list[str]:
        """One name a component."""
        return [f"PC_{k}" for k in range(1, len(fit["weights"][0]) + 1)]

    def map_of(self, part: pl.DataFrame) -> LinearMap:
        """The rotation of a group."""
        weights = part["weights"].list.to_array(len(part["weights"][0])).to_numpy()
        return LinearMap(part["mean"].to_numpy(), weights)
