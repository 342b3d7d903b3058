"""The text files of a run: one row per line, columns divided by a space."""

from __future__ import annotations

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
- `clock.txt`: seconds of training up to each step; measuring and saving are not counted.
- `sampling.txt`: mean score of each step, estimated variance reduction, and whether the step was
  drawn by score.
- `val_eval.txt`, `train_eval.txt`: mean loss and first metric of each evaluation, on the test set
  and on as many training examples.
- `val_scores.txt`, `train_scores.txt`: the score of each of those examples, one evaluation after
  the other.
- `predictions.txt`: actual score, score drawn by and class of each example trained on.
- `comparison.txt`: actual and predicted scores of the comparison of an LSTM.
"""


class Logs:
    """The files, open for more rows.

    Args:
        directory: where they lie.
        sizes: bytes of each file to keep, what comes after is cut off; None begins anew.
    """

    def __init__(self, directory: Path, sizes: dict[str, int] | None = None):
        self._files: dict[str, IO[str]] = {}
        for name, columns in COLUMNS.items():
            path = directory / name
            if sizes is None:
                path.write_text(" ".join(columns) + "\n" if columns else "")
            else:
                _cut(path, sizes.get(name, 0))
            self._files[name] = path.open("a")

    def write(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows; they are in the file when this returns.

        Args:
            name: str, one of `COLUMNS`.
            rows: the cells of each row.
        """
        file = self._files[name]
        file.write("".join(" ".join(map(_text, row)) + "\n" for row in rows))
        file.flush()

    def sizes(self) -> dict[str, int]:
        """The files' sizes in bytes, for going on from here."""
        return {name: file.tell() for name, file in self._files.items()}

    def close(self) -> None:
        """Closes all files."""
        for file in self._files.values():
            file.close()


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.8g}"
    return str(value)


def _cut(path: Path, size: int) -> None:
    if not path.is_file() or path.stat().st_size < size:
        raise OSError(
            f"{path} is shorter than when the run was interrupted, so that it cannot go on. Begin "
            "anew with --overwrite."
        )
    with path.open("r+") as file:
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
