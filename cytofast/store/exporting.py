"""Levels of a store as files that other tools read, under the names that they expect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from cytofast.errors import RecipeError, StoreError, listed
from cytofast.ingest.writing import write_profiles
from cytofast.store.export_names import suffix_of
from cytofast.store.layout import EVERY_PLATE, encoded

if TYPE_CHECKING:
    from cytofast.store.partition import Partition
    from cytofast.store.profile_store import ProfileStore, Progress

FORMATS = ("csv.gz", "csv", "parquet", "gct", "h5ad")
Extent = Literal["plate", "batch", "all"]
EXTENTS = ("plate", "batch", "all")
_TOGETHER = {"gct": "batch", "h5ad": "batch"}
"""Formats that one looks at as a whole come as one file a batch, as in the profiling recipe."""


def _quiet(what: str, done: float, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class _Piece:
    """One file to write."""

    path: Path
    level: str
    partitions: list[Partition]


def export(
    store: ProfileStore | str | Path,
    folder: str | Path,
    *,
    levels: Sequence[str] | str | None = None,
    format: str = "csv.gz",  # noqa: A002  (what users call it)
    by: Extent | None = None,
    suffix: str | None = None,
    plates: Sequence[str] | str | None = None,
    float_format: str | None = None,
    progress: Progress = _quiet,
) -> pl.DataFrame:
    """Write levels of a store as files, called as pycytominer and the profiling recipe call them.

    A plate is ``<folder>/<batch>/<plate>/<plate><suffix>.csv.gz``, a batch ``<folder>/<batch>/<batch><suffix>.gct``, everything
    ``<folder>/<store><suffix>.h5ad``. The suffix tells what was done: none for wells as they were aggregated, ``_augmented``
    with their platemap, ``_normalized``, ``_normalized_negcon`` (by a reference), ``_normalized_feature_select_negcon_batch``
    and so on. The same store makes the same bytes. Files that are there are replaced, each when its successor is complete.

    Parameters
    ----------
    store
        A store or its path.
    folder
        Where to; made if it is not there.
    levels
        One or several; by default every level but those of cells.
    format
        ``csv.gz``, ``csv``, ``parquet``, ``gct`` (1.3, for Morpheus) or ``h5ad`` (AnnData; needs the extra ``anndata``).
    by
        One file a ``plate``, a ``batch``, or one for ``all``. By default a plate, but a batch for GCT and AnnData.
    suffix
        Another one, such as ``"_normalized"``.
    plates
        Only these barcodes.
    float_format
        For CSV and GCT, such as ``"%.5g"``, which the profiling recipe uses.

    Returns
    -------
    polars.DataFrame
        One row a file: ``level, file, plates, rows, columns``.

    Raises
    ------
    StoreError
        A level or plate is not in the store, or a file cannot be written.
    RecipeError
        An option is not known, or two levels would have one file name.

    Examples
    --------
    >>> import tempfile, cytofast
    >>> made = tempfile.mkdtemp()
    >>> _ = cytofast.write_example(made + "/experiment", plates=1, wells=24)
    >>> store = cytofast.open_store(made + "/store", create=True)
    >>> _ = store.ingest(made + "/experiment/analysis", platemap=made + "/experiment/metadata")
    >>> _ = cytofast.run("default", store)
    >>> [path.rsplit("/", 1)[1] for path in export(store, made + "/profiles")["file"]]
    ['EX00100001_augmented.csv.gz', 'EX00100001_normalized_negcon.csv.gz']
    """
    from cytofast.store.profile_store import ProfileStore, open_store

    opened = store if isinstance(store, ProfileStore) else open_store(store)
    if format not in FORMATS:
        raise RecipeError.unknown("format", format, FORMATS)
    if by is not None and by not in EXTENTS:
        raise RecipeError.unknown("extent (by)", by, EXTENTS)
    if suffix is not None and ("/" in suffix or "\0" in suffix):
        raise RecipeError(f"suffix={suffix!r} is a part of a file's name; it cannot hold a slash")
    root = Path(folder)
    if root.is_file():
        raise StoreError(f"{root}: a file. Hint: give a folder to export a store to.")
    if root.absolute().resolve().is_relative_to(opened.path.absolute().resolve()):
        raise StoreError(f"{root}: inside the store itself. Hint: give a folder outside of {opened.path}.")
    extent = by or _TOGETHER.get(format, "plate")
    wanted = None if plates is None else [plates] if isinstance(plates, str) else list(plates)
    pieces = [
        piece
        for level in _levels(opened, levels)
        for piece in _pieces(opened, level, root, extent, suffix, wanted, format)
    ]
    _require_distinct(pieces)
    rows = []
    for number, piece in enumerate(pieces):
        progress(f"{piece.level} {piece.path.name}", number, len(pieces))
        lazy = _together(opened, piece)
        written = write_profiles(lazy, piece.path, float_format=float_format)
        width = len(lazy.collect_schema())
        row: dict[str, Any] = {"level": piece.level, "file": str(piece.path), "plates": len(piece.partitions)}
        rows.append({**row, "rows": written, "columns": width})
    progress("", len(pieces), len(pieces))
    return pl.DataFrame(rows)


def _levels(store: ProfileStore, given: Sequence[str] | str | None) -> list[str]:
    present = store.levels()
    if not present:
        raise StoreError(f"{store.path}: the store is empty; there is nothing to export.")
    if given is None:
        chosen = [level for level in present if not level.startswith("cells")]
        if not chosen:
            raise StoreError(
                f"{store.path}: only cells are in this store ({listed(present)}). Hint: run a recipe first, or ask for the "
                "level by its name."
            )
        return chosen
    names = [given] if isinstance(given, str) else list(dict.fromkeys(given))
    absent = [name for name in names if name not in present]
    if absent:
        raise StoreError(f"{store.path}: no level {listed(absent)} in this store. Hint: it has {listed(present)}.")
    return names


def _pieces(
    store: ProfileStore, level: str, root: Path, extent: str, suffix: str | None, plates: list[str] | None, ending: str
) -> Iterator[_Piece]:
    partitions = store.partitions(level)
    ended = _suffix(store, level, partitions) if suffix is None else suffix
    if partitions[0].name == EVERY_PLATE:
        if plates is not None:
            raise RecipeError(f"level {level!r} is made of all plates together, so single plates cannot be exported")
        extent = "all"
    elif plates is not None:
        known = {partition.name.plate for partition in partitions}
        absent = [name for name in plates if name not in known]
        if absent:
            raise StoreError(
                f"{store.path}: no plate {listed(absent)} at level {level!r}. Hint: it has {listed(sorted(known))}."
            )
        partitions = [partition for partition in partitions if partition.name.plate in plates]
    groups: dict[Path, list[Partition]] = {}
    for partition in partitions:
        batch, plate = encoded(partition.name.batch), encoded(partition.name.plate)
        stem = {"plate": f"{batch}/{plate}/{plate}", "batch": f"{batch}/{batch}", "all": store.path.absolute().name}[
            extent
        ]
        groups.setdefault(root / f"{stem}{ended}.{ending}", []).append(partition)
    for path, together in groups.items():
        yield _Piece(path, level, together)


def _suffix(store: ProfileStore, level: str, partitions: Sequence[Partition]) -> str:
    """What the steps up to this level are called."""
    steps: list[dict[str, Any]] = []
    found, name, seen = partitions[0], level, {level}
    while True:
        steps = [*found.manifest.steps, *steps]
        source = next((key.split("/", 1)[0] for key in found.manifest.inputs if "/" in key), None)
        below = store.partitions(source) if source is not None and source in store.levels() else []
        if not below or source in seen or source is None:
            break
        seen.add(source)
        found, name = below[0], source
    batches = {partition.name.batch for partition in store.partitions(name)}
    return suffix_of(level, steps, "batch" if len(batches) == 1 else "all")


def _require_distinct(pieces: Sequence[_Piece]) -> None:
    seen: dict[Path, _Piece] = {}
    for piece in pieces:
        other = seen.setdefault(piece.path, piece)
        if other is not piece:
            raise RecipeError(
                f"levels {other.level!r} and {piece.level!r} would both be written to {piece.path}. Hint: export them one by "
                "one, with a suffix."
            )


def _together(store: ProfileStore, piece: _Piece) -> pl.LazyFrame:
    """The rows of a file, plate after plate, with the platemap where the level has none of its own."""
    for partition in piece.partitions:
        partition.require_whole()
    lazies = [partition.lazy() for partition in piece.partitions]
    same = len({partition.manifest.schema for partition in piece.partitions}) == 1
    lazy = pl.concat(lazies, how="vertical" if same else "diagonal_relaxed")
    if piece.level != "cells":
        return lazy
    return store._annotated(lazy, [p.name for p in piece.partitions], lazy.collect_schema().names())
