"""Files are written whole or not at all, and read with errors that name them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ._untrusted import (
    array_members,
    check_members,
    read_array,
    read_header,
    reading,
    regular_file,
)

AnyPath: TypeAlias = str | os.PathLike[str]
"""A path as users give it."""

# Of the names that a file has, in errors.
_SHOWN = 20
_LONGEST = 80


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


def read_npz(path: Path, required: Sequence[str] = (), only: bool = False) -> dict[str, np.ndarray]:
    """Arrays of a `.npz` file; pickled ones are refused, and so is what says a wrong size.

    Args:
        path: the file.
        required: names of arrays that it must hold. Defaults to none.
        only: bool, whether to leave all other arrays unread. Defaults to `False`.

    Returns:
        dict of name to array.

    Raises:
        OSError: if it is missing, truncated, no such file or would take far more memory than it
            has bytes; names it, and the member at fault.
        ValueError: if it lacks some of the arrays `required`; names them.
    """
    size = regular_file(path)
    arrays: dict[str, np.ndarray] = {}
    with reading(path, "a .npz file"), zipfile.ZipFile(path) as archive:
        members = array_members(archive)
        missing = [name for name in required if name not in members]
        if not missing:
            if only:
                members = {name: members[name] for name in required}
            check_members(members.values(), size)
            for name, info in members.items():
                with reading(info.filename, "an array"), archive.open(info) as stream:
                    arrays[name] = read_array(stream, read_header(stream, info.file_size))
    if missing:
        held = sorted(name[:_LONGEST] for name in members)
        also = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
        raise ValueError(
            f"{path} lacks the arrays {missing}; it holds {held[:_SHOWN]}{also}. Expected "
            f"{list(required)}."
        )
    return arrays


def read_npy(path: Path, mmap: bool = False) -> np.ndarray:
    """The array of a `.npy` file, never a pickled one.

    Args:
        path: the file.
        mmap: bool, whether to map it to memory instead of reading it whole. Defaults to `False`.

    Returns:
        The array.

    Raises:
        OSError: if it is missing, truncated or no such file; names it.
    """
    size = regular_file(path)
    with reading(path, "a .npy file"), path.open("rb") as stream:
        header = read_header(stream, size)
        if not mmap or not header.nbytes:
            return read_array(stream, header)
        order: Literal["F", "C"] = "F" if header.fortran else "C"
        return np.memmap(path, header.dtype, "r", header.offset, header.shape, order)


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
