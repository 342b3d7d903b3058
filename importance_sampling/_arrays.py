"""Rows of nested arrays, without Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def map_arrays(function: Callable[[Any], Any], data: Any) -> Any:
    """Applies `function` to every array in nested lists, tuples and dicts; None stays None."""
    if data is None:
        return None
    if isinstance(data, dict):
        return {key: map_arrays(function, value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        values = [map_arrays(function, value) for value in data]
        return type(data)(*values) if hasattr(data, "_fields") else type(data)(values)
    return function(data)


def flatten(data: Any) -> list[Any]:
    """The arrays in nested lists, tuples and dicts, in order, without None."""
    found: list[Any] = []
    map_arrays(found.append, data)
    return found


def take_rows(data: Any, idxs: np.ndarray | slice) -> Any:
    """Rows of every array in `data`."""
    if isinstance(idxs, slice):
        return map_arrays(lambda a: a[idxs], data)

    def rows(array: Any) -> Any:
        # Faster than indexing, but of a view it would copy everything first.
        fast = type(array) is np.ndarray and array.flags.c_contiguous and array.flags.aligned
        return np.take(array, idxs, axis=0) if fast else array[idxs]

    return map_arrays(rows, data)


def count_rows(data: Any) -> int:
    """Number of rows of the first array in `data`."""
    return len(flatten(data)[0])


def known_length(part: Any) -> int | None:
    """Length of one part of a data set, or None for a stream, whose `len` is a RuntimeError."""
    try:
        return len(part)
    except NotImplementedError:
        # A kind of RuntimeError too, but one that names a method somebody has to write.
        raise
    except RuntimeError:
        return None


def concatenate(parts: list[Any]) -> Any:
    """Joins batches of the same structure along the rows.

    Arrays that differ along other axes are filled up with zeros at the end, to the longest.
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return {key: concatenate([p[key] for p in parts]) for key in first}
    if isinstance(first, list | tuple):
        values = [concatenate([p[i] for p in parts]) for i in range(len(first))]
        return type(first)(*values) if hasattr(first, "_fields") else type(first)(values)
    if len({part.shape[1:] for part in parts}) > 1 and len({part.ndim for part in parts}) == 1:
        parts = [_filled_up(part, np.max([p.shape for p in parts], axis=0)) for part in parts]
    return np.concatenate(parts)


def _filled_up(array: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Zeros at the end of all axes but the first."""
    missing = shape - array.shape
    return np.pad(array, [(0, 0), *((0, int(m)) for m in missing[1:])])
