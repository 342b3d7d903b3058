"""What the tests of crafted files share."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

MEMORY = 200e6


def refused(name, message, call, *arguments):
    """The error of a file: one of two kinds, it says which file, and little memory was taken."""
    tracemalloc.start()
    try:
        with pytest.raises((OSError, ValueError), match=message) as error:
            call(*arguments)
        memory = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(error.value) is not UnicodeDecodeError
    assert name in str(error.value)
    assert memory < MEMORY, f"{memory:,} bytes"


def header(shape, dtype="<f4"):
    """The head of a `.npy` file that says whatever it likes."""
    text = (
        repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    )
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def write(path, arrays, raw=(), packing=zipfile.ZIP_DEFLATED):
    """A `.npz` file; `raw` are members as bytes."""
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, array in (arrays | dict(raw)).items():
            if not isinstance(array, bytes):
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=True)
                array = buffer.getvalue()
            archive.writestr(f"{name}.npy", array)
    return path
