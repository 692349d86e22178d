"""Random numbers that depend on what they are for, never on when or where they are drawn.

A draw is a function of a key and a counter (SplitMix64, Steele, Lea and Flood 2014, entered at any position), so the
result is the same on any number of threads, in any order, and whatever else is computed in the same call.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled

GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


def generator(*key: int) -> np.random.Generator:
    """A numpy generator for a key of non-negative integers, such as ``(seed, configuration)``."""
    return np.random.default_rng(np.random.SeedSequence(list(key)))


def key_of(*parts: object) -> int:
    """A 64-bit key of anything that prints the same wherever it stands: a seed, a name, sizes."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@compiled
def mixed(state: np.uint64) -> np.uint64:
    """Scramble 64 bits (the finalizer of SplitMix64)."""
    state = (state ^ (state >> _30)) * _FIRST
    state = (state ^ (state >> _27)) * _SECOND
    return state ^ (state >> _31)


@compiled
def substream(key: np.uint64, index: np.uint64) -> np.uint64:
    """The key of stream ``index`` below ``key``."""
    return mixed(key ^ mixed(index + GAMMA))


@compiled
def below(key: np.uint64, counter: np.uint64, bound: np.uint64) -> np.int64:
    """A whole number in ``[0, bound)``, ``bound < 2**31``: draw ``counter`` of stream ``key``.

    Multiply and shift of 32 bits; the bias is at most ``bound / 2**32``, far below Monte-Carlo error.
    """
    high = mixed(key + counter * GAMMA) >> _32
    return np.int64((high * bound) >> _32)


@compiled
def row_digests(bits: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """64 bits that stand for the content of a row, to put profiles in an order that is not that of the table."""
    for row in range(bits.shape[0]):
        state = GAMMA
        for i in range(bits.shape[1]):
            state = mixed(state ^ bits[row, i]) + GAMMA
        out[row] = state
