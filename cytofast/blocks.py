"""The door between frames and arrays.

A :class:`Block` is what kernels see: a matrix of values and a group code for each row. Frames are cut into blocks of
columns (a feature at a time is all that most steps need) or chunks of rows, sized by the memory budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.errors import DataError, RecipeError, SchemaError, listed
from cytofast.schema import require_columns
from cytofast.sharing import shared_columns, sharing_frame

Profiles = TypeVar("Profiles", pl.DataFrame, pl.LazyFrame)
"""Steps give back what they were given: a DataFrame for a DataFrame, a LazyFrame for a LazyFrame."""

Table = TypeVar("Table", bound=pl.DataFrame | pl.LazyFrame)

Reference = str | pl.Expr | None
"""Rows to learn from: a SQL predicate over metadata, a Polars expression, or ``None`` for every row."""

Groups = tuple[NDArray[np.int64], pl.DataFrame]
"""The group code of each row, and the key of each group."""

FloatMatrix = NDArray[np.float32] | NDArray[np.float64]

# A block is held as the frame that was read, the matrix made of it, and the scratch of a kernel in float64.
_COPIES = 6
_SLICE_BYTES = 24 << 20
"""Below what the C library fetches from the system and gives back each time."""
_BLOCKS = 8
"""A large lazy table is cut into at least so many blocks: the next is read while one is computed with."""
_WORTH_READING = 32 << 20
"""Bytes of a block below which reading again costs more than it hides."""


@dataclass(frozen=True)
class Block:
    """Values of some features for some rows, and which group each row belongs to.

    Attributes
    ----------
    values
        ``float32|float64[n_rows, n_features]``, each feature contiguous (Fortran order); missing is NaN.
    codes
        ``int64[n_rows]``; -1 is "in no group".
    keys
        One row a group: the values of the ``by`` columns, in the order of the codes, sorted, nulls last.
    features
        Names of the columns of ``values``.
    """

    values: FloatMatrix
    codes: NDArray[np.int64]
    keys: pl.DataFrame
    features: list[str]
    source: pl.DataFrame
    """The frame whose memory ``values`` may share."""

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return self.keys.height if self.keys.width else 1

    def by_group(self) -> tuple[FloatMatrix, NDArray[np.int64]]:
        """Columns with the rows of a group side by side, ``[n_features, n_grouped_rows]``, and the bounds of each group.

        Rows of no group are left out. Nothing is copied where rows already lie in the order of their groups.
        """
        codes = self.codes
        columns = self.values.T
        if codes.size == 0 or (codes[0] >= 0 and not np.any(codes[1:] < codes[:-1])):
            return columns, np.searchsorted(codes, np.arange(self.n_groups + 1))
        bounds = np.zeros(self.n_groups + 1, dtype=np.int64)
        np.cumsum(np.bincount(codes[codes >= 0], minlength=self.n_groups), out=bounds[1:])
        order = np.argsort(codes, kind="stable")
        # In C order, which an index would not leave it in: sums depend on it in their last bit, and on nothing else then.
        columns = cast("FloatMatrix", np.take(columns, order[np.count_nonzero(codes < 0) :], axis=1))
        return columns, bounds


def predicate(reference: str | pl.Expr) -> pl.Expr:
    """Compile a SQL predicate such as ``"Metadata_control_type = 'negcon'"``; a Polars expression passes through.

    Raises
    ------
    RecipeError
        The text is not a SQL expression, or the expression takes columns by a pattern, not by name.
    """
    if isinstance(reference, pl.Expr):
        if reference.meta.has_multiple_outputs():
            raise RecipeError(
                f"the reference {str(reference)!r} takes columns by a pattern or several at once. Hint: it must say of "
                "each row whether it is in the reference; name the columns: "
                "pl.col('Metadata_control_type') == 'negcon'."
            )
        return reference
    try:
        return pl.sql_expr(reference)
    except pl.exceptions.PolarsError as error:
        raise RecipeError(
            f"{reference!r} is not a SQL predicate ({error}). Hint: write for example \"Metadata_control_type = 'negcon'\"."
        ) from error


def predicate_columns(reference: Reference) -> list[str]:
    """The columns that a reference looks at."""
    return [] if reference is None else list(dict.fromkeys(predicate(reference).meta.root_names()))


def reference_mask(metadata: pl.DataFrame, reference: Reference, where: str) -> NDArray[np.bool_] | None:
    """Which rows the reference takes; ``None`` where it takes every row. A null answer counts as no."""
    if reference is None:
        return None
    expression = predicate(reference)
    require_columns(metadata.schema, predicate_columns(reference), f"{where}: reference {str(reference)!r}")
    try:
        answer = metadata.select(expression.alias("chosen"))["chosen"]
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"{where}: reference {str(reference)!r} cannot be evaluated: {error}") from error
    if answer.dtype != pl.Boolean:
        raise RecipeError(
            f"{where}: reference {str(reference)!r} must be true or false for each row, not {answer.dtype}"
        )
    if answer.len() != metadata.height:
        raise RecipeError(f"{where}: reference {str(reference)!r} must give one answer for each row")
    return answer.fill_null(value=False).to_numpy()


def group_rows(metadata: pl.DataFrame, by: Sequence[str]) -> Groups:
    """Number the groups of rows: ``(codes, keys)`` with keys sorted, nulls last and a group of their own.

    >>> codes, keys = group_rows(pl.DataFrame({"well": ["B", "A", None, "B"]}), ["well"])
    >>> codes.tolist(), keys["well"].to_list()
    ([1, 0, 2, 1], ['A', 'B', None])
    """
    if not by:
        return np.zeros(metadata.height, dtype=np.int64), pl.DataFrame()
    # Stores are sorted, so rows come in runs: number the runs first, then only their first rows need to be compared.
    table = metadata.select(by)
    runs = table.select(pl.struct(by).rle_id())[by[0]].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], runs[1:] != runs[:-1]])) if runs.size else np.empty(0, np.int64)
    first = table[starts]
    keys = first.unique(maintain_order=True).sort(by, nulls_last=True, maintain_order=True)
    code = unused_name("group code", by)
    numbered = keys.with_row_index(code)
    of_run = first.join(numbered, on=list(by), how="left", nulls_equal=True, maintain_order="left")[code]
    return np.repeat(of_run.to_numpy().astype(np.int64), np.diff(starts, append=runs.size)), keys


def unused_name(name: str, taken: Sequence[str]) -> str:
    """A column name that is not taken: ``name``, or ``name`` and underscores."""
    while name in taken:
        name += "_"
    return name


def to_matrix(frame: pl.DataFrame, features: Sequence[str]) -> FloatMatrix:
    """``float[n_rows, n_features]`` in Fortran order: float32 if every column is, else float64; missing is NaN."""
    if not features:
        return np.empty((frame.height, 0), dtype=np.float32, order="F")
    chosen = take_columns(frame, features)
    schema = chosen.schema  # of these only: made anew at each access, it is slow for thousands of columns
    dtype = pl.Float32 if all(schema[name] == pl.Float32 for name in features) else pl.Float64
    wrong = [name for name in features if schema[name] != dtype]
    matrix = (chosen.with_columns(pl.col(wrong).cast(dtype)) if wrong else chosen).to_numpy(order="fortran")
    # A single column comes back without an order of its own; a zero-copy view must not be written to.
    matrix = np.asfortranarray(matrix.reshape(frame.height, len(features)))
    return matrix  # noqa: RET504


def take_columns(profiles: Table, names: Sequence[str]) -> Table:
    """Columns by name; of a frame in memory without an expression for each, which costs as much as small kernels do."""
    return cast("Table", profiles[list(names)] if isinstance(profiles, pl.DataFrame) else profiles.select(names))


def to_block(
    frame: pl.DataFrame,
    features: Sequence[str],
    by: Sequence[str] = (),
    mask: NDArray[np.bool_] | None = None,
    groups: Groups | None = None,
) -> Block:
    """Enter: rows and columns of a frame as a :class:`Block`; rows outside ``mask`` belong to no group.

    ``groups`` are those of the rows, where they are known.
    """
    codes, keys = groups or group_rows(frame, by)
    if mask is not None:
        codes = np.where(mask, codes, -1)
    shared = shared_columns(frame, features)
    values = to_matrix(frame, features) if shared is None else shared.T
    return Block(values, codes, keys, list(features), frame)


def to_frame(values: NDArray[Any], dtypes: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Leave: a matrix ``[n_rows, n_features]`` as a frame with these names and types, NaN as null."""
    wanted = set(dtypes.values())
    if not np.issubdtype(values.dtype, np.floating) or not wanted:
        return pl.DataFrame(dict(zip(dtypes, values.T, strict=True)), schema=dict(dtypes))
    alike = np.float32 if wanted == {pl.Float32()} else values.dtype
    columns = np.ascontiguousarray(values.T, dtype=alike)
    frame = sharing_frame(columns, list(dtypes))
    with np.errstate(invalid="ignore"):
        # NaN makes the least value NaN.
        least = np.min(columns, axis=1, initial=np.inf)
    holed = [name for name, value in zip(dtypes, least, strict=True) if np.isnan(value)]
    if holed:
        frame = frame.with_columns(pl.col(holed).fill_nan(None))
    made = pl.Float32() if columns.dtype == np.float32 else pl.Float64()
    return frame.cast({name: dtype for name, dtype in dtypes.items() if dtype != made})


def float_type(dtype: pl.DataType) -> pl.DataType:
    """What a feature of this type becomes when it is computed with: float32 stays, everything else is float64."""
    return pl.Float32() if dtype == pl.Float32 else pl.Float64()


def block_width(n_rows: int, itemsize: int, at_most: int, copies: int = _COPIES, less: int = 0) -> int:
    """Features to take at once, so that all copies of a block stay inside the memory budget.

    ``less`` are bytes of the budget that blocks leave to others; half of the budget is theirs in any case.
    """
    column = max(1, n_rows) * itemsize * copies
    working = resources.current().working_bytes
    return int(max(1, min(at_most, max(working // 2, working - less) // column)))


def _itemsize(schema: pl.Schema, features: Sequence[str]) -> int:
    return 4 if all(schema[name] == pl.Float32 for name in features) else 8


def column_blocks(
    profiles: pl.DataFrame | pl.LazyFrame, keys: Sequence[str], features: Sequence[str]
) -> Iterator[tuple[pl.DataFrame, list[str]]]:
    """All rows, some features at a time: yields ``(frame of keys and a block of features, those features)``.

    The keys come along with every block, because a lazy query may give its rows in another order each time it is run.
    """
    features = list(features)
    keys = list(dict.fromkeys(keys))
    if isinstance(profiles, pl.DataFrame):
        width = block_width(profiles.height, _itemsize(profiles.schema, features), len(features))
        for start in range(0, len(features), width):
            block = features[start : start + width]
            yield take_columns(profiles, [*keys, *(name for name in block if name not in keys)]), block
        return
    schema = profiles.collect_schema()
    n_rows = profiles.select(pl.len()).collect().item()
    itemsize = _itemsize(schema, features)
    worth = max(-(-len(features) // _BLOCKS), _WORTH_READING // max(1, n_rows * itemsize))
    width = max(1, min(block_width(n_rows, itemsize, len(features), _COPIES + 2), worth))
    blocks = [features[start : start + width] for start in range(0, len(features), width)]
    with ThreadPoolExecutor(1) as reader:

        def read(block: list[str]) -> Future[pl.DataFrame]:
            query = profiles.select([*keys, *(name for name in block if name not in keys)])
            return reader.submit(query.collect)

        coming = [read(block) for block in blocks[:1]]
        for number, block in enumerate(blocks):
            frame = coming.pop().result()
            coming = [read(following) for following in blocks[number + 1 : number + 2]]
            yield frame, block
            del frame


def in_slices(frame: pl.DataFrame, features: Sequence[str]) -> Iterator[list[str]]:
    """A block of features a few at a time: a matrix so small comes from memory that was used before, which larger ones do not.

    The system clears fresh memory first; for a table of gigabytes that took as long as its medians.
    """
    column = max(1, frame.height * _itemsize(frame.schema, features))
    width = max(resources.current().threads, _SLICE_BYTES // column)
    for start in range(0, len(features), width):
        yield list(features[start : start + width])


def row_chunks(profiles: pl.DataFrame | pl.LazyFrame, copies: int = _COPIES) -> Iterator[pl.DataFrame]:
    """All columns, some rows at a time, in the order of the table."""
    if isinstance(profiles, pl.DataFrame):
        rows = _chunk_rows(profiles.schema, copies)
        yield from profiles.iter_slices(rows)
        return
    rows = _chunk_rows(profiles.collect_schema(), copies)
    yield from profiles.collect_batches(chunk_size=rows, maintain_order=True)


def _chunk_rows(schema: pl.Schema, copies: int) -> int:
    width = sum(4 if dtype in (pl.Float32, pl.Int32) else 8 for dtype in schema.dtypes())
    return max(256, resources.current().working_bytes // (copies * max(width, 1)))


def require_polars(profiles: object, where: str) -> None:
    """Raise a :class:`SchemaError` unless this is a frame of Polars."""
    if isinstance(profiles, pl.DataFrame | pl.LazyFrame):
        return
    kind = type(profiles)
    hint = (
        "convert it with polars.from_pandas" if kind.__module__.split(".", 1)[0] == "pandas" else "give a Polars frame"
    )
    raise SchemaError(
        f"{where}: profiles are a polars DataFrame or LazyFrame, not a {kind.__module__.split('.', 1)[0]} "
        f"{kind.__name__}. Hint: {hint}; files are read with cytofast.read_profiles."
    )


def require_rows(profiles: pl.DataFrame | pl.LazyFrame, where: str) -> None:
    """Raise a :class:`DataError` if a table has no rows."""
    empty = profiles.height == 0 if isinstance(profiles, pl.DataFrame) else profiles.head(1).collect().height == 0
    if empty:
        raise DataError(
            f"{where}: the table has columns but no rows. Hint: was the export or the filter before it complete?"
        )


def require_unique(frame: pl.DataFrame, columns: Sequence[str], where: str) -> None:
    """Raise a :class:`DataError` that lists the first duplicated keys (nulls compare equal)."""
    doubled = frame.select(columns).filter(frame.select(columns).is_duplicated()).unique(maintain_order=True)
    if doubled.height:
        shown = listed([" ".join(str(v) for v in row) for row in doubled.head(5).rows()])
        raise DataError(
            f"{where}: {doubled.height:,} keys {'/'.join(columns)} stand more than once, for example {shown}."
        )
