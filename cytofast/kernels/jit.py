"""How every Numba kernel is compiled.

Kernels release the GIL and are cached on disk beside the source, or in the user's cache folder where that is not writable.
None uses Numba's own threads: several Python threads each run a serial kernel on rows of their own. So there is no
threading layer that two callers could enter at once (the ``workqueue`` layer aborts the process then), and nothing
that a fork could break. No fast-math: NaN is data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel on its first call: no GIL, cached, division as numpy does it."""
    return cast("Kernel", numba.njit(nogil=True, cache=True, error_model="numpy")(kernel))


def over_ranges(work: Callable[[int, int], None], size: int, threads: int, smallest: int = 1) -> None:
    """Call ``work(start, stop)`` for neighbouring ranges of ``range(size)``, one a thread; errors come through.

    Ranges are not shorter than ``smallest``, so that little work stays in the calling thread.
    """
    workers = max(1, min(threads, size // max(1, smallest)))
    if workers == 1:
        work(0, size)
        return
    edges = [size * i // workers for i in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, a, b) for a, b in pairwise(edges)]:
            done.result()


def over_items(work: Callable[[Any], Any], items: Sequence[Any], threads: int) -> list[Any]:
    """``[work(item) for item in items]`` on several threads, in the order of the items; errors come through."""
    if threads <= 1 or len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(work, items))
