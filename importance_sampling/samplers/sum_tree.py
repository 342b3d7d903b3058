"""A score for every example: drawn from and updated in O(batch log N)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._files import Allocate
from .._storage import copied

# Values per block: few enough to be added up for every draw, which inverts their sums.
_BLOCK = 64
# Values that are set at one time where all of them are.
_PIECE = 1 << 18
# Sums that need no further level: one cumulative sum over all of them serves a whole batch.
_TOP = 4096


class SumTree:
    """Non-negative values whose sums are kept over blocks, over blocks of blocks, and so on.

    A changed value changes one block per level, which is added up anew, so that no rounding
    ever accumulates. The values take 4 bytes each, the sums 8 bytes per block.

    Args:
        n: int, number of values.
        value: float, what all of them are at first.
        allocate: makes the array that they are kept in. Defaults to one in memory.
    """

    def __init__(self, n: int, value: float = 1.0, allocate: Allocate = np.zeros):
        if n < 1:
            raise ValueError(f"`n` must be at least 1, got {n!r}.")
        self.n = n
        self._allocate = allocate
        self._leaves = allocate((-(-n // _BLOCK), _BLOCK), np.float32)
        self._leaves.reshape(-1)[:n] = value
        self._levels: list[np.ndarray] = []
        self._add_up()

    def _add_up(self) -> None:
        """Sums of all blocks of all levels."""
        self._levels = []
        sums = self._leaves.sum(axis=1, dtype=np.float64)
        while len(sums) > _TOP:
            blocks = np.zeros((-(-len(sums) // _BLOCK), _BLOCK))
            blocks.reshape(-1)[: len(sums)] = sums
            self._levels.append(blocks)
            sums = blocks.sum(axis=1)
        self._top = sums
        self.total = float(sums.sum())

    @property
    def values(self) -> np.ndarray:
        """All values, `(n,)`, not to be written to."""
        view = self._leaves.reshape(-1)[: self.n]
        view.flags.writeable = False
        return view

    @property
    def nbytes(self) -> int:
        """Memory that values and sums take."""
        return sum(a.nbytes for a in (self._leaves, *self._levels, self._top))

    def fill(self, values: ArrayLike) -> None:
        """Sets all values; O(n)."""
        self._leaves.reshape(-1)[: self.n] = values
        self._add_up()

    def fill_pieces(self, values_of: Callable[[slice], ArrayLike]) -> None:
        """Sets all values, some at a time; O(n).

        Args:
            values_of: gives the values of a slice of the indices.
        """
        values = self._leaves.reshape(-1)
        for start in range(0, self.n, _PIECE):
            piece = slice(start, min(start + _PIECE, self.n))
            values[piece] = values_of(piece)
        self._add_up()

    def get(self, idxs: np.ndarray) -> np.ndarray:
        """The values at `idxs`, float64."""
        return self._leaves.reshape(-1)[idxs].astype(np.float64)

    def set(self, idxs: np.ndarray, values: ArrayLike) -> None:
        """Sets some values, and adds up anew the blocks they are in.

        Args:
            idxs: `(b,)` which; of an index that comes twice, the last value stays.
            values: `(b,)` numbers of at least 0, or one for all.
        """
        self._leaves.reshape(-1)[idxs] = values
        if len(idxs) * _BLOCK > self.n:
            # Most blocks have changed.
            self._add_up()
            return
        blocks = np.unique(np.asarray(idxs) // _BLOCK)
        sums = self._leaves[blocks].sum(axis=1, dtype=np.float64)
        for level in self._levels:
            level.reshape(-1)[blocks] = sums
            blocks = np.unique(blocks // _BLOCK)
            sums = level[blocks].sum(axis=1)
        self._top[blocks] = sums
        self.total = float(self._top.sum())

    def state_dict(self) -> dict[str, Any]:
        """The values; the sums follow from them."""
        return {"values": copied(self.values, self._allocate)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken.

        Args:
            state: what `state_dict` returned.
        """
        self.fill(state["values"])

    def draw(self, uniforms: np.ndarray, offset: float = 0.0) -> np.ndarray:
        """Inverts the cumulative sum: index i with probability (value_i + offset) / their sum.

        Args:
            uniforms: `(size,)` random numbers in [0, 1); see `uniforms_for`.
            offset: float >= 0, added to every value for this draw.

        Returns:
            int64 array `(size,)`.
        """
        if len(uniforms) * _BLOCK > self.n:
            return self._draw_from_all(uniforms, offset)
        span = _BLOCK ** (len(self._levels) + 1)
        sums = self._top
        if offset:
            sums = sums + offset * np.clip(self.n - span * np.arange(len(sums)), 0, span)
        sums = np.cumsum(sums)
        rest = np.minimum(uniforms * sums[-1], np.nextafter(sums[-1], 0.0))
        node = np.searchsorted(sums, rest, side="right")
        rest = rest - np.where(node > 0, sums[np.maximum(node - 1, 0)], 0.0)
        for level in (*reversed(self._levels), self._leaves):
            span //= _BLOCK
            values = level[node]
            if offset:
                first = (node[:, None] * _BLOCK + np.arange(_BLOCK)) * span
                values = values + offset * np.clip(self.n - first, 0, span)
            node, rest = _descend(values, node, rest)
        return node

    def _draw_from_all(self, uniforms: np.ndarray, offset: float) -> np.ndarray:
        """As `draw`, by one cumulative sum over all values: for many draws that is less work."""
        sums = np.cumsum(self.values, dtype=np.float64)
        if offset:
            sums += offset * np.arange(1, self.n + 1)
        positions = np.minimum(uniforms * sums[-1], np.nextafter(sums[-1], 0.0))
        return np.searchsorted(sums, positions, side="right")


def _descend(
    values: np.ndarray, node: np.ndarray, rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """From a block and a position in its sum to one of its children and a position in that."""
    sums = np.cumsum(values, axis=1, dtype=np.float64)
    # Rounding may leave a position at or past the end: the last child that is not empty has it.
    rest = np.minimum(rest, np.nextafter(sums[:, -1], 0.0))
    child = (sums <= rest[:, None]).sum(axis=1)
    before = np.where(child > 0, sums[np.arange(len(node)), np.maximum(child - 1, 0)], 0.0)
    return node * _BLOCK + child, rest - before
