"""Threads, memory and scratch space: the one reader of the environment.

The budget is a promise about the peak resident memory of a call, not a hard limit of the
operating system; working sets are cut so that they fit into it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from cytofast.errors import RecipeError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
SMALLEST_BUDGET = 256 * 2**20
"""Below this, Python and its libraries alone do not fit."""
_RESIDENT = 160 * 2**20
"""What the interpreter and the imported libraries hold before any data is read."""


def parse_bytes(text: str | int) -> int:
    """Read a size such as ``"2GB"``, ``"512MiB"`` or a number of bytes.

    >>> parse_bytes("2GB"), parse_bytes("1.5 GiB"), parse_bytes(1024)
    (2000000000, 1610612736, 1024)
    """
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?i?)b?\s*", text.lower())
    if match is None:
        raise RecipeError(f"{text!r} is not an amount of memory; write for example 2GB or 512MiB")
    return int(float(match[1]) * _UNITS[match[2]])


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that it runs in."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file():
        text = limit.read_text().strip()
        if text.isdecimal():
            return min(physical, int(text))
    return physical


def _available_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@dataclass(frozen=True)
class Resources:
    """How much of the machine a call may use.

    Parameters
    ----------
    memory
        Peak resident memory to stay under, in bytes.
    threads
        Worker threads of our own kernels.
    scratch
        Directory for temporary files; ``None`` is the system's.
    """

    memory: int
    threads: int
    scratch: Path | None = None

    @property
    def working_bytes(self) -> int:
        """Bytes that data may occupy at any moment, all copies together."""
        return max(self.memory - _RESIDENT, SMALLEST_BUDGET // 4)


def _from_environment() -> Resources:
    memory = os.environ.get("CYTOFAST_MEMORY")
    threads = os.environ.get("CYTOFAST_THREADS")
    scratch = os.environ.get("CYTOFAST_SCRATCH")
    return Resources(
        memory=_checked(parse_bytes(memory)) if memory else _default_memory(),
        threads=_thread_count(threads, "CYTOFAST_THREADS") if threads else _available_threads(),
        scratch=Path(scratch) if scratch else None,
    )


def _default_memory() -> int:
    """A sixteenth of the memory, but no less than 1 GiB where there is that much: more makes nothing faster."""
    whole = machine_memory()
    return max(whole // 16, min(2**30, whole // 2), SMALLEST_BUDGET)


def _checked(memory: int) -> int:
    if memory < SMALLEST_BUDGET:
        raise RecipeError(
            f"a memory budget of {memory:,} bytes is too small: Python and its libraries alone take "
            f"{SMALLEST_BUDGET // 2**20} MiB. Give at least 256MiB."
        )
    return memory


def _thread_count(threads: str | int, where: str) -> int:
    """A number of threads, or say what is wrong with it."""
    text = str(threads).strip()
    if isinstance(threads, bool) or not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise RecipeError(f"{where} must be a whole number, at least 1, not {threads!r}")
    return int(text)


_current: ContextVar[Resources | None] = ContextVar("cytofast_resources", default=None)


def current() -> Resources:
    """The limits in force: those of :func:`limits`, else ``CYTOFAST_MEMORY`` and friends, else a sixteenth of the memory."""
    return _current.get() or _from_environment()


@contextmanager
def limits(memory: str | int | None = None, threads: int | None = None) -> Iterator[Resources]:
    """Set the limits for the calls inside a ``with`` block.

    >>> with limits(memory="1GB", threads=2) as chosen:
    ...     chosen.memory
    1000000000
    """
    chosen = current()
    if memory is not None:
        chosen = replace(chosen, memory=_checked(parse_bytes(memory)))
    if threads is not None:
        chosen = replace(chosen, threads=_thread_count(threads, "threads"))
    token = _current.set(chosen)
    try:
        yield chosen
    finally:
        _current.reset(token)
