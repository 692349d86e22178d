"""Plain, slow, obviously right twins."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd


def median(values: Sequence[float]) -> float:
    """The middle of what is not missing; of an even number, the mean of both middles."""
    present = sorted(v for v in values if not math.isnan(v))
    if not present:
        return math.nan
    middle = len(present) // 2
    return present[middle] if len(present) % 2 else (present[middle - 1] + present[middle]) / 2


def deviation(values: Sequence[float]) -> float:
    """Median absolute deviation from the median."""
    centre = median(values)
    return median([abs(v - centre) for v in values])


def aggregate(frame: pd.DataFrame, by: list[str], features: list[str], statistic: str) -> pd.DataFrame:
    """A statistic of each group by pandas in float64; missing skipped, null keys kept, sorted."""
    grouped = frame.astype(dict.fromkeys(features, "float64")).groupby(by, dropna=False, sort=True)[features]
    table = grouped.agg(statistic if statistic != "mad" else lambda column: deviation(column.to_numpy()))
    return table.reset_index()


def normalize(values: np.ndarray, reference: np.ndarray, method: str, **options: float) -> np.ndarray:
    """One feature of one group: ``values`` scaled by what ``reference`` shows."""
    present = reference[~np.isnan(reference)].astype(float)
    if method == "robust_mad":
        return (values - np.median(present)) / (
            options.get("scale", 1.4826) * np.median(np.abs(present - np.median(present)))
        )
    if method == "standardize":
        return (values - present.mean()) / present.std(ddof=int(options.get("ddof", 0)))
    low, high = np.percentile(present, [25, 75])
    return (values - np.median(present)) / (high - low)
