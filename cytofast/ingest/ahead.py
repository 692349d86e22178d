"""Work that is done side by side and given out in order, no further ahead than memory allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_order(jobs: Iterable[Callable[[], T]], pool: ThreadPoolExecutor, workers: int) -> Iterator[T]:
    """Results of jobs in the order of the jobs; ``workers`` of them and one more are under way at a time."""
    waiting: deque[Future[T]] = deque()
    coming = iter(jobs)
    try:
        while True:
            # One more than can run, so that no worker waits for the frame before it to be taken.
            while len(waiting) < workers + (workers > 1) and (job := next(coming, None)) is not None:
                waiting.append(pool.submit(job))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
