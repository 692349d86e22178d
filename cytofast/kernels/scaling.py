"""Centre and scale groups of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled, over_ranges

Floats = NDArray[Any]
Doubles = NDArray[np.float64]


@compiled
def _scale(
    columns: Floats, codes: NDArray[np.int64], centres: Doubles, scales: Doubles, first: int, last: int, out: Floats
) -> None:
    rows = codes.size
    for feature in range(first, last):
        low = 0
        while low < rows:
            # Rows of a group are mostly neighbours; inside such a run the loop is the same two numbers throughout.
            group = codes[low]
            high = low + 1
            while high < rows and codes[high] == group:
                high += 1
            centre, scale = centres[group, feature], scales[group, feature]
            for row in range(low, high):
                out[feature, row] = (np.float64(columns[feature, row]) - centre) / scale
            low = high


def centre_and_scale(
    columns: Floats, codes: NDArray[np.int64], centres: Doubles, scales: Doubles, out: Floats, threads: int = 1
) -> None:
    """``out[f, r] = (columns[f, r] - centres[codes[r], f]) / scales[codes[r], f]``, in float64, rounded once.

    Shapes: ``columns, out [n_features, n_rows]``; ``centres, scales [n_groups, n_features]``. A NaN scale gives NaN.
    """
    over_ranges(
        lambda first, last: _scale(columns, codes, centres, scales, first, last, out), columns.shape[0], threads
    )
