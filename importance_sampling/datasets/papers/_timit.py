"""Phonemes of TIMIT, and the way out of its historic pickle format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..._files import AnyPath, read_npz, write_npz
from ..._untrusted import naming, regular_file
from ..base import IndexedParts
from ._numeric_pickle import load_numeric, unfolded_size

_PARTS = ("train", "val", "test")
_MOST_LABELS = 10_000
"""Phonemes are 61, the states of a speech recognizer some thousands."""

_REPEATED = 8
"""How many times its own size a pickle may hold by naming the same utterances again."""

_LARGEST = float(np.finfo(np.float32).max)
_NAMES = [f"{kind}_{part}" for part in _PARTS for kind in ("x", "y", "lengths")]


class TIMIT(IndexedParts):
    """Frames of speech of the TIMIT corpus (LDC93S1), whose phoneme is to be told.

    Inputs are a frame's features with those of the frames before it in the utterance, `(n,
    context, features)`; targets are the frame's label, `(n, 1)`. Utterances shorter than
    `context` are left out.

    The file is a `.npz` with, for each of "train", "val" and "test", `x_PART` (all frames, `(m,
    features)`), `y_PART` (their labels, `(m,)`) and `lengths_PART` (frames of each utterance).
    `convert_timit` makes it of the pickle that the original library read.

    Args:
        context: int, frames in one input.
        path: of the `.npz` file.
        val: bool, whether the test set is "val" instead of "test". Defaults to `False`.

    Raises:
        OSError: if the file is missing or cannot be read; names it.
        ValueError: if arrays are missing or do not fit together; names them.
    """

    def __init__(self, context: int, path: AnyPath, val: bool = False):
        if context < 1:
            raise ValueError(f"`context` must be at least 1, got {context!r}.")
        arrays = _read(Path(path))
        self._context = context
        self._train = _Windows(arrays, "train", context)
        self._test = _Windows(arrays, "val" if val else "test", context)
        labels = [arrays[f"y_{part}"] for part in _PARTS]
        self._output_size = max(int(y.max()) + 1 for y in labels if len(y))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return (self._context, self._train.features)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one target, an integer."""
        return (1,)

    @property
    def output_size(self) -> int:
        """Number of phonemes."""
        return self._output_size


class _Windows:
    """Frames with those before them, put together when they are asked for."""

    def __init__(self, arrays: dict[str, np.ndarray], part: str, context: int):
        self._x, self._y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        lengths = arrays[f"lengths_{part}"]
        place = np.arange(len(self._x)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self._last = np.flatnonzero(place >= context - 1)
        self._back = np.arange(1 - context, 1)
        self.features = self._x.shape[1]

    def __len__(self) -> int:
        return len(self._last)

    def __getitem__(self, idxs: Any) -> tuple[np.ndarray, np.ndarray]:
        last = self._last[idxs]
        x = self._x[last[:, None] + self._back].astype(np.float32)
        return x, self._y[last][:, None].astype(np.int32)


def _read(path: Path) -> dict[str, np.ndarray]:
    regular_file(path)
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if not zipped:
        raise OSError(
            f"{path} is no .npz file. If it is the pickle that the original library read, convert "
            "it once: importance_sampling.datasets.convert_timit(path, 'timit.npz')."
        )
    arrays = read_npz(path, _NAMES, only=True)
    with naming(path):
        for part in _PARTS:
            _check_part(arrays, part)
        features = {arrays[f"x_{part}"].shape[1] for part in _PARTS}
        if len(features) > 1 or not any(len(arrays[f"y_{part}"]) for part in _PARTS):
            raise ValueError(f"expected frames with as many features in all parts, got {features}.")
    return arrays


def _check_part(arrays: dict[str, np.ndarray], part: str) -> None:
    """Shapes, types and ranges, before anything is made of them."""
    x, y, lengths = (arrays[f"{kind}_{part}"] for kind in ("x", "y", "lengths"))
    integers = all(a.ndim == 1 and a.dtype.kind in "iu" for a in (y, lengths))
    # Sums of numbers that are no lengths may come out right as well.
    total = lengths.sum() if integers else 0
    fits = integers and not (len(lengths) and (lengths.min() < 0 or lengths.max() > len(x)))
    if x.ndim != 2 or x.shape[1] < 1 or not fits or not len(x) == len(y) == total:
        raise ValueError(
            f"expected x_{part} of shape (frames, features), y_{part} with an integer for each "
            f"frame and lengths_{part} that add up to them, got {x.shape}, {y.dtype} {y.shape} and "
            f"{lengths.dtype} {lengths.shape} adding up to {total}."
        )
    # Nothing is true of NaN.
    if x.dtype.kind not in "biuf" or (
        len(x) and not (x.min() >= -_LARGEST and x.max() <= _LARGEST)
    ):
        raise ValueError(f"x_{part} holds {x.dtype} with NaN, infinity or what is no number.")
    if len(y) and (y.min() < 0 or y.max() >= _MOST_LABELS):
        raise ValueError(
            f"y_{part} holds labels from {y.min()} to {y.max()}, expected phonemes from 0 to "
            f"{_MOST_LABELS - 1}."
        )


def convert_timit(source: AnyPath, destination: AnyPath) -> Path:
    """Converts the pickle of TIMIT that the original library read to a `.npz` file.

    The pickle is a list `[X_train, y_train, X_val, y_val, X_test, y_test]` of lists with an array
    for each utterance. It is read by a reader that knows arrays of numbers, lists, tuples and
    numbers only and refuses everything else, so that a file from elsewhere cannot run code.

    Args:
        source: path of the pickle, of Python 2 or 3.
        destination: path of the `.npz` file, which `TIMIT` reads.

    Returns:
        The path of the file written.

    Raises:
        OSError: if the source is missing or no such pickle; names it.
        ValueError: if it holds something else than utterances; names it and says what.
    """
    source, destination = Path(source), Path(destination)
    content = load_numeric(source)
    if not isinstance(content, list | tuple) or len(content) != 2 * len(_PARTS):
        raise ValueError(
            f"{source} must hold a list [X_train, y_train, X_val, y_val, X_test, y_test], got "
            f"{type(content).__name__}"
            + (f" of length {len(content)}." if isinstance(content, list | tuple) else ".")
        )
    if unfolded_size(content) > _REPEATED * source.stat().st_size:
        raise ValueError(f"{source} holds the same values again and again.")
    arrays: dict[str, np.ndarray] = {}
    for part, features, labels in zip(_PARTS, content[::2], content[1::2], strict=True):
        with naming(source):
            x, y = ([np.asarray(a) for a in _listed(source, side)] for side in (features, labels))
        sizes = {a.shape[1:] for a in x}
        if (
            not x
            or [len(a) for a in x] != [len(a) for a in y]
            or len(sizes) != 1
            or any(a.ndim != 2 or a.dtype.kind not in "biuf" for a in x)
            or any(a.ndim != 1 or a.dtype.kind not in "iu" for a in y)
        ):
            raise ValueError(
                f"{source}: the {part} part must have, for each utterance, features of shape "
                "(frames, features) and an integer label for each frame."
            )
        arrays[f"x_{part}"] = np.concatenate(x).astype(np.float32)
        arrays[f"y_{part}"] = np.concatenate(y).astype(np.int32)
        arrays[f"lengths_{part}"] = np.array([len(a) for a in x], dtype=np.int64)
        with naming(source):
            _check_part(arrays, part)
    write_npz(destination, arrays, compressed=True)
    return destination


def _listed(source: Path, utterances: Any) -> Any:
    if not isinstance(utterances, list | tuple | np.ndarray):
        raise ValueError(
            f"{source} must hold lists of utterances, got {type(utterances).__name__}."
        )
    return utterances
