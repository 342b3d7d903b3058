"""Files are written whole or not at all, and read with errors that name them."""

from __future__ import annotations

import contextlib
import json
import os
import re
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

Allocate: TypeAlias = Callable[[tuple[int, ...], Any], np.ndarray]
"""Makes an array of a shape and type, as `numpy.zeros` does."""

AnyPath: TypeAlias = str | os.PathLike[str]
"""A path as users give it."""

# Of the names that a file has, in errors.
_SHOWN = 20
_LONGEST = 80


def write_whole(path: Path, write: Callable[[Path], Any], before: Path | None = None) -> Path:
    """Lets `write` fill a temporary file beside `path`, which then takes its place.

    What it holds is on the disk before it does, so that a loss of power leaves one or the other.

    Args:
        path: the file to write.
        write: called with the path of the temporary file; its errors leave `path` as it was.
        before: where to keep the file that was there before. Defaults to nowhere.

    Returns:
        The path.

    Raises:
        OSError: if it cannot be written; names it.
    """
    # In front, because some suffixes have two parts.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        _to_disk(temporary)
        if before is not None and path.exists():
            path.replace(before)
        temporary.replace(path)
        _to_disk(path.parent)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        # By the name that the user knows, which writing to a full disk leaves out.
        if error.errno is None:
            raise OSError(f"{path} cannot be written: {error}") from error
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _to_disk(path: Path) -> None:
    """Has a file's content, or the names in a folder, written to the disk itself."""
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:
        # Windows opens no folders.
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def final_name(name: str) -> str | None:
    """The name of the file that a temporary one was to become; None for any other file.

    Args:
        name: str, that of a file that `write_whole` may have begun.
    """
    found = re.fullmatch(r"\.\d+\.(.+)", name)
    return found and found[1]


def read_npz(
    path: Path,
    required: Sequence[str] = (),
    only: bool = False,
    allocate: Allocate = np.empty,
) -> dict[str, np.ndarray]:
    """Arrays of a `.npz` file; pickled ones are refused, and so is what says a wrong size.

    Args:
        path: the file.
        required: names of arrays that it must hold. Defaults to none.
        only: bool, whether to leave all other arrays unread. Defaults to `False`.
        allocate: makes the arrays. Defaults to arrays in memory.

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
                    header = read_header(stream, info.file_size)
                    arrays[name] = read_array(stream, header, allocate)
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


def write_npz(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    compressed: bool = False,
    before: Path | None = None,
) -> None:
    """Writes a `.npz` file, whole or not at all.

    Args:
        path: the file.
        arrays: what it will hold, by name.
        compressed: bool, whether to spend time on a smaller file. Defaults to `False`.
        before: where to keep the file that was there before. Defaults to nowhere.
    """
    save = np.savez_compressed if compressed else np.savez

    def write(temporary: Path) -> None:
        # To an open file, for numpy adds an ending to names that have another.
        with temporary.open("wb") as file:
            # By numpy's stubs any name may be that of the argument `allow_pickle`, a bool.
            save(file, **arrays)  # type: ignore[arg-type]

    write_whole(path, write, before)


def write_json(path: Path, content: object) -> None:
    """Writes JSON, whole or not at all.

    Args:
        path: the file.
        content: dicts, lists, strings, numbers, booleans and None.
    """
    text = json.dumps(content, indent=2) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text))


# A description of a run or the like is a few kilobytes.
_MOST_JSON = 2**24


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Args:
        path: the file.

    Returns:
        dict.

    Raises:
        OSError: if it is missing or cannot be read; names it.
        ValueError: if it is no JSON, or anything but an object; names it.
    """
    with path.open("rb") as file:
        text = file.read(_MOST_JSON + 1)
    if len(text) > _MOST_JSON:
        raise ValueError(f"{path} has more than {_MOST_JSON >> 20} MB, which is too much for JSON.")
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f"{path} cannot be read as JSON: it is nested too deep.") from None
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, expected an object.")
    return content


def make_directory(path: Path) -> Path:
    """Makes a directory that can be written to, or raises an OSError that says why not."""
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise PermissionError(f"The directory {path} cannot be written to.")
    return path


def check_target(path: Path) -> None:
    """Makes the directory of a file that is to be written, or raises an OSError if it cannot be.

    Args:
        path: the file.
    """
    make_directory(path.parent)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory, no file to write to.")
