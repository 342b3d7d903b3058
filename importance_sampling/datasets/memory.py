"""Data sets whose arrays are in memory."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .._arrays import Nested, count_rows, flatten, take_rows
from ..data.dataset import BaseDataset, output_size, row_shapes

_ONE_HOT = 2**28
"""Bytes that one-hot rows may take whatever the labels are."""

_LARGEST = 2.0**53
"""Up to it each integer is a floating point number."""


def to_categorical(labels: ArrayLike, classes: int | None = None) -> np.ndarray:
    """One-hot float32 rows from integer labels.

    Args:
        labels: `(n,)` or `(n, 1)`, numbers from 0 on.
        classes: int, how many classes there are. Defaults to the largest label + 1.

    Returns:
        `(n, classes)` array.

    Raises:
        ValueError: if there is more than one label per example, or one that is no integer from 0 to
            `classes` - 1, or if most of a great many columns would be empty.
    """
    labels = _whole(labels)
    if len(labels) and labels.min() < 0:
        raise ValueError(f"Labels must be at least 0, got {labels.min()}.")
    largest = int(labels.max()) if len(labels) else -1
    classes = largest + 1 if classes is None else classes
    if largest >= classes:
        raise ValueError(f"Labels must be below {classes}, the number of classes, got {largest}.")
    _check_columns(labels, classes)
    rows = np.zeros((len(labels), classes), dtype=np.float32)
    rows[np.arange(len(labels)), labels] = 1.0
    return rows


def _whole(labels: ArrayLike) -> np.ndarray:
    """Labels as integers, `(n,)`, whatever their type."""
    labels = np.asarray(labels)
    if math.prod(labels.shape[1:]) != 1:
        raise ValueError(
            f"Expected one label per example to make it categorical, got shape {labels.shape}. "
            "Pass categorical=False to use the targets as they are."
        )
    labels = labels.reshape(len(labels))
    if labels.dtype.kind == "O":
        labels = np.array(labels.tolist())
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"Labels must be integers, got {labels.dtype}.")
    if labels.dtype.kind == "f" and not (np.abs(labels) < _LARGEST).all():
        raise ValueError("Labels must be integers, got some that are NaN or infinite.")
    whole = labels.astype(np.int64)
    if labels.dtype.kind == "f" and (whole != labels).any():
        raise ValueError(f"Labels must be integers, got {labels[whole != labels][0]}.")
    return whole


def _check_columns(labels: np.ndarray, classes: int) -> None:
    """Refuses rows that one label of a great many makes so long that memory ends."""
    taken = 4 * len(labels) * classes
    different = len(np.unique(labels)) if taken > _ONE_HOT else classes
    if classes > 10 * different:
        raise ValueError(
            f"One-hot rows of {classes:,} classes would take {taken:,} bytes, though only "
            f"{different:,} of them occur. Number them from 0 on, or pass categorical=False."
        )


class Loadable(Protocol):
    """What `InMemoryDataset.from_loadable` takes; modules of `keras.datasets` are such."""

    def load_data(self) -> tuple[tuple[Nested, Nested], tuple[Nested, Nested]]:
        """`(x_train, y_train), (x_test, y_test)`."""


class InMemoryDataset(BaseDataset):
    """Four arrays: inputs and targets to train and to test on.

    Args:
        X_train: array `(n, ...)`, or nested lists and dicts of arrays with n rows.
        y_train: array `(n, ...)`, or nested lists and dicts of arrays with n rows.
        X_test: as `X_train`, with any number of rows.
        y_test: as `y_train`, with any number of rows.
        categorical: bool, whether to turn integer labels into one-hot rows. Defaults to `True`.
    """

    _reads_slices = True

    def __init__(
        self,
        X_train: Nested,
        y_train: Nested,
        X_test: Nested,
        y_test: Nested,
        categorical: bool = True,
    ):
        for name, x, y in (("training", X_train, y_train), ("test", X_test, y_test)):
            lengths = {len(a) for a in flatten((x, y))}
            if len(lengths) > 1:
                raise ValueError(
                    f"The {name} arrays differ in their number of rows: {sorted(lengths)}."
                )
        self._x_train, self._x_test = X_train, X_test
        if categorical:
            both = [_whole(y) for y in (y_train, y_test) if len(y)]
            if not both:
                raise ValueError("There are no labels. Pass at least one example.")
            classes = max(int(y.max()) for y in both) + 1
            y_train, y_test = to_categorical(y_train, classes), to_categorical(y_test, classes)
            self._output_size = classes
        else:
            self._output_size = output_size(y_train)
        self._y_train, self._y_test = y_train, y_test

    def _train_data(self, idxs: Any) -> tuple[Any, Any]:
        return take_rows(self._x_train, idxs), take_rows(self._y_train, idxs)

    def _train_size(self) -> int:
        return count_rows(self._x_train)

    def _test_data(self, idxs: Any) -> tuple[Any, Any]:
        return take_rows(self._x_test, idxs), take_rows(self._y_test, idxs)

    def _test_size(self) -> int:
        return count_rows(self._x_test)

    @property
    def shape(self) -> Any:
        """Shape of one input, a list of shapes where there are several."""
        return row_shapes(self._x_train)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one target (of the first array)."""
        return flatten(self._y_train)[0].shape[1:]

    @property
    def output_size(self) -> int:
        """Number of classes, or of target values."""
        return self._output_size

    @classmethod
    def from_loadable(cls, obj: Loadable) -> InMemoryDataset:
        """Makes a data set of anything with `load_data() -> (x, y), (x_test, y_test)`."""
        (x_train, y_train), (x_test, y_test) = obj.load_data()
        return cls(x_train, y_train, x_test, y_test)


class InMemoryImageDataset(InMemoryDataset):
    """Images as float32 in [0, 1] with a channel axis, targets one-hot unless told otherwise.

    Args:
        X_train: images `(n, height, width)` or `(n, height, width, channels)`; integer types
            are divided by 255.
        y_train: integer labels `(n,)` or `(n, 1)`.
        X_test: as `X_train`.
        y_test: as `y_train`.
        categorical: bool, whether to turn the labels into one-hot rows. Defaults to `True`.
    """

    def __init__(
        self,
        X_train: Nested,
        y_train: Nested,
        X_test: Nested,
        y_test: Nested,
        categorical: bool = True,
    ):
        x_train, x_test = _as_images(X_train), _as_images(X_test)
        if x_train.shape[1:] != x_test.shape[1:]:
            raise ValueError(
                "Training and test images differ in shape: "
                f"{x_train.shape[1:]} and {x_test.shape[1:]}."
            )
        super().__init__(x_train, y_train, x_test, y_test, categorical)


def _as_images(images: Any) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise ValueError(
            f"Expected images of shape (n, height, width[, channels]), got {images.shape}."
        )
    if images.dtype.kind in "iu":
        scaled = images.astype(np.float32)
        scaled /= np.float32(255)
        return scaled
    if images.dtype.kind not in "bf":
        raise ValueError(f"Expected images of numbers, got {images.dtype}.")
    # Not the other way round: nothing is true of NaN.
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            "Expected floating point images in [0, 1], got values from "
            f"{images.min()} to {images.max()}."
        )
    return images.astype(np.float32)
