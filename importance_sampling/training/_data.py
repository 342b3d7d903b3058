"""From the arrays given to `fit` to a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._arrays import count_rows, flatten, map_arrays, take_rows
from ..datasets import InMemoryDataset
from ..datasets._convert import (
    SparseRows,
    densify,
    is_scipy_sparse,
    numbers_to_array,
    to_array,
)


def to_arrays(data: Any, where: str) -> Any:
    """Tensors, pandas objects and lists of numbers as numpy arrays; nothing else is copied.

    Memory maps stay on disk and sparse matrices sparse, until rows of them are drawn.
    """

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, SparseRows):
            return leaf
        return SparseRows(leaf) if is_scipy_sparse(leaf) else to_array(leaf, where)

    return map_arrays(convert, numbers_to_array(data, where))


class ArrayDataset(InMemoryDataset):
    """Training arrays, with sample weights where there are any."""

    def __init__(self, x: Any, y: Any, sample_weight: Any = None):
        self._sample_weight = sample_weight
        self.reads_ahead = not all(type(a) is np.ndarray for a in flatten((x, y)))
        nothing = slice(0, 0)
        super().__init__(x, y, take_rows(x, nothing), take_rows(y, nothing), False)

    def _train_data(self, idxs: Any) -> tuple[Any, ...]:
        xy = super()._train_data(idxs)
        if self._sample_weight is not None:
            xy = (*xy, take_rows(self._sample_weight, idxs))
        return map_arrays(densify, xy)

    @property
    def output_size(self) -> int:
        """Number of classes, or of target values; labels may be floats."""
        y = self._y_train
        labels = type(y) is np.ndarray and y.dtype.kind == "f" and y.size == len(y)
        if labels and y.min() >= 0 and (y == np.floor(y)).all():
            return int(y.max()) + 1
        return super().output_size

    @property
    def targets(self) -> Any:
        """All targets, to be checked; None for what would have to be read from disk first."""
        in_memory = all(type(a) is np.ndarray for a in flatten(self._y_train))
        return self._y_train if in_memory else None


def same_data(one: Any, other: Any) -> bool:
    """Whether two data sets hold the same arrays; both must be alive."""
    if one is other:
        return True
    if not isinstance(one, ArrayDataset) or not isinstance(other, ArrayDataset):
        return False
    places = []
    for data in (one, other):
        arrays = flatten((data._x_train, data._y_train, data._sample_weight))
        if not all(isinstance(a, np.ndarray) for a in arrays):
            return False
        places.append([(a.ctypes.data, a.shape, a.strides, a.dtype) for a in arrays])
    return places[0] == places[1]


def check_lengths(x: Any, y: Any, sample_weight: Any, what: str = "") -> int:
    """Number of examples.

    Args:
        x: inputs.
        y: targets.
        sample_weight: weights.
        what: the argument they are a part of, for errors.

    Raises:
        ValueError: if arrays differ in length or are empty.
    """
    where = f" of `{what}`" if what else ""
    lengths: dict[str, list[int]] = {}
    for name, data in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        for array in flatten(data):
            if array.ndim == 0:
                raise ValueError(
                    f"`{name}`{where} must be an array with one row per example, got a scalar."
                )
            lengths.setdefault(name, []).append(len(array))
    if "x" not in lengths:
        raise ValueError(f"`x`{where} holds no arrays: there is nothing to train on.")
    if len({n for found in lengths.values() for n in found}) != 1:
        raise ValueError(
            f"All arrays{where} need the same number of rows, got "
            + ", ".join(f"{name}: {found}" for name, found in lengths.items())
            + "."
        )
    n = lengths["x"][0]
    if n == 0:
        raise ValueError(f"`x`{where} has no rows: there is nothing to train on.")
    return n


def check_weights(sample_weight: Any, what: str) -> None:
    """Raises if any sample weight is NaN or infinite."""
    for array in flatten(sample_weight):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"`{what}` must hold numbers, got the type {array.dtype}.")
        bad = ~np.isfinite(array)
        if bad.any():
            raise ValueError(
                f"`{what}` must be finite, but {int(bad.sum())} of its {array.size} values are NaN "
                f"or infinite, the first in row {int(np.argwhere(bad)[0][0])}."
            )


def split_validation(
    x: Any, y: Any, sample_weight: Any, share: float
) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """Takes the last rows for validation, as Keras does, before any shuffling."""
    n = count_rows(x)
    cut = int(np.floor(n * (1.0 - share)))
    if cut in (0, n):
        raise ValueError(
            f"`validation_split`={share!r} of {n} examples leaves "
            f"{cut} to train on and {n - cut} to validate on; both need at least one."
        )
    data = (x, y, sample_weight)
    return take_rows(data, slice(0, cut)), take_rows(data, slice(cut, n))


def check_class_weight(class_weight: Any) -> None:
    """Raises unless it is a dict of class to weight."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"`class_weight` must be a dict of class to weight, got {class_weight!r}.")
    for label, weight in class_weight.items():
        if isinstance(label, bool) or not isinstance(label, int | np.integer):
            raise ValueError(
                f"`class_weight` must map integers to weights, got the class {label!r}."
            )
        number = isinstance(weight, int | float | np.number)
        if not number or not np.isfinite(weight) or weight < 0:
            raise ValueError(
                f"`class_weight` of class {label} must be a number of at least 0, got {weight!r}."
            )


def class_weights(y: Any, class_weight: Mapping[int, float]) -> np.ndarray:
    """The weight of each example's class; classes that are not named weigh 1."""
    if not isinstance(y, np.ndarray):
        raise ValueError(
            "`class_weight` needs a model with one output, but the targets are "
            f"{'None' if y is None else f'a {type(y).__name__} of arrays'}; use `sample_weight`."
        )
    labels = y.argmax(axis=-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(len(y), -1)[:, 0]
    weights = np.ones(labels.shape, dtype=np.float32)
    for label, weight in class_weight.items():
        weights[labels == label] = weight
    return weights
