"""Rows of uniform draws, read ahead where reading takes time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

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

    def next(self, size: int) -> tuple[np.ndarray, tuple[Any, ...]]:
        """The next `size` indices and their data."""
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
