"""Checks on HDF5 files of strangers, which can point to other files and name any size.

What is refused is what Keras refuses since CVE-2026-1669, and what its loaders were found to let
through later: links at any place of a name, virtual data sets, and shapes without data behind them.
"""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .._untrusted import SMALL, check_expansion, naming, reading, regular_file

_DEEPEST = 64
"""Groups in groups; networks in networks of Keras are a few deep."""

_MOST_NAMES = 10_000
"""Names of weights of one layer."""

_MOST_TEXTS = 1000
"""As many, where each can be a text as long as the file."""

_KINDS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}

# What weights are packed with. Others take their sizes from the file, or are programs that HDF5
# looks for on the machine.
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
}

_CHECKSUM = 4
_MOST_CHUNKS = 10_000


def check_contents(group: h5py.Group) -> None:
    """Goes through all that a group holds, reading no data, and refuses what leads astray.

    After it, names that do not begin with a slash stay in the group, whatever they are.

    Args:
        group: a file or group, opened.

    Raises:
        ValueError: for a link that is no hard one, data outside of the file, a group that is in
            itself or in two places, nesting without end, and sizes far above those of the file.
        OSError: for what HDF5 cannot read. Both name the place.
    """
    seen = {_address(group)}
    found = [(group, 0)]
    total = 0
    while found:
        parent, depth = found.pop()
        for name in parent.id:
            place = f"{parent.name.rstrip('/')}/{name.decode('utf-8', 'replace')}"
            kind = parent.id.links.get_info(name).type
            if kind != h5py.h5l.TYPE_HARD:
                raise ValueError(
                    f"{place} is {_KINDS.get(kind, 'a link of an unknown kind')}. Weights files of "
                    "Keras have none, and it could lead to any other file: it is not followed."
                )
            with reading(place, "a group or data set"):
                child = parent[name]
                total += _declared(child, place) if isinstance(child, h5py.Dataset) else 0
            if isinstance(child, h5py.Dataset):
                check_expansion(total, _size(group), f"{place}, with what comes before it,")
            elif isinstance(child, h5py.Group):
                if _address(child) in seen:
                    raise ValueError(f"{place} is a group that is found elsewhere in the file.")
                if depth == _DEEPEST:
                    raise ValueError(f"{place} is a group in more than {_DEEPEST} others.")
                seen.add(_address(child))
                found.append((child, depth + 1))


def _address(group: h5py.Group) -> int:
    return h5py.h5o.get_info(group.id).addr


def _size(found: h5py.Group | h5py.Dataset) -> int:
    return found.file.id.get_filesize()


def _declared(data: h5py.Dataset, place: str) -> int:
    """Bytes that reading a data set takes, once it is known to lie in the file."""
    layout = data.id.get_create_plist()
    if layout.get_external_count():
        raise ValueError(f"{place} has its data in another file, which is not read.")
    if layout.get_layout() == h5py.h5d.VIRTUAL:
        raise ValueError(f"{place} is a virtual data set: its data, in other files, is not read.")
    if data.shape is None:
        return 0
    # Not of numpy's type: text of any length has one of 8 bytes.
    itemsize = data.id.get_type().get_size()
    if layout.get_layout() != h5py.h5d.CHUNKED:
        return _product(data.shape) * itemsize
    declared = max(_product(data.shape), _product(layout.get_chunk())) * itemsize
    check_expansion(declared, _size(data), place)
    _check_packing(data, [layout.get_filter(i)[0] for i in range(layout.get_nfilters())], place)
    return declared


def _check_packing(data: h5py.Dataset, filters: list[int], place: str) -> None:
    """Refuses chunks that would be unpacked to more than a chunk has.

    HDF5 takes as much memory as comes out of a chunk, so that each is unpacked here before, only so
    far as it may go.
    """
    if set(filters) - _FILTERS or len(set(filters)) < len(filters):
        raise ValueError(f"{place} is packed by other filters than gzip, lzf and shuffle.")
    if h5py.h5z.FILTER_DEFLATE not in filters:
        return
    after = filters[filters.index(h5py.h5z.FILTER_DEFLATE) + 1 :]
    if after not in ([], [h5py.h5z.FILTER_FLETCHER32]):
        raise ValueError(f"{place} is packed by filters in an order that h5py does not use.")
    number = data.id.get_num_chunks()
    if number > _MOST_CHUNKS:
        raise ValueError(f"{place} has {number:,} packed chunks, more than {_MOST_CHUNKS:,}.")
    largest = _product(data.chunks) * data.id.get_type().get_size()
    for i in range(number):
        found = data.id.get_chunk_info(i)
        check_expansion(found.size, _size(data), f"a chunk of {place}")
        skipped, packed = data.id.read_direct_chunk(found.chunk_offset)
        if skipped:
            raise ValueError(f"{place} has chunks that are packed in different ways.")
        if after:
            packed = packed[:-_CHECKSUM]
        if len(zlib.decompressobj().decompress(packed, largest + 1)) > largest:
            raise ValueError(
                f"{place} has a chunk that unpacks to more than its {largest:,} bytes."
            )


def _product(shape: Any) -> int:
    result = 1
    for n in shape:
        result *= int(n)
    return result


def check_weights_file(path: Path) -> None:
    """Checks a whole file before it is given to another reader, such as Keras' own.

    Args:
        path: of the file.

    Raises:
        OSError: if it is missing or no HDF5 file; names it.
        ValueError: if it is refused; names it and the place in it.
    """
    regular_file(path)
    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file, naming(path):
        check_contents(file)


def names_of_weights(group: h5py.Group) -> list[str]:
    """The attribute `weight_names`.

    Args:
        group: a group that has it.

    Returns:
        list of str, names within the group.

    Raises:
        ValueError: if it is no list of names, or one begins at the root of the file.
    """
    names = [_text(name) for name in np.ravel(_attribute(group, "weight_names")).tolist()]
    for name in names:
        if not name or name.startswith("/"):
            raise ValueError(f"{group.name} names {name!r} as a weight, which is none in it.")
    return names


def layer_name(group: h5py.Group) -> str:
    """The attribute `name`.

    Args:
        group: a group that has it.

    Returns:
        str, the name of the layer whose weights the group holds.

    Raises:
        ValueError: if it is no name.
    """
    value = _attribute(group, "name")
    if np.ndim(value):
        raise ValueError(f"{group.name} has {np.size(value)} names.")
    return _text(value)


def _attribute(group: h5py.Group, name: str) -> Any:
    """An attribute, whose size is looked at before it is read."""
    attribute = group.attrs.get_id(name)
    numbers = _product(attribute.shape)
    most = _MOST_TEXTS if attribute.dtype.hasobject else _MOST_NAMES
    if numbers > most or numbers * attribute.dtype.itemsize > SMALL:
        raise ValueError(f"{group.name} has {numbers:,} values as its {name}.")
    return group.attrs[name]


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def data_set(group: h5py.Group, name: str) -> h5py.Dataset:
    """A data set of numbers in a group that `check_contents` has gone through.

    Args:
        group: the group.
        name: str, the data set's name in it.

    Returns:
        The data set, not read.

    Raises:
        ValueError: if there is none of that name, or a group or text in its place.
    """
    found = group.get(name) if name in group else None
    place = f"{group.name.rstrip('/')}/{name}"
    if found is None:
        raise ValueError(f"{place} is missing.")
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{place} is a {type(found).__name__.lower()}, not a data set.")
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{place} holds {found.dtype} instead of numbers.")
    return found


def warn_unless_finite(source: str, where: str, values: np.ndarray) -> None:
    """Warns of weights with which no network computes anything.

    Args:
        source: str, the file.
        where: str, the layer's weight.
        values: what it holds.
    """
    if values.dtype.kind == "f" and values.size and not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).sum())
        warnings.warn(
            f"{source}: {wrong} of the {values.size} values of {where} are NaN or infinite. "
            "Whatever the network computes with them will be NaN, too.",
            UserWarning,
            stacklevel=4,
        )
