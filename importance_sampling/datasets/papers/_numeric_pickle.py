"""A reader of pickles that hold nothing but arrays of numbers, lists, tuples and numbers.

A pickle is a program that names functions to call. This reader knows the few names that numpy
writes for arrays and gives its own harmless functions for them, which only gather shape, type and
bytes; every other name is an error. Neither numpy's nor anybody else's code is called by the file.

Python's own reader takes as much memory as a pickle names, so that its steps are looked through
first.
"""

from __future__ import annotations

import math
import os
import pickle  # noqa: TID251 - the reader below replaces every name that a file may call
import pickletools
import re
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from ..._untrusted import regular_file, shown

_MOST_AXES = 32

_STEPS = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET "
    "LONG_BINGET NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 "
    "UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE "
    "TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD"
)
"""Steps of the pickle machine that lists and arrays are made of."""

_TYPE = re.compile(r"[<>|=]?[biuf](1|2|4|8)")


class RefusedPickle(pickle.UnpicklingError):
    """The file wants something that is neither array nor list nor number."""


class _DType:
    """Stands for a numpy type while it is read."""

    def __init__(self, code: Any, *_: Any):
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not _TYPE.fullmatch(code):
            raise RefusedPickle(f"arrays of type {shown(str(code))}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        order = order.decode() if isinstance(order, bytes) else order
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder("<" if order == "<" else ">")


class _Texts:
    """Bytes of texts, which stand for bytes in pickles of Python 2.

    Each text is encoded once, because a small file can name the same one without end.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, bytes]] = {}

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        """A byte for each character."""
        if not isinstance(text, str) or encoding != "latin1":
            raise RefusedPickle(f"text in {shown(str(encoding))}")
        if id(text) not in self._known:
            # With the text itself, or another one could come to lie at its place.
            self._known[id(text)] = text, text.encode("latin1")
        return self._known[id(text)][1]


class _Array:
    """Stands for an array while it is read."""

    array: np.ndarray | None = None

    def __init__(self, texts: _Texts):
        self._texts = texts

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):
            data = self._texts.encode(data)
        self.array = _from_bytes(data, dtype, shape, "F" if fortran else "C")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Literal["C", "F"]) -> np.ndarray:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _DType):
        raise RefusedPickle("an array without plain data")
    if not isinstance(shape, tuple) or len(shape) > _MOST_AXES:
        raise RefusedPickle("an array without a shape")
    if not all(isinstance(n, int) and 0 <= n <= len(data) for n in shape):
        raise RefusedPickle(f"an array of a shape that does not fit its {len(data)} bytes")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise RefusedPickle(f"an array of shape {shape} with {len(data)} bytes")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)


def _names(texts: _Texts) -> dict[tuple[str, str], Any]:
    """What stands for the names that numpy writes."""

    def reconstruct(*_: Any) -> _Array:
        return _Array(texts)

    def from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        result = _Array(texts)
        result.array = _from_bytes(data, dtype, shape, order)
        return result

    def scalar(dtype: Any, data: Any) -> Any:
        data = texts.encode(data) if isinstance(data, str) else data
        return _from_bytes(data, dtype, (), "C")[()]

    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DType,
        ("_codecs", "encode"): texts.encode,
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = reconstruct
        names[f"{core}.multiarray", "scalar"] = scalar
        names[f"{core}.numeric", "_frombuffer"] = from_buffer
    return names


class _Reader(pickle.Unpickler):
    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="latin1")
        self._names = _names(_Texts())

    def find_class(self, module: str, name: str) -> Any:
        """Gives the harmless stand-in of a name.

        Args:
            module: str, the module that the file names.
            name: str, what it wants of it.

        Raises:
            RefusedPickle: for every name but those of arrays.
        """
        try:
            return self._names[module, name]
        except KeyError:
            raise RefusedPickle(f"{module}.{name}"[:80]) from None


def load_numeric(path: Path) -> Any:
    """Reads a pickle of arrays, lists, tuples and numbers.

    Raises:
        OSError: if the file is missing, truncated, no pickle or holds anything else; names the
            file and what it holds.
    """
    regular_file(path)
    with path.open("rb") as file:
        try:
            _look_through(file)
            file.seek(0)
            return _plain(_Reader(file).load())
        except RefusedPickle as error:
            raise OSError(
                f"{path} holds {error}; only arrays of numbers, lists and numbers are read."
            ) from error
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise OSError(f"{path} cannot be read: {reason}") from error


def _look_through(file: IO[bytes]) -> None:
    """Goes through the steps of a pickle without doing them, and refuses what names a wrong size.

    A text that says that it is longer than the file, or a place in the list of things to be named
    again far behind all steps, makes Python's reader take that much memory at once.
    """
    size = os.fstat(file.fileno()).st_size
    bounded: Any = _Bounded(file, size)
    allowed = {step.code: step for step in pickletools.opcodes if step.name in _STEPS.split()}
    count = 0
    while code := file.read(1):
        step = allowed.get(code.decode("latin1"))
        if step is None:
            raise RefusedPickle(f"the step {code!r}")
        argument: Any = None
        if step.name in ("STRING", "UNICODE"):
            # As long as its line is. Python 2 wrote characters here that pickletools cannot read.
            file.readline()
        elif step.arg is not None:
            argument = step.arg.reader(bounded)
        # Things are numbered in the order in which they come.
        if step.name.endswith("PUT") and argument > count:
            raise RefusedPickle(f"{argument:,} as the number of one of its first {count:,} things")
        if step.name == "FRAME" and argument > size:
            raise RefusedPickle(f"a frame of {argument:,} bytes in a file of {size:,}")
        if step.name == "STOP":
            return
        count += 1


class _Bounded:
    """A file that is never asked for more than it has."""

    def __init__(self, file: IO[bytes], size: int):
        self.readline = file.readline
        self._read, self._size = file.read, size

    def read(self, n: int) -> bytes:
        """Up to n bytes."""
        return self._read(min(n, self._size))


def unfolded_size(value: Any, known: dict[int, int] | None = None) -> int:
    """How many bytes and things a value has if what is named again is counted again.

    Args:
        value: what `load_numeric` returned.
        known: sizes of lists by their `id`, for recursion.

    Returns:
        int.
    """
    known = {} if known is None else known
    if isinstance(value, np.ndarray):
        return 1 + value.nbytes
    if not isinstance(value, list):
        return 1
    if id(value) not in known:
        known[id(value)] = 1 + sum(unfolded_size(item, known) for item in value)
    return known[id(value)]


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
