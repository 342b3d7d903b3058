"""Arrays, and what is like them: tensors, pandas objects, sparse matrices, lists of numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._arrays import TRIED_ROWS, Nested, RowsAt, count_rows, flatten, map_arrays, take_rows
from ._checks import check_lengths, check_weights
from ._convert import (
    SparseRows,
    densify,
    is_scipy_sparse,
    numbers_to_array,
    to_array,
)
from .adapter import DataAdapter, Options, Rows, TrainingData
from .class_weight import class_weights
from .dataset import BaseDataset, output_size, row_shapes
from .indexed import RowsByIndex


class ArrayAdapter(DataAdapter):
    """Inputs, targets and weights as arrays in memory or mapped to it.

    Args:
        x: inputs with n rows, arrays or nests of them.
        y: targets with n rows, or None.
        sample_weight: weights with n rows, or None.
        options: what they are for.

    Raises:
        ValueError: if they do not fit together, or hold what no network can read.
    """

    name = "pair of arrays"

    def __init__(self, x: Nested, y: Nested, sample_weight: Nested, options: Options):
        self._options = options
        self._arrays: tuple[Nested, Nested, Nested]
        if options.role == "validation":
            where = "validation_data"
            self._arrays = to_arrays((x, y, sample_weight), where)
            check_lengths(*self._arrays, what=where)
            return
        x, y = to_arrays(x, "x"), to_arrays(y, "y")
        sample_weight = to_arrays(sample_weight, "sample_weight")
        if y is None and options.needs_targets:
            raise ValueError(
                "`y` is None: importance sampling needs targets, because it scores each example "
                "by its loss."
            )
        check_lengths(x, y, sample_weight)
        check_weights(sample_weight, "sample_weight")
        if options.class_weight is not None and sample_weight is not None:
            raise ValueError(
                "Give either `class_weight` or `sample_weight`, not both: multiply them into "
                "one `sample_weight`."
            )
        self._arrays = x, y, sample_weight

    @classmethod
    def takes(cls, data: object) -> bool:
        """Everything that no other adapter takes: whether it is one is seen when it is read."""
        return True

    @contextlib.contextmanager
    def training(self, steps_per_epoch: int | None) -> Iterator[TrainingData]:
        """Makes an `ArrayDataset` of the arrays, with the weights of classes if there are any."""
        x, y, sample_weight = self._arrays
        if self._options.class_weight is not None:
            sample_weight = class_weights(y, self._options.class_weight)
        dataset = ArrayDataset(x, y, sample_weight)
        yield TrainingData(dataset, self._options.batch_size, steps_per_epoch)

    def first_rows(self) -> Rows:
        """The first rows of the arrays, dense."""
        return map_arrays(densify, take_rows(self._arrays, slice(0, TRIED_ROWS)))

    def keras_arguments(self) -> dict[str, Any] | None:
        """The arrays as Keras takes them; a `DatasetSequence` where it could not read some."""
        x, y, sample_weight = self._arrays
        size = self._options.batch_size
        arrays = flatten(self._arrays)
        if all(type(array) is np.ndarray and array.dtype.isnative for array in arrays):
            return {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": size}
        from .sequence import DatasetSequence

        return {"x": DatasetSequence(ArrayDataset(x, y, sample_weight), batch_size=size)}

    def batches(self, steps: int | None = None) -> Iterator[Rows]:
        """Dense batches of `batch_size` rows, in order."""
        size, n = self._options.batch_size, count_rows(self._arrays[0])
        for start in range(0, n if steps is None else min(n, steps * size), size):
            yield map_arrays(densify, take_rows(self._arrays, slice(start, start + size)))

    def split(self, share: float) -> tuple[DataAdapter, Rows]:
        """Sets aside the last rows, before any shuffling; see `DataAdapter.split`."""
        n = count_rows(self._arrays[0])
        cut = int(np.floor(n * (1.0 - share)))
        if cut in (0, n):
            raise ValueError(
                f"`validation_split`={share!r} of {n} examples leaves "
                f"{cut} to train on and {n - cut} to validate on; both need at least one."
            )
        x, y, sample_weight = take_rows(self._arrays, slice(0, cut))
        held_out = take_rows(self._arrays, slice(cut, n))
        return ArrayAdapter(x, y, sample_weight, self._options), held_out


def to_arrays(data: Nested, where: str) -> Nested:
    """Tensors, pandas objects and lists of numbers as numpy arrays; nothing else is copied.

    Memory maps stay on disk and sparse matrices sparse, until rows of them are drawn.

    Args:
        data: what the user gave, nested or not.
        where: str, the argument it came as, for errors.

    Returns:
        numpy arrays and `SparseRows`, in the structure of `data`.

    Raises:
        ValueError: if it holds what no network can read.
    """

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, SparseRows):
            return leaf
        return SparseRows(leaf) if is_scipy_sparse(leaf) else to_array(leaf, where)

    return map_arrays(convert, numbers_to_array(data, where))


class ArrayDataset(BaseDataset):
    """Training arrays, with sample weights where there are any; it has no test data.

    Args:
        x: inputs with n rows, as `to_arrays` gives them.
        y: targets with n rows, or None.
        sample_weight: weights with n rows, or None.
    """

    _reads_slices = True

    def __init__(self, x: Nested, y: Nested, sample_weight: Nested = None):
        self.arrays = x, y, sample_weight
        self.reads_ahead = not all(type(a) is np.ndarray for a in flatten((x, y)))

    def _train_data(self, idxs: Any) -> Rows:
        x, y, sample_weight = self.arrays
        rows: Rows = (take_rows(x, idxs), take_rows(y, idxs))
        if sample_weight is not None:
            rows = (*rows, take_rows(sample_weight, idxs))
        return map_arrays(densify, rows)

    def _train_size(self) -> int:
        return count_rows(self.arrays[0])

    def _test_data(self, idxs: Any) -> Rows:
        return take_rows(self.arrays[:2], slice(0, 0))

    def _test_size(self) -> int:
        return 0

    @property
    def shape(self) -> Any:
        """Shape of one input, a list of shapes where there are several."""
        return row_shapes(self.arrays[0])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one target (of the first array)."""
        return flatten(self.arrays[1])[0].shape[1:]

    @property
    def output_size(self) -> int:
        """Number of classes, or of target values; labels may be floats."""
        y = self.arrays[1]
        labels = type(y) is np.ndarray and y.dtype.kind == "f" and y.size == len(y)
        if labels and y.min() >= 0 and (y == np.floor(y)).all():
            return int(y.max()) + 1
        return output_size(y)

    @property
    def targets(self) -> Any:
        """All targets, to be checked; None for what would have to be read from disk first."""
        y = self.arrays[1]
        return y if all(type(array) is np.ndarray for array in flatten(y)) else None


class ArraysOnDevice(ArrayDataset):
    """Training arrays of which a model wrapper has copies on the device.

    Rows of them are read on the host only when somebody looks at them there.

    Args:
        dataset: the arrays, all of them numpy arrays in memory.

    Attributes:
        parts: `(x, y)` or `(x, y, sample_weight)`, what the wrapper was given.
    """

    def __init__(self, dataset: ArrayDataset):
        super().__init__(*dataset.arrays)
        x, y, sample_weight = self.arrays
        self.parts = (x, y) if sample_weight is None else self.arrays

    def _train_data(self, idxs: Any) -> Any:
        if isinstance(idxs, slice):
            return super()._train_data(idxs)
        return RowsAt(self.parts, idxs)


def same_data(one: object, other: object) -> bool:
    """Whether two data sets hold the same arrays; both must be alive.

    Args:
        one: a data set.
        other: a data set.

    Returns:
        bool; False where one of them is no `ArrayDataset` of numpy arrays, unless they are the same
        object or are read by index from the same.
    """
    if one is other:
        return True
    if isinstance(one, RowsByIndex) and isinstance(other, RowsByIndex):
        return one.same_as(other)
    if not isinstance(one, ArrayDataset) or not isinstance(other, ArrayDataset):
        return False
    places = []
    for data in (one, other):
        arrays = flatten(data.arrays)
        if not all(isinstance(a, np.ndarray) for a in arrays):
            return False
        places.append([(a.ctypes.data, a.shape, a.strides, a.dtype) for a in arrays])
    return places[0] == places[1]
