"""Bring CellProfiler exports into a store, plate by plate, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from cytofast.errors import CytofastError, DataError, SchemaError, StoreError
from cytofast.ingest.audit import Audit, summarize
from cytofast.ingest.choice import EVERYTHING, Choice
from cytofast.ingest.failures import Failures
from cytofast.ingest.platemap import read_platemaps
from cytofast.ingest.sources import PlatePlan, PlateSource, find_plates
from cytofast.schema import BATCH
from cytofast.store.inputs import Inputs, content_of
from cytofast.store.layout import PlateName
from cytofast.store.losses import require_no_loss
from cytofast.store.manifest import Manifest, digest_of, library_versions
from cytofast.store.partition import Partition, read_frame, tidy

if TYPE_CHECKING:
    from cytofast.store.profile_store import ProfileStore, Progress


@dataclass(frozen=True)
class Found:
    """A plate that can be ingested, and its platemap if one was given."""

    name: PlateName
    export: PlateSource
    annotation: pl.DataFrame | None


def find(
    source: str | Path,
    *,
    platemap: str | Path | None = None,
    external: str | Path | None = None,
    batch: str | None = None,
    plate: str | None = None,
    compartments: Sequence[str] | None = None,
    choice: Choice = EVERYTHING,
    level: str | None = None,
    failures: Failures,
) -> list[Found]:
    """Find the plates in ``source`` and their platemaps.

    A wrong source or platemap, of whichever plate, costs seconds here and not the hours after reading the cells.

    Raises
    ------
    DataError
        Something is wrong; or, if ``failures`` keeps going, there is not one plate that could be ingested.
    """
    exports = find_plates(
        source, batch=batch, plate=plate, compartments=compartments, choice=choice, level=level, failures=failures
    )
    whole = []
    for export in exports:
        with failures.apart():
            if export.split:
                failures.require_whole(f"plate {export.batch}/{export.plate}", export.places)
            whole.append(export)
    names = [PlateName(export.batch, export.plate) for export in whole]
    if platemap is None:
        found = [Found(name, export, None) for name, export in zip(names, whole, strict=True)]
    else:
        maps = _annotations(names, platemap, external, failures)
        found = [Found(name, export, maps[name]) for name, export in zip(names, whole, strict=True) if name in maps]
    if not found and (error := failures.told(0)):
        raise error
    return found


def _annotations(
    names: Sequence[PlateName], platemap: str | Path, external: str | Path | None, failures: Failures
) -> dict[PlateName, pl.DataFrame]:
    try:
        table = read_platemaps(platemap, [name.plate for name in names], external=external)
        return {name: _annotation_of(table, name) for name in names}
    except (DataError, SchemaError):
        if not failures.keep_going:
            raise
    found = {}
    for name in names:
        with failures.apart():
            found[name] = _annotation_of(read_platemaps(platemap, [name.plate], external=external), name)
    return found


def ingest(
    store: ProfileStore, plates: Sequence[Found], *, replace: bool, progress: Progress, failures: Failures
) -> pl.DataFrame:
    """Ingest plates that were found; see :meth:`ProfileStore.ingest`."""
    summaries = [summarize(Audit().table()).with_columns(pl.lit("", dtype=pl.String).alias("outcome"))]
    with store.writing():
        for number, found in enumerate(plates):
            progress(f"plate {found.name}", number, len(plates))
            with failures.apart():
                outcome = _ingest_plate(
                    store, found, replace, partial(_advance, progress, found.name, number, len(plates))
                )
                if found.annotation is not None:
                    store.write_annotation(found.name, found.annotation)
                audit = read_frame(store.audit_path(found.name, found.export.level))
                summaries.append(summarize(audit).with_columns(pl.lit(outcome).alias("outcome")))
            progress(f"plate {found.name}", number + 1, len(plates))
    return pl.concat(summaries)


def _advance(progress: Progress, name: PlateName, number: int, total: int, part: float) -> None:
    progress(f"plate {name}", number + part, total)


def _annotation_of(annotations: pl.DataFrame, name: PlateName) -> pl.DataFrame:
    table = annotations.filter(annotations["Metadata_Plate"] == name.plate)
    if BATCH in table.columns:
        table = table.filter(table[BATCH].eq_missing(name.batch) | table[BATCH].is_null()).drop(BATCH)
    if table.height == 0:
        raise DataError(f"the platemap has no row for plate {name}")
    return table.select(pl.lit(name.batch).alias(BATCH), pl.all())


def _ingest_plate(store: ProfileStore, found: Found, replace: bool, advance: Callable[[float], None]) -> str:
    name, export = found.name, found.export
    inputs: Inputs | None = None
    try:
        inputs = Inputs.of(export)
        level = export.level
        present = store.partition(level, name)
        if present is not None and "files" not in present.manifest.inputs:
            raise StoreError(
                f"level {level!r} of this plate was made by a recipe of this store. Hint: ingest into a store of its own, "
                "or give another level (--level)."
            )
        kept = _kept_audit(store, name, level)
        if present is not None and kept is not None and _is_whole(present, kept) and inputs.made(present, kept):
            tidy(present)
            return "unchanged"
        planned = export.plan()
        if present is not None and kept is not None and not replace:
            require_no_loss(present, kept, planned, export.choice)
        audit = Audit()

        def manifest() -> Manifest:
            # Before a byte of it is in the store under its name.
            if changed := inputs.changed():
                raise changed
            table = audit.table()
            _require_cells(table, planned)
            made_of = inputs.of_manifest(table, export.compartments)
            key = digest_of({"inputs": made_of, "cytofast": library_versions()["cytofast"]})
            return Manifest(level, name.batch, name.plate, "", 0, 0, "", key, made_of)

        written = store.write_partition(
            level,
            name,
            None,
            _counted(planned, audit, advance),
            manifest,
            before=lambda: store.write_audit(name, audit.table(), level),
        )
        inputs.remember(written.manifest, written.path.parent)
    except CytofastError as error:
        # What looks like damage may be that somebody is writing.
        changed = inputs.changed() if isinstance(error, DataError) and inputs is not None else None
        raise type(error)(f"plate {name}: {changed or error}") from error
    return "written"


def _kept_audit(store: ProfileStore, name: PlateName, level: str) -> pl.DataFrame | None:
    """The audit of a plate; ``None`` where there is none or it is damaged, so that ingesting again mends it."""
    try:
        path = store.audit_path(name, level)
        return read_frame(path) if path.is_file() else None
    except StoreError:
        return None


def _is_whole(present: Partition, kept: pl.DataFrame) -> bool:
    """Whether nothing of a finished plate was lost since, and its audit is that of its cells."""
    return present.whole and content_of(kept) == present.manifest.inputs.get("content")


def _counted(planned: PlatePlan, audit: Audit, advance: Callable[[float], None]) -> Iterator[pl.DataFrame]:
    total = max(1, planned.parts)
    for frame in planned.cells(audit):
        advance(audit.images / total)
        yield frame


def _require_cells(table: pl.DataFrame, planned: PlatePlan) -> None:
    if table.filter(table["compartment"] != "Image")["rows_joined"].sum() == 0:
        raise DataError(
            f"{planned.says} were read and not one cell came of it. "
            "Hint: do the parent columns and object numbers of the compartments belong together?"
        )
