"""Files are written whole or not at all, and read with errors that name them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

AnyPath: TypeAlias = str | os.PathLike[str]
"""A path as users give it."""


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Lets `write` fill a temporary file beside `path`, which then takes its place.

    Args:
        path: the file to write.
        write: called with the path of the temporary file; its errors leave `path` as it was.

    Returns:
        The path.
    """
    # In front, because some suffixes have two parts.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_npz(path: Path, required: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """All arrays of a `.npz` file; pickled ones are refused.

    Args:
        path: the file.
        required: names of arrays that it must hold. Defaults to none.

    Returns:
        dict of name to array.

    Raises:
        OSError: if it is missing, truncated or no such file; names it.
        ValueError: if it lacks some of the arrays `required`; names them.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no {path}.") from error
    except Exception as error:
        # Truncated archives end in errors of zipfile, zlib, struct and numpy alike.
        raise OSError(f"{path} cannot be read as a .npz file: {error}") from error
    missing = [name for name in required if name not in arrays]
    if missing:
        raise ValueError(
            f"{path} lacks the arrays {missing}; it holds {sorted(arrays)}. Expected "
            f"{list(required)}."
        )
    return arrays


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], compressed: bool = False) -> None:
    """Writes a `.npz` file, whole or not at all.

    Args:
        path: the file.
        arrays: what it will hold, by name.
        compressed: bool, whether to spend time on a smaller file. Defaults to `False`.
    """
    save = np.savez_compressed if compressed else np.savez
    # By numpy's stubs any name may be that of the argument `allow_pickle`, a bool.
    write_whole(path, lambda temporary: save(temporary, **arrays))  # type: ignore[arg-type]


def write_json(path: Path, content: object) -> None:
    """Writes JSON, whole or not at all.

    Args:
        path: the file.
        content: dicts, lists, strings, numbers, booleans and None.
    """
    text = json.dumps(content, indent=2) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text))


def make_directory(path: Path) -> Path:
    """Makes a directory that can be written to, or raises an OSError that says why not."""
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise PermissionError(f"The directory {path} cannot be written to.")
    return path
