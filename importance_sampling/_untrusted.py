"""Checks on files that strangers made: what a file says of itself is held against the file.

A few bytes can name any size. So sizes are compared with what is really there before memory is
taken, and only data is read that was asked for. Every loader of the library goes through here.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

SMALL = 64 * 2**20
"""Bytes that any file may become in memory, however short it is."""

EXPANSION = 100
"""How many times its own size a larger file may take in memory when it is unpacked."""

_LONGEST_HEAD = 10_000
"""Bytes; numpy reads no longer ones either, but takes the memory for them."""

# By version of the format, bytes of the head's length. Version 3 is for records only.
_READERS: dict[tuple[int, ...], tuple[int, Callable[[IO[bytes]], Any]]] = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}

_CHUNK = 2**20
_SHOWN = 80


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Makes of every error an OSError that names the file.

    Broken files end in errors of zipfile, zlib, struct, tokenize, Pillow, HDF5 and numpy alike. A
    ValueError that names the file already is what a reader says of its content, and stays.

    Args:
        path: the file that is read.
        kind: str, what it should be, such as "a .npz file".

    Raises:
        OSError: in the place of whatever went wrong.
    """
    try:
        yield
    except Exception as error:
        path = os.fspath(path)
        if isinstance(error, ValueError) and path in str(error):
            raise
        reason = str(error) or type(error).__name__
        raise OSError(f"{path} cannot be read as {kind}: {reason}") from error


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the name of a file in front of what a ValueError says of its content.

    Args:
        path: the file that the values are from.

    Raises:
        ValueError: with the name.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def regular_file(path: Path) -> int:
    """The size of a file that is neither a folder nor a pipe nor a device, which may never end.

    Args:
        path: the file.

    Returns:
        int, its bytes.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if it is something else; names it.
    """
    if not path.is_file():
        if path.exists():
            raise OSError(f"{path} is no regular file.")
        raise FileNotFoundError(f"There is no {path}.")
    return path.stat().st_size


def check_expansion(declared: int, stored: int, what: str) -> None:
    """Refuses what would take far more memory than the file has bytes.

    Args:
        declared: int, bytes in memory.
        stored: int, bytes of the file.
        what: str, what takes them, for the error.

    Raises:
        ValueError: if they are more than `SMALL` and more than `EXPANSION` times the file.
    """
    if declared > max(SMALL, EXPANSION * stored):
        raise ValueError(
            f"{what} would take {declared:,} bytes of memory, more than {EXPANSION} times the "
            f"{stored:,} bytes of the file. If you trust it, store it again without compression."
        )


def shown(text: str) -> str:
    """A text of a file for an error: quoted, and no longer than a line.

    Args:
        text: str, of any length.

    Returns:
        str.
    """
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


class ArrayHeader(NamedTuple):
    """What the head of a `.npy` file says about the array behind it."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes], size: int) -> ArrayHeader:
    """Reads the head of a `.npy` file and holds it against the file's size.

    Args:
        stream: the file, at its beginning.
        size: int, bytes that it has.

    Returns:
        An `ArrayHeader`; the stream is where the array begins.

    Raises:
        ValueError: if it holds Python objects or records, or another number of bytes than it says.
    """
    start = stream.read(8)
    version = tuple(start[6:])
    if start[:6] != np.lib.format.MAGIC_PREFIX or version not in _READERS:
        raise ValueError("it does not begin as arrays of numbers and text do")
    width, read = _READERS[version]
    length = stream.read(width)
    said = int.from_bytes(length, "little")
    if said > _LONGEST_HEAD:
        raise ValueError(f"its head says that it has {said:,} bytes")
    shape, fortran, dtype = read(io.BytesIO(length + stream.read(said)))
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects, which are never read")
    if dtype.fields or dtype.subdtype or not dtype.itemsize:
        raise ValueError(f"it holds {dtype}, neither numbers nor text")
    header = ArrayHeader(shape, fortran, dtype, 8 + width + said)
    if any(n < 0 for n in shape) or header.nbytes != size - header.offset:
        raise ValueError(
            f"its head says {dtype} of shape {shape}, {header.nbytes:,} bytes, but there are "
            f"{size - header.offset:,}"
        )
    return header


def read_array(
    stream: IO[bytes],
    header: ArrayHeader,
    allocate: Callable[[tuple[int, ...], np.dtype], np.ndarray] = np.empty,
) -> np.ndarray:
    """Reads the array behind a head, piece by piece.

    Args:
        stream: the file, where `read_header` left it.
        header: what `read_header` returned.
        allocate: makes the array. Defaults to one in memory.

    Returns:
        The array.

    Raises:
        EOFError: if the file ends before.
    """
    array = allocate((math.prod(header.shape),), header.dtype)
    raw = array.view(np.uint8)
    filled = 0
    while filled < len(raw):
        piece = stream.read(min(_CHUNK, len(raw) - filled))
        if not piece:
            raise EOFError(f"it ends after {filled:,} of {len(raw):,} bytes")
        raw[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
        filled += len(piece)
    # The checksum of a member of an archive is compared where the member ends.
    stream.read(1)
    return array.reshape(header.shape, order="F" if header.fortran else "C")


def array_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The arrays of a `.npz` archive by name, none of them read.

    Args:
        archive: the archive, opened.

    Returns:
        dict of name to member.

    Raises:
        ValueError: if two have the same name.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name, _, suffix = info.filename.rpartition(".")
        if suffix != "npy":
            continue
        if name in members:
            raise ValueError(f"there are two members {info.filename}")
        members[name] = info
    return members


def check_members(members: Collection[zipfile.ZipInfo], stored: int) -> None:
    """Refuses members that numpy does not write, or that unpack to far more than the archive.

    Args:
        members: those that will be read.
        stored: int, bytes of the archive; members can share them.

    Raises:
        ValueError: says which member.
    """
    for info in members:
        if info.flag_bits & 1 or info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise ValueError(
                f"{info.filename} is encrypted or packed in a way that numpy does not use"
            )
    if members:
        largest = max(members, key=lambda info: info.file_size)
        total = sum(info.file_size for info in members)
        check_expansion(total, stored, f"what it unpacks to ({largest.filename} above all)")
