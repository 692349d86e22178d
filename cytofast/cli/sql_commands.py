"""Commands that ask a store: sql, ask, shell, catalog."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer

from cytofast import resources
from cytofast.cli.render import Format, err, out, progress_bar, say, show
from cytofast.errors import RecipeError, StoreError

if TYPE_CHECKING:
    from cytofast.store.profile_store import ProfileStore

Store = Annotated[Path, typer.Option("--store", metavar="DIR", help="The profile store.")]
Param = Annotated[
    list[str] | None,
    typer.Option(
        "--param", metavar="NAME=VALUE", help="A value for $NAME; repeat it. Write $NAME::INTEGER for a number."
    ),
]
Form = Annotated[Format | None, typer.Option("--format", help="Default: a table, or what the ending of --output says.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead: parquet, csv, json, txt.")
]
Memory = Annotated[
    str | None, typer.Option(help="Peak memory to stay under, such as 2GB. Default: a sixteenth of the machine's.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Worker threads. Default: every core.")]
Seconds = Annotated[
    float | None, typer.Option("--time-limit", min=0.001, metavar="SECONDS", help="Stop the query after so long.")
]
Unrestricted = Annotated[
    bool, typer.Option("--unrestricted", help="Let SQL read other files, write, and change settings.")
]
_ENDINGS = {".parquet": Format.PARQUET, ".csv": Format.CSV, ".json": Format.JSON, ".txt": Format.TABLE}


def pairs(given: list[str] | None, what: str) -> dict[str, str]:
    """``NAME=VALUE`` as a mapping."""
    found: dict[str, str] = {}
    for text in given or []:
        name, mark, value = text.partition("=")
        if not mark or not name:
            raise RecipeError(f"{what} {text!r} is not NAME=VALUE")
        if name in found:
            raise RecipeError(f"{what} {name!r} is given twice")
        found[name] = value
    return found


def _form(form: Format | None, output: Path | None) -> Format:
    if form is not None:
        return form
    if output is None:
        return Format.TABLE
    if output.suffix not in _ENDINGS:
        raise RecipeError(
            f"{output}: the ending does not tell the format. Hint: say --format, or end in .parquet or .csv."
        )
    return _ENDINGS[output.suffix]


def run_query(
    store: ProfileStore,
    text: str,
    values: Mapping[str, Any],
    form: Format,
    output: Path | None,
    seconds: float | None = None,
    tables: dict[str, Any] | None = None,
    *,
    unrestricted: bool = False,
) -> None:
    """Run a query with a bar, and show or write what it gives."""
    from cytofast.store import answering

    with progress_bar("%") as advance:
        limits = answering.Limits(
            seconds, unrestricted, tables or {}, lambda share: advance("asking", max(share, 0.0), 100)
        )
        if output is not None:
            rows = answering.write(store, text, values, output, form.value, limits)
            say(f"wrote {output}: {rows:,} rows")
            return
        frame = answering.sql(store, text, values, "polars", limits)
    present(frame, form)


def present(frame: pl.DataFrame, form: Format) -> None:
    """Show an answer; in a terminal a long one is paged."""
    from cytofast.store.answer_files import as_text

    if form in {Format.CSV, Format.JSON}:
        for piece in as_text([frame], form.value):
            typer.echo(piece, nl=False)
    elif form is Format.TABLE and out.is_terminal and frame.height > out.height - 4:
        with out.pager():
            show(frame, form, most=frame.height)
    else:
        show(frame, form, most=frame.height if not out.is_terminal else 40)


def sql(
    store: Store,
    query: Annotated[str | None, typer.Argument(metavar="[QUERY]", help="One query that reads.")] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Read the query from a file.")] = None,
    param: Param = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME=FILE", help="A table of your own to join with: csv, tsv, parquet."),
    ] = None,
    form: Form = None,
    output: Output = None,
    memory: Memory = None,
    threads: Threads = None,
    time_limit: Seconds = None,
    unrestricted: Unrestricted = False,
) -> None:
    """Ask a store in SQL (DuckDB's). Views: cells, wells, profiles, plates, features, ...

    It can read the store and nothing else. A --table is read as metadata: every column text, with the prefix Metadata_.

    [bold]Example:[/bold] cytofast sql "SELECT count(*) FROM wells" --store my-store

    In Python: store.sql.
    """
    from cytofast.metadata_tables import read_metadata_table
    from cytofast.store.profile_store import open_store

    if (query is None) == (file is None):
        raise RecipeError("give a query, or --file with one")
    text, values = query or "", dict[str, Any](pairs(param, "--param"))
    if file is not None:
        text, values = _from_file(file, values)
    tables = {name: read_metadata_table(path) for name, path in pairs(table, "--table").items()}
    with resources.limits(memory, threads):
        run_query(
            open_store(store),
            text,
            values,
            _form(form, output),
            output,
            time_limit,
            tables,
            unrestricted=unrestricted,
        )


def _from_file(file: Path, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A query with its values; a header that declares parameters gives their types and defaults."""
    from cytofast.store.queries import read_query

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{file}: cannot be read ({error})") from error
    if "\n-- param " in f"\n{text}":
        values = dict(read_query(file.stem, "questions", text, str(file)).values(values))
    return text, values


def options(words: list[str]) -> dict[str, str]:
    """``--name value`` and ``--name=value`` as a mapping; what they may be called, the question says."""
    found: dict[str, str] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise RecipeError(f"{word!r} is not an option. Hint: parameters of a question are written --batch NAME.")
        name, mark, value = word[2:].partition("=")
        if not mark:
            if not waiting:
                raise RecipeError(f"--{name} needs a value")
            value = waiting.pop(0)
        name = name.replace("-", "_")
        if name in found:
            raise RecipeError(f"--{name} is given twice")
        found[name] = value
    return found


def ask(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[QUESTION]", help="Its name; without one, all are listed.")
    ] = None,
    store: Annotated[Path | None, typer.Option("--store", metavar="DIR", help="The profile store.")] = None,
    param: Param = None,
    form: Form = None,
    output: Output = None,
    memory: Memory = None,
    threads: Threads = None,
    time_limit: Seconds = None,
) -> None:
    """Answer a named question; the question's parameters are options. Without a name: list the questions.

    [bold]Example:[/bold] cytofast ask control_drift --store my-store --batch 2020_11_04_CPJUMP1

    In Python: store.ask.
    """
    from cytofast.store.profile_store import open_store
    from cytofast.store.queries import described, question

    if name is None:
        listed = described("questions")
        if _form(form, output) is Format.TABLE:
            for asked, answer, parameters, _ in listed.rows():
                out.print(f"[bold]{asked}[/bold]{f' ({parameters})' if parameters else ''}", markup=True)
                out.print(f"  {answer}", markup=False)
        else:
            present(listed, _form(form, output))
        return
    asked = question(name)
    if store is None:
        raise RecipeError("which store? Hint: --store DIR.")
    values = {**pairs(param, "--param"), **options(context.args)}
    with resources.limits(memory, threads):
        run_query(open_store(store), asked.text, asked.values(values), _form(form, output), output, time_limit)


def shell(
    store: Annotated[Path, typer.Argument(metavar="DIR", help="The profile store.")],
    memory: Memory = None,
    threads: Threads = None,
    time_limit: Seconds = None,
    unrestricted: Unrestricted = False,
) -> None:
    """Ask a store interactively, with history and completion; Ctrl-C stops a query, Ctrl-D leaves.

    [bold]Example:[/bold] cytofast shell my-store
    """
    from cytofast.cli.shell import Shell
    from cytofast.store.profile_store import open_store

    with resources.limits(memory, threads):
        Shell(open_store(store), time_limit, unrestricted=unrestricted).run()


def catalog(
    store: Annotated[Path, typer.Argument(metavar="DIR", help="The profile store.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write. Default: catalog.duckdb in DIR."),
    ] = None,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Full file names, for tools that are not started in the store's folder.")
    ] = False,
) -> None:
    """Write a DuckDB file of views that other tools open without cytofast; delete it whenever you like.

    [bold]Example:[/bold] cytofast catalog my-store

    In Python: store.catalog.
    """
    from cytofast.store.profile_store import open_store

    written = open_store(store).catalog(output, absolute=absolute)
    err.print(f"wrote {written}; open it with:", markup=False, soft_wrap=True)
    name = written.absolute() if output is not None or absolute else written.name
    out.print(f"{'' if absolute else f'cd {store} && '}duckdb -readonly {name}", markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("sql")(sql)
    app.command("ask", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(ask)
    app.command("shell")(shell)
    app.command("catalog")(catalog)
