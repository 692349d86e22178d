"""Files that appear under their names when they are complete, and stay there when the power fails a moment later."""

from __future__ import annotations

import errno
import io
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

_UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What a file system says that cannot flush a folder."""
_PIECE = 8 << 20
"""Bytes that are written at once, a multiple of every block size of a disk."""


class NewFile(io.RawIOBase):
    """A file that is written once from its begin, past the page cache if it is longer than a piece.

    What is written through the cache is copied there first and written to the disk from there, page by page: on a virtual
    machine that took four times as long for gigabytes, and pushed out everything else that was cached. A piece is on its way
    to the disk while the next is filled; an error of the disk is raised by what comes after.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._buffer = mmap.mmap(-1, _PIECE)
        self._other = mmap.mmap(-1, _PIECE)
        self._disk = ThreadPoolExecutor(1)
        self._on_its_way: Future[None] | None = None
        self._held = self._written = 0
        self._given_up = False
        self._handles = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)]

    def writable(self) -> bool:
        """Nothing else than written."""
        return True

    def tell(self) -> int:
        """Bytes so far."""
        return self._written + self._held

    def write(self, data: Any, /) -> int:
        """Take some bytes; raises what the system says where it cannot take them."""
        view = memoryview(data).cast("B")
        done = len(view) if self._given_up else 0
        while done < len(view):
            taken = min(len(view) - done, _PIECE - self._held)
            self._buffer[self._held : self._held + taken] = view[done : done + taken]
            self._held += taken
            done += taken
            if self._held == _PIECE:
                if len(self._handles) == 1 and hasattr(os, "O_DIRECT"):
                    # A file system without direct writes refuses them.
                    with suppress(OSError):
                        self._handles.append(os.open(self._path, os.O_WRONLY | os.O_DIRECT))
                self._arrived()
                piece, place = self._buffer, self._written
                self._on_its_way = self._disk.submit(self._put, self._handles[-1], piece, _PIECE, place)
                self._buffer, self._other = self._other, piece
                self._written += _PIECE
                self._held = 0
        return len(view)

    def _arrived(self) -> None:
        """Wait for the piece that is being written; its error, if any, is ours."""
        on_its_way, self._on_its_way = self._on_its_way, None
        if on_its_way is not None:
            on_its_way.result()

    def _put(self, handle: int, piece: mmap.mmap, size: int, place: int) -> None:
        with memoryview(piece) as view:
            done = 0
            while done < size:
                try:
                    done += os.pwrite(handle, view[done:size], place + done)
                except OSError as error:
                    if error.errno != errno.EINVAL or handle == self._handles[0]:
                        raise
                    # No whole block, as after a part that a full disk could still take, or a file system that refuses late.
                    handle = self._handles[0]

    def give_up(self) -> None:
        """Whatever is still said to be written goes nowhere: the file is about to be deleted."""
        self._given_up = True

    def close(self) -> None:
        """Write the rest, which need not fill a block of the disk."""
        if self.closed:
            return
        try:
            if not self._given_up:
                self._arrived()
                self._put(self._handles[0], self._buffer, self._held, self._written)
        finally:
            self._disk.shutdown(wait=True)
            for handle in self._handles:
                os.close(handle)
            super().close()


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
