"""How steps pass over one plate: a block of columns at a time down to wells, or twice by rows where rows stay cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cytofast import resources
from cytofast.blocks import Profiles, block_width
from cytofast.errors import RecipeError, StoreError
from cytofast.parquet import row_group_rows
from cytofast.schema import as_columns, is_metadata, resolve_features
from cytofast.sharing import Chunk, sharing_frame
from cytofast.steps.annotate import Annotate
from cytofast.steps.fitted import in_order
from cytofast.steps.step import Scope, Step
from cytofast.store.partition import Partition

if TYPE_CHECKING:
    from cytofast.plain_pages import Rows

Advance = Callable[[int, int], None]
"""Called with blocks done and blocks in all."""

_COPIES_IN_MEMORY = 8
_COPIES_OF_FRAMES = 12
"""A chunk is held as it was read, as the next is being read, as it was changed (this one and the one before), and twice as
rows that wait to be written or are being written, which are a whole row group each."""
_COPIES_OF_A_BLOCK = 8
"""Two blocks are held; what the plate's metadata take is taken off both, so that the peak does not grow with the plate, as long
as metadata take less than a sixteenth of the budget or so."""
_BLOCKS = 8
"""So many blocks at least of the rows of a reference: the next is read while one is worked on."""
_SMALLEST_CHUNK = 256
"""Rows to take at least, however little memory there is."""


@dataclass
class Passed:
    """What came out of a plate: the fits, one a step, and the frames to write."""

    fits: list[pl.DataFrame]
    frames: Iterator[pl.DataFrame | Chunk]


def pass_over(
    partition: Partition,
    steps: Sequence[Step],
    known: Sequence[pl.DataFrame | None],
    columns: dict[str, pl.DataType],
    advance: Advance,
) -> Passed:
    """Apply steps to one plate inside the memory budget.

    Parameters
    ----------
    partition
        The plate.
    steps
        What to apply, in order.
    known
        A fit learned beforehand, or ``None`` where the step learns from this plate now.
    columns
        What all plates together have; a column that this one lacks is null. Empty: its own columns.
    """
    reducer = next((i for i, step in enumerate(steps) if step.reduces), None)
    fits: list[pl.DataFrame] = []
    if _fits_in_memory(partition):
        frame = _chain(extended(partition.lazy(), columns).collect(), steps, known, fits)
        advance(1, 1)
        return Passed(fits, iter([frame]))
    if reducer is not None:
        frame = _by_blocks(partition, steps[: reducer + 1], known, fits, advance)
        frame = _chain(frame, steps[reducer + 1 :], known[reducer + 1 :], fits)
        return Passed(fits, iter([frame]))
    fits = _fits_by_blocks(partition, steps, known, advance)
    return Passed(fits, _chunks(partition, steps, fits, columns))


def finish(frame: pl.DataFrame, steps: Sequence[Step], known: Sequence[pl.DataFrame | None], first: int) -> Passed:
    """Apply the steps from ``first`` on to a plate that the steps before have been applied to; their fits are known."""
    fits = [fit for fit in known[:first] if fit is not None]
    frame = _chain(frame, steps[first:], known[first:], fits)
    return Passed(fits, iter([frame]))


def extended(profiles: Profiles, columns: dict[str, pl.DataType]) -> Profiles:
    """Profiles with the columns of other plates besides, as nulls."""
    own = profiles.collect_schema()
    absent = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in columns.items() if name not in own]
    return profiles.with_columns(absent) if absent else profiles


def _fits_in_memory(partition: Partition) -> bool:
    manifest = partition.manifest
    return manifest.rows * max(1, manifest.features) * 4 * _COPIES_IN_MEMORY <= resources.current().working_bytes


def _chain(
    frame: pl.DataFrame, steps: Sequence[Step], known: Sequence[pl.DataFrame | None], fits: list[pl.DataFrame]
) -> pl.DataFrame:
    for step, given in zip(steps, known, strict=True):
        fit = step.fit(frame) if given is None else given
        fits.append(fit)
        frame = step.apply(frame, fit)
    return frame


def _chunks(
    partition: Partition, steps: Sequence[Step], fits: Sequence[pl.DataFrame], columns: dict[str, pl.DataType]
) -> Iterator[pl.DataFrame | Chunk]:
    as_matrix = all(type(step).on_chunks is not Step.on_chunks for step in steps)
    if any(isinstance(step, Annotate) for step in steps):
        steps = _settled(partition.metadata([name for name in partition.schema if is_metadata(name)]), steps, fits)
    changes: dict[int, Callable[[Chunk], Chunk] | None] = {}
    for part in partition.chunks(_chunk_rows(partition.schema, as_matrix=as_matrix)):
        rows = _extended_part(part, columns)
        del part
        for index, (step, fit) in enumerate(zip(steps, fits, strict=True)):
            if isinstance(rows, Chunk):
                if index not in changes:
                    changes[index] = step.on_chunks(fit, rows.schema)
                change = changes[index]
                if change is not None:
                    rows = change(rows)
                    continue
                rows = rows.frame()
            rows = step.apply(rows, fit)
        yield rows
        del rows


def _chunk_rows(schema: pl.Schema, *, as_matrix: bool) -> int:
    """Of matrices a row group of the result, which is written as it stands."""
    rows = row_group_rows(schema)
    if as_matrix:
        return rows
    width = 4 * max(1, sum(not is_metadata(name) for name in schema))
    return min(rows, max(_SMALLEST_CHUNK, resources.current().working_bytes // (_COPIES_OF_FRAMES * width)))


def _extended_part(part: pl.DataFrame | Chunk, columns: dict[str, pl.DataType]) -> pl.DataFrame | Chunk:
    if isinstance(part, Chunk):
        if set(columns) <= {*part.metadata.columns, *part.features}:
            return part
        part = part.frame()
    return extended(part, columns)


_Cut = tuple[pl.DataFrame, list[Step], list[list[str]]]
"""Metadata, the steps with their features spelled out, and the blocks of features."""


def _blocks(partition: Partition, steps: Sequence[Step]) -> _Cut:
    """How a plate is cut into blocks that fit into memory; refuses steps that cannot work so."""
    schema = partition.schema
    for step in steps:
        if not step.separable or step.scope not in {Scope.ROW, Scope.PLATE}:
            raise RecipeError(
                f"step {step.name!r} looks at features or plates together and this table is too large for it in memory. "
                "Hint: aggregate first, or save the level before it."
            )
    for step in steps[1:]:
        changed = [name for name in step.columns() if name in schema and not is_metadata(name)]
        if changed:
            raise RecipeError(
                f"step {step.name!r} chooses rows by {changed[0]!r}, a feature that a step before it may change. "
                "Hint: put it first, or save the level before it."
            )
    spelled: list[Step] = []
    wanted: dict[str, None] = {}
    for step in steps:
        if "features" in {field.name for field in fields(step)}:
            names = resolve_features(schema, step.features, type(step).__name__, _by(step))  # type: ignore[attr-defined]
            wanted.update(dict.fromkeys(names))
            spelled.append(_with_features(step, names))
        else:
            spelled.append(step)
    keys = {name for step in steps[:1] for name in step.columns()}
    # Flags are found by a pattern.
    keys.update(name for name, dtype in schema.items() if dtype == pl.Boolean)
    metadata = partition.metadata([name for name in schema if is_metadata(name) or name in keys])
    # In the order of the result, so that it does not depend on how much memory there is: a step that reduces puts its
    # features in its own order, others leave them in that of the table.
    made = list(getattr(spelled[-1], "features", None) or ()) if spelled[-1].reduces else []
    universe = list(dict.fromkeys([*made, *(name for name in schema.names() if name in wanted)]))
    width = _width(metadata, len(universe))
    # Steps that name no features look at metadata alone, once.
    return (
        metadata,
        _settled(metadata, spelled),
        _parts(universe, width) or [[]],
    )


def _parts(features: list[str], width: int) -> list[list[str]]:
    return [features[i : i + width] for i in range(0, len(features), width)]


def _width(metadata: pl.DataFrame, at_most: int) -> int:
    """Features of a block."""
    texts = sum(dtype in (pl.String, pl.Binary) for dtype in metadata.dtypes)
    # Polars counts the letters of a text, not the 16 bytes in which a column holds each.
    held = int(metadata.estimated_size()) + 16 * texts * metadata.height
    return block_width(metadata.height, 4, at_most, _COPIES_OF_A_BLOCK, held * _COPIES_OF_A_BLOCK // 2)


def _by(step: Step) -> list[str]:
    return as_columns(getattr(step, "by", None))


def _settled(metadata: pl.DataFrame, steps: Sequence[Step], fits: Sequence[pl.DataFrame] | None = None) -> list[Step]:
    """The steps, annotations named as all rows and all metadata together need it."""
    done: list[Step] = []
    for index, step in enumerate(steps):
        if isinstance(step, Annotate):
            settled = step.settled(metadata)
            if any(isinstance(later, Annotate) for later in steps[index + 1 :]):
                metadata = settled.apply(metadata, fits[index] if fits else settled.fit(metadata))
            done.append(settled)
        else:
            done.append(step)
    return done


def _with_features(step: Step, features: list[str]) -> Step:
    changed: dict[str, Any] = {"features": features}
    return replace(step, **changed)


class _Plan(NamedTuple):
    """A plate that is cut into blocks, the fits that are known, and which of its rows are read."""

    metadata: pl.DataFrame
    steps: list[Step]
    blocks: list[list[str]]
    known: list[pl.DataFrame | None]
    rows: Rows


def _walk(
    partition: Partition,
    cut: _Cut,
    known: Sequence[pl.DataFrame | None],
    advance: Advance,
    *,
    fits_only: bool = False,
) -> Iterator[tuple[pl.DataFrame | None, list[pl.DataFrame]]]:
    """For each block of features, the frame after all steps (``fits_only``: all but the last) and what each step learned.

    ``None`` where the step that reduces leaves all of them out; they come last.
    """
    whole = _Plan(*cut, list(known), [(0, partition.manifest.rows)])
    metadata, spelled, blocks, given_fits, rows = (_to_learn_from(partition, whole) if fits_only else None) or whole
    looked_at = {name for step in spelled for name in step.columns()}
    of_step = [set(getattr(step, "features", None) or ()) for step in spelled]
    parts = [(block, rows) for block in blocks]
    for number, (block, values) in enumerate(zip(blocks, partition.read_ahead(parts), strict=True)):
        if number == 1:
            # What became of the other metadata is known from the first block.
            metadata = metadata.select(
                name for name, dtype in metadata.schema.items() if name in looked_at or dtype == pl.Boolean
            )
        read = values if isinstance(values, pl.DataFrame) else sharing_frame(values, block)
        frame = metadata.hstack(read.select(name for name in block if name not in metadata.columns))
        fits: list[pl.DataFrame] = []
        left_out = False
        for index, step in enumerate(spelled):
            named = getattr(step, "features", None)
            if named is not None:
                mine = [name for name in block if name in of_step[index]]
                if not mine:
                    fits.append(pl.DataFrame())
                    left_out = step.reduces
                    continue
                step = _with_features(step, mine)  # noqa: PLW2901  (the same step, fewer features)
            given = given_fits[index]
            fit = step.fit(frame) if given is None else given
            if step.scope == Scope.ROW:
                given_fits[index] = fit
            fits.append(fit if named is not None or number == 0 else pl.DataFrame())
            if not fits_only or index < len(spelled) - 1:
                frame = step.apply(frame, fit)
        advance(number + 1, len(blocks))
        yield None if left_out else frame, fits


def _to_learn_from(partition: Partition, whole: _Plan) -> _Plan | None:
    """The rows that the last step learns from, where metadata tell them and the steps before it look at nothing else.

    Of them it learns without its reference: asked again of fewer rows, one like ``x > x.mean()`` would answer otherwise.
    """
    metadata, (*before, last), blocks, known, _ = whole
    universe = [name for block in blocks for name in block]
    if any(hasattr(step, "features") for step in before) or not partition.reader.reads(universe):
        return None
    fits: list[pl.DataFrame | None] = []
    for step, given in zip(before, known, strict=False):
        fit = step.fit(metadata) if given is None else given
        metadata = step.apply(metadata, fit)
        fits.append(fit)
    mask = last.learns_from(metadata)
    if mask is None or len(mask) != whole.metadata.height:  # rows were dropped
        return None
    metadata = whole.metadata.filter(mask)
    width = min(_width(metadata, len(universe)), -(-len(universe) // _BLOCKS))
    steps = [*before, _without_reference(last)]
    return _Plan(metadata, steps, _parts(universe, width), [*fits, known[-1]], _runs(mask))


def _without_reference(step: Step) -> Step:
    changed: dict[str, Any] = {"reference": None}
    return replace(step, **changed)


def _runs(mask: NDArray[np.bool_]) -> Rows:
    """Where the mask is true, as runs of rows."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _merged(
    partition: Partition, steps: Sequence[Step], learned: Sequence[Sequence[pl.DataFrame]]
) -> list[pl.DataFrame]:
    merged = [step.merge([fits[index] for fits in learned]) for index, step in enumerate(steps)]
    # Blocks are not in the order in which each step names its features.
    schema = partition.schema
    return [
        in_order(fit, _by(step), resolve_features(schema, step.features, step.name, _by(step)))
        if "feature" in fit.columns and hasattr(step, "features")
        else fit
        for step, fit in zip(steps, merged, strict=True)
    ]


def _by_blocks(
    partition: Partition,
    steps: Sequence[Step],
    known: Sequence[pl.DataFrame | None],
    fits: list[pl.DataFrame],
    advance: Advance,
) -> pl.DataFrame:
    cut = _blocks(partition, steps)
    if len(steps) == 1:
        frame = _reduced(partition, cut, advance)
        if frame is not None:
            fits.append(pl.DataFrame())
            return frame
    parts: list[pl.DataFrame] = []
    learned = []
    for frame, found in _walk(partition, cut, known[: len(steps)], advance):
        learned.append(found)
        if frame is None:
            continue
        keys = [name for name in frame.columns if is_metadata(name)]
        if parts and not frame.select(keys).equals(parts[0].select(keys), null_equal=True):
            raise StoreError(f"{partition.path}: the groups differ between blocks of columns")
        parts.append(frame if not parts else frame.drop(keys))
    fits.extend(_merged(partition, steps, learned))
    return pl.concat(parts, how="horizontal")


def _reduced(partition: Partition, cut: _Cut, advance: Advance) -> pl.DataFrame | None:
    """What a first step makes that reduces and learns nothing, without frames of thousands of features."""
    metadata, (step,), blocks = cut
    if not partition.reader.reads([name for block in blocks for name in block]):
        return None
    parts = [(block, [(0, partition.manifest.rows)]) for block in blocks]

    def chunks() -> Iterator[Chunk]:
        for number, (block, values) in enumerate(zip(blocks, partition.read_ahead(parts), strict=True), 1):
            yield Chunk(metadata, np.asarray(values), block)
            advance(number, len(blocks))

    return step.on_blocks(metadata, chunks())


def _fits_by_blocks(
    partition: Partition, steps: Sequence[Step], known: Sequence[pl.DataFrame | None], advance: Advance
) -> list[pl.DataFrame]:
    if all(given is not None for given in known):
        return [given for given in known if given is not None]
    learned = [found for _, found in _walk(partition, _blocks(partition, steps), known, advance, fits_only=True)]
    merged = _merged(partition, steps, learned)
    return [fit if given is None else given for fit, given in zip(merged, known, strict=True)]
