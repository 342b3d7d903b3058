"""Rows of nested arrays, without Keras.

`keras.tree` is not used here, because

* it means importing Keras, which samplers and data sets do without;
* it takes 6 microseconds for a pair of arrays on PyTorch, where `map_arrays` takes 1, several
  times in every step;
* it puts the keys of a dict in alphabetical order, where arrays keep the order they came in;
* to its `flatten` None is a leaf, and here it stands for no array at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any, TypeAlias

import numpy as np

from .protocols import Dataset

Nested: TypeAlias = Any
"""Arrays or tensors in lists, tuples and dicts, however nested; None stands for none."""

TRIED_ROWS = 5
"""Rows on which a model is tried. Keras takes targets for as many outputs as they have rows."""


class RowsAt(Sequence[Any]):
    """Rows of arrays in memory, `(x, y)` or `(x, y, sample_weight)`, read when they are looked at.

    To whoever unpacks it, it is the tuple of the rows. Who has the arrays elsewhere, as on a
    device, goes by the indices and reads nothing here.

    Args:
        arrays: `(x, y)` or `(x, y, sample_weight)` with n rows each.
        idxs: `(b,)` indices of the rows.
    """

    __slots__ = ("_rows", "arrays", "idxs")

    def __init__(self, arrays: tuple[Nested, ...], idxs: np.ndarray):
        self.arrays = arrays
        self.idxs = idxs
        self._rows: tuple[Nested, ...] | None = None

    def read(self) -> tuple[Nested, ...]:
        """The rows, read on the first call."""
        if self._rows is None:
            self._rows = tuple(take_rows(array, self.idxs) for array in self.arrays)
        return self._rows

    def take(self, idxs: np.ndarray | slice) -> RowsAt:
        """Some of the rows, not read yet.

        Args:
            idxs: integer or boolean indices among these rows, or a slice.
        """
        return RowsAt(self.arrays, self.idxs[idxs])

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, item: Any) -> Any:
        return self.read()[item]


def map_arrays(function: Callable[[Any], Any], data: Nested) -> Any:
    """Applies `function` to every array in nested lists, tuples and dicts; None stays None.

    Args:
        function: called with one array at a time.
        data: the arrays.

    Returns:
        What `function` returned, in the structure of `data`.
    """
    if data is None:
        return None
    if isinstance(data, dict):
        return like_dict(data, ((key, map_arrays(function, v)) for key, v in data.items()))
    if isinstance(data, list | tuple):
        return _like_list(data, [map_arrays(function, value) for value in data])
    if type(data) is RowsAt:
        return map_arrays(function, data.read())
    return function(data)


def join_arrays(function: Callable[[Sequence[Any]], Any], parts: Sequence[Any]) -> Any:
    """Applies `function` to the arrays that are at the same place in each of `parts`.

    Args:
        function: takes a sequence with one array of each part.
        parts: nested lists, tuples and dicts of arrays, all of the structure of the first.

    Returns:
        What `function` returned, in the structure of the first part.
    """
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return like_dict(
            first, ((key, join_arrays(function, [part[key] for part in parts])) for key in first)
        )
    if isinstance(first, list | tuple):
        values = [join_arrays(function, [p[i] for p in parts]) for i in range(len(first))]
        return _like_list(first, values)
    if type(first) is RowsAt:
        return join_arrays(function, [tuple(part) for part in parts])
    return function(parts)


def _like_list(data: Nested, values: list[Any]) -> Any:
    """A list or tuple of `values`, of the type of `data`."""
    return type(data)(*values) if hasattr(data, "_fields") else type(data)(values)


def like_dict(data: dict, items: Iterable[tuple[Any, Any]]) -> dict:
    """A dict of `items`, ordered if `data` is: Keras takes the two for different structures.

    Args:
        data: the dict whose kind is taken.
        items: pairs of key and value.
    """
    return (OrderedDict if isinstance(data, OrderedDict) else dict)(items)


def native(array: Any) -> Any:
    """A numpy array in this machine's byte order, in which alone frameworks read numbers.

    Args:
        array: of a batch, for it is copied if it has another; anything else is left as it is.
    """
    if not isinstance(array, np.ndarray) or array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="))


def flatten(data: Nested) -> list[Any]:
    """The arrays in nested lists, tuples and dicts, in order, without None."""
    found: list[Any] = []
    map_arrays(found.append, data)
    return found


def rows_of_batches(n: int, batch_size: int) -> tuple[int, ...]:
    """The different numbers of rows that the batches of a pass have.

    Args:
        n: int, rows of the data.
        batch_size: int, the most rows of a batch.
    """
    return tuple({min(batch_size, n), n % batch_size} - {0})


def take_rows(data: Nested, idxs: np.ndarray | slice) -> Any:
    """Rows of every array in `data`.

    Args:
        data: arrays with n rows, nested.
        idxs: `(m,)` integer or `(n,)` boolean indices, or a slice.

    Returns:
        Arrays with these rows, in the structure of `data`; of a slice, views. Of `RowsAt`, the
        same, not read yet.
    """
    if type(data) is RowsAt:
        return data.take(idxs)
    if isinstance(idxs, slice):
        return map_arrays(lambda a: a[idxs], data)

    def rows(array: Any) -> Any:
        # Faster than indexing, but of a view it would copy everything first.
        fast = type(array) is np.ndarray and array.flags.c_contiguous and array.flags.aligned
        return np.take(array, idxs, axis=0) if fast else array[idxs]

    return map_arrays(rows, data)


def stack_arrays(parts: Sequence[np.ndarray], room: int) -> np.ndarray:
    """Arrays of the same shape as the first rows of one array, `(room, *shape)`.

    Slices of one array that follow each other, as batches do that were read together, are not
    copied if they fill it.

    Args:
        parts: arrays of the same shape and type.
        room: int, rows of the result; those beyond the parts are zero.
    """
    first, whole = parts[0], parts[0].base
    shape = (room, *first.shape)
    if len(parts) == room and type(whole) is np.ndarray and whole.flags.c_contiguous:
        place = first.__array_interface__["data"][0]
        fits = whole.dtype == first.dtype and whole.shape[1:] == first.shape[1:] and first.nbytes
        if fits and all(
            part.base is whole
            and part.flags.c_contiguous
            and part.__array_interface__["data"][0] == place + i * first.nbytes
            for i, part in enumerate(parts)
        ):
            row = first.nbytes // len(first)
            start = (place - whole.__array_interface__["data"][0]) // row
            return whole[start : start + room * len(first)].reshape(shape)
    stacked = np.empty(shape, first.dtype)
    for i, part in enumerate(parts):
        stacked[i] = part
    # Not left as they are: what happens to lie there may not be a number.
    stacked[len(parts) :] = 0
    return stacked


def count_rows(data: Nested) -> int:
    """Number of rows of the first array in `data`."""
    return len(flatten(data)[0])


def known_length(part: Sized) -> int | None:
    """Length of one part of a data set, or None for a stream, whose `len` is a RuntimeError."""
    try:
        return len(part)
    except NotImplementedError:
        # A kind of RuntimeError too, but one that names a method somebody has to write.
        raise
    except RuntimeError:
        return None


def dataset_length(dataset: Dataset) -> int | None:
    """Number of training examples of a data set, or None for a stream.

    Args:
        dataset: anything whose `train_data` has a length.
    """
    return known_length(dataset.train_data)


def steps_per_pass(dataset: Dataset, batch_size: int) -> int | None:
    """Uniform steps in one pass over a data set; None while nobody knows.

    Args:
        dataset: anything whose `train_data` has a length, or a stream, which tells after its
            first pass.
        batch_size: int, examples per step.
    """
    if hasattr(dataset, "steps_per_pass"):
        return dataset.steps_per_pass(batch_size)
    length = dataset_length(dataset)
    return None if length is None else -(-length // batch_size)


def concatenate(parts: list[Any]) -> Any:
    """Joins batches of the same structure along the rows.

    Arrays that differ in another axis are padded with zeros, at the end, to the longest.
    """
    return parts[0] if len(parts) == 1 else join_arrays(_concatenate, parts)


def _concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    return _pad_and_concatenate(parts)


def _pad_and_concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
    if len({part.ndim for part in parts}) > 1:
        raise ValueError(
            "Batches whose arrays differ in their number of axes cannot be joined, got the shapes "
            f"{sorted({part.shape for part in parts})}."
        )
    longest = np.max([part.shape[1:] for part in parts], axis=0)
    rows = sum(len(part) for part in parts)
    joined = np.zeros((rows, *longest), np.result_type(*(part.dtype for part in parts)))
    start = 0
    for part in parts:
        place = (slice(start, start + len(part)), *(slice(0, size) for size in part.shape[1:]))
        joined[place] = part
        start += len(part)
    return joined
