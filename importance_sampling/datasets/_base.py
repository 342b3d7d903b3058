"""The interface of all data sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays import map_arrays


class DataView:
    """One part of a data set, indexed like a numpy array: `view[idx] -> (x, y)`.

    Integers, slices, lists and index or boolean arrays are understood, negative
    indices count from the end. A single integer gives one example without the batch axis.
    """

    def __init__(self, read: Any, size: Any, name: str, slices: bool):
        self._read = read
        self._size = size
        self._name = name
        self._slices = slices

    def __len__(self) -> int:
        return self._size()

    def __getitem__(self, idxs: Any) -> tuple[Any, ...]:
        if isinstance(idxs, int | np.integer):
            rows = self._read(self._positions(np.asarray([idxs])))
            return tuple(map_arrays(lambda a: a[0], part) for part in rows)
        if isinstance(idxs, slice):
            if self._slices:
                return self._read(idxs)
            idxs = np.arange(*idxs.indices(len(self)))
        return self._read(self._positions(np.asarray(idxs)))

    def _positions(self, idxs: np.ndarray) -> np.ndarray:
        try:
            n = len(self)
        except RuntimeError:
            return idxs
        if idxs.dtype == bool:
            if idxs.shape != (n,):
                raise IndexError(
                    f"A boolean index into the {self._name} data must have shape ({n},), got "
                    f"{idxs.shape}."
                )
            return np.flatnonzero(idxs)
        if idxs.size == 0:
            return idxs.astype(np.int64).reshape(-1)
        if idxs.dtype.kind not in "iu" or idxs.ndim != 1:
            raise IndexError(
                f"The {self._name} data is indexed by integers, slices, lists or one-dimensional "
                f"arrays of integers or booleans; got an array of {idxs.dtype} with shape "
                f"{idxs.shape}."
            )
        low, high = idxs.min(), idxs.max()
        if low < -n or high >= n:
            wrong = low if low < -n else high
            raise IndexError(f"Index {wrong} is out of range: the {self._name} data has {n} rows.")
        return np.where(idxs < 0, idxs + n, idxs) if low < 0 else idxs


class BaseDataset:
    """A training and a test set that can be indexed.

    To write one, implement `_train_data(idxs)`, `_train_size()`, `_test_data(idxs)` and
    `_test_size()`, and the properties `shape`, `output_shape` and `output_size`.

    Example:

    ```python
    class Squares(BaseDataset):
        def _train_data(self, idxs):
            x = np.asarray(idxs, "float32")[:, None]
            return x, x**2

        def _train_size(self):
            return 1000

        _test_data, _test_size = _train_data, _train_size
        shape = output_shape = (1,)
        output_size = 1
    ```
    """

    reads_ahead = False
    """Whether reading rows takes long enough that the next ones should be read in a thread
    meanwhile; `_train_data` must then bear to be called there."""

    _reads_slices = False
    """Whether `_train_data` and `_test_data` also take slices, and read them without a copy."""

    def _train_data(self, idxs: Any) -> tuple[Any, ...]:
        """Returns `(x, y)` for an array of valid, non-negative indices."""
        raise NotImplementedError(f"{type(self).__name__} must implement _train_data(idxs)")

    def _train_size(self) -> int:
        """Number of training examples; raises RuntimeError for a stream."""
        raise NotImplementedError(f"{type(self).__name__} must implement _train_size()")

    def _test_data(self, idxs: Any) -> tuple[Any, ...]:
        """Returns `(x, y)` for an array of valid, non-negative indices."""
        raise NotImplementedError(f"{type(self).__name__} must implement _test_data(idxs)")

    def _test_size(self) -> int:
        """Number of test examples."""
        raise NotImplementedError(f"{type(self).__name__} must implement _test_size()")

    @property
    def train_data(self) -> DataView:
        """The training set."""
        return DataView(self._train_data, self._train_size, "training", self._reads_slices)

    @property
    def test_data(self) -> DataView:
        """The test set."""
        return DataView(self._test_data, self._test_size, "test", self._reads_slices)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        raise NotImplementedError(f"{type(self).__name__} must implement shape")

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one target."""
        raise NotImplementedError(f"{type(self).__name__} must implement output_shape")

    @property
    def output_size(self) -> int:
        """Number of outputs a network for this data needs."""
        raise NotImplementedError(f"{type(self).__name__} must implement output_size")


class IndexedParts(BaseDataset):
    """A data set whose parts `_train` and `_test` have a length and give `(x, y)` for an array."""

    _train: Any
    _test: Any

    def _train_data(self, idxs: Any) -> tuple[Any, ...]:
        return self._train[idxs]

    def _train_size(self) -> int:
        return len(self._train)

    def _test_data(self, idxs: Any) -> tuple[Any, ...]:
        return self._test[idxs]

    def _test_size(self) -> int:
        return len(self._test)


class DecoratedDataset(BaseDataset):
    """A data set made of another one, whose shapes it has."""

    dataset: BaseDataset

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.dataset.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one target."""
        return self.dataset.output_shape

    @property
    def output_size(self) -> int:
        """Number of classes, or of target values."""
        return self.dataset.output_size
