"""``cytofast``: parse the command line, call one function, turn errors into exit statuses.

0: done. 1: your data (a file, a table, a store). 2: your command (an option, a recipe).
"""

from __future__ import annotations

import sys
import warnings

import typer

from cytofast.cli import (
    benchmark_commands,
    export_commands,
    modality_commands,
    report_commands,
    sql_commands,
    step_commands,
    store_commands,
    well_commands,
)
from cytofast.cli.render import say
from cytofast.errors import CytofastError, ProfileWarning, RecipeError

app = typer.Typer(
    name="cytofast",
    help="Cell Painting profiles on one machine: out of core, exact, fast.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
store_commands.register(app)
sql_commands.register(app)
step_commands.register(app)
well_commands.register(app)
export_commands.register(app)
benchmark_commands.register(app)
report_commands.register(app)
modality_commands.register(app)


_INTERRUPTED = 130


def _note(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, ProfileWarning):
        say(f"note: {message}")


def main() -> None:
    """Run the command line; the entry point of the package."""
    warnings.simplefilter("always", ProfileWarning)
    warnings.showwarning = _note
    try:
        app()
    except RecipeError as error:
        say(f"error: {error}")
        sys.exit(2)
    except CytofastError as error:
        say(f"error: {error}")
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as ended:
        # The command-line library turns Ctrl-C into this status, without a word.
        if isinstance(ended, SystemExit) and ended.code != _INTERRUPTED:
            raise
        say("interrupted; where a store or a checkpoint keeps what was finished, the same command goes on from there")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
