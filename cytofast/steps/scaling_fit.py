"""The fit of a normalization, and applying it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import float_type, to_frame, to_matrix
from cytofast.kernels.scaling import centre_and_scale
from cytofast.sharing import Chunk, shared_columns
from cytofast.steps.fitted import FittedGroups

Doubles = NDArray[np.float64]

MEASURED = ("feature", "centre", "spread", "scale", "n_reference", "status")
"""The columns of a fit, beside the ``by`` columns."""


def scaled_frame(frame: pl.DataFrame, groups: FittedGroups, centres: Doubles, scales: Doubles) -> pl.DataFrame:
    """Centre and scale the features of a fit by what the group of each row has in it."""
    codes = groups.of(frame)
    names = groups.features
    schema = frame.schema
    of_type: dict[pl.DataType, list[int]] = {}
    for index, name in enumerate(names):
        of_type.setdefault(float_type(schema[name]), []).append(index)
    for dtype, positions in of_type.items():
        chosen = [names[i] for i in positions]
        shared = shared_columns(frame, chosen)
        columns = to_matrix(frame, chosen).T if shared is None else shared
        out = np.empty(columns.shape, dtype=np.float32 if dtype == pl.Float32 else np.float64)
        threads = resources.current().threads
        centre_and_scale(columns, codes, centres[:, positions], scales[:, positions], out, threads)
        made = to_frame(out.T, dict.fromkeys(chosen, dtype))
        # Thousands of columns change places faster as a list than as expressions.
        changed = dict(zip(chosen, made.get_columns(), strict=True))
        frame = pl.DataFrame([changed.get(column.name, column) for column in frame.get_columns()])
    return frame


def scaling_chunks(
    groups: FittedGroups, centres: Doubles, scales: Doubles, features: list[str]
) -> Callable[[Chunk], Chunk]:
    """The same for chunks with these features, in place."""
    line = {name: index for index, name in enumerate(features)}
    lines = [line[name] for name in groups.features]
    # A feature that the fit does not name is centred by 0 and divided by 1, which changes no bit of it.
    centres, scales = _at(lines, centres, 0.0, len(line)), _at(lines, scales, 1.0, len(line))

    def scaled(chunk: Chunk) -> Chunk:
        codes = groups.of(chunk.metadata)
        centre_and_scale(chunk.values, codes, centres, scales, chunk.values, resources.current().threads)
        return chunk

    return scaled


def _at(lines: list[int], table: Doubles, elsewhere: float, width: int) -> Doubles:
    out = np.full((table.shape[0], width), elsewhere)
    out[:, lines] = table
    return out
