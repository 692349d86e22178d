"""Benchmarks over a store: ``benchmark``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from cytofast import resources
from cytofast.cli.render import Format, progress_bar, say, show, written
from cytofast.cli.step_commands import FeatureOption, Memory, Threads, columns_of, names_of
from cytofast.cli.store_commands import Store


def benchmark(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Which benchmark: cpjump1, bbbc021, or a TOML file of your own.")
    ],
    store: Store,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Write the tidy table there: parquet, csv or csv.gz."),
    ] = None,
    level: Annotated[str | None, typer.Option(help="Level of the store. Default: the benchmark's, profiles.")] = None,
    plates: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the store does not know of its plates: cell type, time, ..."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="Cut conditions further: models or feature sets side by side.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Wells that take part, in place of the benchmark's own rule.")
    ] = None,
    features: FeatureOption = None,
    null: Annotated[
        str | None, typer.Option(help="cpjump1 (the paper's), labels (valid p-values), ranks or copairs.")
    ] = None,
    null_size: Annotated[int | None, typer.Option(min=1, help="Draws of the null. Default: the benchmark's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed, other draws.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Retrieved is a q-value below this. Default: 0.05.")] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where all tables go, and what is done is kept. Default: in the store."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How the table is written to the terminal.")] = Format.TABLE,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Ask every task of a benchmark in every condition, beside what was published.

    cpjump1: detection, sister matching, gene-compound matching, directionality, by perturbation, cell type and time point.
    bbbc021: whether a treatment's nearest neighbour of another compound has its mechanism.
    Stopped, it goes on where it was. All tables go to STORE/benchmarks/NAME, where cytofast report finds them.

    [bold]Example:[/bold] cytofast benchmark cpjump1 --store my-store -o cpjump1.csv

    In Python: cytofast.run_conditions.
    """
    from cytofast.ingest.endings import kind_of
    from cytofast.ingest.writing import write_profiles
    from cytofast.store.profile_store import open_store
    from cytofast.tasks.conditions import answer_conditions
    from cytofast.tasks.plates import with_plates
    from cytofast.tasks.preset import Benchmark

    if output is not None:
        kind_of(output)  # before anything is asked
    chosen = Benchmark.read(name)
    given = {"null": null, "null_size": null_size, "seed": seed, "threshold": threshold, "features": names_of(features)}
    chosen = chosen.with_options(**{key: value for key, value in given.items() if value is not None})
    if by is not None:
        chosen = chosen.by(*columns_of(by))
    opened = open_store(store)
    folder = results or opened.path / "benchmarks" / Path(name).stem
    with resources.limits(memory, threads):
        profiles = opened.scan(level or chosen.level)
        if plates is not None:
            profiles = with_plates(profiles, plates)
        with progress_bar("questions") as advance:
            found = answer_conditions(profiles, chosen, where=where, folder=folder, progress=advance)
    if output is not None:
        written(output, write_profiles(found.summary, output), found.summary.width)
    if form is not Format.TABLE:
        show(found.summary, form)
    elif output is None:
        _show_tasks(found.summary, found.conditions, chosen.title)
    for table in (found.perturbations, found.labels):
        _warn_of_doubtful(table)
    refused = found.summary.filter(found.summary["status"] != "done")
    for row in refused.head(10).rows(named=True):
        said = str(row["note"]).removeprefix(f"{row['task']}: ")
        say(f"note: {row['task']}: {_condition(row, found.conditions)}: {said}".replace(": : ", ": "))
    if refused.height > 10:
        say(f"note: {refused.height - 10} more could not be answered; the table says why")
    say(f"all tables are in {folder}")


def _condition(row: Mapping[str, Any], conditions: Sequence[str]) -> str:
    """The condition of a row in a few words; the second side after a cross."""
    sides = [[row.get(name + ending) for name in conditions] for ending in ("", "_against")]
    return " \u00d7 ".join(
        ", ".join(str(value) for value in side if value is not None)
        for side in sides
        if any(v is not None for v in side)
    )


def _show_tasks(summary: pl.DataFrame, conditions: Sequence[str], title: str) -> None:
    """A narrow table for each task: the condition in words, and rounded numbers. Without conditions, one table of tasks."""
    if title:
        say(title)
    numbers = ["fraction_retrieved", "low", "high", "published"]
    done = summary.filter(summary["status"] == "done")
    for mine in done.partition_by("task", maintain_order=True) if conditions else [done]:
        if mine.height:
            said = [_condition(row, conditions) if conditions else row["task"] for row in mine.rows(named=True)]
            named = pl.Series("condition" if conditions else "task", said, dtype=pl.String)
            table = mine.select("n", *(mine[name].round(3) for name in numbers)).insert_column(0, named)
            kept = [name for name in table.columns if table[name].null_count() < table.height]
            show(
                table.select(kept).rename({"fraction_retrieved": "retrieved"}),
                title=str(mine["task"][0]) if conditions else None,
                most=200,
            )


def _warn_of_doubtful(table: pl.DataFrame) -> None:
    """Count hits that the paper's p makes of perfect rankings of few candidates."""
    for task in table["task"].unique(maintain_order=True):
        mine = table.filter(table["task"] == task)
        doubtful = int(mine["doubtful"].sum())
        if doubtful:
            say(
                f"warning: {task}: {doubtful:,} of {int(mine['retrieved'].sum()):,} retrieved are doubtful: they rank few "
                "candidates, and this null does not count how few; --null labels tells which hold"
            )


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("benchmark")(benchmark)
