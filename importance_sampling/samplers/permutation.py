"""A random order of a data set that is worked out where it is asked for, and stored nowhere."""

from __future__ import annotations

import numpy as np

# Rounds of a Feistel network; from four on its output looks random to any test that matters here.
_ROUNDS = 6
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Numbers of 64 bits, each bit of which depends on all bits of `values` (SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


def permuted(positions: np.ndarray, n: int, seed: int) -> np.ndarray:
    """What a random order of 0 ... n-1 has at some positions; no memory for all of them is needed.

    A Feistel network permutes the numbers of an even count of bits; those of n or more are sent
    through it again until they are below.

    Args:
        positions: integers in [0, n).
        n: int, how many there are.
        seed: int in [0, 2**63), says which order.

    Returns:
        int64 array of the same shape.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    with np.errstate(over="ignore"):
        keys = _mixed(np.uint64(seed) + _STEP * np.arange(1, _ROUNDS + 1, dtype=np.uint64))
    found = np.array(positions, np.uint64)
    outside = np.ones(found.shape, bool)
    while outside.any():
        values = found[outside]
        left, right = values >> half, values & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        found[outside] = (left << half) | right
        outside = found >= np.uint64(n)
    return found.astype(np.int64)
