"""What HDF5 files of Keras say about the weights of which layer.

All functions take groups that `check_contents` has gone through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

import h5py

from ._hdf5 import data_set, layer_name, names_of_weights

Source: TypeAlias = Callable[[], h5py.Dataset]
"""Gives a data set, or says what is in its place: only layers that a model has are looked at."""


class StoredLayer(NamedTuple):
    """The weights of one layer in a file.

    `path` is the names of the layer and of those around it, outermost first; `weights` are pairs
    of a name and what gives the data set; names are `None` where the file only knows an order.
    """

    path: tuple[str, ...]
    weights: list[tuple[str | None, Source]]


def _subgroup(group: h5py.Group, name: str) -> h5py.Group | None:
    found = group.get(name)
    if found is not None and not isinstance(found, h5py.Group):
        raise ValueError(f"{found.name} is a {type(found).__name__.lower()}, not a group.")
    return found


def stored_layers(group: h5py.Group) -> Iterator[StoredLayer]:
    """All layers with weights, of a whole model's or a weights-only file of any Keras."""
    inner = _subgroup(group, "model_weights")
    group = group if inner is None else inner
    if any(_is_vars(child) for child in _groups(group)) or "layers" in group:
        yield from _by_order(group, ())
    else:
        yield from _by_name(group)


def _groups(group: h5py.Group) -> list[h5py.Group]:
    return [child for child in group.values() if isinstance(child, h5py.Group)]


def _is_vars(group: h5py.Group) -> bool:
    return group.name.rsplit("/", 1)[-1] == "vars"


def _by_name(group: h5py.Group) -> Iterator[StoredLayer]:
    """The format up to Keras 2, which Keras 3 still writes as `.h5`."""
    if "weight_names" not in group.attrs:
        for child in _groups(group):
            yield from _by_name(child)
        return
    layers: dict[tuple[str, ...], list[tuple[str | None, Source]]] = {}
    for name in names_of_weights(group):
        *around, weight = name.split(":")[0].split("/")
        layers.setdefault(tuple(around), []).append((weight, partial(data_set, group, name)))
    for path, weights in layers.items():
        yield StoredLayer(path, weights)


def _by_order(group: h5py.Group, around: tuple[str, ...]) -> Iterator[StoredLayer]:
    """The `.weights.h5` format of Keras 3: groups `vars` that carry the layer's name."""
    own = _subgroup(group, "vars")
    if own is not None:
        if "name" in own.attrs:
            around = (*around, layer_name(own))
        if len(own):
            weights: list[tuple[str | None, Source]]
            weights = [(None, partial(data_set, own, str(i))) for i in range(len(own))]
            yield StoredLayer(around, weights)
    for child in _groups(group):
        if not _is_vars(child):
            yield from _by_order(child, around)
