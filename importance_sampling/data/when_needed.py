"""A data set of which each of several processes reads its own part."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays import flatten, map_arrays
from .._pending_rows import PendingRows, Reading
from .adapter import Rows
from .dataset import BaseDataset


class RowsWhenNeeded(BaseDataset):
    """A data set whose training rows are `PendingRows`.

    Args:
        whole: the data set; it has a length.
    """

    def __init__(self, whole: Any):
        self.whole = whole
        self._first: Rows = whole.train_data[np.arange(1)]
        self._arrays = len(flatten(self._first))

    def _train_data(self, idxs: Any) -> Rows:
        reading = Reading(self.whole)
        places = iter(range(self._arrays))
        return map_arrays(
            lambda first: PendingRows(reading, next(places), idxs, first), self._first
        )

    def _train_size(self) -> int:
        return len(self.whole.train_data)

    def _test_data(self, idxs: Any) -> Rows:
        return self.whole.test_data[idxs]

    def _test_size(self) -> int:
        return len(self.whole.test_data)

    @property
    def shape(self) -> Any:
        """That of the whole."""
        return self.whole.shape

    @property
    def output_shape(self) -> Any:
        """That of the whole."""
        return self.whole.output_shape

    @property
    def output_size(self) -> int:
        """That of the whole."""
        return self.whole.output_size


def whole_of(dataset: Any) -> Any:
    """The data set behind a `RowsWhenNeeded`; any other as it is."""
    return dataset.whole if isinstance(dataset, RowsWhenNeeded) else dataset
