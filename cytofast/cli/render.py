"""What a terminal, or the next program, gets to see."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False)


class Format(StrEnum):
    """How a table is written to standard output."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def say(text: str) -> None:
    """A line for people; goes to standard error, so that standard output stays for programs."""
    err.print(text, markup=False, soft_wrap=True)


def show_json(content: object) -> None:
    """JSON for programs."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def show(table: pl.DataFrame, form: Format = Format.TABLE, title: str | None = None, most: int = 40) -> None:
    """A frame in one of the formats; in a terminal at most ``most`` rows, and it says how many there are."""
    if form is Format.JSON:
        show_json(table.to_dicts())
    elif form is Format.CSV:
        sys.stdout.write(table.write_csv())
    elif form is Format.PARQUET:
        table.write_parquet(sys.stdout.buffer)
    else:
        drawn = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
        for name, dtype in table.schema.items():
            drawn.add_column(
                name.removeprefix("Metadata_"), justify="right" if dtype.is_numeric() else "left", overflow="fold"
            )
        for row in table.head(most).rows():
            drawn.add_row(*(_cell(value) for value in row))
        out.print(drawn)
        if table.height > most:
            out.print(f"... and {table.height - most:,} more rows", markup=False)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("[", r"\[")


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[str, float, int], None]]:
    """A bar with rate and time left on a terminal; nothing elsewhere."""
    if not err.is_terminal:
        yield lambda _what, _done, _total: None
        return
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:.1f}/{task.total:.0f} " + unit),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=1, rate="")

        def advance(what: str, done: float, total: int) -> None:
            speed = bar.tasks[task].speed
            bar.update(
                task, description=what[-32:], completed=done, total=total, rate=f"{speed:.2f}/s" if speed else ""
            )

        yield advance


def written(path: Path, rows: int, columns: int) -> None:
    """Say what was written where."""
    say(f"wrote {path}: {rows:,} rows x {columns:,} columns")
