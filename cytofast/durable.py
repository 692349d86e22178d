"""Files that appear under their names when they are complete, and stay there when the power fails a moment later."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What a file system says that cannot flush a folder."""


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each known to the disk."""
    missing = []
    at = path
    while not at.exists():
        missing.append(at)
        at = at.parent
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        flush_folder(made.parent)


def appear(temporary: Path, path: Path) -> None:
    """Give a finished file its name; what was there before is replaced in one step.

    The content is on disk before the name is, and the name before this returns: otherwise a file could be found empty, or a
    manifest without its data, after the power failed.
    """
    handle = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(path)
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Have the names in a folder on disk, where the file system can do that."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems know no such thing; they keep names in order themselves.
        if error.errno not in _UNKNOWN:
            raise
    finally:
        os.close(handle)
