"""Parquet as profiles want it: plain floats, compressed text, whole files or none.

Dictionary encoding, the default of most writers, makes float columns larger and five times slower to read, so values are
plain and uncompressed. A column chunk is one page. Bounds are kept for metadata only: for thousands of features they would
double the footer, which every reader must parse.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars import selectors

from cytofast import resources
from cytofast.durable import appear, make_folder
from cytofast.errors import StoreError
from cytofast.schema import is_metadata

ROW_GROUP_BYTES = 192 * 2**20
"""Large enough that the footer stays small at 5,792 features, small enough to hold several times."""
_PAGE_BYTES = 1 << 30
_SLAB = 256
"""Columns that are made ready for writing at a time."""


def row_group_rows(schema: pl.Schema) -> int:
    """Rows of a row group: by the number of features, and the same for every caller unless memory is very small."""
    width = sum(8 if dtype == pl.Float64 else 4 for dtype in schema.dtypes() if dtype.is_numeric())
    room = min(ROW_GROUP_BYTES, resources.current().working_bytes // 6)
    return max(1024, room // max(1, width))


class ProfileWriter:
    """Write frames to a Parquet file that appears under its name only when it is complete and on disk.

    Frames are cut and joined to whole row groups, so the bytes do not depend on how the rows arrive.

    Parameters
    ----------
    path
        The file; an existing one is replaced at the end. ``writer.path`` may be set to another name in the same folder
        before the end, where the name depends on what was written.

    Raises
    ------
    StoreError
        The file cannot be written: no space, no permission. What was at ``path`` before stays.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "wells.parquet"
    >>> with ProfileWriter(path) as writer:
    ...     writer.write(pl.DataFrame({"Metadata_Well": ["A01"], "Cells_AreaShape_Area": [1.0]}))
    >>> pl.read_parquet(path).height
    1
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.schema: pl.Schema | None = None
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pl.DataFrame] = []
        self._group = 0
        self._thread = ThreadPoolExecutor(1)
        self._on_its_way: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, frame: pl.DataFrame) -> None:
        """Take some rows; every frame has the same columns."""
        if self.schema is None:
            self._open(frame)
        self.rows += frame.height
        self._waiting.append(frame)
        del frame
        while sum(part.height for part in self._waiting) >= self._group:
            self._flush(self._taken(self._group))

    def _taken(self, rows: int) -> list[pl.DataFrame]:
        """Take the first of the waiting rows: some columns each, the last ones first, held by nobody else."""
        whole = pl.concat(self._waiting, rechunk=False) if len(self._waiting) > 1 else self._waiting[0]
        self._waiting = [whole.slice(rows)] if whole.height > rows else []
        return [whole[:rows, first : first + _SLAB] for first in reversed(range(0, whole.width, _SLAB))]

    def _open(self, frame: pl.DataFrame) -> None:
        self.schema = schema = frame.schema
        self._group = row_group_rows(schema)
        text = [name for name in schema.names() if is_metadata(name) or not schema[name].is_numeric()]
        try:
            make_folder(self.path.parent)
            self._writer = pq.ParquetWriter(
                self._temporary,
                _arrow(frame.clear()).schema,
                use_dictionary=text,
                compression={name: "zstd" if name in set(text) else "none" for name in schema.names()},
                write_statistics=text,
                data_page_size=_PAGE_BYTES,
                max_rows_per_page=_PAGE_BYTES,
                store_schema=False,
            )
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _flush(self, slabs: list[pl.DataFrame]) -> None:
        """Write a row group while the next one is being made; at most one is on its way."""
        self._arrived()
        self._on_its_way = self._thread.submit(self._write_group, slabs)

    def _arrived(self) -> None:
        """Wait for the row group that is being written; its error, if any, is ours."""
        on_its_way, self._on_its_way = self._on_its_way, None
        if on_its_way is not None:
            try:
                on_its_way.result()
            except OSError as error:
                raise _cannot_write(self.path, error) from error

    def _write_group(self, slabs: list[pl.DataFrame]) -> None:
        assert self._writer is not None  # noqa: S101  (opened by the first frame)
        columns: list[pa.ChunkedArray] = []
        while slabs:
            # In one piece, and the pieces given back at once: thousands of columns in many pieces cost more than the copy.
            columns += _arrow(slabs.pop().rechunk()).columns
        table = pa.Table.from_arrays(columns, schema=self._writer.schema)
        del columns
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.schema is not None:
                if self.rows == 0:
                    self._waiting = [pl.DataFrame(schema=self.schema)]
                if self._waiting:
                    self._flush(self._taken(self.rows))
                self._arrived()
                self._close()
        finally:
            self._thread.shutdown(wait=True)
            self._abandon()

    def _close(self) -> None:
        assert self._writer is not None  # noqa: S101  (opened by the first frame)
        try:
            self._writer.close()
            self._writer = None
            appear(self._temporary, self.path)
        except OSError as failure:
            raise _cannot_write(self.path, failure) from failure

    def _abandon(self) -> None:
        """Leave nothing behind; after success there is nothing left to remove."""
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError:
                # The disk is full or gone: the error that matters is on its way already.
                self._writer = None
        self._temporary.unlink(missing_ok=True)


def _arrow(frame: pl.DataFrame) -> pa.Table:
    """As Arrow, with missing features as null: SQL engines and Polars skip null, but take NaN for the largest value."""
    # Looking costs less than making every column anew.
    holes = frame.select(selectors.float().is_nan().any())
    holed = [name for name in holes.columns if holes[name][0]]
    filled = frame.with_columns(frame.select(holed).fill_nan(None)) if holed else frame
    table = filled.to_arrow(compat_level=pl.CompatLevel.oldest())
    for index, field in enumerate(table.schema):
        if pa.types.is_large_string(field.type):
            table = table.set_column(index, field.name, table.column(index).cast(pa.string()))
    return table


def _cannot_write(path: Path, error: OSError) -> StoreError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StoreError(
        f"{path}: cannot be written ({reason}). Nothing was left half written. Hint: is the disk full, or is writing not allowed?"
    )
