"""Rows of uniform draws, read ahead where reading takes time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from .._arrays import count_rows
from ._draw import IndexStream


class RowReader:
    """The data of the next uniformly drawn examples.

    Data sets with `reads_ahead` are asked for the rows after these in a thread, while the
    device is busy with these. Which rows those are does not depend on any score; how many is
    taken to be the same again, and read anew if it was not.

    Args:
        dataset: the data set.
        indices: the order in which to go through it.
    """

    def __init__(self, dataset: Any, indices: IndexStream):
        self._dataset = dataset
        self._indices = indices
        self._ahead: tuple[np.ndarray, Future] | None = None
        self._thread: ThreadPoolExecutor | None = None
        if getattr(dataset, "reads_ahead", False):
            self._thread = ThreadPoolExecutor(1, "importance-sampling-rows")

    def next_batch(self, size: int) -> tuple[np.ndarray, tuple[Any, ...]]:
        """The next batch to train on as it is: indices and data.

        It holds `size` examples, or what is left of a pass (`IndexStream.rows_in_batch`); of a
        stream that comes in batches, the next of these.
        """
        if hasattr(self._dataset, "read_batch"):
            return _counted(self._dataset.read_batch(size))
        return self._read_next(self._indices.rows_in_batch(size))

    def next_pool(self, size: int) -> tuple[np.ndarray, tuple[Any, ...]]:
        """Indices and data of the next examples to draw from, from the next pass where one ends.

        These are `size` examples; of a stream that comes in batches, as many whole ones as hold
        at least so many.
        """
        if hasattr(self._dataset, "read_pool"):
            return _counted(self._dataset.read_pool(size))
        return self._read_next(size)

    def _read_next(self, size: int) -> tuple[np.ndarray, tuple[Any, ...]]:
        idxs = self._indices.next(size)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and np.array_equal(ahead[0], idxs):
            rows = ahead[1].result()
        else:
            rows = self._dataset.train_data[idxs]
        if self._thread is not None:
            following = self._indices.peek(size)
            if following is not None:
                self._ahead = following, self._thread.submit(self._read, following)
        return idxs, rows

    def _read(self, idxs: np.ndarray) -> tuple[Any, ...]:
        return self._dataset.train_data[idxs]


def _counted(rows: tuple[Any, ...]) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Rows of a stream, whose indices only count."""
    return np.arange(count_rows(rows)), rows
