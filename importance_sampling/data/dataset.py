"""The one interface of all data sets: `train_data[idxs]`, `test_data[idxs]` and their lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._arrays import Nested, count_rows, flatten, known_length, map_arrays

_ENDLESS = 2**63 - 1
"""The length that slices of a stream are taken of."""


class DataView:
    """One part of a data set, indexed like a numpy array: `view[idx] -> (x, y)`.

    Integers, slices, lists and index or boolean arrays are understood, negative
    indices count from the end. A single integer gives one example without the batch axis.

    Of a stream, which has no length, an index only says how many of the next examples to read; a
    single integer reads one and keeps the batch axis.
    """

    def __init__(
        self,
        read: Callable[[Any], tuple[Any, ...]],
        size: Callable[[], int],
        name: str,
        slices: bool,
        streams: bool = False,
    ):
        self._read = read
        self._size = size
        self._name = name
        self._slices = slices
        self._streams = streams

    def __len__(self) -> int:
        return self._size()

    def __getitem__(self, idxs: Any) -> tuple[Any, ...]:
        if isinstance(idxs, int | np.integer):
            rows = self._read(self._positions(np.asarray([idxs])))
            return rows if self._streams else tuple(map_arrays(lambda a: a[0], r) for r in rows)
        if isinstance(idxs, slice):
            if self._slices:
                return self._read(idxs)
            idxs = self._numbers(idxs)
        return self._read(self._positions(np.asarray(idxs)))

    def _numbers(self, idxs: slice) -> np.ndarray:
        n = known_length(self)
        if n is None and idxs.stop is None:
            raise IndexError(
                f"The {self._name} data is a stream, of which {idxs} has no end: give the slice a "
                "stop, or a list of as many indices as you want examples."
            )
        return np.arange(*idxs.indices(_ENDLESS if n is None else n))

    def _positions(self, idxs: np.ndarray) -> np.ndarray:
        n = known_length(self)
        if n is None:
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

    To write one, implement `_train_data(idxs)` and `_test_data(idxs)`. Write `_train_size()`,
    `_test_size()` and the properties `shape`, `output_shape` and `output_size` as well where the
    data is large: by default they are found out by reading it, once.

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

    _train_streams = _test_streams = False
    """Whether indices of that part have no meaning but to say how many examples to read."""

    def _train_data(self, idxs: Any) -> tuple[Any, ...]:
        """Returns `(x, y)` for an array of valid, non-negative indices."""
        raise NotImplementedError(f"{type(self).__name__} must implement _train_data(idxs)")

    def _train_size(self) -> int:
        """Number of training examples; raises RuntimeError for a stream.

        By default as many as `_train_data(slice(None))` gives.
        """
        return self._found("train size", lambda: count_rows(self._train_data(slice(None))[0]))

    def _test_data(self, idxs: Any) -> tuple[Any, ...]:
        """Returns `(x, y)` for an array of valid, non-negative indices."""
        raise NotImplementedError(f"{type(self).__name__} must implement _test_data(idxs)")

    def _test_size(self) -> int:
        """Number of test examples, by default as many as `_test_data(slice(None))` gives."""
        return self._found("test size", lambda: count_rows(self._test_data(slice(None))[0]))

    def _found(self, what: str, find: Callable[[], Any]) -> Any:
        """What the data says, read once."""
        known = vars(self).setdefault("_known", {})
        if what not in known:
            known[what] = find()
        return known[what]

    @property
    def train_data(self) -> DataView:
        """The training set."""
        return DataView(
            self._train_data, self._train_size, "training", self._reads_slices, self._train_streams
        )

    @property
    def test_data(self) -> DataView:
        """The test set."""
        return DataView(
            self._test_data, self._test_size, "test", self._reads_slices, self._test_streams
        )

    @property
    def shape(self) -> Any:
        """Shape of one input, a list of shapes where there are several."""
        return self._found("shape", lambda: row_shapes(self.train_data[[0]][0]))

    @property
    def output_shape(self) -> Any:
        """Shape of one target; by default `(output_size,)`, where the data set says that."""
        if type(self).output_size is not BaseDataset.output_size:
            return (self.output_size,)
        return self._found("output shape", lambda: row_shapes(self.train_data[[0]][1]))

    @property
    def output_size(self) -> int:
        """Number of outputs a network for this data needs.

        By default the largest target + 1 where targets are integers, otherwise the length of
        their last axis.
        """
        return self._found("output size", self._count_outputs)

    def _count_outputs(self) -> int:
        first = flatten(self.train_data[[0]][1])[0]
        if first.dtype.kind not in "iu":
            return output_size(first)
        return output_size(self.train_data[np.arange(self._train_size())][1])


def row_shapes(data: Nested) -> Any:
    """Shape of one row of each array: a tuple, or tuples in a list or dict as the arrays are."""
    if isinstance(data, dict):
        return {name: row_shapes(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [row_shapes(value) for value in data]
    return tuple(data.shape[1:])


def output_size(targets: Nested) -> int:
    """Number of outputs that a network for these targets (the first, of several) needs."""
    if targets is None:
        return 0
    first = np.asarray(flatten(targets)[0])
    if first.dtype.kind in "iu" and first.size:
        return int(first.max()) + 1
    return int(first.shape[-1]) if first.ndim > 1 else 1
