"""A part of a data set as Keras reads data."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from .._arrays import map_arrays, native, rows_of_batches
from ..protocols import Dataset


class DatasetSequence(keras.utils.PyDataset):
    """One part of a data set as batches for Keras' own `fit`, `evaluate` and `predict`.

    Args:
        dataset: a `BaseDataset`.
        train: bool, whether to read its training data; its test data otherwise. Defaults to
            `True`.
        part: slice of it. Defaults to all.
        batch_size: int, examples per batch; the last batch may hold fewer. Defaults to `32`.
    """

    def __init__(
        self,
        dataset: Dataset,
        train: bool = True,
        part: slice = slice(None),
        batch_size: int = 32,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"`batch_size` must be an integer of at least 1, got {batch_size!r}.")
        self._view = dataset.train_data if train else dataset.test_data
        self._rows = range(len(self._view))[part]
        self._batch_size = batch_size

    @property
    def rows_of_batches(self) -> tuple[int, ...]:
        """The different numbers of rows that batches have."""
        return rows_of_batches(len(self._rows), self._batch_size)

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        rows = self._rows[self._batch_size * index : self._batch_size * (index + 1)]
        batch = map_arrays(native, self._view[np.asarray(rows)])
        if all(part is None for part in batch[1:]):
            # On TensorFlow Keras makes a type of each part, and there is none of None.
            batch = batch[:1]
        # Keras on TensorFlow takes several inputs as a tuple only.
        return keras.tree.lists_to_tuples(batch)
