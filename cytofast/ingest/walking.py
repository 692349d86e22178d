"""All files below a folder, in the order of their names. What cannot be looked into is an error: its cells would be lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cytofast.errors import DataError

OnTrouble = Callable[[Path, DataError], None]
"""Is given what cannot be read, and the error; raises it, or keeps it for later."""


def refuse(path: Path, error: DataError) -> None:  # noqa: ARG001  (a keeper of errors needs the path)
    """Raise the error."""
    raise error


def walk(root: Path, trouble: OnTrouble = refuse) -> Iterator[tuple[Path, list[str]]]:
    """Folders at and below ``root`` with the names of their files, sorted; links are followed, loops of them end."""

    def unreadable(error: OSError) -> None:
        folder = Path(error.filename)
        trouble(folder, DataError(f"{folder}: the folder cannot be read ({error.strerror})"))

    seen: set[tuple[int, int]] = set()
    for directory, folders, files in os.walk(root, followlinks=True, onerror=unreadable):
        try:
            state = os.stat(directory)  # noqa: PTH116
        except OSError as error:
            unreadable(error)
            continue
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders.sort()
        yield Path(directory), sorted(files)
