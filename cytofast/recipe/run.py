"""Run a recipe over a store, plate by plate; what is done already with the same inputs is skipped."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from cytofast import resources
from cytofast.errors import CytofastError, ProfileWarning, StoreError, listed
from cytofast.recipe.passes import extended, finish, pass_over
from cytofast.recipe.recipe import Recipe, fingerprint
from cytofast.schema import BATCH, PLATE, WELL
from cytofast.steps.annotate import Annotate
from cytofast.steps.step import Scope, Step
from cytofast.store.layout import EVERY_PLATE, PlateName
from cytofast.store.manifest import Manifest, digest_of, library_versions
from cytofast.store.partition import Partition, together
from cytofast.store.profile_store import ProfileStore, open_store

Progress = Callable[[str, float, int], None]
"""Called with what is being done, how many plates of the level are finished (with fractions), and how many there are."""

_SETTLED = {"ok", "matched"}
_COPIES_HELD = 12
"""So much more than all plates together must fit into memory before they are held there."""
_OF_ONE_PLATE = {Scope.ROW, Scope.PLATE}


def _quiet(what: str, done: float, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class _Level:
    """One level of a run: what it is made of, and how."""

    store: ProfileStore
    name: str
    source: str
    steps: tuple[Step, ...]

    def across_plates(self) -> bool:
        """Whether a step learns from all plates at once."""
        return any(step.scope not in _OF_ONE_PLATE for step in self.steps)

    def for_plate(self, partition: Partition) -> tuple[Step, ...]:
        """The steps, with the platemap of this plate where a step asks for the store's own."""
        return tuple(
            _with_platemap(step, self.store, [partition.name], f"plate {partition.name}") for step in self.steps
        )

    def key(self, steps: Sequence[Step], inputs: dict[str, str]) -> str:
        """What the result depends on."""
        return digest_of(
            {
                "inputs": inputs,
                "steps": [fingerprint(step) for step in steps],
                "cytofast": library_versions()["cytofast"],
            }
        )


def _with_platemap(step: Step, store: ProfileStore, names: list[PlateName], what: str) -> Step:
    if not isinstance(step, Annotate) or step.platemap is not None:
        return step
    table = store.annotations(names)
    if table is None:
        raise StoreError(
            f"{what} has no platemap in this store, and the recipe's annotate step names none. "
            "Hint: run `cytofast ingest` again with --platemap (cells are not read again), or give platemap = in the recipe."
        )
    return replace(step, platemap=table, on=[BATCH, PLATE, WELL])


def run(
    recipe: Recipe | str | Path,
    store: ProfileStore | str | Path,
    *,
    memory: str | int | None = None,
    threads: int | None = None,
    progress: Progress = _quiet,
) -> pl.DataFrame:
    """Make the levels of a recipe from what is in a store.

    Works plate by plate inside the memory budget and writes each partition whole. Killed at any moment and run again, it
    leaves the same bytes as an undisturbed run; partitions with the same inputs, parameters and version are skipped.

    Parameters
    ----------
    recipe
        A :class:`Recipe`, a TOML file, or the name of a shipped recipe (``"default"``).
    store
        A store or its path.
    memory, threads
        Limits, such as ``"2GB"``; by default a sixteenth of the machine's memory and all its cores.
    progress
        Called as work goes on.

    Returns
    -------
    polars.DataFrame
        One row a partition: ``level, batch, plate, rows, features, outcome`` (``written``, ``unchanged``, or
        ``removed``: this level no longer makes it) and ``notes`` (what was undefined or unmatched, counted).

    Raises
    ------
    StoreError
        The source level is not in the store, or a plate cannot be written.
    DataError, SchemaError, RecipeError
        A step cannot be applied; the message names the plate.
    """
    chosen = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    opened = store if isinstance(store, ProfileStore) else open_store(store)
    rows: list[dict[str, Any]] = []
    with resources.limits(memory, threads), opened.writing(), warnings.catch_warnings():
        # What a step would warn of is in its fit, which is saved and summed up in the notes.
        warnings.simplefilter("ignore", ProfileWarning)
        source = chosen.source
        for name, steps in chosen.levels.items():
            level = _Level(opened, name, source, tuple(steps))
            rows.extend(_run_level(level, progress))
            source = name
    return pl.DataFrame(rows, schema_overrides={"rows": pl.Int64, "features": pl.Int64})


def _run_level(level: _Level, progress: Progress) -> list[dict[str, Any]]:
    partitions = level.store.partitions(level.source)
    if not partitions:
        present = level.store.levels()
        raise StoreError(
            f"{level.store.path}: the recipe starts from level {level.source!r}, which is not in the store. "
            f"Hint: {f'it has {listed(present)}' if present else 'ingest a CellProfiler folder first'}."
        )
    ingested = [p for p in level.store.partitions(level.name) if "files" in p.manifest.inputs]
    if ingested:
        raise StoreError(
            f"{level.store.path}: level {level.name!r} holds {len(ingested):,} plates that were ingested as such, and a recipe "
            "would replace them. Hint: give the recipe's level another name."
        )
    if any(step.reduces for step in level.steps) and level.across_plates():
        return [_run_together(level, partitions, progress), *_without(level, {EVERY_PLATE})]
    shared = {}
    if level.across_plates():
        shared = {
            "every plate": digest_of(
                {f"{level.source}/{partition.name}": partition.manifest.key for partition in partitions}
            )
        }
    jobs = [_job(level, partition, shared) for partition in partitions]
    learned = _Learned([[None] * len(level.steps) for _ in jobs], {}, None)
    if level.across_plates() and any(job.present is None for job in jobs):
        learned = _learn_across(level, jobs, _kinds(partitions), progress)
    rows = []
    for number, job in enumerate(jobs):
        what = f"{level.name} {job.partition.name}"
        progress(what, number, len(jobs))
        rows.append(_run_plate(level, job, learned, number, partial(_advance, progress, what, number, len(jobs))))
        job.partition.forget()
        progress(what, number + 1, len(jobs))
    return [*rows, *_without(level, {partition.name for partition in partitions})]


def _without(level: _Level, made: set[PlateName]) -> list[dict[str, Any]]:
    """Take away what this level holds and no longer makes, so that no row is there twice."""
    stale = [partition for partition in level.store.partitions(level.name) if partition.name not in made]
    for partition in stale:
        level.store.remove_partition(partition)
    return [_row(partition.manifest, "removed", "") for partition in stale]


def _kinds(partitions: list[Partition]) -> list[pl.LazyFrame]:
    """One query for each kind of plate, by its columns.

    Every file is opened, so that a damaged one is named before anything is learned; what is held of it is let go.
    """
    kinds: dict[str, pl.LazyFrame] = {}
    for partition in partitions:
        lazy = partition.lazy()
        like = kinds.setdefault(partition.manifest.schema, lazy)
        if lazy.collect_schema() != like.collect_schema():
            raise StoreError(
                f"{partition.path}: its columns are not those that its manifest stands for. "
                "Hint: the file was changed; make this plate again."
            )
        partition.forget()
    return list(kinds.values())


def _advance(progress: Progress, what: str, number: int, total: int, done: int, parts: int) -> None:
    """Within a plate: some of its blocks are done, and its file is yet to be written."""
    progress(what, number + done / (parts + 1), total)


@dataclass(frozen=True)
class _Job:
    """One plate of a level: its input, its steps, what the result depends on, and the result if it is there already."""

    partition: Partition
    steps: tuple[Step, ...]
    inputs: dict[str, str]
    key: str
    present: Partition | None


def _job(level: _Level, partition: Partition, shared: dict[str, str]) -> _Job:
    name = partition.name
    with _naming(name, level.name):
        steps = level.for_plate(partition)
        inputs = {f"{level.source}/{name}": partition.manifest.key, **shared}
        key = level.key(steps, inputs)
        return _Job(partition, steps, inputs, key, _finished(level, name, key))


def _finished(level: _Level, name: PlateName, key: str) -> Partition | None:
    present = level.store.partition(level.name, name)
    return present if present is not None and present.manifest.key == key and present.whole else None


@contextmanager
def _naming(name: PlateName, level: str) -> Iterator[None]:
    """Errors inside say which plate and level they are about."""
    try:
        yield
    except CytofastError as error:
        raise type(error)(f"plate {name}, level {level!r}: {error}") from error


@dataclass(frozen=True)
class _Learned:
    """What the plates of a level learned together."""

    known: list[list[pl.DataFrame | None]]
    """For each plate, the fits up to the last step that needs all plates."""
    columns: dict[str, pl.DataType]
    """The columns of all plates together."""
    held: list[pl.DataFrame] | None
    """The plates as those steps leave them, where all of them fit into memory: then they are read once."""


def _learn_across(level: _Level, jobs: list[_Job], kinds: list[pl.LazyFrame], progress: Progress) -> _Learned:
    """Fits up to the last step that needs all plates, each from the profiles as the steps before it leave them.

    A step that looks at one plate learns from that plate alone, also here: two batches may use one barcode.
    """
    columns = dict(pl.concat(kinds, how="diagonal_relaxed").collect_schema())
    last = _last_across(level)
    whole = sum(job.partition.manifest.rows for job in jobs) * len(columns) * 4
    hold = whole <= resources.current().working_bytes // _COPIES_HELD
    # One query of all plates where that gives the same: of its own, each would hold its footer. Plates of other types would
    # be changed in the type of all.
    apart = hold or len(kinds) > 1 or any(step.scope in _OF_ONE_PLATE for step in level.steps[:last])
    parts = jobs if apart else jobs[:1]
    lazies = (
        [extended(job.partition.lazy(), columns) for job in jobs] if apart else [together([j.partition for j in jobs])]
    )
    if hold:
        lazies = [lazy.collect().lazy() for lazy in lazies]
    known: list[list[pl.DataFrame | None]] = [[None] * len(level.steps) for _ in parts]
    for index, step in enumerate(level.steps[: last + 1]):
        progress(f"{level.name}: {step.name} over all plates", index, last + 1)
        of_all = None
        if step.scope not in _OF_ONE_PLATE:
            of_all = step.fit(pl.concat(lazies, how="diagonal_relaxed"))
            if of_all.width:
                level.store.write_fit(level.name, None, index + 1, step.name, of_all)
        for number, job in enumerate(parts):
            with _naming(job.partition.name, level.name):
                own = job.steps[index]
                fit = own.fit(lazies[number]) if of_all is None else of_all
                known[number][index] = fit
                if hold or index < last:  # else each plate is read again, and changed then
                    lazies[number] = own.apply(lazies[number], fit)
    held = [lazy.collect() for lazy in lazies] if hold else None
    return _Learned(known if apart else [list(known[0]) for _ in jobs], columns, held)


def _last_across(level: _Level) -> int:
    return max(i for i, step in enumerate(level.steps) if step.scope not in _OF_ONE_PLATE)


def _run_plate(
    level: _Level,
    job: _Job,
    learned: _Learned,
    number: int,
    advance: Callable[[int, int], None],
) -> dict[str, Any]:
    if job.present is not None:
        return _row(job.present.manifest, "unchanged", "")
    name = job.partition.name
    with _naming(name, level.name):
        known = learned.known[number]
        if learned.held is None:
            passed = pass_over(job.partition, job.steps, known, learned.columns, advance)
        else:
            passed = finish(learned.held[number], job.steps, known, _last_across(level) + 1)
        paths = [
            level.store.write_fit(level.name, name, place, step.name, fit)
            if step.scope in _OF_ONE_PLATE
            else level.store.fit_path(level.name, None, place, step.name)
            for place, (step, fit) in enumerate(zip(job.steps, passed.fits, strict=True), 1)
            if fit.width
        ]
        manifest = _manifest(level, name, job.key, job.inputs, job.steps, paths)
        written = level.store.write_partition(level.name, name, job.key, passed.frames, lambda: manifest)
    return _row(written.manifest, "written", _notes(job.steps, passed.fits))


def _run_together(level: _Level, partitions: list[Partition], progress: Progress) -> dict[str, Any]:
    """A level with one partition for all plates (a consensus)."""
    progress(level.name, 0, 1)
    names = [partition.name for partition in partitions]
    steps = tuple(_with_platemap(step, level.store, names, "the store") for step in level.steps)
    inputs = {f"{level.source}/{partition.name}": partition.manifest.key for partition in partitions}
    key = level.key(steps, inputs)
    present = _finished(level, EVERY_PLATE, key)
    if present is not None:
        return _row(present.manifest, "unchanged", "")
    _kinds(partitions)  # a damaged file is named
    lazy = level.store.scan(level.source)
    fits = []
    for step in steps:
        fit = step.fit(lazy)
        fits.append(fit)
        lazy = step.apply(lazy, fit)
    paths = [
        level.store.write_fit(level.name, EVERY_PLATE, n, s.name, f)
        for n, (s, f) in enumerate(zip(steps, fits, strict=True), 1)
        if f.width
    ]
    manifest = _manifest(level, EVERY_PLATE, key, inputs, steps, paths)
    written = level.store.write_partition(level.name, EVERY_PLATE, key, [lazy.collect()], lambda: manifest)
    progress(level.name, 1, 1)
    return _row(written.manifest, "written", _notes(steps, fits))


def _manifest(
    level: _Level, name: PlateName, key: str, inputs: dict[str, str], steps: Sequence[Step], fits: list[str]
) -> Manifest:
    return Manifest(
        level=level.name,
        batch=name.batch,
        plate=name.plate,
        file="",
        rows=0,
        features=0,
        schema="",
        key=key,
        inputs=inputs,
        steps=[fingerprint(step) for step in steps],
        fits=fits,
    )


def _row(manifest: Manifest, outcome: str, notes: str) -> dict[str, Any]:
    return {
        "level": manifest.level,
        "batch": manifest.batch,
        "plate": manifest.plate,
        "rows": manifest.rows,
        "features": manifest.features,
        "outcome": outcome,
        "notes": notes,
    }


def _notes(steps: Sequence[Step], fits: Sequence[pl.DataFrame]) -> str:
    """What the fits report beside success, counted."""
    notes: list[str] = []
    for step, fit in zip(steps, fits, strict=True):
        if "status" in fit.columns:
            counts = fit["status"].value_counts().sort("status")
            notes.extend(
                f"{step.name}: {count:,} {status}" for status, count in counts.rows() if status not in _SETTLED
            )
    return "; ".join(notes)
