"""GCTX, the HDF5 format of the Connectivity Map (L1000): samples are read some at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cytofast.errors import DataError
from cytofast.ingest.gct import CMAP_MISSING as MISSING
from cytofast.ingest.gct import feature_names, sample_metadata
from cytofast.ingest.hdf5_columns import DAMAGE, text_of
from cytofast.ingest.lazily import h5py_module, lazy_rows
from cytofast.schema import MISSING_TEXT

_MATRIX = "0/DATA/0/matrix"
_SAMPLES, _FEATURES = "0/META/COL", "0/META/ROW"


def read_gctx(path: str | Path, *, names: str = "id") -> pl.LazyFrame:
    """Read a GCTX file as profiles, one row a sample, as far as a query needs them.

    Column metadata become ``Metadata_...`` with their types, ids of samples ``Metadata_id``; ``-666`` is missing. Values
    keep their type (float32 as a rule).

    Parameters
    ----------
    path
        The file.
    names
        The row metadata that names the features, such as ``"pr_gene_symbol"``; by default the ids of the rows.

    Raises
    ------
    DataError
        The file is damaged or no GCTX file, or its parts do not fit each other.
    RecipeError
        h5py is not installed: ``pip install 'cytofast[l1000]'``.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file.")
    h5py = h5py_module("reading .gctx", "l1000")
    try:
        with h5py.File(file, "r") as root:
            for part in (_MATRIX, f"{_SAMPLES}/id", f"{_FEATURES}/id"):
                if part not in root:
                    raise DataError(f"{file}: no {part!r}, so this is no GCTX file.")
            samples, features = _metadata(root[_SAMPLES]), _metadata(root[_FEATURES])
            shape, dtype = root[_MATRIX].shape, root[_MATRIX].dtype
    except DAMAGE as error:
        raise _damaged(file, error) from error
    if tuple(shape) != (samples.height, features.height):
        raise DataError(
            f"{file}: the matrix is {shape[0]:,} x {shape[1]:,}, but there are {samples.height:,} samples and "
            f"{features.height:,} features. Hint: was the file copied whole?"
        )
    metadata = sample_metadata(samples, file)
    called = feature_names(features, names, file)
    kind = pl.Float32() if dtype == np.float32 else pl.Float64()
    schema = pl.Schema({**metadata.schema, **dict.fromkeys(called, kind)})

    def rows(low: int, high: int) -> pl.DataFrame:
        try:
            with h5py.File(file, "r") as root:
                matrix = root[_MATRIX][low:high]
        except DAMAGE as error:
            raise _damaged(file, error) from error
        values = pl.from_numpy(matrix if kind == pl.Float32 else matrix.astype(np.float64), schema=called)
        return metadata[low:high].hstack(values.fill_nan(None))

    return lazy_rows(schema, samples.height, rows)


def _metadata(group: Any) -> pl.DataFrame:
    """Ids and metadata as text: a number is written as it is read."""
    names = ["id", *(name for name in group if name != "id")]
    return pl.DataFrame({name: _text(group[name][()], name) for name in names})


def _text(values: Any, name: str) -> pl.Series:
    array = np.asarray(values)
    if array.dtype.kind in "OSU":
        text = [value.rstrip("\0 ") for value in text_of(array)]
        missing = {"", MISSING} if name == "id" else {*MISSING_TEXT, MISSING}
        return pl.Series(name, [None if value in missing else value for value in text], dtype=pl.String)
    column = pl.Series(name, array)
    column = column.fill_nan(None) if column.dtype.is_float() else column
    return column.set(column == int(MISSING), None).cast(pl.String)


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable GCTX file ({str(error).strip()}). Hint: was it copied whole?")
