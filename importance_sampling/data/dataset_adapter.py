"""Data sets that know their training and their test data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from .._arrays import TRIED_ROWS, dataset_length, flatten, native, take_rows
from ..protocols import Dataset
from ._convert import check_batch
from .adapter import DataAdapter, Options, Rows, TrainingData
from .dataset import BaseDataset


class DatasetAdapter(DataAdapter):
    """A `BaseDataset`, or anything with `train_data` and `test_data`; validates on the latter.

    Args:
        data: the data set.
        options: what it is for.
    """

    def __init__(self, data: Dataset, options: Options):
        self.name = type(data).__name__
        self._data = data
        self._options = options

    @classmethod
    def takes(cls, data: object) -> bool:
        """Whether `data` has `train_data` and `test_data`."""
        parts = hasattr(data, "train_data") and hasattr(data, "test_data")
        return parts and not isinstance(data, type)

    @contextlib.contextmanager
    def training(self, steps_per_epoch: int | None) -> Iterator[TrainingData]:
        """Gives the data set as it is; whoever made it closes it."""
        if steps_per_epoch is None and dataset_length(self._data) is None:
            raise ValueError("A stream needs `steps_per_epoch`: it has no length.")
        yield TrainingData(self._data, self._options.batch_size, steps_per_epoch)

    def first_rows(self) -> Rows:
        """The first rows of the test data."""
        return take_rows((*next(self.batches()), None)[:3], slice(0, TRIED_ROWS))

    def keras_arguments(self) -> dict[str, Any] | None:
        """The test data as arrays where it has them, otherwise as a `DatasetSequence`."""
        if not isinstance(self._data, BaseDataset) or not self._data._reads_slices:
            return {"x": self._sequence()}
        test = self._data.test_data[:]
        if any(native(array) is not array for array in flatten(take_rows(test, slice(0, 1)))):
            return {"x": self._sequence()}
        arrays = zip(("x", "y", "sample_weight"), test, strict=False)
        return {**dict(arrays), "batch_size": self._options.batch_size}

    def batches(self, steps: int | None = None) -> Iterator[Rows]:
        """The test data in batches of `batch_size` rows, in order."""
        sequence = self._sequence()
        for index in range(len(sequence) if steps is None else min(steps, len(sequence))):
            yield check_batch(sequence[index], self.name, needs_targets=False)

    def _sequence(self) -> Any:
        from .sequence import DatasetSequence

        return DatasetSequence(self._data, train=False, batch_size=self._options.batch_size)
