"""The command that writes files for other tools: export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cytofast import resources
from cytofast.cli.render import Format, progress_bar, say, show, written
from cytofast.cli.step_commands import Memory, Threads, require_distinct
from cytofast.errors import RecipeError


class Kind(StrEnum):
    """What the files of a store's levels are."""

    CSV_GZ = "csv.gz"
    CSV = "csv"
    PARQUET = "parquet"
    GCT = "gct"
    H5AD = "h5ad"


class By(StrEnum):
    """How much goes into one file."""

    PLATE = "plate"
    BATCH = "batch"
    ALL = "all"


def export(
    source: Annotated[Path, typer.Argument(metavar="STORE|FILE", help="A profile store, or a table of profiles.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR|FILE", help="A folder for a store's levels; a file for a table."),
    ],
    level: Annotated[
        list[str] | None, typer.Option(help="A level of the store; repeat it. Default: all but single cells.")
    ] = None,
    form: Annotated[Kind, typer.Option("--format", help="Of a store's files.")] = Kind.CSV_GZ,
    by: Annotated[
        By | None, typer.Option(help="One file for each of these. Default: plate; batch for gct and h5ad.")
    ] = None,
    suffix: Annotated[
        str | None, typer.Option(help="Instead of pycytominer's (_augmented, _normalized_negcon, ...).")
    ] = None,
    plate: Annotated[list[str] | None, typer.Option(help="Only this plate; repeat it.")] = None,
    float_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="For csv and gct, such as %.5g. Default: every digit.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(metavar="TOML", help="What a foreign table's columns are; see docs/formats.md.")
    ] = None,
    memory: Memory = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON for programs.")] = False,
) -> None:
    """Write levels of a store, or a table, for other tools.

    A store's files are called as pycytominer calls them. A table's new kind is told by
    the ending of its name: csv.gz, parquet, gct (1.3, for Morpheus), h5ad (AnnData).
    The same data make the same bytes.

    [bold]Example:[/bold] cytofast export my-store -o profiles --float-format %.5g

    In Python: cytofast.export, write_profiles.
    """
    with resources.limits(memory, threads):
        if source.is_dir():
            if mapping is not None:
                raise RecipeError("--mapping is for a table of another program; a store has its names already")
            from cytofast.store.exporting import export as export_store

            with progress_bar("files") as advance:
                table = export_store(
                    source,
                    output,
                    levels=level or None,
                    format=form.value,
                    by=None if by is None else by.value,
                    suffix=suffix,
                    plates=plate or None,
                    float_format=float_format,
                    progress=advance,
                )
            show(table, Format.JSON if as_json else Format.TABLE)
            say(f"wrote {table.height:,} files below {output}")
            return
        if level or plate or suffix or by is not None:
            raise RecipeError(f"{source} is a table; --level, --plate, --suffix and --by are for stores")
        _convert(source, output, mapping, float_format)


def _convert(source: Path, output: Path, mapping: Path | None, float_format: str | None) -> None:
    from cytofast.ingest.profiles import read_profiles
    from cytofast.ingest.writing import write_profiles

    require_distinct({"input": source, "mapping": mapping}, {"output": output})
    if mapping is None:
        profiles = read_profiles(source)
    else:
        from cytofast.ingest.mapping import read_mapped

        profiles = read_mapped(source, mapping)
    rows = write_profiles(profiles, output, float_format=float_format)
    written(output, rows, len(profiles.collect_schema()))


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("export")(export)
