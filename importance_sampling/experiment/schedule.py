"""Training for a number of steps: the learning rate, the clock and measurements along the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np


class Schedule(keras.callbacks.Callback):
    """Stops after some steps, with the learning rate's cosine decay over them.

    The clock stands still while the model is evaluated.

    Args:
        steps: int, optimizer steps.
        rate: float, the learning rate at the start.
        train: `(x, y)` to measure the training loss on.
        test: `(x, y)` to measure test loss and error on.
        points: int, measurements over the training.
        bar: called as `bar(percent, values)` to show progress.
    """

    # The learning rate is set and the model evaluated through `Callback.model` only.
    reaches_model_by_property = True

    def __init__(
        self,
        steps: int,
        rate: float,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        points: int = 20,
        bar: Callable[[int, dict[str, float]], Any] | None = None,
    ):
        super().__init__()
        self.steps = steps
        self.rate = rate
        self.data = {"train": train, "test": test}
        self.points = points
        self.bar = bar
        self.history: list[dict[str, float]] = []
        self._step = 0
        self._paused = 0.0
        self._percent = -1

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Measures the untrained model and starts the clock."""
        self._measure(0.0)
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Counts the step, sets the learning rate and measures now and then.

        Args:
            batch: int.
            logs: the loop's logs of the step.
        """
        self._step += 1
        share = self._step / self.steps
        percent = int(100 * share)
        if percent != self._percent:
            # A hundred steps of the schedule: setting the rate is not free on every backend.
            self._percent = percent
            self.model.optimizer.learning_rate = self.rate * 0.5 * (1 + math.cos(math.pi * share))
            if self.bar is not None:
                values = {k: float(logs[k]) for k in ("loss", "score") if k in logs}
                self.bar(percent, values)
        if share < 1.0 and share < len(self.history) / self.points:
            return
        paused = time.perf_counter()
        self._measure(paused - self._start - self._paused)
        self._paused += time.perf_counter() - paused
        if share >= 1.0:
            self.model.stop_training = True

    def _measure(self, elapsed: float) -> None:
        model = self.model
        row = {"seconds": elapsed, "steps": self._step}
        for name, (x, y) in self.data.items():
            output = np.concatenate(
                [
                    keras.ops.convert_to_numpy(model.predict_on_batch(x[i : i + 4096]))
                    for i in range(0, len(x), 4096)
                ]
            ).astype(np.float64)
            likelihood = (output * y).sum(axis=1)
            row[f"{name}_loss"] = float(-np.log(np.maximum(likelihood, 1e-7)).mean())
            row[f"{name}_error"] = float((output.argmax(1) != y.argmax(1)).mean())
        self.history.append(row)
