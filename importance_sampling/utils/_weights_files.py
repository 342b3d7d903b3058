"""What HDF5 files of Keras say about the weights of which layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py


class StoredLayer(NamedTuple):
    """The weights of one layer in a file.

    `path` is the names of the layer and of those around it, outermost first; `weights` are pairs
    of a name and a data set; names are `None` where the file only knows an order.
    """

    path: tuple[str, ...]
    weights: list[tuple[str | None, h5py.Dataset]]


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def stored_layers(group: h5py.Group) -> Iterator[StoredLayer]:
    """All layers with weights, of a whole model's or a weights-only file of any Keras."""
    if "model_weights" in group:
        group = group["model_weights"]
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
    layers: dict[tuple[str, ...], list[tuple[str | None, h5py.Dataset]]] = {}
    for name in group.attrs["weight_names"]:
        name = _text(name)
        *around, weight = name.split(":")[0].split("/")
        layers.setdefault(tuple(around), []).append((weight, group[name]))
    for path, weights in layers.items():
        yield StoredLayer(path, weights)


def _by_order(group: h5py.Group, around: tuple[str, ...]) -> Iterator[StoredLayer]:
    """The `.weights.h5` format of Keras 3: groups `vars` that carry the layer's name."""
    own = group.get("vars")
    if own is not None:
        name = own.attrs.get("name")
        if name is not None:
            around = (*around, _text(name))
        if len(own):
            weights: list[tuple[str | None, h5py.Dataset]]
            weights = [(None, own[str(i)]) for i in range(len(own))]
            yield StoredLayer(around, weights)
    for child in _groups(group):
        if not _is_vars(child):
            yield from _by_order(child, around)
