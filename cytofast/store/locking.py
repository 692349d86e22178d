"""One writer at a time: a lock on a file of the store, held by the process, so that a killed one leaves none behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cytofast.errors import StoreError


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the store at ``path`` for writing.

    Raises
    ------
    StoreError
        Another process is writing to it, or it cannot be written to.
    """
    try:
        handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(f"{path}: the store cannot be written to ({error.strerror})") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(
                f"{path}: another process is writing to this store. Hint: wait until it ends, then run this again."
            ) from error
        yield
    finally:
        os.close(handle)
