"""Between Keras, its files and data sets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any

import h5py
import keras
import numpy as np

from .._untrusted import naming, reading, regular_file
from ..data.sequence import DatasetSequence
from ._hdf5 import check_contents, names_of_weights, warn_unless_finite
from ._weights_files import Source, StoredLayer, stored_layers

__all__ = [
    "DatasetSequence",
    "load_weights_by_name",
    "possible_weight_names",
    "weights_from_hdf5",
]

Path = tuple[str, ...]
"""The names of a layer and of those around it, outermost first."""

_SUFFIXES = {str(i) for i in range(1, 11)}
"""What may follow a layer's name and `_`."""


def weights_from_hdf5(f: h5py.Group) -> Iterator[tuple[Any, h5py.Dataset]]:
    """All weights of an opened `.h5` file, or of a group in it, with their names.

    Args:
        f: a file or group of h5py.

    Yields:
        `(name, data)`, the names as the file has them: str, or bytes in files of Keras 2.

    Raises:
        ValueError: if it leads out of the file; names it and the place in it.
    """
    with naming(f.file.filename):
        check_contents(f)
        yield from _named_weights(f)


def _named_weights(group: h5py.Group) -> Iterator[tuple[Any, h5py.Dataset]]:
    if "weight_names" in group.attrs:
        # Names are checked before they are followed.
        for checked, name in zip(names_of_weights(group), group.attrs["weight_names"], strict=True):
            yield name, group[checked]
        return
    for child in group.values():
        if isinstance(child, h5py.Group):
            yield from _named_weights(child)


def possible_weight_names(name: str | bytes, n: int = 10) -> Iterator[str]:
    """A weight's name, and what it is if its layer's name was taken: `dense_1/kernel`, ...

    Args:
        name: "layer/weight", str or bytes.
        n: int, how many numbers to try. Defaults to `10`.
    """
    name = name.decode() if isinstance(name, bytes) else name
    yield name
    layer, slash, rest = name.partition("/")
    for number in range(1, n + 1):
        yield f"{layer}_{number}{slash}{rest}"


def load_weights_by_name(
    f: str | os.PathLike[str] | h5py.Group, layers: keras.Model | Sequence[keras.Layer]
) -> list[str]:
    """Loads the weights of those layers of a file that a model has too.

    Layers are the same if they have the same name, or the file's name followed by `_1` to `_10`
    as Keras numbers layers. Where layers around it have names too, the one whose surroundings fit
    is taken. All of a file's other layers are left out.

    The file need not be trusted: it is read only, and nothing outside of it. Weights that are NaN
    or infinite are loaded with a warning.

    Args:
        f: path of a `.h5` file of Keras 2 or 3 or of a `.weights.h5` file of Keras 3, or such a
            file or a group in it, opened with h5py.
        layers: a model or a list of layers, with their weights built.

    Returns:
        The paths of the weights that were loaded, such as "dense/kernel".

    Raises:
        OSError: if the file cannot be read; names it.
        ValueError: if the weights of a layer of the same name have another shape, or the file holds
            links, data in other files, virtual data sets or anything else that Keras does not
            write. Names the file and the layer; no weight is changed then.
    """
    own: Any = layers if isinstance(layers, list | tuple) else getattr(layers, "layers", layers)
    weights = {weight.path: weight for layer in own for weight in layer.weights}
    if isinstance(f, h5py.Group):
        with reading(f.file.filename, "an HDF5 file"):
            updates = _read(f, weights)
    else:
        with reading(f, "an HDF5 file"):
            regular_file(FilePath(f))
            with h5py.File(f, "r") as file:
                updates = _read(file, weights)
    for weight, value in updates.values():
        weight.assign(value)
    return [path for path in weights if path in updates]


def _read(group: h5py.Group, weights: dict[str, Any]) -> dict[str, tuple[Any, np.ndarray]]:
    """Weights of the model with their values in the file, by the weights' paths."""
    source = group.file.filename
    known: dict[Path, list[Any]] = {}
    for weight in weights.values():
        known.setdefault(tuple(weight.path.split("/")[:-1]), []).append(weight)
    updates: dict[str, tuple[Any, np.ndarray]] = {}
    with naming(source):
        check_contents(group)
        found = list(stored_layers(group))
    for stored, path in _same_layers(found, known):
        for weight, value in _pairs(stored, path, known[path], source):
            with naming(f"{source}, layer {'/'.join(path)}"):
                data = value()
            if tuple(weight.shape) != data.shape:
                raise ValueError(
                    f"{data.name} in {source} has shape {data.shape}, but {weight.path} has "
                    f"{tuple(weight.shape)}."
                )
            with reading(data.name, f"weights of {weight.path}"):
                updates[weight.path] = weight, data[()]
    for name, (_, values) in updates.items():
        warn_unless_finite(source, name, values)
    return updates


def _same_layers(
    stored: list[StoredLayer], known: Iterable[Path]
) -> Iterator[tuple[StoredLayer, Path]]:
    """Stored layers with the known layer each belongs to, which is none's else."""
    found = [
        (likeness, number, path)
        for number, layer in enumerate(stored)
        if layer.path
        for path in known
        if (likeness := max(_likeness(layer.path, reading) for reading in _readings(path)))[0]
    ]
    taken: set[int | Path] = set()
    for _, number, path in sorted(found, key=lambda match: match[0], reverse=True):
        if number not in taken and path not in taken:
            taken |= {number, path}
            yield stored[number], path


def _readings(path: Path) -> Iterator[Path]:
    yield path
    # Before Keras 3 the weights of a recurrent layer's cell were the layer's own.
    if len(path) > 1 and path[-1].endswith("_cell"):
        yield path[:-1]


def _likeness(stored: Path, path: Path) -> tuple[int, int, int]:
    """How many names at the end are alike, how many of them are the same, and what is over."""
    alike = same = 0
    for theirs, ours in zip(reversed(stored), reversed(path), strict=False):
        name, _, suffix = ours.rpartition("_")
        if theirs != ours and (name != theirs or suffix not in _SUFFIXES):
            break
        alike += 1
        same += theirs == ours
    return alike, same, -abs(len(stored) - len(path))


def _pairs(
    stored: StoredLayer, path: Path, weights: list[Any], source: str
) -> Iterator[tuple[Any, Source]]:
    if stored.weights[0][0] is None:
        if len(stored.weights) != len(weights):
            raise ValueError(
                f"The layer {'/'.join(path)} has {len(weights)} weights, the file "
                f"{source} has {len(stored.weights)} for it."
            )
        yield from zip(weights, (value for _, value in stored.weights), strict=True)
        return
    named = {weight.name: weight for weight in weights}
    for name, value in stored.weights:
        if name in named:
            yield named[name], value
