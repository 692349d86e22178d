"""Rules that judge every feature by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from cytofast import resources
from cytofast.blocks import group_rows
from cytofast.errors import RecipeError
from cytofast.kernels.moments import grouped_counts, grouped_moments
from cytofast.kernels.quantiles import grouped_deviations, grouped_medians, grouped_quantiles
from cytofast.kernels.ranks import to_digits, value_counts
from cytofast.schema import as_columns
from cytofast.steps.selection import Bounds, Columns, Judgement, Selection


def _sizes(bounds: Bounds) -> np.ndarray:
    return np.diff(bounds)[:, None].astype(np.float64)


def _require_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise RecipeError(f"{name} is a share between 0 and 1, not {value}")


@dataclass(frozen=True)
class DropMissing(Selection):
    """Drop features with too many missing values: share missing > ``cutoff``.

    The ``drop_na_columns`` of pycytominer. ``features``, ``reference``, ``by``, ``in_groups`` as in
    :class:`~cytofast.steps.selection.Selection`; with ``by="Metadata_Plate"`` a feature that one plate lacks is dropped
    on all (``in_groups="any"`` keeps it).

    Parameters
    ----------
    cutoff
        Largest share of missing values (null or NaN) that is tolerated.
    infinite
        Count infinite values as missing too; pycytominer does not.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [1.0, None, 3.0], "Cells_A_b": [1.0, 2.0, 3.0]})
    >>> DropMissing(cutoff=0.05)(wells).columns
    ['Cells_A_b']
    """

    name: ClassVar[str] = "drop_missing"

    cutoff: float = 0.05
    infinite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_share(self.cutoff, "DropMissing: cutoff")

    def judge(self, columns: Columns, bounds: Bounds, frame: pl.DataFrame) -> Judgement:  # noqa: ARG002
        """Share of missing values."""
        there = grouped_counts(np.where(np.isinf(columns), np.nan, columns) if self.infinite else columns, bounds)
        share = 1.0 - there / _sizes(bounds)
        # Exactly as a count, because 1 - 0.95 is more than 0.05.
        missing = _sizes(bounds) - there
        return Judgement(missing / _sizes(bounds) <= self.cutoff, share, self.cutoff, "share missing")


@dataclass(frozen=True)
class DropLowVariance(Selection):
    """Drop features that hardly vary: variance (ddof 0, missing values skipped) <= ``min_variance``.

    The ``variance_threshold`` of pycytominer since 1.7 (scikit-learn's VarianceThreshold). What it was called before
    1.7 is :class:`DropLowFrequency`. A feature with infinite values varies without bound: it stays, and its value is
    null.

    Parameters
    ----------
    min_variance
        The largest variance that is dropped.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [1.0, 1.0, 1.0001], "Cells_A_b": [1.0, 2.0, 3.0]})
    >>> DropLowVariance()(wells).columns
    ['Cells_A_b']
    """

    name: ClassVar[str] = "drop_low_variance"

    min_variance: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_variance >= 0:
            raise RecipeError(f"DropLowVariance: min_variance must not be negative, but is {self.min_variance}")

    def judge(self, columns: Columns, bounds: Bounds, frame: pl.DataFrame) -> Judgement:  # noqa: ARG002
        """Variance of the values that are there."""
        counts, means, squares = grouped_moments(columns, bounds)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = squares / counts
        unbounded = (counts > 0) & ~np.isfinite(means)
        return Judgement(
            (variance > self.min_variance) | unbounded,
            np.where(unbounded, np.nan, variance),
            self.min_variance,
            "variance",
        )


@dataclass(frozen=True)
class DropLowFrequency(Selection):
    """Drop features that repeat a few values: the rule that pycytominer <= 1.6.1 called ``variance_threshold``.

    Since 1.7 it is ``frequency_threshold`` there; every published pipeline used it. A feature is dropped if the second
    most common value is rare beside the most common one (count ratio < ``freq_cut``; 0 with fewer than two values), or
    if distinct values / rows < ``unique_cut``.

    Parameters
    ----------
    freq_cut, unique_cut
        The smallest ratios that stay.
    digits
        Compare values rounded to so many significant digits. Pipelines that wrote their profiles as CSV with ``%.5g``
        counted values of 5 digits; ``None`` compares them as they are.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [0.0] * 30 + [1.0], "Cells_A_b": [float(i) for i in range(31)]})
    >>> DropLowFrequency()(wells).columns
    ['Cells_A_b']
    """

    name: ClassVar[str] = "drop_low_frequency"
    version: ClassVar[int] = 2

    freq_cut: float = 0.05
    unique_cut: float = 0.01
    digits: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_share(self.freq_cut, "DropLowFrequency: freq_cut")
        _require_share(self.unique_cut, "DropLowFrequency: unique_cut")
        if self.digits is not None and not 1 <= self.digits <= 17:
            raise RecipeError(f"DropLowFrequency: digits must lie between 1 and 17, not {self.digits}")

    def judge(self, columns: Columns, bounds: Bounds, frame: pl.DataFrame) -> Judgement:  # noqa: ARG002
        """Both ratios; the one that failed is reported, else the first."""
        shape = (len(bounds) - 1, len(columns))
        ratio, unique = np.zeros(shape), np.zeros(shape)
        for group in range(shape[0]):
            part = columns[:, bounds[group] : bounds[group + 1]]
            counts = value_counts(
                part if self.digits is None else to_digits(part, self.digits), resources.current().threads
            )
            np.divide(counts[:, 2], counts[:, 1], out=ratio[group], where=counts[:, 0] > 1)
            unique[group] = counts[:, 0] / part.shape[1]
        few = (ratio >= self.freq_cut) & (unique < self.unique_cut)
        return Judgement(
            (ratio >= self.freq_cut) & (unique >= self.unique_cut),
            np.where(few, unique, ratio),
            np.where(few, self.unique_cut, self.freq_cut),
            np.where(few, "distinct values / rows", "second most common / most common"),
        )


@dataclass(frozen=True)
class DropOutliers(Selection):
    """Drop features with extreme values: largest |value| > ``cutoff``. Meant for normalized profiles.

    The ``drop_outliers`` of pycytominer. With ``quantile=0.99, cutoff=100`` it is the first half of the JUMP recipe's
    outlier step (:class:`~cytofast.steps.transform.ClipOutliers` is the second).

    Parameters
    ----------
    cutoff
        The largest value that stays.
    quantile
        Which quantile of the absolute values is compared; 1 is the maximum.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [1.0, -800.0], "Cells_A_b": [1.0, 2.0]})
    >>> DropOutliers()(wells).columns
    ['Cells_A_b']
    """

    name: ClassVar[str] = "drop_outliers"
    version: ClassVar[int] = 2

    cutoff: float = 500.0
    quantile: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_share(self.quantile, "DropOutliers: quantile")

    def judge(self, columns: Columns, bounds: Bounds, frame: pl.DataFrame) -> Judgement:  # noqa: ARG002
        """A quantile of the absolute values, missing ones skipped."""
        if self.quantile < 1:
            with np.errstate(invalid="ignore"):
                largest = grouped_quantiles(np.abs(columns), bounds, np.array([self.quantile]))[0]
            # Between two infinite values nothing can be interpolated.
            largest[np.isnan(largest) & (grouped_counts(columns, bounds) > 0)] = np.inf
        else:
            largest = np.full((len(bounds) - 1, len(columns)), np.nan)
            for group in range(len(bounds) - 1):
                part = columns[:, bounds[group] : bounds[group + 1]]
                if part.shape[1]:
                    # fmax skips NaN and returns it only where there is nothing else.
                    largest[group] = np.fmax(np.fmax.reduce(part, axis=1), -np.fmin.reduce(part, axis=1))
        measure = "largest |value|" if self.quantile == 1 else f"quantile {self.quantile:g} of |value|"
        return Judgement(~(largest > self.cutoff), largest, self.cutoff, measure)


@dataclass(frozen=True)
class DropNoisy(Selection):
    """Drop features that differ too much between replicates.

    Dropped is what has a mean over perturbations of the standard deviation within each > ``cutoff``.
    The ``noise_removal`` of pycytominer; profiles must be normalized for one cutoff to fit all. Rows whose perturbation
    is null belong to no group, and a perturbation with infinite values does not count, as there.

    Parameters
    ----------
    replicates
        Column or columns that tell one perturbation from another.
    cutoff
        The largest mean standard deviation (ddof 0) that stays.

    Examples
    --------
    >>> wells = pl.DataFrame({"Metadata_pert": ["x", "x", "y", "y"], "Cells_A_a": [1.0, 5.0, 2.0, 9.0],
    ...                       "Cells_A_b": [1.0, 1.5, 9.0, 9.5]})
    >>> DropNoisy("Metadata_pert")(wells).columns
    ['Metadata_pert', 'Cells_A_b']
    """

    name: ClassVar[str] = "drop_noisy"
    version: ClassVar[int] = 2

    replicates: str | Sequence[str]
    cutoff: float = 0.8

    def columns(self) -> list[str]:
        """The replicates' columns, too."""
        return list(dict.fromkeys([*super().columns(), *as_columns(self.replicates)]))

    def judge(self, columns: Columns, bounds: Bounds, frame: pl.DataFrame) -> Judgement:
        """Mean of the standard deviations of the perturbations."""
        replicates, by = as_columns(self.replicates), as_columns(self.by)
        metadata = frame.select(list(dict.fromkeys([*by, *replicates])))
        if by:
            metadata = metadata[np.argsort(group_rows(frame, by)[0], kind="stable")]
        mean = np.full((len(bounds) - 1, len(columns)), np.nan)
        for group in range(len(bounds) - 1):
            rows = slice(int(bounds[group]), int(bounds[group + 1]))
            codes, keys = group_rows(metadata[rows], replicates)
            nameless = (
                keys.select(pl.any_horizontal(pl.col(name).is_null() for name in replicates)).to_series().to_numpy()
            )
            codes = np.where(nameless[codes], -1, codes)
            order = np.argsort(codes, kind="stable")[np.count_nonzero(codes < 0) :]
            inner = np.zeros(keys.height + 1, dtype=np.int64)
            np.cumsum(np.bincount(codes[codes >= 0], minlength=keys.height), out=inner[1:])
            counts, _, squares = grouped_moments(columns[:, rows][:, order], inner)
            # Replicates with infinite values have no spread, as in pandas; the others decide.
            defined = (counts > 0) & np.isfinite(squares)
            spread = np.sqrt(np.divide(squares, counts, out=np.zeros(squares.shape), where=defined))
            np.divide(spread.sum(axis=0), defined.sum(axis=0), out=mean[group], where=defined.any(axis=0))
        return Judgement(~(mean > self.cutoff), mean, self.cutoff, "mean standard deviation of replicates")


@dataclass(frozen=True)
class DropLowMAD(Selection):
    """Drop features whose median absolute deviation is 0 or tiny beside the median.

    Dropped is what has abs(MAD / median) <= ``min_ratio``.

    The ``var`` step of the JUMP recipe: judged on each plate (``by="Metadata_Plate"``), usually by its negative
    controls (``reference=``), and a feature must pass on every plate. Where the median is 0 the ratio counts as 0, as
    there.

    Parameters
    ----------
    min_ratio
        The largest ratio that is dropped.

    Examples
    --------
    >>> wells = pl.DataFrame({"Cells_A_a": [7.0, 7.0, 7.0, 9.0], "Cells_A_b": [1.0, 2.0, 3.0, 4.0]})
    >>> DropLowMAD()(wells).columns
    ['Cells_A_b']
    """

    name: ClassVar[str] = "drop_low_mad"

    min_ratio: float = 1e-3

    def judge(self, columns: Columns, bounds: Bounds, frame: pl.DataFrame) -> Judgement:  # noqa: ARG002
        """Ratio of MAD and median."""
        threads = resources.current().threads
        medians = grouped_medians(columns, bounds, threads)
        deviations = grouped_deviations(columns, bounds, medians, threads)
        defined = np.isfinite(medians) & (medians != 0)
        ratio = np.abs(np.divide(deviations, medians, out=np.zeros(medians.shape), where=defined))
        return Judgement((deviations != 0) & (ratio > self.min_ratio), ratio, self.min_ratio, "|MAD / median|")
