"""States as files: nested dicts and lists of numbers, strings and arrays, without pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._files import Allocate, read_npz, write_npz

_ARRAY = "array"
_DTYPE = "dtype"
_SKELETON = "skeleton"
_DIGEST = "digest"


def save_state(path: Path, state: object, before: Path | None = None) -> None:
    """Writes a state to a `.npz` file, whole or not at all.

    Args:
        path: the file.
        state: nested dicts and lists of numbers, strings, None and arrays.
        before: where to keep the file that was there before. Defaults to nowhere.

    Raises:
        TypeError: if it holds anything else.
    """
    arrays: dict[str, np.ndarray] = {}

    def skeleton(value: object) -> Any:
        if isinstance(value, dict):
            return {"dict": {str(key): skeleton(item) for key, item in value.items()}}
        if isinstance(value, list | tuple):
            return {"list": [skeleton(item) for item in value]}
        if isinstance(value, np.ndarray):
            name = f"{_ARRAY}_{len(arrays)}"
            if value.dtype.kind == "V":
                # Types that numpy does not know, as bfloat16: its files lose their names.
                arrays[name] = value.view(f"u{value.dtype.itemsize}")
                return {_ARRAY: name, _DTYPE: value.dtype.name}
            if value.dtype.hasobject:
                raise TypeError("A state cannot hold an array of Python objects.")
            arrays[name] = value
            return {_ARRAY: name}
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"A state cannot hold a {type(value).__name__}.")

    outline = json.dumps(skeleton(state))
    digest = np.array(_digest(outline, arrays))
    write_npz(path, {_SKELETON: np.array(outline), _DIGEST: digest, **arrays}, before=before)


def load_state(path: Path, allocate: Allocate = np.empty) -> Any:
    """Reads what `save_state` wrote.

    Args:
        path: the file.
        allocate: makes the arrays. Defaults to arrays in memory.

    Raises:
        OSError: if the file is missing, damaged or something else; names it.
    """
    try:
        arrays = read_npz(path, [_SKELETON, _DIGEST], allocate=allocate)
        outline, digest = (str(arrays.pop(name)) for name in (_SKELETON, _DIGEST))
        if digest != _digest(outline, arrays):
            raise ValueError("its content is not what was written")
        return _filled(json.loads(outline), arrays)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OSError(f"{path} cannot be read as a state: {error}") from error


def _digest(outline: str, arrays: Mapping[str, np.ndarray]) -> str:
    """A checksum over everything that a file holds."""
    found = hashlib.sha256(outline.encode())
    for name, array in arrays.items():
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _filled(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """What an outline stands for, with the arrays in their places."""
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: _filled(item, arrays) for key, item in value["dict"].items()}
    if "list" in value:
        return [_filled(item, arrays) for item in value["list"]]
    array = arrays[value[_ARRAY]]
    if _DTYPE not in value:
        return array
    # Keras depends on it, and what it registers are the types that it saves.
    import ml_dtypes

    return array.view(getattr(ml_dtypes, value[_DTYPE]))
