"""Where large arrays lie: in memory, or in files that are mapped to it."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ._files import Allocate, AnyPath, make_directory

# Smaller arrays are not worth a file.
_LEAST_BYTES = 2**16


class MappedArrays:
    """Makes arrays of zeros that lie in files of a folder, and in memory as far as there is room.

    The files have no name: they are gone with the arrays, however the program ends. (On Windows
    they have one, and are deleted when the arrays are.) Their place on the disk is taken at once,
    so that a disk that is too small is an error here, not a crash when they are written to.

    Args:
        folder: where they lie; it is made if it is not there. A `~` in front is the user's home.

    Raises:
        OSError: if the folder cannot be written to.
        ValueError: if no folder is named.
    """

    def __init__(self, folder: AnyPath):
        if not os.fspath(folder):
            raise ValueError("`memory_map` must name a folder, got ''; the present one is '.'.")
        path = Path(folder)
        with contextlib.suppress(RuntimeError):
            # Without such a user the name is that of a folder.
            path = path.expanduser()
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"`memory_map` must be a folder; {path} is a file.")
        self.folder = make_directory(path)

    def __call__(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of zeros; of less than 64 KiB in memory.

        Args:
            shape: its shape.
            dtype: its type.

        Raises:
            OSError: if there is no room for it; names the folder.
        """
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if size < _LEAST_BYTES:
            return np.zeros(shape, dtype)
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
                mapped = mmap.mmap(file.fileno(), size)
        except OSError as error:
            said = f"{error.strerror or error}: {size:,} bytes for a memory map"
            raise OSError(error.errno, said, str(self.folder)) from error
        # The array keeps the map alive, and the map its file.
        return np.frombuffer(mapped, dtype).reshape(shape)


def copied(array: np.ndarray, allocate: Allocate) -> np.ndarray:
    """A copy of an array.

    Args:
        array: of any shape.
        allocate: says where the copy lies.
    """
    if allocate is np.zeros:
        return array.copy()
    copy = allocate(array.shape, array.dtype)
    copy[...] = array
    return copy
