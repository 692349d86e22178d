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
    columns: Floats,
    starts: NDArray[np.int64],
    groups: NDArray[np.int64],
    centres: Doubles,
    scales: Doubles,
    first: int,
    last: int,
    out: Floats,
) -> None:
    for feature in range(first, last):
        for run in range(groups.size):
            centre, scale = centres[groups[run], feature], scales[groups[run], feature]
            # Slices count from 0: with a start that could be negative the loop is not vectorised.
            values = columns[feature, starts[run] : starts[run + 1]]
            scaled = out[feature, starts[run] : starts[run + 1]]
            for k in range(values.size):
                scaled[k] = (np.float64(values[k]) - centre) / scale


def centre_and_scale(
    columns: Floats, codes: NDArray[np.int64], centres: Doubles, scales: Doubles, out: Floats, threads: int = 1
) -> None:
    """``out[f, r] = (columns[f, r] - centres[codes[r], f]) / scales[codes[r], f]``, in float64, rounded once.

    Shapes: ``columns, out [n_features, n_rows]``; ``centres, scales [n_groups, n_features]``. A NaN scale gives NaN.
    """
    # Rows of a group are mostly neighbours; a run of them has the same two numbers throughout.
    starts = np.concatenate([[0], np.flatnonzero(codes[1:] != codes[:-1]) + 1, [codes.size]]).astype(np.int64)
    groups = codes[starts[:-1]] if codes.size else codes
    over_ranges(
        lambda first, last: _scale(columns, starts, groups, centres, scales, first, last, out),
        columns.shape[0],
        threads,
    )
