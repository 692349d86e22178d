"""The command that writes a page to look at: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytofast import resources
from cytofast.cli.render import out, progress_bar, say
from cytofast.errors import RecipeError
from cytofast.schema import as_columns

Store = Annotated[Path, typer.Option("--store", metavar="DIR", help="The profile store.")]
Memory = Annotated[
    str | None, typer.Option(help="Peak memory to stay under, such as 2GB. Default: a sixteenth of the machine's.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Worker threads. Default: every core.")]


def report(
    store: Store,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML file to write.")],
    level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="Profiles to compare and to map. Default: profiles.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A condition column; repeat it. Default: cell type, time and the like, where plates differ in them.",
        ),
    ] = None,
    controls: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="The negative controls, such as \"Metadata_Compound = 'DMSO'\". Default: negcon, or what the recipe scaled by.",
        ),
    ] = None,
    tables: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE_OR_DIR",
            help="Results computed before, by cytofast map or benchmark; repeat it. Those in the store are found.",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="What stands at the top.")] = None,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Write one HTML page about a store, to open in any browser, without a network.

    What is in it, plates, normalization, selection, retrieval, matching, a map, and where all numbers came from. What cannot
    be answered is said in its place.

    [bold]Example:[/bold] cytofast report --store my-store -o report.html

    In Python: cytofast.write_report, and cytofast.figures for single figures.
    """
    from cytofast.report.writing import write_report

    if title is not None and not title.strip():
        raise RecipeError("--title is empty. Hint: leave it out, and the store's name is taken.")
    with resources.limits(memory, threads), progress_bar("sections") as advance:
        made = write_report(
            store,
            output,
            level=level,
            by=as_columns(by) or None,
            controls=controls,
            tables=tables or [],
            title=title,
            progress=advance,
        )
    for line in made.headlines:
        out.print(f"- {line}", markup=False, soft_wrap=True)
    say(f"wrote {made.path}: {made.size / 1e6:.1f} MB, {len(made.sections)} sections")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("report")(report)
