"""The fit of a normalization: whether it belongs to these profiles, and applying it."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import float_type, group_rows, to_frame, to_matrix, unused_name
from cytofast.errors import DataError, SchemaError, listed
from cytofast.kernels.scaling import centre_and_scale
from cytofast.schema import require_columns
from cytofast.sharing import shared_columns

Doubles = NDArray[np.float64]

MEASURED = ("feature", "centre", "spread", "scale", "n_reference", "status")
"""The columns of a fit, beside the ``by`` columns."""


def require_fit_of(fit: pl.DataFrame, by: list[str], where: str) -> None:
    """The fit must have been made with the same ``by``, or its rows would be taken for those of other groups."""
    require_columns(fit.schema, MEASURED, f"{where}: the fit")
    keys = [name for name in fit.columns if name not in MEASURED]
    if set(keys) != set(by):
        made, asked = (listed(names) if names else "None" for names in (keys, by))
        raise DataError(
            f"{where}: the fit was made with by={made} and is applied with by={asked}. Hint: apply it with the step that "
            "made it, or fit again."
        )
    if fit.height == 0:
        raise DataError(f"{where}: the fit has no rows. Hint: fit again.")


def require_same_kinds(mine: pl.Schema, theirs: pl.Schema, by: list[str], where: str) -> None:
    """Keys of the profiles and of the fit must be of types whose values can be compared without changing them."""
    for name in by:
        if _kind(mine[name]) != _kind(theirs[name]):
            raise SchemaError(
                f"{where}: column {name!r} holds {mine[name]} in the profiles and {theirs[name]} in the fit, so their "
                "groups cannot be told to be the same. Hint: cast one of them."
            )


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "integer"
    return "text" if dtype in (pl.String, pl.Categorical, pl.Enum) else str(dtype)


def as_matrices(
    fit: pl.DataFrame, by: list[str], names: list[str], where: str
) -> tuple[pl.DataFrame, Doubles, Doubles]:
    """Centres and scales, ``[n_groups, n_features]``; every group must have each feature exactly once."""
    codes, keys = group_rows(fit, by)
    position = {name: index for index, name in enumerate(names)}
    column = fit["feature"].replace_strict(position, return_dtype=pl.Int64).to_numpy()
    shape = (keys.height if by else 1, len(names))
    times = np.zeros(shape, dtype=np.int64)
    np.add.at(times, (codes, column), 1)
    if np.any(times != 1):
        group, feature = (int(index[0]) for index in np.nonzero(times != 1))
        key = ["/".join(str(value) for value in keys.row(group))] if by else []
        raise DataError(
            f"{where}: the fit has {times[group, feature]} rows for {'/'.join([*key, names[feature]])!r} instead of one "
            f"({np.count_nonzero(times > 1):,} groups x features stand more than once, {np.count_nonzero(times == 0):,} are "
            "missing). Hint: fit again; fits of several plates are joined with merge()."
        )
    centres, scales = np.full(shape, np.nan), np.full(shape, np.nan)
    centres[codes, column] = fit["centre"].fill_null(np.nan).to_numpy()
    scales[codes, column] = fit["scale"].fill_null(np.nan).to_numpy()
    return keys, centres, scales


def scaled_frame(
    frame: pl.DataFrame,
    by: list[str],
    names: list[str],
    keys: pl.DataFrame,
    centres: Doubles,
    scales: Doubles,
    where: str,
) -> pl.DataFrame:
    """Centre and scale the features ``names`` of a frame by what its groups have in the fit."""
    if by:
        codes, present = group_rows(frame, by)
        number = unused_name("fit row", by)
        theirs = keys.schema
        # Integers of another width and categories compare as text.
        written = [pl.col(n).cast(pl.String) for n, dtype in present.schema.items() if dtype != theirs[n]]
        numbered = keys.with_columns(written).with_row_index(number)
        found = present.with_columns(written).join(
            numbered, on=by, how="left", nulls_equal=True, maintain_order="left"
        )[number]
        if found.null_count():
            unknown = listed(["/".join(str(v) for v in row) for row in present.filter(found.is_null()).rows()])
            raise DataError(
                f"{where}: the fit has no {'/'.join(by)} {unknown}. Hint: fit these profiles, or fit with by=None."
            )
        codes = found.to_numpy().astype(np.int64)[codes]
    else:
        codes = np.zeros(frame.height, dtype=np.int64)
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
        frame = frame.with_columns(to_frame(out.T, dict.fromkeys(chosen, dtype)))
    return frame
