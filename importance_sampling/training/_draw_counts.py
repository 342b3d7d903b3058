"""How often each example was drawn."""

from __future__ import annotations

import numpy as np

from .._files import Allocate

# Examples that are put in order together.
_PIECE = 2**20
# Batches whose draws are counted together.
_COUNTED_AT_ONCE = 64
# Counting one draw takes as long as going through so many counts.
_DRAWS_TO_TABLE = 32


class DrawCounts:
    """Counts the draws of each example.

    Args:
        n: int, number of examples.
        allocate: makes the array of counts. Defaults to one in memory.
    """

    def __init__(self, n: int, allocate: Allocate = np.zeros):
        self._counts = allocate((n,), np.int32)
        self._uncounted: list[np.ndarray] = []

    def add(self, idxs: np.ndarray) -> None:
        """Counts a batch in.

        Args:
            idxs: `(b,)` the examples drawn.
        """
        self._uncounted.append(idxs)
        if len(self._uncounted) == _COUNTED_AT_ONCE:
            self._count()

    def _count(self) -> None:
        if not self._uncounted:
            return
        idxs = np.concatenate(self._uncounted)
        if _DRAWS_TO_TABLE * len(idxs) > len(self._counts):
            self._counts += np.bincount(idxs, minlength=len(self._counts)).astype(np.int32)
        else:
            np.add.at(self._counts, idxs, 1)
        self._uncounted = []

    @property
    def counts(self) -> np.ndarray:
        """How often each example was drawn, `(N,)`."""
        self._count()
        return self._counts

    def most(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices and draws of the examples drawn most often, `(count,)` each.

        Args:
            count: int, how many.
        """
        return self._first(-1, count)

    def least(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices and draws of the examples drawn least often, `(count,)` each.

        Args:
            count: int, how many.
        """
        return self._first(1, count)

    def _first(self, sign: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        counts, found = self.counts, []
        # Piece by piece: what is worked with takes seven times the memory of what is kept.
        for start in range(0, len(counts), _PIECE):
            found.append(start + _lowest(sign * counts[start : start + _PIECE], count))
        idxs = np.concatenate(found)
        if len(found) > 1:
            idxs = idxs[_lowest(sign * counts[idxs], count)]
        return idxs, counts[idxs]

    def as_often(self, draws: np.ndarray) -> np.ndarray:
        """Of how many examples there are that many draws.

        Args:
            draws: `(k,)` int.
        """
        counts, found = self.counts, np.zeros(int(max(draws, default=0)) + 1, np.int64)
        for start in range(0, len(counts), _PIECE):
            piece = counts[start : start + _PIECE]
            found += np.bincount(piece[piece < len(found)], minlength=len(found))
        return found[draws]


def _lowest(values: np.ndarray, count: int) -> np.ndarray:
    """Positions of the smallest values, smallest first.

    Equal ones come in a random order, always the same: by their index, the first of the data would
    stand for all.
    """
    order = np.random.default_rng(0).permutation(len(values))
    return order[np.argsort(values[order], kind="stable")][:count]
