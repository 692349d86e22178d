"""AnnData's ``.h5ad``: profiles as ``X`` with metadata as ``obs``, written and read some rows at a time.

The layout is that of AnnData's on-disk specification (encoding "anndata" 0.1.0, "dataframe" 0.2.0). Only h5py is needed, so
that a table larger than memory can be written, and none of AnnData's own requirements.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cytofast.blocks import to_matrix
from cytofast.errors import DataError, SchemaError, listed
from cytofast.ingest.hdf5_columns import DAMAGE, read_column, text_of, write_column, write_text
from cytofast.ingest.lazily import h5py_module, lazy_rows
from cytofast.ingest.writing import frames_of, replacing
from cytofast.schema import is_metadata

OBSERVATION = "Metadata_id"
"""The names of observations, where they say more than a number."""
_CHUNK_BYTES, _CHUNK_ROWS = 1 << 20, 1 << 10
_PARTS = ("layers", "obsm", "obsp", "varm", "varp", "uns")


def write_anndata(profiles: pl.DataFrame | pl.LazyFrame, path: str | Path) -> int:
    """Write profiles as ``.h5ad``: features to ``X``, all other columns to ``obs``; gives the number of rows.

    ``X`` is float32 if every feature is, else float64; missing values are NaN. The same profiles make the same bytes.

    Raises
    ------
    SchemaError
        There is no feature, or ``obs`` cannot hold a column (lists, dates).
    RecipeError
        h5py is not installed.
    """
    file = Path(path)
    h5py = h5py_module("writing .h5ad", "anndata")
    schema = profiles.collect_schema()
    features = [name for name, dtype in schema.items() if not is_metadata(name) and dtype.is_numeric()]
    metadata = [name for name in schema if name not in set(features)]
    if not features:
        raise SchemaError(f"{file}: no feature to write; the columns are {listed(schema.names(), 8)}.")
    dtype = np.float32 if all(schema[name] == pl.Float32 for name in features) else np.float64
    step = min(_CHUNK_ROWS, max(1, _CHUNK_BYTES // (len(features) * dtype().itemsize)))
    kept: list[pl.DataFrame] = []
    with replacing(file) as temporary, h5py.File(temporary, "w", libver="v110") as root:
        _encode(root, "anndata", "0.1.0")
        # With checksums, so that a damaged value is an error and not a number.
        values = root.create_dataset(
            "X",
            (0, len(features)),
            dtype,
            maxshape=(None, len(features)),
            chunks=(step, len(features)),
            fletcher32=True,
        )
        _encode(values, "array", "0.2.0")
        rows = 0
        # Whole chunks one after the other, so that the bytes do not depend on how the rows arrive.
        for frame in _blocks(profiles, step):
            values.resize(rows + frame.height, axis=0)
            values[rows : rows + frame.height] = to_matrix(frame, features)
            kept.append(frame.select(metadata))
            rows += frame.height
        table = pl.concat(kept) if kept else pl.DataFrame(schema={name: schema[name] for name in metadata})
        _write_table(h5py, root.create_group("obs"), table, _observations(table, rows), file)
        _write_table(h5py, root.create_group("var"), pl.DataFrame(), features, file)
        for name in _PARTS:
            _encode(root.create_group(name), "dict", "0.1.0")
    return rows


def _blocks(profiles: pl.DataFrame | pl.LazyFrame, step: int) -> Iterator[pl.DataFrame]:
    """The rows in blocks of exactly ``step``, the last one shorter."""
    waiting: list[pl.DataFrame] = []
    for frame in frames_of(profiles):
        waiting.append(frame)
        held = sum(part.height for part in waiting)
        if held >= step:
            whole = pl.concat(waiting)
            end = held // step * step
            for low in range(0, end, step):
                yield whole[low : low + step]
            waiting = [whole[end:]]
    if waiting and sum(part.height for part in waiting):
        yield pl.concat(waiting)


def _encode(node: Any, kind: str, version: str) -> None:
    node.attrs["encoding-type"], node.attrs["encoding-version"] = kind, version


def _observations(table: pl.DataFrame, rows: int) -> list[str]:
    """Names of the rows: their ids where they have distinct ones, else their numbers."""
    if OBSERVATION in table.columns:
        ids = table[OBSERVATION].cast(pl.String)
        if not ids.null_count() and ids.n_unique() == len(ids):
            return ids.to_list()
    return [str(i) for i in range(rows)]


def _write_table(h5py: Any, group: Any, table: pl.DataFrame, index: list[str], path: Path) -> None:
    _encode(group, "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    columns = table.columns
    if columns[:1] == [OBSERVATION] and table[OBSERVATION].dtype == pl.String and table[OBSERVATION].to_list() == index:
        columns = columns[1:]
    group.attrs["column-order"] = (
        np.array(columns, dtype=h5py.string_dtype()) if columns else np.array([], dtype=np.float64)
    )
    write_text(h5py, group, "_index", index)
    for name in columns:
        write_column(h5py, group, table[name], path)


def read_anndata(path: str | Path) -> pl.LazyFrame:
    """Read an ``.h5ad`` file as profiles: columns of ``obs`` become metadata, ``X`` (dense or sparse) the features.

    Columns of ``obs`` get the prefix ``Metadata_`` where they lack it; names of observations become ``Metadata_id`` unless they
    only count. Rows are read as far as a query needs them. Layers, ``obsm`` and ``uns`` are not read.

    Raises
    ------
    DataError
        The file is damaged, is no AnnData file, has no ``X``, or ``obs`` and ``X`` differ in length.
    RecipeError
        h5py is not installed.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "wells.h5ad"
    >>> wells = pl.DataFrame({"Metadata_Well": ["A01", "A02"], "Cells_AreaShape_Area": [1.5, None]})
    >>> write_anndata(wells, file)
    2
    >>> read_anndata(file).collect().equals(wells)
    True
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: no such file.")
    h5py = h5py_module("reading .h5ad", "anndata")
    try:
        with h5py.File(file, "r") as root:
            for part in ("X", "obs", "var"):
                if part not in root:
                    raise DataError(f"{file}: no {part!r}, so this is no AnnData file with values.")
            observations, metadata = _read_table(root["obs"], file)
            features, _ = _read_table(root["var"], file)
            shape, dtype = _shape(root["X"], file)
    except DAMAGE as error:
        raise _damaged(file, error) from error
    if shape != (len(observations), len(features)):
        raise DataError(f"{file}: X is {shape}, but obs has {len(observations):,} rows and var {len(features):,}.")
    if len(set(features)) < len(features):
        twice = list(dict.fromkeys(name for name in features if features.count(name) > 1))
        raise DataError(
            f"{file}: features {listed(twice)} stand more than once. Hint: call var_names_make_unique() first."
        )
    prefixed = metadata.rename({n: n if is_metadata(n) else f"Metadata_{n}" for n in metadata.columns})
    clash = [name for name in features if is_metadata(name) or name in prefixed.columns]
    if clash:
        raise DataError(f"{file}: features {listed(clash)} are called like metadata (Metadata_...).")
    if observations != [str(i) for i in range(len(observations))] and OBSERVATION not in prefixed.columns:
        prefixed = prefixed.select(pl.Series(OBSERVATION, observations, dtype=pl.String), *prefixed.columns)
    kind = pl.Float32() if dtype == np.float32 else pl.Float64()
    schema = pl.Schema({**prefixed.schema, **dict.fromkeys(features, kind)})

    def rows(low: int, high: int) -> pl.DataFrame:
        try:
            with h5py.File(file, "r") as root:
                matrix = _matrix(root["X"], low, high, len(features))
        except DAMAGE as error:
            raise _damaged(file, error) from error
        values = pl.from_numpy(matrix.astype(np.float32 if kind == pl.Float32 else np.float64), schema=features)
        return prefixed[low:high].hstack(values.fill_nan(None))

    return lazy_rows(schema, len(observations), rows)


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable AnnData file ({str(error).strip()}). Hint: was it copied whole?")


def _read_table(group: Any, path: Path) -> tuple[list[str], pl.DataFrame]:
    """The index of a table and its columns, in their order."""
    if not hasattr(group, "keys"):
        raise DataError(
            f"{path}: an AnnData file of before 2019. Hint: read and write it again with the package anndata."
        )
    index = str(group.attrs.get("_index", "_index"))
    order = text_of(group.attrs["column-order"]) if "column-order" in group.attrs else []
    absent = [name for name in order if name not in group]
    if absent:
        raise DataError(
            f"{path}: it says that it has columns {listed(absent)}, and has not. Hint: was it copied whole?"
        )
    names = order or [name for name in group if name != index]
    columns = [read_column(group[name], name, path).alias(name) for name in names if name != index]
    return text_of(group[index][()]), pl.DataFrame(columns)


def _shape(node: Any, path: Path) -> tuple[tuple[int, ...], Any]:
    if not hasattr(node, "keys"):
        return tuple(node.shape), node.dtype
    kind = str(node.attrs.get("encoding-type", ""))
    if kind != "csr_matrix":
        raise DataError(
            f"{path}: X is stored as {kind!r}; dense and csr_matrix are read. Hint: convert it and save again."
        )
    return tuple(int(size) for size in node.attrs["shape"]), node["data"].dtype


def _matrix(node: Any, low: int, high: int, width: int) -> Any:
    if not hasattr(node, "keys"):
        return node[low:high]
    bounds = np.asarray(node["indptr"][low : high + 1], dtype=np.int64)
    begin, end = int(bounds[0]), int(bounds[-1])
    dense = np.zeros((high - low, width), dtype=node["data"].dtype)
    rows = np.repeat(np.arange(high - low), np.diff(bounds))
    dense[rows, node["indices"][begin:end]] = node["data"][begin:end]
    return dense
