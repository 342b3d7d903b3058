"""A reader of pickles that hold nothing but arrays of numbers, lists, tuples and numbers.

A pickle is a program that names functions to call. This reader knows the few names that numpy
writes for arrays and gives its own harmless functions for them, which only gather shape, type and
bytes; every other name is an error. Neither numpy's nor anybody else's code is called by the file.
"""

from __future__ import annotations

import math
import pickle  # noqa: TID251 - the reader below replaces every name that a file may call
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

_TYPE = re.compile(r"[<>|=]?[biuf](1|2|4|8)")


class RefusedPickle(pickle.UnpicklingError):
    """The file wants something that is neither array nor list nor number."""


class _DType:
    """Stands for a numpy type while it is read."""

    def __init__(self, code: Any, *_: Any):
        code = code.decode() if isinstance(code, bytes) else code
        if not isinstance(code, str) or not _TYPE.fullmatch(code):
            raise RefusedPickle(f"arrays of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        order = order.decode() if isinstance(order, bytes) else order
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder("<" if order == "<" else ">")


class _Array:
    """Stands for an array while it is read."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _from_bytes(data, dtype, shape, "F" if fortran else "C")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Literal["C", "F"]) -> np.ndarray:
    if isinstance(data, str):
        # Python 2's strings are read as text with a character for each byte.
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _DType):
        raise RefusedPickle("an array without plain data")
    shape = tuple(int(n) for n in shape)
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise RefusedPickle(f"an array of shape {shape} with {len(data)} bytes")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    result = _Array()
    result.array = _from_bytes(data, dtype, shape, order)
    return result


def _scalar(dtype: Any, data: Any) -> Any:
    return _from_bytes(data, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedPickle(f"text in {encoding!r}")
    return text.encode("latin1")


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _NAMES[f"{_core}.multiarray", "scalar"] = _scalar
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _frombuffer


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Gives the harmless stand-in of a name.

        Args:
            module: str, the module that the file names.
            name: str, what it wants of it.

        Raises:
            RefusedPickle: for every name but those of arrays.
        """
        try:
            return _NAMES[module, name]
        except KeyError:
            raise RefusedPickle(f"{module}.{name}") from None


def load_numeric(path: Path) -> Any:
    """Reads a pickle of arrays, lists, tuples and numbers.

    Raises:
        OSError: if the file is missing, truncated, no pickle or holds anything else; names the
            file and what it holds.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}.")
    with path.open("rb") as file:
        try:
            return _plain(_Reader(file, encoding="latin1").load())
        except RefusedPickle as error:
            raise OSError(
                f"{path} holds {error}; only arrays of numbers, lists and numbers are read."
            ) from error
        except Exception as error:
            raise OSError(f"{path} cannot be read: {error or type(error).__name__}") from error


def _plain(value: Any, known: dict[int, Any] | None = None) -> Any:
    """What was read, with arrays in the place of their stand-ins."""
    if isinstance(value, _Array) and value.array is not None:
        return value.array
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return value
    if not isinstance(value, list | tuple):
        raise RefusedPickle(f"a value of type {type(value).__name__.lstrip('_')}")
    # Once each, because a small file can name the same list in a list without end.
    known = {} if known is None else known
    if id(value) not in known:
        known[id(value)] = None
        known[id(value)] = [_plain(item, known) for item in value]
    if known[id(value)] is None:
        raise RefusedPickle("a list in itself")
    return known[id(value)]
