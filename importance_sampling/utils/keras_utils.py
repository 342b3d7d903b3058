"""Between Keras, its files and data sets."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import keras
import numpy as np

from ..datasets import BaseDataset
from ._weights_files import StoredLayer, stored_layers

_SUFFIXES = 10
"""How far `_1`, `_2`, ... are tried behind a layer's name."""


def load_weights_by_name(
    f: str | os.PathLike[str] | h5py.Group, layers: keras.Model | Sequence[keras.Layer]
) -> list[str]:
    """Loads the weights of those layers of a file that a model has too.

    Layers are the same if they have the same name, or the file's name followed by `_1` to `_10`
    as Keras numbers layers. Where layers around it have names too, the one whose surroundings fit
    is taken. All of a file's other layers are left out.

    Args:
        f: path of a `.h5` file of Keras 2 or 3 or of a `.weights.h5` file of Keras 3, or such a
            file or a group in it, opened with h5py.
        layers: a model or a list of layers, with their weights built.

    Returns:
        The paths of the weights that were loaded, such as "dense/kernel".

    Raises:
        OSError: if the file cannot be read; names it.
        ValueError: if the weights of a layer of the same name have another shape; no weight is
            changed then.
    """
    if isinstance(f, h5py.Group):
        return _load(f, layers)
    try:
        with h5py.File(f, "r") as file:
            return _load(file, layers)
    except OSError as error:
        raise OSError(f"{os.fspath(f)} cannot be read as an HDF5 file: {error}") from error


def _load(group: h5py.Group, layers: Any) -> list[str]:
    layers = layers if isinstance(layers, list | tuple) else layers.layers
    known: dict[tuple[str, ...], list[Any]] = {}
    for weight in dict.fromkeys(w for layer in layers for w in layer.weights):
        known.setdefault(tuple(weight.path.split("/")[:-1]), []).append(weight)
    updates: dict[str, tuple[Any, np.ndarray]] = {}
    for stored in stored_layers(group):
        for weight, value in _pairs(stored, known):
            if tuple(weight.shape) != value.shape:
                raise ValueError(
                    f"{value.name} in {value.file.filename} has shape {value.shape}, but "
                    f"{weight.path} has {tuple(weight.shape)}."
                )
            updates[weight.path] = weight, value[()]
    for weight, value in updates.values():
        weight.assign(value)
    return list(updates)


def _pairs(
    stored: StoredLayer, known: dict[tuple[str, ...], list[Any]]
) -> Iterator[tuple[Any, h5py.Dataset]]:
    path = _find(stored.path, known)
    if path is None:
        return
    weights = known[path]
    if stored.weights[0][0] is None:
        if len(stored.weights) != len(weights):
            raise ValueError(
                f"The layer {'/'.join(path)} has {len(weights)} weights, the file "
                f"{stored.weights[0][1].file.filename} has {len(stored.weights)} for it."
            )
        yield from zip(weights, (value for _, value in stored.weights), strict=True)
        return
    named = {weight.name: weight for weight in weights}
    for name, value in stored.weights:
        if name in named:
            yield named[name], value


def _find(path: tuple[str, ...], known: dict[tuple[str, ...], list[Any]]) -> tuple[str, ...] | None:
    """The known layer of a stored path: the one that shares most of its surroundings."""
    if not path:
        return None
    for own in (path[-1], *(f"{path[-1]}_{i}" for i in range(1, _SUFFIXES + 1))):
        near = [
            (_shared((*path[:-1], own), names), -len(candidate), candidate)
            for candidate in known
            for names in _readings(candidate)
            if names[-1] == own
        ]
        if near:
            return max(near)[2]
    return None


def _readings(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    # Before Keras 3 the weights of a recurrent layer's cell were the layer's own.
    if len(path) > 1 and path[-1].endswith("_cell"):
        yield path[:-1]


def _shared(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """How many names at the end are the same."""
    pairs = zip(reversed(a), reversed(b), strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


class DatasetSequence(keras.utils.PyDataset):
    """One part of a data set as batches for Keras' own `fit`, `evaluate` and `predict`.

    Args:
        dataset: a `BaseDataset`.
        train: bool, whether to read its training data; its test data otherwise. Defaults to
            `True`.
        part: slice of it. Defaults to all.
        batch_size: int, examples per batch; the last batch may hold fewer. Defaults to `32`.
    """

    def __init__(
        self,
        dataset: BaseDataset,
        train: bool = True,
        part: slice = slice(None),
        batch_size: int = 32,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"`batch_size` must be an integer of at least 1, got {batch_size!r}.")
        self._view = dataset.train_data if train else dataset.test_data
        self._rows = range(len(self._view))[part]
        self._batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        rows = self._rows[self._batch_size * index : self._batch_size * (index + 1)]
        return self._view[np.asarray(rows)]
