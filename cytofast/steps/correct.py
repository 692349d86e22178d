"""Corrections of technical variation. This module has sphering; the others are in their own and can be had from here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar, Literal, get_args

import numpy as np
import polars as pl

from cytofast.blocks import Profiles
from cytofast.errors import DataError, ProfileWarning, RecipeError, listed
from cytofast.kernels.comoments import CoMoments, spreads_of
from cytofast.kernels.whitening import Decomposition, decompose, probes, refine, whitening_matrix
from cytofast.schema import as_columns
from cytofast.steps.accumulate import in_reference, matrices, require_finite, rounding
from cytofast.steps.components import PrincipalComponents
from cytofast.steps.counts import RegressCellCount
from cytofast.steps.harmonize import Harmonize
from cytofast.steps.linear import Doubles, LinearMap, LinearStep
from cytofast.steps.position import CentreWells, MedianPolish
from cytofast.steps.selection import groups_of
from cytofast.steps.tvn import TVN

__all__ = ["TVN", "CentreWells", "Harmonize", "MedianPolish", "PrincipalComponents", "RegressCellCount", "Sphere"]

Method = Literal["ZCA-cor", "ZCA", "PCA", "PCA-cor"]


@dataclass(frozen=True)
class Sphere(LinearStep):
    """Sphering (whitening): wells are rotated and scaled so that the reference has covariance I.

    The ``spherize`` of pycytominer >= 1.7.1 (1.3.0 to 1.6.1 computed something else), from co-moments instead of a
    decomposition of all wells: with ``X = U S V'`` the reference, centred and for the ``-cor`` methods scaled to unit
    variance, wells are multiplied by ``V / (S + epsilon) * sqrt(n - 1)``, and for ZCA by ``V'`` after it, so that each
    feature stays the nearest to itself. Where small singular values could not be told from sums, the reference is read
    a second time and they are computed anew.

    Fewer reference wells than features, or features that depend on each other (to the
    rounding of their values), leave directions without variance: these
    get the smallest singular value that is not 0, as in pycytominer, with a :class:`~cytofast.errors.ProfileWarning`;
    pycytominer refuses dependent features. The fit holds the decomposition, not the matrix: :meth:`sweep` tries many
    ``epsilon`` for one reading.

    Parameters
    ----------
    method
        ``"ZCA-cor"``, ``"ZCA"``, ``"PCA"`` or ``"PCA-cor"``. The PCA methods give ``PC_1``, ``PC_2``, ... in place of
        features.
    epsilon
        Added to the singular values; large ones change noisy directions less. 0 spheres exactly.
    reference
        Wells that become spherical, usually negative controls: a SQL predicate, a Polars expression, or ``None`` for
        all.
    by
        Sphere inside each group, for example ``"Metadata_Batch"``.
    features
        Columns to sphere: ``None`` infers CellProfiler features, a string is a prefix, a list is names.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [1.0, 2.0, 3.0, 5.0], "Cells_A_b": [1.0, 2.0, 4.0, 4.0]})
    >>> sphered = Sphere(epsilon=0.0)(wells)
    >>> bool(abs(np.cov(sphered.to_numpy().T) - np.eye(2)).max() < 1e-9)
    True
    """

    name: ClassVar[str] = "sphere"
    separable: ClassVar[bool] = False
    measured: ClassVar[tuple[str, ...]] = ("feature", "mean", "scale", "loadings", "singular", "rank", "n_reference")

    method: Method = "ZCA-cor"
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in get_args(Method):
            raise RecipeError.unknown("method", str(self.method), get_args(Method))
        if not 0 <= self.epsilon < inf:
            raise RecipeError(f"Sphere: epsilon must be 0 or a positive number, not {self.epsilon}")

    def outputs_of(self, fit: pl.DataFrame) -> list[str]:
        """Principal components have names of their own."""
        features = super().outputs_of(fit)
        return features if self.method.startswith("ZCA") else [f"PC_{k}" for k in range(1, len(features) + 1)]

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Decompose the covariance of the reference of each group.

        Returns
        -------
        polars.DataFrame
            One row a group and feature: the ``by`` columns, ``feature``, ``mean``, ``scale`` (1 but for the ``-cor``
            methods), ``loadings`` (the feature's part in each principal direction), ``singular`` (the k-th singular
            value in row k), ``rank`` and ``n_reference``.

        Raises
        ------
        DataError
            The reference of a group has fewer than two wells, missing or infinite values, no variance at all, or, for
            the ``-cor`` methods, a feature without variance.
        SchemaError
            A column is missing or not numeric.
        """
        features = self.checked(profiles)
        parts = []
        for key, rows in groups_of(profiles, as_columns(self.by), "Sphere"):
            of_group = "" if key is None else f" of {'/'.join(str(v) for v in key.row(0))}"
            where = f"Sphere: the reference{of_group}"
            parts.append(self._fit_group(in_reference(rows, self.reference, "Sphere"), features, key, where))
        return self.merge(parts)

    def _fit_group(
        self, rows: pl.DataFrame | pl.LazyFrame, features: list[str], key: pl.DataFrame | None, where: str
    ) -> pl.DataFrame:
        moments = require_finite(rows, features, where)
        if moments.n_rows < 2:
            hint = "" if self.reference is None else f" Hint: is {str(self.reference)!r} right?"
            raise DataError(f"{where} has {moments.n_rows} wells; a covariance needs two.{hint}")
        scale = self._scale(moments, features, where)
        count, mean = moments.n_rows, moments.mean
        products = moments.products
        products /= scale[:, None]
        products /= scale[None, :]
        noise = rounding(rows.collect_schema(), features, np.abs(mean) + scale) / scale
        found, unsure = decompose(products, count, noise)
        if found.rank == 0:
            raise DataError(f"{where} has no variance at all: {moments.n_rows:,} equal wells.")
        if unsure:
            found = refine(found, _projected(rows, features, mean, scale, found), count, noise)
        if found.rank < len(features):
            warnings.warn(
                f"{where} has {count:,} wells and rank {found.rank:,}, but there are {len(features):,} features: the other "
                "directions are scaled as the smallest one within the rank. Hint: select features first, or raise epsilon.",
                ProfileWarning,
                stacklevel=4,
            )
        heads = key[np.zeros(len(features), dtype=np.int64)].get_columns() if key is not None else []
        return pl.DataFrame(
            [
                *heads,
                pl.Series("feature", features, dtype=pl.String),
                pl.Series("mean", mean),
                pl.Series("scale", scale),
                pl.Series("loadings", np.ascontiguousarray(found.vectors)).cast(pl.List(pl.Float64)),
                pl.Series("singular", found.singular),
                pl.Series("rank", [found.rank] * len(features), dtype=pl.Int64),
                pl.Series("n_reference", [count] * len(features), dtype=pl.Int64),
            ]
        )

    def _scale(self, moments: CoMoments, features: list[str], where: str) -> Doubles:
        if not self.method.endswith("-cor"):
            return np.ones(len(features))
        spreads = spreads_of(moments)
        flat = [name for name, spread in zip(features, spreads, strict=True) if not spread > 0]
        if flat:
            raise DataError(
                f"{where} has {len(flat):,} features without variance, which cannot be scaled to unit variance: {listed(flat)}. "
                "Hint: drop them first, with DropLowVariance on the same reference."
            )
        scale: Doubles = spreads / np.sqrt(moments.n_rows)
        return scale

    def map_of(self, part: pl.DataFrame) -> LinearMap:
        """The whitening matrix of a group for this method and ``epsilon``."""
        vectors = part["loadings"].list.to_array(part.height).to_numpy()
        # Singular values belong to directions, not to features: descending, whatever the order of the rows.
        singular = np.sort(part["singular"].to_numpy())[::-1]
        matrix = whitening_matrix(
            vectors, singular, part["n_reference"][0], self.epsilon, self.method.startswith("ZCA")
        )
        return LinearMap(part["mean"].to_numpy(), matrix / part["scale"].to_numpy()[:, None])

    def sweep(self, profiles: Profiles, epsilons: Sequence[float]) -> Iterator[tuple[float, Profiles]]:
        """The profiles sphered with each of several ``epsilon``, all from one decomposition.

        Examples
        --------
        >>> wells = pl.DataFrame({"Cells_A_a": [1.0, 2.0, 3.0, 5.0], "Cells_A_b": [1.0, 2.0, 4.0, 4.0]})
        >>> [(epsilon, table.shape) for epsilon, table in Sphere().sweep(wells, [0.0, 1.0])]
        [(0.0, (4, 2)), (1.0, (4, 2))]
        """
        fit = self.fit(profiles)
        for epsilon in epsilons:
            yield epsilon, replace(self, epsilon=epsilon).apply(profiles, fit)


def _projected(
    rows: pl.DataFrame | pl.LazyFrame, features: list[str], mean: Doubles, scale: Doubles, found: Decomposition
) -> Doubles:
    """Sums of products of the reference along the directions found, each scaled to about 1."""
    direction = found.vectors / probes(found)[None, :] / scale[:, None]
    gram = np.zeros((len(features), len(features)))
    for columns in matrices(rows, features):
        along = direction.T @ (columns - mean[:, None])
        gram += along @ along.T
    return gram
