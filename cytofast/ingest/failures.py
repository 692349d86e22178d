"""What could not be read and why, kept until the rest is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cytofast.errors import DataError, SchemaError, StoreError, listed

_KEPT = (DataError, SchemaError, StoreError)
"""What a file, a table or a plate can be to blame for; a wrong option is nobody's but the caller's."""


@dataclass
class Failures:
    """Collects errors if asked to keep going; otherwise the first one is raised as ever."""

    keep_going: bool = False
    errors: list[tuple[Path | None, str]] = field(default_factory=list)
    """What is to blame (none is a plate as a whole), and the message."""

    @contextmanager
    def apart(self, path: Path | None = None) -> Iterator[None]:
        """Keep an error that is raised inside, if asked to."""
        try:
            yield
        except _KEPT as error:
            if not self.keep_going:
                raise
            self.add(path, error)

    def add(self, path: Path | None, error: DataError | SchemaError | StoreError) -> None:
        """Keep an error, or raise it."""
        if not self.keep_going:
            raise error
        self.errors.append((path, str(error)))

    def beside(self, folders: set[Path]) -> list[Path]:
        """What is to blame and lies in one of these folders."""
        return [path for path, _ in self.errors if path is not None and path.parent in folders]

    def require_whole(self, what: str, files: list[Path]) -> None:
        """Refuse a plate of several files, if one beside them could not be read: it may be of this plate."""
        missing = self.beside({file.parent for file in files})
        if missing:
            raise DataError(
                f"{what}: {listed([str(path) for path in missing], 3)} could not be read and may be of this plate, whose "
                f"{len(files):,} parts lie beside it. It was not ingested, since a part of it might be missing."
            )

    def told(self, done: int) -> DataError | None:
        """All of them in one error; ``None`` if there are none."""
        if not self.errors:
            return None
        each = "\n".join(f"- {message}" for _, message in self.errors)
        return DataError(
            f"{done:,} plates were ingested. Not ingested, and why:\n{each}\n"
            "Hint: mend or remove these, and ingest again; plates that are done are not read twice."
        )
