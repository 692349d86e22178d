"""An interactive prompt over a store: SQL that ends in a semicolon, and a few commands that begin with a dot."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cytofast.cli.render import Format, out, say
from cytofast.cli.sql_commands import options, run_query
from cytofast.errors import CytofastError
from cytofast.store.queries import described, question

if TYPE_CHECKING:
    from cytofast.store.profile_store import ProfileStore

HELP = """Write SQL and end it with a semicolon. Tab completes views, columns and words of SQL; Ctrl-C stops a query.
.views                        views of the store
.questions                    named questions
.ask NAME [--parameter VALUE] answer one
.format table|csv|json        how answers are written
.help, .quit"""
WORDS = (
    "FROM SELECT WHERE GROUP BY ORDER LIMIT JOIN LEFT INNER USING ON AS AND OR NOT NULL IS IN LIKE DISTINCT COUNT MEDIAN "
    "HAVING WITH CASE WHEN THEN ELSE END DESCRIBE SUMMARIZE UNION EXCLUDE COLUMNS DESC"
)
_LONGEST_HISTORY = 1000


def readline_module() -> ModuleType | None:
    """Line editing, where this Python has it."""
    try:
        import readline
    except ImportError:
        return None
    return readline


class Shell:
    """One session; :meth:`run` returns when the user leaves."""

    def __init__(
        self,
        store: ProfileStore,
        seconds: float | None = None,
        *,
        unrestricted: bool = False,
        history: Path | None = None,
    ) -> None:
        self.store = store
        self.seconds = seconds
        self.unrestricted = unrestricted
        self.form = Format.TABLE
        self.history = history or Path.home() / ".cytofast_history"
        self._waiting: list[str] = []
        self._words: list[str] | None = None

    # --- completion ------------------------------------------------------------------------------------------------

    def words(self) -> list[str]:
        """What can be completed: views, their columns, questions, words of SQL."""
        if self._words is None:
            from cytofast.store.catalog import view_names
            from cytofast.store.snapshot import Snapshot

            snapshot = Snapshot(self.store)
            columns = {name for level in snapshot.levels for name in snapshot.columns(level)}
            commands = [".views", ".questions", ".ask", ".format", ".help", ".quit"]
            self._words = sorted(
                {*view_names(snapshot), *columns, *snapshot.annotations.columns, *described("questions")["question"]}
            )
            self._words += [*commands, *WORDS.split()]
        return self._words

    def complete(self, text: str, state: int) -> str | None:
        """The ``state``-th word that begins so, whatever the case."""
        found = [word for word in self.words() if word.lower().startswith(text.lower())]
        return found[state] if state < len(found) else None

    # --- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Read and answer until Ctrl-D or ``.quit``."""
        editing = readline_module() if sys.stdin.isatty() else None
        if editing is not None:
            editing.set_completer(self.complete)
            editing.set_completer_delims(" \t\n,;()=<>*+-'\"")
            editing.parse_and_bind("tab: complete")
            editing.set_history_length(_LONGEST_HISTORY)
            with contextlib.suppress(OSError):
                editing.read_history_file(self.history)
        say(f"{self.store.path}: .help for help, Ctrl-D to leave")
        try:
            while True:
                try:
                    line = input("cytofast> " if not self._waiting else "     ...> ")
                except KeyboardInterrupt:
                    self._waiting = []
                    say("")
                    continue
                except EOFError:
                    break
                if not self.take(line):
                    break
        finally:
            if editing is not None:
                with contextlib.suppress(OSError):
                    editing.write_history_file(self.history)

    def take(self, line: str) -> bool:
        """Handle one line; false when the user wants to leave."""
        stripped = line.strip()
        if not self._waiting and stripped.startswith("."):
            return self._command(stripped)
        if stripped or self._waiting:
            self._waiting.append(line)
        if stripped.endswith(";"):
            text = "\n".join(self._waiting)
            self._waiting = []
            self._safely(text, {})
        return True

    def _command(self, line: str) -> bool:
        try:
            name, *words = shlex.split(line)
        except ValueError as error:
            say(f"error: {line!r}: {error}")
            return True
        if name in {".quit", ".exit"}:
            return False
        if name == ".views":
            self._safely("SHOW TABLES", {})
        elif name == ".questions":
            for asked, answer, parameters, _ in described("questions").rows():
                out.print(f"{asked} {f'({parameters})' if parameters else ''}\n  {answer}", markup=False)
        elif name == ".format" and len(words) == 1 and words[0] in {"table", "csv", "json"}:
            self.form = Format(words[0])
        elif name == ".ask" and words:
            try:
                asked = question(words[0])
                values = asked.values(options(words[1:]))
            except CytofastError as error:
                say(f"error: {error}")
            else:
                self._safely(asked.text, values)
        else:
            out.print(HELP, markup=False)
        return True

    def _safely(self, text: str, values: Mapping[str, Any]) -> None:
        """Answer; an error or Ctrl-C ends the query, not the shell."""
        try:
            run_query(
                self.store,
                re.sub(r";\s*$", "", text),
                values,
                self.form,
                None,
                self.seconds,
                unrestricted=self.unrestricted,
            )
        except CytofastError as error:
            say(f"error: {error}")
        except KeyboardInterrupt:
            say("stopped")
