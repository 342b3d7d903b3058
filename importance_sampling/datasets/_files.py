"""The data sets that `keras.datasets` downloads, or a local `.npz` file in their place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import numpy as np

from .._files import AnyPath, read_npz
from .memory import InMemoryImageDataset

DATA_VARIABLE = "IMPORTANCE_SAMPLING_DATA"
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_FourArrays: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _read_npz(path: Path) -> _FourArrays:
    arrays = read_npz(path, _ARRAYS)
    return arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"]


def _find(name: str, folder: Path) -> Path | None:
    """`NAME.npz`, or the first `NAME_*.npz`, in a folder."""
    exact = folder / f"{name}.npz"
    if exact.is_file():
        return exact
    return next(iter(sorted(folder.glob(f"{name}_*.npz"))), None)


def load_arrays(name: str, path: AnyPath | None = None) -> _FourArrays:
    """Loads `x_train, y_train, x_test, y_test`.

    Args:
        name: "mnist", "cifar10" or "cifar100".
        path: a `.npz` file or a folder with `NAME.npz`. Without it, the folder named by the
            environment variable IMPORTANCE_SAMPLING_DATA is tried, then `keras.datasets`.

    Raises:
        FileNotFoundError: if `path` holds no such file.
        RuntimeError: if there is neither a local file nor a download; says what to put where.
    """
    if path is not None:
        given = Path(path)
        found = _find(name, given) if given.is_dir() else given
        if found is None or not found.is_file():
            raise FileNotFoundError(
                f"No {name}.npz at {given}. Expected a .npz file with the arrays "
                f"{list(_ARRAYS)}, or a folder that holds {name}.npz."
            )
        return _read_npz(found)
    folder = os.environ.get(DATA_VARIABLE)
    if folder:
        found = _find(name, Path(folder))
        if found is not None:
            return _read_npz(found)
    try:
        import keras

        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        where = f"the folder {folder}, which {DATA_VARIABLE} names," if folder else "a folder"
        raise RuntimeError(
            f"{name} could not be downloaded ({error}). Without a network, put {name}.npz with the "
            f"arrays {list(_ARRAYS)} into {where} and "
            + ("try again" if folder else f"set {DATA_VARIABLE} to it")
            + ", or pass `path=`."
        ) from error
    return x_train, y_train, x_test, y_test


class _DownloadedImages(InMemoryImageDataset):
    _name = ""

    def __init__(self, path: AnyPath | None = None):
        super().__init__(*load_arrays(self._name, path))


class MNIST(_DownloadedImages):
    """60,000 training and 10,000 test images of handwritten digits, 28 x 28 x 1, 10 classes.

    Args:
        path: a `.npz` file or folder to load from instead of `keras.datasets`.
    """

    _name = "mnist"


class CIFAR10(_DownloadedImages):
    """50,000 training and 10,000 test colour images, 32 x 32 x 3, 10 classes.

    Args:
        path: a `.npz` file or folder to load from instead of `keras.datasets`.
    """

    _name = "cifar10"


class CIFAR100(_DownloadedImages):
    """50,000 training and 10,000 test colour images, 32 x 32 x 3, 100 classes.

    Args:
        path: a `.npz` file or folder to load from instead of `keras.datasets`.
    """

    _name = "cifar100"
