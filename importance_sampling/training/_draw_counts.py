"""How often each example was drawn."""

from __future__ import annotations

import numpy as np

# Batches whose draws are counted together.
_COUNTED_AT_ONCE = 64


class DrawCounts:
    """Counts the draws of each example.

    Args:
        n: int, number of examples.
    """

    def __init__(self, n: int):
        self._counts = np.zeros(n, np.int32)
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
        if 8 * len(idxs) > len(self._counts):
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
        return self._first(-self.counts, count)

    def least(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices and draws of the examples drawn least often, `(count,)` each.

        Args:
            count: int, how many.
        """
        return self._first(self.counts, count)

    def _first(self, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        # Examples that were drawn as often as each other come in a random order, always the same:
        # by their index, the first of the data would stand for all.
        order = np.random.default_rng(0).permutation(len(values))
        idxs = order[np.argsort(values[order], kind="stable")][:count]
        return idxs, self._counts[idxs]

    def as_often(self, draws: np.ndarray) -> np.ndarray:
        """Of how many examples there are that many draws.

        Args:
            draws: `(k,)` int.
        """
        return np.bincount(self.counts, minlength=int(max(draws, default=0)) + 1)[draws]
