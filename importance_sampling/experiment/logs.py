"""The text files of a run: one row per line, columns divided by a space."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

_EVALUATION = ("Crossent", "Accuracy")

COLUMNS: dict[str, tuple[str, ...]] = {
    "train.txt": _EVALUATION,
    "clock.txt": (),
    "sampling.txt": ("Score", "VarianceReduction", "ImportanceSampling"),
    "val_eval.txt": _EVALUATION,
    "val_scores.txt": (),
    "train_eval.txt": _EVALUATION,
    "train_scores.txt": (),
    "predictions.txt": (),
    "comparison.txt": (),
}
"""The files with the names of their columns in the first line; none where it has no such line.

- `train.txt`: loss and first metric of each step, weighted so that they estimate the training
  set's.
- `clock.txt`: seconds of training up to each step; measuring, saving and compiling are not counted.
- `sampling.txt`: mean score of each step, the estimated variance reduction of a draw by score, made
  or not, and whether the step was drawn by score.
- `val_eval.txt`, `train_eval.txt`: mean loss and first metric of each evaluation, on the test set
  and on as many training examples.
- `val_scores.txt`, `train_scores.txt`: the score of each of those examples, one evaluation after
  the other.
- `predictions.txt`: actual score, score drawn by and class of each example trained on.
- `comparison.txt`: actual and predicted scores of the comparison of an LSTM.
"""


ALWAYS = ("train.txt", "clock.txt", "sampling.txt")
"""Files that are there from the start; the others once there is something to write into them."""


class Logs:
    """The files, open for more rows.

    Args:
        directory: where they lie.
        sizes: bytes of each file to keep, what comes after is cut off; None begins anew.

    Raises:
        OSError: if one cannot be written; names it.
    """

    def __init__(self, directory: Path, sizes: dict[str, int] | None = None):
        self._directory = directory
        self._files: dict[str, IO[str]] = {}
        self._unsaved: set[str] = set()
        for name in COLUMNS:
            path, size = directory / name, 0 if sizes is None else sizes.get(name, 0)
            if size:
                _cut(path, size)
                self._open(name)
            else:
                path.unlink(missing_ok=True)
                if name in ALWAYS:
                    self._open(name)

    def _open(self, name: str) -> IO[str]:
        """Opens a file; a new one gets its first line."""
        file = self._files[name] = (self._directory / name).open("a")
        self._unsaved.add(name)
        if COLUMNS[name] and not file.tell():
            file.write(" ".join(COLUMNS[name]) + "\n")
            file.flush()
        return file

    def write(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows; they are in the file when this returns.

        Args:
            name: str, one of `COLUMNS`.
            rows: the cells of each row.
        """
        text = "".join(" ".join(map(_text, row)) + "\n" for row in rows)
        self._unsaved.add(name)
        try:
            file = self._files.get(name) or self._open(name)
            file.write(text)
            file.flush()
        except OSError as error:
            # Which the error of a full disk does not say.
            raise OSError(error.errno, error.strerror, str(self._directory / name)) from error

    def sizes(self) -> dict[str, int]:
        """The files' sizes in bytes, for going on from here; so much is on the disk itself.

        Of files that are not there yet, none.
        """
        while self._unsaved:
            os.fsync(self._files[self._unsaved.pop()].fileno())
        return {name: file.tell() for name, file in self._files.items()}

    def close(self) -> None:
        """Closes all files; what a full disk had no room for is lost, and cut off later."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.8g}"
    return str(value)


def check_sizes(directory: Path, sizes: dict[str, Any]) -> None:
    """Refuses logs that are shorter than they were once, as after a loss of power.

    Args:
        directory: where they lie.
        sizes: bytes of each file, as of `Logs.sizes`.

    Raises:
        OSError: if one is; names it.
        ValueError: if the sizes are none.
    """
    for name in COLUMNS:
        path, size = directory / name, sizes.get(name, 0)
        if not isinstance(size, int) or size < 0:
            raise ValueError(f"{path} is to have {size!r} bytes, which is no size of a file.")
        there = path.stat().st_size if path.is_file() else 0
        if there < size:
            raise OSError(f"{path} has {there} bytes, fewer than the {size} of the checkpoint.")


def _cut(path: Path, size: int) -> None:
    with path.open("a") as file:
        file.truncate(size)


def read_rows(path: Path, columns: int) -> np.ndarray:
    """Reads one of the files; an unfinished last line is left out.

    Args:
        path: the file; a first line with the names of its columns is passed over.
        columns: int, numbers in a line.

    Returns:
        float64 array `(rows, columns)`.

    Raises:
        OSError: if the file is missing.
        ValueError: if a line is not as many numbers; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error}") from error
    header = COLUMNS.get(path.name)
    if header and lines and lines[0].split() == list(header):
        lines = lines[1:]
        first = 2
    else:
        first = 1
    rows = np.empty((len(lines), columns))
    for i, line in enumerate(lines):
        try:
            rows[i] = [float(value) for value in line.split()]
        except ValueError:
            raise ValueError(
                f"{path}, line {i + first}: expected {columns} numbers, got {line!r}."
            ) from None
    return rows
