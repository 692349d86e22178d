"""Centre and scale groups of rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_SLAB_VALUES = 1 << 18
"""Values taken at once, so that their float64 copy stays in cache."""


def centre_and_scale(
    columns: NDArray[np.floating],
    codes: NDArray[np.int64],
    centres: NDArray[np.float64],
    scales: NDArray[np.float64],
    out: NDArray[np.floating],
) -> None:
    """``out[f, r] = (columns[f, r] - centres[codes[r], f]) / scales[codes[r], f]``, in float64, rounded once.

    Shapes: ``columns, out [n_features, n_rows]``; ``centres, scales [n_groups, n_features]``. A NaN scale gives NaN.
    """
    n_features, n_rows = columns.shape
    edges = np.flatnonzero(np.diff(codes, prepend=-1, append=-2)) if n_rows else np.zeros(1, dtype=np.int64)
    edges[-1:] = n_rows
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for low, high in pairwise(edges):
            group = codes[low]
            step = max(1, _SLAB_VALUES // max(1, high - low))
            for start in range(0, n_features, step):
                part = slice(start, start + step)
                values = columns[part, low:high] - centres[group, part, None]
                values /= scales[group, part, None]
                out[part, low:high] = values
