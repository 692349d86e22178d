"""Parquet as profiles want it: plain floats, compressed text, whole files or none.

Dictionary encoding, the default of most writers, makes float columns larger and five times slower to read, so values are
plain and uncompressed. A column chunk is one page. Bounds are kept for metadata only.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from cytofast import resources
from cytofast.durable import NewFile, appear, make_folder
from cytofast.errors import SchemaError, StoreError, listed
from cytofast.page_writing import PageWriter
from cytofast.schema import is_metadata
from cytofast.sharing import Chunk

ROW_GROUP_BYTES = 192 * 2**20
"""Large enough that the footer stays small at 5,792 features, small enough to hold several times."""
ROW_GROUP_MOST_ROWS = 1 << 22
"""Text counts for nothing in ``ROW_GROUP_BYTES``, but is held as well; and no writer of metadata takes over 2^26 rows at once."""
_SLAB = 256
"""Columns that are copied at a time."""


def row_group_rows(schema: pl.Schema) -> int:
    """Rows of a row group: by the features, and the same for every caller unless memory is very small.

    Metadata count where they weigh a quarter of the features. So a step that changes features row by row and adds a few
    metadata takes over the row groups as they are.
    """
    sizes = {name: 8 if dtype == pl.Float64 else 4 for name, dtype in schema.items() if dtype.is_numeric()}
    of_features, of_all = sum(size for name, size in sizes.items() if not is_metadata(name)), sum(sizes.values())
    width = of_features if 4 * of_all < 5 * of_features else of_all
    # Three chunks are held: one is read, one changed and one written.
    room = min(ROW_GROUP_BYTES, resources.current().working_bytes // 4)
    return min(ROW_GROUP_MOST_ROWS, max(1024, room // max(1, width)))


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
    SchemaError
        Rows with other columns than the first ones, or of a type that Parquet does not know.

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
        self._pages: PageWriter | None = None
        self._file: NewFile | None = None
        self._made = False
        self._chunk_before: tuple[list[str], pl.Schema] | None = None
        self._group = 0
        self._waiting = self._spare = _RowGroup({}, 0)
        self._thread = ThreadPoolExecutor(1)
        self._on_its_way: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, rows: pl.DataFrame | Chunk) -> None:
        """Take some rows; all have the same columns, in any order.

        A chunk that begins a row group is written from its own memory, which must stay as it is until the next call of this
        has returned.
        """
        if self.schema is None:
            self._open(rows[:0])
        elif not self._is_like_before(rows):
            self._check(rows.schema, self.schema)
        if rows.height and not self.schema:
            raise SchemaError(f"{self.path}: {rows.height:,} rows without a column. Hint: select some columns.")
        if isinstance(rows, Chunk):
            if rows.metadata.width and rows.metadata.height != rows.height:
                raise ValueError(f"{rows.metadata.height} rows of metadata, but {rows.height} of features")
            self._chunk_before = rows.features, rows.metadata.schema
        self.rows += rows.height
        # The memory of the chunk before this one may be used for other rows when this returns.
        self._waiting.own()
        if self._spare.holds:
            self._arrived()
        low = 0
        while low < rows.height:
            part = rows[low : low + self._group - self._waiting.rows]
            if not self._waiting.hold(part):
                self._waiting.take(part)
            low += part.height
            if self._waiting.rows == self._group:
                self._flush()

    def _is_like_before(self, rows: pl.DataFrame | Chunk) -> bool:
        """Told quickly for chunks: thousands of types take as long to compare as the values to copy."""
        return isinstance(rows, Chunk) and self._chunk_before == (rows.features, rows.metadata.schema)

    def _check(self, found: pl.Schema, expected: pl.Schema) -> None:
        """Columns left out, or numbers rounded to another type, would be lost without a word."""
        if found == expected:
            return
        names = [*expected, *(name for name in found if name not in expected)]
        other = [
            f"{name}: {found.get(name, 'absent')} instead of {expected.get(name, 'absent')}"
            for name in names
            if found.get(name) != expected.get(name)
        ]
        if other:
            raise SchemaError(
                f"{self.path}: rows with other columns than those before ({listed(other)}). "
                "Hint: give all rows the same columns and types."
            )

    def _open(self, empty: pl.DataFrame | Chunk) -> None:
        schema = empty.schema
        if pl.Object in schema.dtypes():
            # Polars would hand out their addresses.
            raise SchemaError(f"{self.path}: a column holds Python objects. Hint: cast it, or leave it out.")
        self.schema = schema
        self._group = row_group_rows(schema)
        self._waiting, self._spare = _RowGroup(schema, self._group), _RowGroup(schema, self._group)
        try:
            make_folder(self.path.parent)
            self._file = NewFile(self._temporary)
            self._made = True
            self._pages = PageWriter(
                self._file, _arrow(empty.frame() if isinstance(empty, Chunk) else empty), _features(schema)
            )
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SchemaError(
                f"{self.path}: a column is of a type that Parquet does not know ({error}). Hint: cast or leave it out."
            ) from error

    def _flush(self) -> None:
        """Write a row group while the next one is being made; at most one is on its way."""
        self._arrived()
        # What has been written leaves its memory to the rows to come: fresh memory must be cleared by the system first.
        self._waiting, self._spare = self._spare, self._waiting
        self._waiting.clear()
        self._on_its_way = self._thread.submit(self._write_group, self._spare)

    def _arrived(self) -> None:
        """Wait for the row group that is being written; its error, if any, is ours."""
        on_its_way, self._on_its_way = self._on_its_way, None
        if on_its_way is not None:
            try:
                on_its_way.result()
            except OSError as error:
                raise _cannot_write(self.path, error) from error

    def _write_group(self, group: _RowGroup) -> None:
        assert self._pages is not None  # noqa: S101  (opened by the first frame)
        self._pages.write(group.others(), group.features(), group.rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.schema is not None:
                if self._waiting.rows:
                    self._flush()
                self._arrived()
                self._close()
        finally:
            self._thread.shutdown(wait=True)
            self._abandon()

    def _close(self) -> None:
        assert self._pages is not None  # noqa: S101  (opened by the first frame)
        assert self._file is not None  # noqa: S101
        try:
            self._pages.finish()
            self._file.close()
            self._file = None
            appear(self._temporary, self.path)
        except OSError as failure:
            raise _cannot_write(self.path, failure) from failure

    def _abandon(self) -> None:
        """Leave nothing behind; after success there is nothing left to remove."""
        if self._file is not None:
            self._file.give_up()
            self._file.close()
        # Where nothing could be made, taking it away fails as well, and would hide why.
        if self._made:
            self._temporary.unlink(missing_ok=True)


def _features(schema: Mapping[str, pl.DataType]) -> list[str]:
    """The columns that become plain pages."""
    return [name for name, dtype in schema.items() if dtype in (pl.Float32, pl.Float64) and not is_metadata(name)]


class _RowGroup:
    """Rows that wait until a row group is whole: floats in memory of their own, where Arrow finds each column in one piece.

    Kept as the frames that they came in, they would be there twice when they are put together, and frames of thousands of
    small columns leave memory behind that nobody gets back.
    """

    def __init__(self, schema: Mapping[str, pl.DataType], most: int) -> None:
        self.rows = 0
        kinds: dict[pl.DataType, list[str]] = {}
        for name in _features(schema):
            kinds.setdefault(schema[name], []).append(name)
        chosen = {name for names in kinds.values() for name in names}
        self._others = [name for name in schema if name not in chosen]
        self._frames: list[pl.DataFrame] = [pl.DataFrame(schema={name: schema[name] for name in self._others})]
        self._floats = [
            (names, _room(pl.Series(dtype=dtype).to_numpy().dtype, (len(names), most)))
            for dtype, names in kinds.items()
        ]
        self._held: Chunk | None = None

    def clear(self) -> None:
        """Begin anew in the same memory."""
        self.rows = 0
        self._held = None
        del self._frames[1:]

    def hold(self, rows: pl.DataFrame | Chunk) -> bool:
        """Be a chunk, without a copy, if nothing else waits and its features are the columns of floats as they stand."""
        if self.rows or not isinstance(rows, Chunk) or not self._is_laid_out_as(rows):
            return False
        self._held = rows
        self.rows = rows.height
        self._frames.append(rows.metadata.select(self._others))
        return True

    @property
    def holds(self) -> bool:
        """Whether it is a chunk whose memory is another's."""
        return self._held is not None

    def own(self) -> None:
        """Copy what it holds."""
        if self._held is not None:
            self._floats[0][1][:, : self.rows] = self._held.values
            self._held = None

    def _is_laid_out_as(self, chunk: Chunk) -> bool:
        """Not where floats among the metadata are pages, too, or where features stand in another order."""
        return [names for names, _ in self._floats] == [chunk.features]

    def take(self, rows: pl.DataFrame | Chunk) -> None:
        """Add rows that fit."""
        end = self.rows + rows.height
        if not isinstance(rows, Chunk):
            self._take_frame(rows)
        elif self._is_laid_out_as(rows):
            self._floats[0][1][:, self.rows : end] = rows.values
            self._frames.append(rows.metadata.select(self._others))
        else:
            self._take_frame(rows.frame())
        self.rows = end

    def _take_frame(self, frame: pl.DataFrame) -> None:
        for names, room in self._floats:
            for first in range(0, len(names), _SLAB):
                # Nulls become NaN.
                values = frame[names[first : first + _SLAB]].to_numpy()
                room[first : first + _SLAB, self.rows : self.rows + frame.height] = values.T
        self._frames.append(frame.select(self._others))

    def others(self) -> pa.Table:
        """What is no feature; missing is null, as SQL engines take NaN for the largest value."""
        together = pl.concat(self._frames, rechunk=True)
        floats = [name for name, dtype in together.schema.items() if dtype.is_float()]
        return _arrow(together.with_columns(together[name].fill_nan(None) for name in floats))

    def features(self) -> dict[str, NDArray[Any]]:
        """The values of each feature, missing as NaN."""
        if self._held is not None:
            return dict(zip(self._held.features, self._held.values, strict=True))
        return {
            name: values[: self.rows] for names, room in self._floats for name, values in zip(names, room, strict=True)
        }


def _room(dtype: np.dtype[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Memory that counts only where it is written to, and goes back to the system at once."""
    size = dtype.itemsize * shape[0] * shape[1]
    buffer = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # Pages of 2 MB, where they are for all, would fill it from the first row on. Few systems have none to refuse.
        with suppress(OSError):
            buffer.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(buffer, dtype=dtype, count=shape[0] * shape[1]).reshape(shape)


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _cannot_write(path: Path, error: OSError) -> StoreError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StoreError(
        f"{path}: cannot be written ({reason}). Nothing was left half written. Hint: is the disk full, or is writing not allowed?"
    )
