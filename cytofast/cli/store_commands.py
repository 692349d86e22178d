"""Commands over a store: demo, ingest, run, describe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import polars as pl
import typer

from cytofast import resources
from cytofast.cli.render import Format, out, progress_bar, say, show, show_json

Store = Annotated[Path, typer.Option("--store", metavar="DIR", help="The profile store.")]
Memory = Annotated[
    str | None, typer.Option(help="Peak memory to stay under, such as 2GB. Default: a sixteenth of the machine's.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Worker threads. Default: every core.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON for programs.")]


def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to put it.")] = Path("cytofast-demo"),
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Make a small experiment, ingest it, and run the default recipe.

    Two plates of 384 wells as CellProfiler CSV folders, with planted effects. Run it again to see what resuming looks like.

    [bold]Example:[/bold] cytofast demo my-demo
    """
    from cytofast.ingest.example import write_example
    from cytofast.recipe.run import run
    from cytofast.store.profile_store import open_store

    experiment, store_path = folder / "experiment", folder / "store"
    say(f"making an experiment in {experiment}")
    write_example(experiment)
    store = open_store(store_path, create=True)
    with resources.limits(memory, threads):
        say(f"ingesting it into {store_path}")
        with progress_bar("plates") as advance:
            store.ingest(experiment / "analysis", platemap=experiment / "metadata", progress=advance)
        say("running the default recipe: wells, then profiles")
        with progress_bar("plates") as advance:
            summary = run("default", store, progress=advance)
    show(_without_one_batch(summary))
    for line in (
        f"\nThe store is {store_path}. Try next:",
        f"  cytofast describe {store_path}",
        f"  cytofast report --store {store_path} -o {folder / 'report.html'}",
        f"  cytofast ask control_drift --store {store_path}",
        "and in Python:",
        "  import cytofast",
        f"  cytofast.open_store({str(store_path)!r}).scan('profiles').collect()",
    ):
        out.print(line, markup=False, soft_wrap=True)


def ingest(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of CellProfiler's CSV files, at any level; a SQLite file; a table; a folder of them.",
        ),
    ],
    store: Store,
    platemap: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE_OR_DIR",
            help="A platemap, a table of plates and wells, or a folder with barcode_platemap.csv.",
        ),
    ] = None,
    external: Annotated[
        Path | None, typer.Option(metavar="FILE", help="More metadata, joined to the platemap by a shared column.")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Name of the batch, where the folders do not tell it.")] = None,
    plate: Annotated[
        str | None, typer.Option(help="Name of the plate, where neither files nor folders tell it.")
    ] = None,
    compartment: Annotated[
        list[str] | None, typer.Option(help="A compartment to join; repeat it. Default: Cells, Cytoplasm, Nuclei.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="Of a table: its level, such as wells. Default: recognised, and told.")
    ] = None,
    only_plate: Annotated[
        list[str] | None, typer.Option(metavar="PLATE", help="Read this plate alone; repeat it.")
    ] = None,
    well: Annotated[list[str] | None, typer.Option(metavar="WELL", help="Read this well alone; repeat it.")] = None,
    site: Annotated[list[str] | None, typer.Option(metavar="SITE", help="Read this site alone; repeat it.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Keep this feature, or pattern as 'Cells_AreaShape_*'; repeat it."),
    ] = None,
    cells_per_well: Annotated[int | None, typer.Option(min=1, help="Keep so many cells of each well.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which cells those are.")] = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse files whose columns differ, or that lack objects.")
    ] = False,
    duplicates: Annotated[
        str, typer.Option(metavar="refuse|first", help="Two rows of one object: refuse, or keep the first and count.")
    ] = "refuse",
    mapping: Annotated[
        Path | None, typer.Option(metavar="TOML", help="What the columns of foreign tables are; see docs/formats.md.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a plate even if images that the store has of it are lost.")
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Finish the rest where a file or plate is at fault, then list the faults."),
    ] = False,
    memory: Memory = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Read CellProfiler output or tables into a store, and say what became of every row.

    [bold]Example:[/bold] cytofast ingest analysis/ --store my-store --platemap metadata/platemaps/2020_11_04_CPJUMP1
    """
    from cytofast.ingest.choice import Choice
    from cytofast.ingest.failures import Failures
    from cytofast.ingest.mapping import ColumnMapping
    from cytofast.store import ingesting
    from cytofast.store.profile_store import open_store

    choice = Choice(
        plates=tuple(only_plate or ()),
        wells=tuple(well or ()),
        sites=tuple(site or ()),
        columns=tuple(column or ()),
        cells_per_well=cells_per_well,
        seed=seed,
        strict=strict,
        duplicates=cast("Any", duplicates),
        mapping=None if mapping is None else ColumnMapping.read(mapping),
    )
    failures = Failures(keep_going)
    with resources.limits(memory, threads):
        # Before the store is made: a wrong path should not leave an empty one.
        found = ingesting.find(
            source,
            platemap=platemap,
            external=external,
            batch=batch,
            plate=plate,
            compartments=compartment or None,
            choice=choice,
            level=level,
            failures=failures,
        )
        opened = open_store(store, create=True)
        with progress_bar("plates") as advance:
            summary = ingesting.ingest(opened, found, replace=replace, progress=advance, failures=failures)
    if as_json:
        show(summary, Format.JSON)
    else:
        _show_audit(summary)
    if error := failures.told(summary["plate"].n_unique()):
        raise error


def _show_audit(summary: pl.DataFrame) -> None:
    """Rows read, joined and left over by compartment, then every note."""
    counts = summary.select("plate", "compartment", "images", "rows_read", "rows_joined", "orphans", "columns_missing")
    show(counts.rename({"rows_read": "read", "rows_joined": "joined", "columns_missing": "columns missing"}))
    for row in summary.select("plate", "compartment", "notes").rows():
        for note in row[2]:
            out.print(f"{row[0]}, {row[1]}: {note}", markup=False)


def run_recipe(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A TOML file, or a shipped recipe: default, single_cells, cpjump1, ..."),
    ],
    store: Store,
    memory: Memory = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Run a recipe over a store, plate by plate; what is done already is skipped.

    [bold]Example:[/bold] cytofast run default --store my-store --memory 2GB
    """
    from cytofast.recipe.run import run

    with progress_bar("plates") as advance:
        summary = run(recipe, store, memory=memory, threads=threads, progress=advance)
    show(summary if as_json else _without_one_batch(summary), Format.JSON if as_json else Format.TABLE)


def _without_one_batch(summary: pl.DataFrame) -> pl.DataFrame:
    """Leave the batch out where it is the same everywhere: a terminal is narrow."""
    return summary.drop("batch") if summary["batch"].n_unique() == 1 else summary


def describe(
    store: Annotated[Path, typer.Argument(metavar="DIR", help="The profile store.")],
    as_json: Json = False,
) -> None:
    """Say what is in a store: levels, rows, features, plates, and what ingest set aside.

    [bold]Example:[/bold] cytofast describe my-store --json
    """
    from cytofast.store.profile_store import open_store

    opened = open_store(store)
    content = opened.describe()
    if as_json:
        show_json(content)
        return
    levels = [{"level": name, **level} for name, level in content["levels"].items()]
    if not levels:
        say(f"{store} is an empty store; ingest a CellProfiler folder into it")
        return
    for row in levels:
        if outdated := row.pop("outdated"):
            say(
                f"note: level {row['level']!r}: {outdated} of {row['plates']} plates are older than what they were made "
                "from; run their recipe again"
            )
    show(pl.DataFrame(levels), title=f"{store} (format {content['format_version']})")
    summary = opened.audit_summary()
    if summary is not None:
        out.print("\nWhat ingest read:")
        _show_audit(summary)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("demo")(demo)
    app.command("ingest")(ingest)
    app.command("run")(run_recipe)
    app.command("describe")(describe)
