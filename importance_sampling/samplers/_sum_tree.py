"""A score for every example: drawn from and updated in O(batch log N)."""

from __future__ import annotations

from typing import Any

import numpy as np

# Children per node. Wide, because numpy adds up a row of them faster than it goes down a level.
_FAN_OUT = 256


class SumTree:
    """Non-negative values whose sums are kept over blocks, over blocks of blocks, and so on.

    A changed value changes one block per level, which is added up anew, so that no rounding
    ever accumulates. The values take 4 bytes each, the sums 8 bytes per block.

    Args:
        n: int, number of values.
        value: float, what all of them are at first.
    """

    def __init__(self, n: int, value: float = 1.0):
        if n < 1:
            raise ValueError(f"`n` must be at least 1, got {n!r}.")
        self.n = n
        self._leaves = np.zeros((-(-n // _FAN_OUT), _FAN_OUT), np.float32)
        self._leaves.reshape(-1)[:n] = value
        self._levels: list[np.ndarray] = []
        self._add_up()

    def _add_up(self) -> None:
        """Sums of all blocks of all levels."""
        self._levels = []
        sums = self._leaves.sum(axis=1, dtype=np.float64)
        while len(sums) > 1:
            blocks = np.zeros((-(-len(sums) // _FAN_OUT), _FAN_OUT))
            blocks.reshape(-1)[: len(sums)] = sums
            self._levels.append(blocks)
            sums = blocks.sum(axis=1)
        self.total = float(sums[0])

    @property
    def values(self) -> np.ndarray:
        """All values, `(n,)`, not to be written to."""
        view = self._leaves.reshape(-1)[: self.n]
        view.flags.writeable = False
        return view

    def fill(self, values: Any) -> None:
        """Sets all values; O(n)."""
        self._leaves.reshape(-1)[: self.n] = values
        self._add_up()

    def get(self, idxs: np.ndarray) -> np.ndarray:
        """The values at `idxs`, float64."""
        return self._leaves.reshape(-1)[idxs].astype(np.float64)

    def set(self, idxs: np.ndarray, values: Any) -> None:
        """Sets the values at `idxs`; of an index that comes twice, the last one stays."""
        self._leaves.reshape(-1)[idxs] = values
        blocks = np.unique(np.asarray(idxs) // _FAN_OUT)
        sums = self._leaves[blocks].sum(axis=1, dtype=np.float64)
        for level in self._levels:
            level.reshape(-1)[blocks] = sums
            blocks = np.unique(blocks // _FAN_OUT)
            sums = level[blocks].sum(axis=1)
        self.total = float(sums[0])

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draws `size` indices with replacement, index i with probability value_i / total.

        Args:
            size: int, how many.
            rng: the training's generator.

        Returns:
            int64 array `(size,)`.
        """
        node = np.zeros(size, np.int64)
        rest = rng.random(size) * self.total
        for level in reversed(self._levels):
            node, rest = _descend(level, node, rest)
        return _descend(self._leaves, node, rest)[0]


def _descend(
    blocks: np.ndarray, node: np.ndarray, rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """From a block and a position in its sum to one of its children and a position in that."""
    sums = np.cumsum(blocks[node], axis=1, dtype=np.float64)
    # Rounding may leave a position at or past the end: the last child that is not empty has it.
    rest = np.minimum(rest, np.nextafter(sums[:, -1], 0.0))
    child = (sums <= rest[:, None]).sum(axis=1)
    before = np.where(child > 0, sums[np.arange(len(node)), np.maximum(child - 1, 0)], 0.0)
    return node * _FAN_OUT + child, rest - before
