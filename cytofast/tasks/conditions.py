"""Every task over every combination of the condition columns: one tidy table, and the tables behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from cytofast.errors import RecipeError
from cytofast.schema import as_columns
from cytofast.tasks.grid import Grid
from cytofast.tasks.preset import Benchmark
from cytofast.tasks.results import TaskResults
from cytofast.tasks.task import Task

Progress = Callable[[str, float, int], None]
"""Called with what is being done, how many questions are answered, and how many there are."""


def run_conditions(
    profiles: pl.DataFrame | pl.LazyFrame,
    tasks: str | Benchmark | Sequence[Task],
    conditions: str | Sequence[str] | None = None,
    *,
    where: str | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Ask every task in every condition, and give one tidy table.

    Conditions are answered side by side, on as many threads as :func:`cytofast.limits` allows. A task that cannot be
    answered in a condition (one replicate, no controls, no label in common) has a row that says why; the others go on.

    Parameters
    ----------
    profiles
        Wells of all conditions: a DataFrame, a LazyFrame or a level of a store. A LazyFrame is read condition by condition.
    tasks
        ``"cpjump1"``, a :class:`cytofast.Benchmark`, or a list of tasks.
    conditions
        Columns whose combinations are the conditions; in a benchmark they are known. An empty list: all wells are one.
    where
        SQL predicate: wells that take part at all. For a benchmark, in place of its own.
    folder
        Keep what is done there, and go on from there: what has the same question and the same wells is not asked again.
        When everything is answered, the folder has all tables (see :func:`cytofast.read_results`).
    progress
        Called after each answer.

    Returns
    -------
    polars.DataFrame
        One row a task and condition: ``task``, the condition columns (those of the second side, where there is one, end in
        ``_against``), ``n``, ``fraction_retrieved``, ``low``, ``high`` (exact 95 % interval of a share, after Clopper and
        Pearson: what was tested is taken for a sample), ``published``, ``n_retrieved``, ``n_untested``,
        ``mean_average_precision``, ``status``, ``note``. :class:`cytofast.TaskResults`, which
        :func:`cytofast.answer_conditions` gives, explains them all.

    Raises
    ------
    RecipeError
        Tasks or predicates that make no sense, or two tasks of one name in one condition.
    SchemaError
        A column is missing.
    DataError
        No well is in any condition.

    Examples
    --------
    >>> import polars as pl
    >>> from cytofast import Detection
    >>> wells = pl.DataFrame({
    ...     "Metadata_Plate": ["P1", "P1", "P1", "P2", "P2", "P2"], "Metadata_cell": "U2OS",
    ...     "Metadata_pert": ["a", None, None, "a", None, None],
    ...     "Metadata_control_type": [None, "negcon", "negcon"] * 2,
    ...     "Cells_x": [1.0, -1.0, 0.1, 1.1, -0.9, 0.0], "Cells_y": [1.0, 0.2, -1.0, 0.9, 0.1, -1.0]})
    >>> task = Detection(perturbation="Metadata_pert", null="ranks")
    >>> run_conditions(wells, [task], "Metadata_cell").select("task", "Metadata_cell", "n", "fraction_retrieved").rows()
    [('detection', 'U2OS', 1, 0.0)]
    """
    return answer_conditions(profiles, tasks, conditions, where=where, folder=folder, progress=progress).summary


def answer_conditions(
    profiles: pl.DataFrame | pl.LazyFrame,
    tasks: str | Benchmark | Sequence[Task],
    conditions: str | Sequence[str] | None = None,
    *,
    where: str | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> TaskResults:
    """As :func:`cytofast.run_conditions`, with every table behind the tidy one: perturbations, labels, pairs, plates.

    The parameters are those of :func:`cytofast.run_conditions`; a report is drawn from the result.
    """
    benchmark = _benchmark(tasks, conditions, where)
    grid = Grid(profiles, benchmark, None if folder is None else Path(folder), progress)
    return grid.run()


def _benchmark(
    tasks: str | Benchmark | Sequence[Task], conditions: str | Sequence[str] | None, where: str | None
) -> Benchmark:
    if isinstance(tasks, str):
        tasks = Benchmark.named(tasks)
    if isinstance(tasks, Benchmark):
        changed = replace(tasks, where=where) if where is not None else tasks
        return replace(changed, conditions=tuple(as_columns(conditions))) if conditions is not None else changed
    wrong = [task for task in tasks if not isinstance(task, Task)]
    if wrong or not tasks:
        raise RecipeError(
            f"tasks= is a benchmark's name or a list of tasks such as [Detection()], not {wrong or tasks!r}"
        )
    if conditions is None:
        raise RecipeError(
            "run_conditions: conditions= names no column. Hint: cell type, time point, modality, ...; or [], if all wells "
            "are one condition."
        )
    return Benchmark(tuple(tasks), tuple(as_columns(conditions)), where)
