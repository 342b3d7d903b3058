"""The data sets that `keras.datasets` downloads, or a local `.npz` file in their place."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TypeAlias

import numpy as np

from .._files import AnyPath, read_npz
from .._untrusted import naming
from .memory import InMemoryImageDataset

DATA_VARIABLE = "IMPORTANCE_SAMPLING_DATA"
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_FourArrays: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


_CLASSES = {"mnist": 10, "cifar10": 10, "cifar100": 100}
_BRIGHTEST = 255


def _read_npz(name: str, path: Path) -> _FourArrays:
    arrays = read_npz(path, _ARRAYS, only=True)
    with naming(path):
        for part in ("train", "test"):
            _check_part(arrays, part, _CLASSES[name])
        shapes = [arrays[f"x_{part}"].shape[1:] for part in ("train", "test")]
        if shapes[0] != shapes[1]:
            raise ValueError(f"x_train has images of shape {shapes[0]}, x_test {shapes[1]}.")
    return arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"]


def _check_part(arrays: dict[str, np.ndarray], part: str, classes: int) -> None:
    """Shapes, types and ranges, before anything is made of them."""
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if x.ndim not in (3, 4) or 0 in x.shape[1:] or x.dtype.kind not in "biuf":
        raise ValueError(
            f"x_{part} holds {x.dtype} of shape {x.shape}, expected images of numbers, (n, height, "
            "width[, channels])."
        )
    if y.shape not in ((len(x),), (len(x), 1)) or y.dtype.kind not in "biuf":
        raise ValueError(
            f"y_{part} holds {y.dtype} of shape {y.shape}, expected a label for each of the "
            f"{len(x)} images of x_{part}."
        )
    if not len(x):
        if part == "train":
            raise ValueError("x_train has no images.")
        return
    # NaN is in no range, and the smallest of values with NaN among them is NaN.
    if not (x.min() >= 0 and x.max() <= _BRIGHTEST):
        raise ValueError(
            f"x_{part} holds values from {x.min()} to {x.max()}, expected pixels from 0 to "
            f"{_BRIGHTEST} or from 0.0 to 1.0."
        )
    if not (y.min() >= 0 and y.max() < classes and (np.floor(y) == y).all()):
        raise ValueError(
            f"y_{part} holds labels from {y.min()} to {y.max()}, expected integers from 0 to "
            f"{classes - 1}."
        )


def _find(name: str, folder: Path) -> Path | None:
    """`NAME.npz`, or the first `NAME_*.npz`, in a folder; the latter is named in a warning."""
    exact = folder / f"{name}.npz"
    if exact.is_file():
        return exact
    found = next(iter(sorted(folder.glob(f"{name}_*.npz"))), None)
    if found is not None:
        # Which may be a part of the data only.
        warnings.warn(f"{name} is read from {found}: {folder} has no {exact.name}.", stacklevel=5)
    return found


def load_arrays(name: str, path: AnyPath | None = None) -> _FourArrays:
    """Loads `x_train, y_train, x_test, y_test`; see `load_from`."""
    return load_from(name, path)[0]


def load_from(name: str, path: AnyPath | None = None) -> tuple[_FourArrays, Path | str]:
    """Loads `x_train, y_train, x_test, y_test`, and says from where.

    Args:
        name: "mnist", "cifar10" or "cifar100".
        path: a `.npz` file or a folder with `NAME.npz`, or, with a warning, `NAME_*.npz`. Without
            it, the folder named by the environment variable IMPORTANCE_SAMPLING_DATA is tried, then
            `keras.datasets`.

    Returns:
        The arrays, and the path of their file or "keras.datasets".

    Raises:
        FileNotFoundError: if `path` holds no such file.
        OSError: if the file cannot be read; names it and the array.
        ValueError: if arrays are missing, or their shapes, types or values are no images and
            labels; names the file and the array.
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
        return _read_npz(name, found), found
    folder = os.environ.get(DATA_VARIABLE)
    if folder:
        found = _find(name, Path(folder))
        if found is not None:
            return _read_npz(name, found), found
    try:
        import keras

        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        where = f"the folder {folder}, which {DATA_VARIABLE} names," if folder else "a folder"
        raise RuntimeError(
            f"{name} could not be downloaded ({error}). Without a network, put {name}.npz with the "
            f"arrays {list(_ARRAYS)} into {where} and "
            + ("try again" if folder else f"set {DATA_VARIABLE} to it")
            + ", or name the file: `path=` in Python, `data=sFILE` among the hyper-parameters of a "
            "command, `--data` of the demo and the examples."
        ) from error
    return (x_train, y_train, x_test, y_test), "keras.datasets"


class _DownloadedImages(InMemoryImageDataset):
    _name = ""

    def __init__(self, path: AnyPath | None = None):
        arrays, source = load_from(self._name, path)
        with naming(source):
            super().__init__(*arrays)


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
