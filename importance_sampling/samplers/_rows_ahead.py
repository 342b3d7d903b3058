"""Data of several batches read at one time, where rows are so small that asking is the work."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from .._arrays import flatten, take_rows
from ..data.arrays import ArrayDataset
from ..protocols import Dataset

# Batches that are read together, and the memory that they may take.
_MOST = 8
_BYTES = 1 << 20


def most_read_together(dataset: Dataset, size: int) -> int:
    """How many batches to read in one go: one, unless they are small arrays in memory.

    Data sets of the user's own are asked for each batch when it is its turn.

    Args:
        dataset: the data set.
        size: int, examples of a batch.
    """
    if type(dataset) is not ArrayDataset or dataset.reads_ahead:
        return 1
    bytes_of_row = sum(array[:1].nbytes for array in flatten(dataset.arrays))
    return max(1, min(_MOST, _BYTES // max(bytes_of_row * size, 1)))


class RowsAhead:
    """Batches whose data was read with that of a batch before."""

    def __init__(self) -> None:
        self._batches: deque[tuple[bytes, tuple[Any, ...]]] = deque()

    def forget(self) -> None:
        """Drops what was read."""
        self._batches.clear()

    def take(self, idxs: np.ndarray) -> tuple[Any, ...] | None:
        """The data of a batch, if it is the next of those that were read; None otherwise.

        Args:
            idxs: `(b,)` its indices.
        """
        if not self._batches:
            return None
        known, rows = self._batches.popleft()
        if known == idxs.tobytes():
            return rows
        self._batches.clear()
        return None

    def read(self, dataset: Dataset, idxs: np.ndarray, following: np.ndarray) -> tuple[Any, ...]:
        """Reads a batch, and those after it.

        Args:
            dataset: the data set.
            idxs: `(b,)` indices of the batch.
            following: indices of the batches after it, of the same size, one after the other.

        Returns:
            The data of the batch.
        """
        size = len(idxs)
        rows = dataset.train_data[np.concatenate([idxs, following])]
        self._batches.clear()
        for start in range(0, len(following), size):
            known = following[start : start + size].tobytes()
            piece = slice(start + size, start + 2 * size)
            self._batches.append((known, take_rows(rows, piece)))
        return take_rows(rows, slice(0, size))
