"""What the file system says of a file: by this a file that was changed or swapped is told from the one that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cytofast.errors import DataError


@dataclass(frozen=True)
class FileState:
    """A file at a moment. The inode tells files apart that were swapped by renaming a folder or a link above them."""

    inode: int
    changed: int
    """When its content, name or rights changed, in nanoseconds; unlike ``modified`` nobody can set it."""
    modified: int
    size: int


def state_of(path: Path) -> FileState:
    """Look at a file.

    Raises
    ------
    DataError
        It is not there, may not be looked at, or its name is no text.
    """
    require_text(path)
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return FileState(state.st_ino, state.st_ctime_ns, state.st_mtime_ns, state.st_size)


def require_unchanged(path: Path, before: FileState) -> None:
    """Raise a :class:`DataError` if a file is not as it was."""
    if state_of(path) != before:
        raise DataError(
            f"{path}: changed while it was read. Hint: wait until the export or the copy is complete, then ingest again."
        )


def require_text(path: Path) -> None:
    """Raise a :class:`DataError` if a name is not UTF-8: no table or manifest could hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise DataError(f"{shown}: the file's name, or a folder's, is not UTF-8 text. Hint: rename it.") from error
