"""One writer at a time: a lock on a file of the store, held by the process, so that a killed one leaves none behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from cytofast.errors import StoreError

LOCK = ".lock"
_MOST = 300


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the store at ``path`` for writing.

    The file says who holds it. A writer that was killed may leave its name there, but no lock: the operating system takes
    that away with the process, so that a stale one cannot be.

    Raises
    ------
    StoreError
        Another process is writing to it, or it cannot be written to.
    """
    try:
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(f"{path}: the store cannot be written to ({error.strerror})") from error
    try:
        _take(handle, path)
        _say(handle, f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            # Nothing is left of the name: equal stores are equal bytes.
            _say(handle, "")
    finally:
        os.close(handle)


def _take(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise StoreError(
                f"{path}: the store cannot be locked for writing ({error.strerror}), and without a lock two writers could "
                "damage it. Hint: some network file systems know no locks; keep the store on a local disk."
            ) from error
        holder = os.pread(handle, _MOST, 0).decode(errors="replace").strip()
        raise StoreError(
            f"{path}: another process is writing to this store{f' ({holder})' if holder else ''}. Hint: wait until it ends, "
            "then run this again."
        ) from error


def _say(handle: int, who: str) -> None:
    # It only tells others whom they wait for: a full disk must not keep the holder from what it holds the lock for.
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, who.encode(), 0)
