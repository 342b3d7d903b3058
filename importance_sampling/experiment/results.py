"""What a directory tells about the run in it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .._files import read_json, read_npy
from ..state_files import load_state
from .logs import read_rows
from .registry.general import BATCH_SIZE

RUN = "run.json"
"""The file that describes a run."""


def read_description(path: Path) -> dict[str, Any]:
    """What a run's `run.json` says.

    Args:
        path: the file.

    Returns:
        dict with the run's "settings", a dict, among others.

    Raises:
        OSError: if it cannot be read; names it.
        ValueError: if it describes no run; names it.
    """
    description = read_json(path)
    if not isinstance(description.get("settings"), dict):
        raise ValueError(f'{path} describes no run: it has no "settings" by name.')
    return description


class Result:
    """A run on disk, finished or not; also one of the original library's own script.

    Args:
        directory: of the run.

    Raises:
        OSError: if there is no run.
        ValueError: if its description cannot be read; names the file.
    """

    def __init__(self, directory: Path):
        self.directory = Path(directory)
        if not (self.directory / "train.txt").is_file():
            raise FileNotFoundError(f"{self.directory} holds no run: it has no train.txt.")
        path = self.directory / RUN
        self.description: dict[str, Any] = {}
        if path.is_file():
            self.description = read_description(path)
        self.settings: dict[str, Any] = self.description.get("settings", {})

    @property
    def label(self) -> str:
        """What to call it in a legend."""
        return self.directory.name

    def _rows(self, name: str, columns: int) -> np.ndarray:
        path = self.directory / name
        return read_rows(path, columns) if path.is_file() else np.empty((0, columns))

    @cached_property
    def train(self) -> np.ndarray:
        """Loss and first metric of each step, `(steps, 2)`."""
        return self._rows("train.txt", 2)

    @cached_property
    def clock(self) -> np.ndarray:
        """Seconds up to each step, `(steps,)`."""
        return self._rows("clock.txt", 1)[:, 0]

    @cached_property
    def sampling(self) -> np.ndarray:
        """Mean score, variance reduction and whether by score, of each step, `(steps, 3)`."""
        return self._rows("sampling.txt", 3)

    @cached_property
    def validation(self) -> np.ndarray:
        """Loss and first metric of each evaluation on the test set, `(evaluations, 2)`."""
        return self._rows("val_eval.txt", 2)

    @cached_property
    def predictions(self) -> np.ndarray:
        """Actual score, score drawn by and class, `(draws, 3)`."""
        return self._rows("predictions.txt", 3)

    @cached_property
    def comparison(self) -> np.ndarray:
        """Actual scores and those an LSTM predicted, `(pairs, 2)`."""
        return self._rows("comparison.txt", 2)

    @cached_property
    def scores(self) -> np.ndarray:
        """Scores of the test examples at each evaluation, `(evaluations, examples)`."""
        values = self._rows("val_scores.txt", 1)[:, 0]
        size = self.description.get("test_size") or 0
        complete = len(values) // size if size else 0
        return values[: complete * size].reshape(complete, size)

    @cached_property
    def draws(self) -> np.ndarray | None:
        """How often each training example was drawn; of a run that was killed, up to its last
        checkpoint; None where there is none.
        """
        path = self.directory / "draws.npy"
        if path.is_file():
            return read_npy(path)
        path = self.directory / "checkpoint.npz"
        if not path.is_file():
            return None
        state = load_state(path)
        found = state["recorder"].get("draws") if isinstance(state.get("recorder"), dict) else None
        if not isinstance(found, np.ndarray):
            raise ValueError(f"{path} is no checkpoint of a run: it has no draws.")
        return found

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.train)

    @property
    def epochs(self) -> float | None:
        """How often the run went through as many examples as there are; None if it does not say."""
        size = self.description.get("train_size")
        hyperparams = self.settings.get("hyperparams")
        if not size or not isinstance(hyperparams, dict):
            return None
        return self.steps * hyperparams.get(BATCH_SIZE.name, BATCH_SIZE.default) / size

    @property
    def validated_at(self) -> np.ndarray:
        """The steps of the evaluations; the last one is at the end, wherever that is."""
        every = self.settings.get("validate_every")
        if every is None:
            every = max(1, self.steps // max(1, len(self.validation)))
        return np.minimum(every * np.arange(1, len(self.validation) + 1), self.steps)

    def seconds_at(self, steps: np.ndarray) -> np.ndarray:
        """Seconds of training at these steps."""
        if not len(self.clock):
            return np.full(len(steps), np.nan)
        return self.clock[np.clip(np.asarray(steps) - 1, 0, len(self.clock) - 1)]

    @property
    def measures_accuracy(self) -> bool:
        """Whether the first metric is an accuracy, so that there is an error."""
        metric = self.description.get("metric", "accuracy")
        return metric is not None and "accuracy" in metric
