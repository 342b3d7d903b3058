"""Rows that are read when they are needed: of several processes each needs a part of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays import flatten, map_arrays
from .protocols import Dataset


class PendingRows:
    """Rows of one array of the data, which are read when they are made a numpy array.

    Parts are taken of it without reading: by a slice, or by an array of positions.

    Args:
        reading: reads all arrays of the same rows together.
        place: int, which of them this is.
        idxs: `(n,)` indices of the rows.
        first: the first row of the data, for shape and type.
        dtype: the type to cast to. Defaults to that of the data.
    """

    def __init__(
        self,
        reading: Reading,
        place: int,
        idxs: np.ndarray,
        first: np.ndarray,
        dtype: Any = None,
    ):
        self._reading, self._place, self._idxs, self._first = reading, place, idxs, first
        self.dtype = np.dtype(first.dtype if dtype is None else dtype)
        self.shape = (len(idxs), *first.shape[1:])
        self.ndim = first.ndim

    def __len__(self) -> int:
        return len(self._idxs)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice | np.ndarray | list):
            idxs = self._idxs[rows]
            return PendingRows(self._reading, self._place, idxs, self._first, self.dtype)
        return np.asarray(self)[rows]

    def astype(self, dtype: Any, copy: bool = True) -> PendingRows:
        """The same rows, cast to a type when they are read.

        Args:
            dtype: a type of numpy.
            copy: bool, without a meaning here.
        """
        return PendingRows(self._reading, self._place, self._idxs, self._first, dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        read = self._reading.take(self._idxs, self._place)
        return np.asarray(read, self.dtype if dtype is None else dtype)


class Reading:
    """One request for rows of a data set, which is met in parts.

    Args:
        dataset: the data set.
    """

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        # What was read, until each array of it was taken.
        self._read: dict[bytes, list[Any]] = {}

    def take(self, idxs: np.ndarray, place: int) -> np.ndarray:
        """Rows of one array; those of the others are kept for when they are asked for.

        Args:
            idxs: `(n,)` indices.
            place: int, which array.
        """
        key = idxs.tobytes()
        found = self._read.get(key)
        if found is None or found[place] is None:
            found = flatten(self._dataset.train_data[idxs])
            self._read[key] = found
        array, found[place] = found[place], None
        if all(other is None for other in found):
            del self._read[key]
        return array


def read_rows(data: Any) -> Any:
    """Nested arrays, of which pending ones are read.

    Args:
        data: arrays, however nested.
    """
    return map_arrays(lambda a: np.asarray(a) if isinstance(a, PendingRows) else a, data)
