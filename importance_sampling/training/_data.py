"""From the arguments of Keras' `fit` to a data set and a validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from .._arrays import count_rows, flatten, map_arrays, take_rows
from ..datasets import BaseDataset, InMemoryDataset


def to_numpy(data: Any) -> Any:
    """Turns tensors and lists of numbers into numpy arrays; arrays are not copied."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            return leaf
        return np.asarray(keras.ops.convert_to_numpy(leaf) if keras.ops.is_tensor(leaf) else leaf)

    return map_arrays(convert, data)


class ArrayDataset(InMemoryDataset):
    """Training arrays, with sample weights where there are any."""

    def __init__(self, x: Any, y: Any, sample_weight: Any = None):
        self._sample_weight = sample_weight
        super().__init__(x, y, take_rows(x, slice(0, 0)), take_rows(y, slice(0, 0)), False)

    def _train_data(self, idxs: Any) -> tuple[Any, ...]:
        xy = super()._train_data(idxs)
        if self._sample_weight is None:
            return xy
        return (*xy, take_rows(self._sample_weight, idxs))


def check_lengths(x: Any, y: Any, sample_weight: Any) -> int:
    """Number of examples.

    Raises:
        ValueError: if arrays differ in length, are empty, or hold what no network can read.
    """
    lengths: dict[str, list[int]] = {}
    for name, data in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        for array in flatten(data):
            if array.ndim == 0:
                raise ValueError(
                    f"`{name}` must be an array with one row per example, got a scalar."
                )
            if array.dtype == object:
                raise ValueError(
                    f"`{name}` is an array of Python objects (rows of different lengths?), which "
                    "no network can read. Pad the rows to one length and use a numeric type."
                )
            lengths.setdefault(name, []).append(len(array))
    if "y" not in lengths:
        raise ValueError(
            "`y` is None: importance sampling needs targets, because it scores each example by "
            "its loss."
        )
    if "x" not in lengths:
        raise ValueError("`x` holds no arrays: there is nothing to train on.")
    if len({n for found in lengths.values() for n in found}) != 1:
        raise ValueError(
            "All arrays need the same number of rows, got "
            + ", ".join(f"{name}: {found}" for name, found in lengths.items())
            + "."
        )
    n = lengths["x"][0]
    if n == 0:
        raise ValueError("`x` has no rows: there is nothing to train on.")
    return n


def split_validation(
    x: Any, y: Any, sample_weight: Any, share: float
) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """Takes the last rows for validation, as Keras does, before any shuffling."""
    n = count_rows(x)
    if not 0 < share < 1:
        raise ValueError(f"`validation_split` must be in [0, 1), got {share!r}.")
    cut = int(np.floor(n * (1.0 - share)))
    if cut in (0, n):
        raise ValueError(
            f"`validation_split`={share!r} of {n} examples leaves "
            f"{cut} to train on and {n - cut} to validate on; both need at least one."
        )
    data = (x, y, sample_weight)
    return take_rows(data, slice(0, cut)), take_rows(data, slice(cut, n))


def class_weights(y: Any, class_weight: Mapping[int, float]) -> np.ndarray:
    """The weight of each example's class; classes that are not named weigh 1."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"`class_weight` must be a dict of class to weight, got {class_weight!r}.")
    if not isinstance(y, np.ndarray):
        raise ValueError("`class_weight` needs a model with one output; use `sample_weight`.")
    labels = y.argmax(axis=-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(len(y), -1)[:, 0]
    weights = np.ones(labels.shape, dtype=np.float32)
    for label, weight in class_weight.items():
        weights[labels == label] = weight
    return weights


class _TestBatches(keras.utils.PyDataset):
    """The test data of a data set, a batch at a time."""

    def __init__(self, dataset: BaseDataset, batch_size: int):
        super().__init__()
        self._view = dataset.test_data
        self._batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._view) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        start = index * self._batch_size
        stop = min(start + self._batch_size, len(self._view))
        return self._view[np.arange(start, stop)]


class Validation:
    """What to evaluate the model on, and how; `run` gives Keras' own logs.

    Args:
        data: `(x, y)`, `(x, y, sample_weight)`, or anything else that `model.evaluate` takes.
        batch_size: int, for arrays.
        steps: int or None, batches to evaluate on.
        freq: int or list of int, epochs after which to evaluate, as in Keras.
    """

    def __init__(self, data: Any, batch_size: int, steps: int | None = None, freq: Any = 1):
        self._arguments: dict[str, Any] = {"steps": steps}
        if isinstance(data, tuple | list) and len(data) in (2, 3):
            x, y, sample_weight = (*data, None)[:3]
            self._arguments |= {"x": x, "y": y, "sample_weight": sample_weight}
            self._arguments["batch_size"] = batch_size
        elif isinstance(data, tuple | list):
            raise ValueError(
                "`validation_data` must be (x, y) or (x, y, sample_weight), got a "
                f"{type(data).__name__} of length {len(data)}."
            )
        else:
            self._arguments["x"] = data
        self._freq = freq

    @classmethod
    def of_dataset(cls, dataset: BaseDataset, batch_size: int) -> Validation | None:
        """Validation on a data set's test data, or None where it has none."""
        if len(dataset.test_data) == 0:
            return None
        if isinstance(dataset, InMemoryDataset):
            return cls(dataset.test_data[:], batch_size)
        return cls(_TestBatches(dataset, batch_size), batch_size)

    def due(self, epoch: int) -> bool:
        """Whether to evaluate after this epoch (counted from 0)."""
        if isinstance(self._freq, int):
            return (epoch + 1) % self._freq == 0
        return epoch + 1 in self._freq

    def run(self, model: keras.Model, callbacks: keras.callbacks.CallbackList) -> dict[str, float]:
        """Evaluates, with the callbacks' test hooks, and names the results as `fit` does."""
        logs = model.evaluate(**self._arguments, verbose=0, callbacks=callbacks, return_dict=True)
        return {f"val_{name}": value for name, value in logs.items()}
