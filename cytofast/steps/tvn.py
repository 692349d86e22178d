"""Typical variation normalization: what negative controls show in each batch is made alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from cytofast.errors import DataError, ProfileWarning, RecipeError, listed
from cytofast.kernels.comoments import CoMoments, absorb, spreads_of
from cytofast.kernels.whitening import decompose, settled, symmetric_power
from cytofast.schema import BATCH, as_columns
from cytofast.steps.accumulate import in_reference, require_finite, rounding
from cytofast.steps.linear import LinearMap, LinearStep
from cytofast.steps.selection import groups_of

_FLAT = 1e-12
"""A covariance with eigenvalues below this share of the largest cannot be inverted."""


@dataclass(frozen=True, kw_only=True)
class TVN(LinearStep):
    """Typical variation normalization (Ando, McLean and Berndl 2017) with CORAL, as EFAAR_benchmarking applies it.

    All wells are standardized by the negative controls and turned into the controls' principal components; inside each
    batch they are standardized by its controls again; and the covariance of a batch's controls (plus ``ridge`` on its
    diagonal) is turned into that of all controls. Everything follows from the controls' co-moments in each batch.
    Features are replaced by ``PC_1``, ``PC_2``, ... Directions in which no control varies (fewer controls than features)
    come last and are not scaled, with a :class:`~cytofast.errors.ProfileWarning`.

    Parameters
    ----------
    reference
        The negative controls: a SQL predicate over metadata or a Polars expression.
    by
        The batch.
    ridge
        Added to the diagonal of covariances before the last step; it keeps small batches from being stretched.
    features
        Columns to correct: ``None`` infers CellProfiler features, a string is a prefix, a list is names.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_Batch": ["1"] * 3 + ["2"] * 3, "Metadata_control": [True] * 6,
    ...                       "Cells_A_a": [1.0, 2.0, 3.0, 11.0, 12.0, 13.5],
    ...                       "Cells_A_b": [1.0, 0.0, 3.0, 5.0, 6.0, 9.0]})
    >>> means = TVN(reference="Metadata_control")(wells).group_by("Metadata_Batch").agg(pl.col("^PC.*$").mean())
    >>> means.select(pl.col("^PC.*$").abs().max() < 1e-9).row(0)
    (True, True)
    """

    name: ClassVar[str] = "tvn"
    version: ClassVar[int] = 2
    separable: ClassVar[bool] = False
    measured: ClassVar[tuple[str, ...]] = ("feature", "centre", "weights", "n_reference")

    by: str | Sequence[str] | None = BATCH
    ridge: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference is None:
            raise RecipeError(
                "TVN: reference= must name the negative controls, for example \"Metadata_control_type = 'negcon'\""
            )
        if not self.ridge >= 0:
            raise RecipeError(f"TVN: ridge must not be negative, but is {self.ridge}")

    def outputs_of(self, fit: pl.DataFrame) -> list[str]:
        """Principal components have names of their own."""
        return [f"PC_{k}" for k in range(1, len(super().outputs_of(fit)) + 1)]

    def fit(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
        """Learn one linear map a batch from its controls.

        Returns
        -------
        polars.DataFrame
            One row a batch and feature: the ``by`` columns, ``feature``, ``centre``, ``weights`` (the feature's part in
            each component) and ``n_reference``.

        Raises
        ------
        DataError
            A batch has fewer than two controls, or they have missing or infinite values; a feature has no variance in
            all; or a batch has too few controls for a ``ridge`` of 0.
        SchemaError
            A column is missing or not numeric.
        """
        features = self.checked(profiles)
        parts: list[tuple[pl.DataFrame | None, CoMoments]] = []
        for key, rows in groups_of(profiles, as_columns(self.by), "TVN"):
            label = "all wells" if key is None else "/".join(str(v) for v in key.row(0))
            controls = in_reference(rows, self.reference, "TVN")
            moments = require_finite(controls, features, f"TVN: controls of {label}")
            if moments.n_rows < 2:
                raise DataError(f"TVN: {label} has {moments.n_rows} controls; a covariance needs two.")
            parts.append((key, moments))
        total = CoMoments(0, parts[0][1].mean * 0, np.zeros_like(parts[0][1].products))
        for _, moments in parts:
            total = absorb(total, moments)
        spread = spreads_of(total)
        flat = [name for name, s in zip(features, spread, strict=True) if not s > 0]
        if flat:
            raise DataError(
                f"TVN: {len(flat):,} features do not vary between controls: {listed(flat)}. Hint: drop them first."
            )
        scale = spread / np.sqrt(total.n_rows)
        noise = rounding(profiles.collect_schema(), features, np.abs(total.mean) + scale) / scale
        found, unsure = decompose(total.products / np.outer(scale, scale), total.n_rows, noise)
        if unsure:
            found = settled(found, total.n_rows, noise)
        if found.rank < len(features):
            warnings.warn(
                f"TVN: the {total.n_rows:,} controls have rank {found.rank:,}, but there are {len(features):,} features: in "
                "the other directions wells are shifted, not scaled. Hint: select features first.",
                ProfileWarning,
                stacklevel=3,
            )
        real = np.arange(len(features)) < found.rank
        rotation = found.vectors / scale[:, None]
        # In components, each batch: spread, and the covariance after its own standardization.
        # Without variance there are only rounding errors, which must not be divided by.
        turned = [np.where(np.outer(real, real), rotation.T @ moments.products @ rotation, 0.0) for _, moments in parts]
        widths = [
            np.sqrt(np.maximum(np.diagonal(t), 0) / moments.n_rows)
            for t, (_, moments) in zip(turned, parts, strict=True)
        ]
        widths = [np.where(w > 1e-9 * max(w.max(), 1e-300), w, 1.0) for w in widths]
        alike = [t / np.outer(w, w) for t, w in zip(turned, widths, strict=True)]
        ridge = self.ridge * np.eye(len(features))
        target = symmetric_power(sum(alike, np.zeros_like(ridge)) / (total.n_rows - 1) + ridge, 0.5)
        fits = []
        for (key, moments), width, own in zip(parts, widths, alike, strict=True):
            spreads = np.linalg.eigvalsh(own / (moments.n_rows - 1) + ridge)
            if spreads[0] <= _FLAT * spreads[-1]:
                label = "all wells" if key is None else "/".join(str(v) for v in key.row(0))
                raise DataError(
                    f"TVN: {moments.n_rows:,} controls of {label} do not vary in all of {len(features):,} directions, so their "
                    f"covariance cannot be turned into that of all with ridge={self.ridge:g}. Hint: leave ridge at 0.5."
                )
            align = symmetric_power(own / (moments.n_rows - 1) + ridge, -0.5) @ target
            matrix = (rotation / width[None, :]) @ align
            heads = key[np.zeros(len(features), dtype=np.int64)].get_columns() if key is not None else []
            fits.append(
                pl.DataFrame(
                    [
                        *heads,
                        pl.Series("feature", features, dtype=pl.String),
                        pl.Series("centre", moments.mean),
                        pl.Series("weights", np.ascontiguousarray(matrix)).cast(pl.List(pl.Float64)),
                        pl.Series("n_reference", [moments.n_rows] * len(features), dtype=pl.Int64),
                    ]
                )
            )
        return self.merge(fits)

    def map_of(self, part: pl.DataFrame) -> LinearMap:
        """The map of a batch."""
        return LinearMap(part["centre"].to_numpy(), part["weights"].list.to_array(part.height).to_numpy())
