"""The work of a benchmark: conditions are read, questions are answered side by side, answers are kept."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import polars as pl

from cytofast import resources
from cytofast.blocks import predicate, predicate_columns, require_polars
from cytofast.errors import DataError, ProfileWarning, RecipeError, StoreError
from cytofast.kernels.jit import over_items
from cytofast.schema import is_metadata, require_columns, resolve_features
from cytofast.tasks import parts
from cytofast.tasks.answers import Side, cross_part, detection_part, neighbour_part, pair_part, sister_part
from cytofast.tasks.detection import Detection
from cytofast.tasks.directionality import PairTask
from cytofast.tasks.labels import LabelTask
from cytofast.tasks.matching import CrossMatching, CrossTask, SisterMatching
from cytofast.tasks.neighbours import NearestNeighbourAccuracy
from cytofast.tasks.parts import Part
from cytofast.tasks.preset import Benchmark
from cytofast.tasks.questions import Question, questions_of
from cytofast.tasks.results import AGAINST, TaskResults
from cytofast.tasks.tables import tables_of
from cytofast.tasks.task import Task, Wells, wells_of

Progress = Callable[[str, float, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


def _quiet(what: str, done: float, total: int) -> None:
    """Report nothing."""


class Grid:
    """One run of a benchmark; :meth:`run` gives its tables."""

    def __init__(
        self,
        profiles: pl.DataFrame | pl.LazyFrame,
        benchmark: Benchmark,
        folder: Path | None,
        progress: Progress | None,
    ) -> None:
        require_polars(profiles, "run_conditions")
        if not benchmark.conditions and any(t.only is not None or isinstance(t, CrossTask) for t in benchmark.tasks):
            raise RecipeError(
                "run_conditions: conditions= names no column, but there are tasks for some conditions only, or across them. "
                "Hint: cell type, time point, modality, ..."
            )
        if folder is not None and folder.exists() and not folder.is_dir():
            raise StoreError(f"{folder} is no folder. Hint: folder= is where all tables go, each in a file of its own.")
        self.benchmark, self.folder = benchmark, folder
        self.progress = progress or _quiet
        self.limits = resources.current()
        self.also = tuple(dict.fromkeys(name for task in benchmark.tasks for name in task.also()))
        self.profiles = self._chosen(profiles)
        self.conditions = self._conditions()
        self.questions, self.idle = questions_of(benchmark, self.conditions)
        self.detections = self._detections()
        self.total = len(self.detections) + sum(not isinstance(q.task, Detection) for q in self.questions)
        self._answered = 0
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        self._held: dict[tuple[int, Task], Wells] = {}
        self._bytes = 0
        self._digests: dict[int, str] = {}
        self._found: dict[tuple[int, Detection], Part] = {}
        self._plates: dict[int, pl.DataFrame] = {}

    # --- what there is to do ---------------------------------------------------------------------------------------------

    def _chosen(self, profiles: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
        """The rows and columns that some task looks at."""
        schema = profiles.collect_schema()
        where = self.benchmark.where
        names = list(self.benchmark.conditions)
        require_columns(schema, [*names, *predicate_columns(where)], "run_conditions")
        kept = dict.fromkeys(name for name in schema.names() if is_metadata(name) or name in self.also or name in names)
        for task in self.benchmark.tasks:
            require_columns(schema, task.columns(), f"task {task.name!r}")
            if isinstance(task, LabelTask) and not any(name in schema for name in task.label):
                require_columns(schema, task.label, f"task {task.name!r}")
            kept |= dict.fromkeys([*task.columns(), *resolve_features(schema, task.features, f"task {task.name!r}")])
        lazy = profiles.lazy()
        return (lazy if where is None else lazy.filter(predicate(where))).select(list(kept))

    def _conditions(self) -> pl.DataFrame:
        names = list(self.benchmark.conditions)
        if not names:
            return pl.DataFrame(height=1)  # one condition without a name
        counted = self.profiles.select(names).group_by(names).len("wells in it").collect()
        complete = counted.drop_nulls(names)
        lost = int(counted["wells in it"].sum()) - int(complete["wells in it"].sum())
        if not complete.height:
            said = (
                f"satisfies where={self.benchmark.where!r}"
                if self.benchmark.where and not lost
                else f"has all of {names}"
            )
            raise DataError(f"run_conditions: no well {said}. Hint: are the values written as in the table?")
        if lost:
            warnings.warn(f"{lost:,} wells lack one of {names} and are in no condition", ProfileWarning, stacklevel=5)
        return complete.select(names).sort(names)

    def _detections(self) -> dict[tuple[int, Detection], Detection]:
        """Detections to ask: those of the benchmark, and those that other tasks build on."""
        found: dict[tuple[int, Detection], Detection] = {}
        for question in self.questions:
            if isinstance(question.task, Detection):
                found[question.first[0], _plain(question.task)] = question.task
        for question in self.questions:
            if isinstance(question.task, LabelTask) and question.task.detected_only:
                for number in {*question.first, *question.second}:
                    found.setdefault((number, _plain(question.task.detection())), question.task.detection())
        return found

    # --- doing it --------------------------------------------------------------------------------------------------------

    def run(self) -> TaskResults:
        """Detections first, since matching builds on them; then everything else."""
        self._each(self._detect, list(range(self.conditions.height)))
        later = [question for question in self.questions if not isinstance(question.task, Detection)]
        answers = dict(zip(later, self._each(self._answer, later), strict=True))
        for question in self.questions:
            if isinstance(question.task, Detection):
                answers[question] = self._found[question.first[0], _plain(question.task)]
        ordered = [(question, answers[question]) for question in self.questions]
        results = tables_of(self.benchmark, self.conditions, ordered, sorted(self._plates.items()), self.idle)
        if self.folder is not None:
            results.write(self.folder)
            parts.forget(self.folder, self._keys)
        return results

    def _each(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        inner = max(1, self.limits.threads // max(1, len(items)))

        def limited(item: Item) -> Result:
            with resources.limits(self.limits.memory, inner):
                return work(item)

        return over_items(limited, items, self.limits.threads)

    def _detect(self, number: int) -> None:
        """All detections of one condition, and its plates."""
        if self.folder is not None:
            self._digests[number] = parts.digest(self._read(number))
        concerned = next((q.task for q in self.questions if number in (*q.first, *q.second)), None)
        if concerned is None:
            return
        with contextlib.suppress(DataError):  # the answers to this condition's questions say the same
            self._plates[number] = self._ready(concerned, number).plates
        for (where, plain), task in self.detections.items():
            if where == number:
                self._found[number, plain] = self._kept(task, [number], self._detection(task, number))
                self._report(task, number)

    def _detection(self, task: Detection, number: int) -> Callable[[], Part]:
        return lambda: detection_part(task, self._ready(task, number))

    def _answer(self, question: Question) -> Part:
        task, first, second = question.task, question.first, question.second
        if isinstance(task, SisterMatching):
            part = self._kept(task, first, lambda: sister_part(task, self._side(task, first[0])))
        elif isinstance(task, CrossMatching):
            part = self._kept(
                task,
                (*first, *second),
                lambda: cross_part(task, self._side(task, first[0]), self._side(task, second[0])),
            )
        elif isinstance(task, NearestNeighbourAccuracy):
            part = self._kept(task, first, lambda: neighbour_part(task, self._ready(task, first[0])))
        elif isinstance(task, PairTask):
            part = self._kept(task, (*first, *second), lambda: pair_part(task, self._paired(task, first, second)))
        else:
            raise RecipeError(f"run_conditions: tasks of kind {type(task).__name__} cannot be asked over conditions")
        self._report(task, first[0])
        return part

    def _paired(
        self, task: PairTask, first: Sequence[int], second: Sequence[int]
    ) -> list[tuple[Side, Side, pl.DataFrame]]:
        pooled = [name for name in self.conditions.columns if name in task.pool]
        return [
            (
                self._side(task, i),
                self._side(task, j),
                self.conditions[[i]]
                .select(pooled)
                .hstack(self.conditions[[j]].select(pooled).rename(lambda n: n + AGAINST)),
            )
            for i, j in zip(first, second, strict=True)
        ]

    def _kept(self, task: Task, numbers: Sequence[int], work: Callable[[], Part]) -> Part:
        """The part as it was kept, or made now; data that cannot answer give a part that says so."""
        key = ""
        if self.folder is not None:
            rows = self.conditions[list(numbers)].rows()
            known = [self._digests[number] for number in numbers]
            key = parts.digest(version("cytofast"), type(task).__name__, task.parameters(), self.also, rows, known)
            self._keys.add(key)
            found = parts.kept(self.folder, key)
            if found is not None:
                return found
        try:
            part = work()
        except DataError as error:
            part = Part(notes=[str(error)], done=False)
        if self.folder is not None:
            parts.keep(self.folder, key, part)
        return part

    def _side(self, task: LabelTask, number: int) -> Side:
        """Wells of a condition, and what was detected among them if the task asks for it."""
        wells = self._ready(task, number)
        if not task.detected_only:
            return wells, None
        part = self._found[number, _plain(task.detection())]
        if not part.done:
            shown = " ".join(str(value) for value in self.conditions.row(number))
            raise DataError(f"nothing could be detected in {shown}: {'; '.join(part.notes)}")
        return wells, part.tables["perturbations"]

    # --- reading ---------------------------------------------------------------------------------------------------------

    def _read(self, number: int) -> pl.DataFrame:
        row = self.conditions.row(number, named=True)
        return self.profiles.filter(*(pl.col(name) == pl.lit(value) for name, value in row.items())).collect()

    def _ready(self, task: Task, number: int) -> Wells:
        """Wells of a condition, held in memory while there is room."""
        asked = Task(
            name="wells",
            perturbation=task.perturbation,
            controls=task.controls,
            block=task.block,
            features=task.features,
            on_invalid=task.on_invalid,
            about=tuple(dict.fromkeys([*self.also, *task.columns()])),
        )
        held = self._held.get((number, asked))
        if held is not None:
            return held
        shown = " ".join(str(value) for value in self.conditions.row(number))
        wells = wells_of(asked, self._read(number), f"condition {shown}" if shown else "run_conditions")
        size = int(wells.table.estimated_size())
        with self._lock:
            if self._bytes + size < self.limits.working_bytes // 3:
                self._held[number, asked] = wells
                self._bytes += size
        return wells

    def _report(self, task: Task, number: int) -> None:
        with self._lock:
            self._answered += 1
            done = float(self._answered)
        self.progress(f"{task.name} {' '.join(str(v) for v in self.conditions.row(number))}", done, self.total)


def _plain(detection: Detection) -> Detection:
    """A detection without what does not change its answer."""
    return replace(detection, name="detection", only=None, about=())
