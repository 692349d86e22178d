"""Bring CellProfiler exports into a store, plate by plate, whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from cytofast import resources
from cytofast.errors import CytofastError, DataError
from cytofast.ingest.audit import Audit, summarize
from cytofast.ingest.cellprofiler import Plan, plan
from cytofast.ingest.discovery import COMPARTMENTS, PlateExport, discover
from cytofast.ingest.platemap import read_platemaps
from cytofast.schema import BATCH
from cytofast.store.layout import PlateName
from cytofast.store.manifest import NAME, Manifest, digest_of, library_versions

if TYPE_CHECKING:
    from cytofast.store.profile_store import ProfileStore, Progress

_CHUNK = 1 << 22


def ingest(
    store: ProfileStore,
    source: str | Path,
    *,
    platemap: str | Path | None,
    external: str | Path | None,
    batch: str | None,
    plate: str | None,
    compartments: Sequence[str] | None,
    progress: Progress,
) -> pl.DataFrame:
    """Ingest every plate below ``source``; see :meth:`ProfileStore.ingest`."""
    exports = discover(source, batch=batch, plate=plate, compartments=compartments or COMPARTMENTS)
    # A wrong platemap should cost seconds, not the hours after reading the cells.
    annotations = None
    if platemap is not None:
        annotations = read_platemaps(platemap, [export.plate for export in exports], external=external)
    summaries = []
    with store.writing():
        for number, export in enumerate(exports):
            name = PlateName(export.batch, export.plate)
            progress(f"plate {name}", number, len(exports))
            outcome = _ingest_plate(store, export, name, partial(_advance, progress, name, number, len(exports)))
            if annotations is not None:
                store.write_annotation(name, _annotation_of(annotations, name))
            audit = pl.read_parquet(store.audit_path(name), hive_partitioning=False)
            summaries.append(summarize(audit).with_columns(pl.lit(outcome).alias("outcome")))
            progress(f"plate {name}", number + 1, len(exports))
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


def _ingest_plate(store: ProfileStore, export: PlateExport, name: PlateName, advance: Callable[[float], None]) -> str:
    try:
        listing = _listing(export)
        present = store.partition("cells", name)
        if (
            present is not None
            and present.path.is_file()
            and store.audit_path(name).is_file()
            and _unchanged(export, present.manifest, present.path.parent, listing)
        ):
            return "unchanged"
        planned = plan(export)
        audit = Audit()
        token = digest_of({"listing": listing, "cytofast": library_versions()["cytofast"]})

        def manifest() -> Manifest:
            table = audit.table()
            _require_cells(table, planned)
            store.write_audit(name, table)
            contents = dict(table.select("file", "digest").unique().rows())
            inputs = {"files": listing, "content": digest_of(contents), "compartments": digest_of(export.compartments)}
            return Manifest(
                level="cells",
                batch=name.batch,
                plate=name.plate,
                file="",
                rows=0,
                features=0,
                schema="",
                key=digest_of({"inputs": inputs, "cytofast": library_versions()["cytofast"]}),
                inputs=inputs,
            )

        store.write_partition("cells", name, token, _counted(planned, audit, advance), manifest)
    except CytofastError as error:
        raise type(error)(f"plate {name}: {error}") from error
    return "written"


def _counted(planned: Plan, audit: Audit, advance: Callable[[float], None]) -> Iterator[pl.DataFrame]:
    total = max(1, len(planned.sites))
    for frame in planned.cells(audit):
        advance(audit.images / total)
        yield frame


def _require_cells(table: pl.DataFrame, planned: Plan) -> None:
    if table.filter(table["compartment"] != "Image")["rows_joined"].sum() == 0:
        raise DataError(
            f"{len(planned.sites):,} images were read and not one cell came of it. "
            "Hint: do the parent columns and object numbers of the compartments belong together?"
        )


def _relative(export: PlateExport) -> dict[str, Path]:
    return {f"{folder.name}/{path.name}": path for folder in export.folders for path in folder.files}


def _listing(export: PlateExport) -> str:
    """A digest of the names and sizes of all files, and of what is taken from them."""
    files = {name: path.stat().st_size for name, path in _relative(export).items()}
    return digest_of({"files": files, "compartments": export.compartments})


def _unchanged(export: PlateExport, manifest: Manifest, folder: Path, listing: str) -> bool:
    """Whether a finished partition was made of these very files.

    Names and sizes must be the same. Files that did not change since the manifest was written (by the change time, which
    copying with preserved times cannot set back) need not be read; otherwise their content decides.
    """
    if manifest.inputs.get("files") != listing or manifest.versions.get("cytofast") != library_versions()["cytofast"]:
        return False
    written = (folder / NAME).stat().st_mtime_ns
    files = _relative(export)
    if all(path.stat().st_ctime_ns < written for path in files.values()):
        return True
    with ThreadPoolExecutor(resources.current().threads) as pool:
        digests = dict(zip(files, pool.map(_digest, files.values()), strict=True))
    return manifest.inputs.get("content") == digest_of(digests)


def _digest(path: Path) -> str:
    """The digest that an audit keeps of a file."""
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()
