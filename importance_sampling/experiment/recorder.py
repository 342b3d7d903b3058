"""What a run writes down while it trains."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import blinker
import keras
import numpy as np

from .._arrays import count_rows
from ..datasets import BaseDataset
from ..protocols import Sampler
from ..samplers.classes import class_ids
from ..training.loop import Loop
from .hyperparams import Hyperparams, learning_rate
from .logs import Logs
from .registry.known import has_own_schedule

Show: TypeAlias = Callable[["Recorder", dict[str, float]], Any]
"""Shows the progress of a run, given the recorder and values by name."""


class Recorder(keras.callbacks.Callback):
    """Sets the learning rate, writes the files, keeps the clock and shows progress.

    The clock stands still between calls of the loop, where the model is measured and saved, and in
    the first step of each kind and size of batch, most of which is compiling.

    Args:
        loop: the loop, which waits for scores.
        logs: the files.
        hp: hyper-parameters.
        metric: name of the metric beside the loss.
        bar: called as `bar(recorder, values)`.
        dataset: the data set to train on.
    """

    # The learning rate is set and metrics are reset through `Callback.model` only.
    reaches_model_by_property = True

    def __init__(
        self,
        loop: Loop,
        logs: Logs,
        hp: Hyperparams,
        metric: str | None,
        bar: Show,
        dataset: BaseDataset,
    ):
        super().__init__()
        self.loop, self.logs, self.hp, self.metric, self.bar = loop, logs, hp, metric, bar
        self.steps = self.steps_by_score = 0
        self.seconds = 0.0
        self.compiling = 0.0
        self._compiled: set[tuple[str, int]] = set()
        self.dataset = dataset
        self.draws = np.zeros(len(dataset.train_data), dtype=np.int64)
        self.stopped_by: int | None = None
        self.deadline: float | None = None
        self._rate: float | None = None

    @property
    def progress(self) -> float:
        """Steps, or seconds with `time_based`."""
        return self.seconds if self.hp.get("time_based") else self.steps

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._since = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Sets the learning rate; metrics are of one step each.

        Args:
            batch: int.
            logs: not looked at.
        """
        rate = learning_rate(self.hp, self.progress)
        if rate != self._rate:
            # A schedule of the optimizer's own is left alone.
            if not has_own_schedule(self.hp):
                self.model.optimizer.learning_rate = rate
            self._rate = rate
        self.model.reset_metrics()

    def on_sample(
        self, sampler: Sampler, idxs: np.ndarray, w: np.ndarray, scores: np.ndarray
    ) -> None:
        """Counts the draws.

        Args:
            sampler: not looked at.
            idxs: `(b,)` the examples drawn.
            w: not looked at.
            scores: not looked at.
        """
        np.add.at(self.draws, idxs, 1)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Writes the step down.

        Args:
            batch: int.
            logs: the loop's logs of the step.
        """
        now = time.perf_counter()
        kind, size, by_score = self.loop.logs.last or ("", 0, False)
        if (kind, size) in self._compiled:
            self.seconds += now - self._since
        else:
            self._compiled.add((kind, size))
            self.compiling += now - self._since
        self._since = now
        self.steps += 1
        self.steps_by_score += bool(by_score)
        loss = float(logs["loss"])
        metric = float(logs[self.metric]) if self.metric else 0.0
        self.logs.write("train.txt", [(loss, metric)])
        self.logs.write("clock.txt", [(f"{self.seconds:.6f}",)])
        estimate = float(self.loop.logs.estimate)
        self.logs.write("sampling.txt", [(self.loop.logs.mean_score, estimate, int(by_score))])
        values = {"loss": loss, "vr": estimate if by_score else 1.0}
        if self.seconds:
            # While all steps have compiled something there is no time to divide by.
            values["samples/s"] = self.steps * self.loop.batch_size / self.seconds
        if self.metric:
            accuracy = "accuracy" in self.metric
            name, value = ("error", 1.0 - metric) if accuracy else (self.metric, metric)
            values = {"loss": loss, name: value, **values}
        self.bar(self, values)
        if self.stopped_by is not None or (
            self.deadline is not None and self.seconds >= self.deadline
        ):
            self.model.stop_training = True

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM ends the run after the step under way, the second at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous: dict[int, Any] = {}

        def stop(number: int, frame: Any) -> None:
            self.stopped_by = number
            signal.signal(number, previous[number])

        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                # One that is ignored, as in the background, stays so; one that is none of
                # Python's could not be put back.
                if handler is not None and handler is not signal.SIG_IGN:
                    previous[number] = handler
                    signal.signal(number, stop)
            yield
        finally:
            for stopping, handler in previous.items():
                signal.signal(stopping, handler)

    @contextlib.contextmanager
    def listening(self, predictions: bool) -> Iterator[None]:
        """Writes what signals tell: comparisons of an LSTM, and predictions if wanted."""
        sampled: dict[str, Any] = {}

        def on_comparison(pairs: Any) -> None:
            self.logs.write("comparison.txt", pairs)

        def on_sample(event: Any) -> None:
            sampled.update(event)

        def on_training(result: Any) -> None:
            labels = _classes(sampled["xy"][1], self.dataset.output_size)
            rows = zip(
                np.asarray(result[2], dtype=float).reshape(-1).tolist(),
                np.asarray(sampled["predicted_scores"], dtype=float).tolist(),
                labels,
                strict=True,
            )
            self.logs.write("predictions.txt", rows)

        wanted: dict[str, Callable[[Any], None]] = {
            "is.lstm_comparison_sampler.scores": on_comparison
        }
        if predictions:
            wanted |= {"is.sample": on_sample, "is.training": on_training}
        with contextlib.ExitStack() as stack:
            for name, receiver in wanted.items():
                stack.enter_context(blinker.signal(name).connected_to(receiver))
            yield

    def state_dict(self) -> dict[str, Any]:
        """What changes, as plain numbers and arrays."""
        times = {"seconds": self.seconds, "compiling": self.compiling}
        counts = {"steps": self.steps, "steps_by_score": self.steps_by_score}
        return {**counts, **times, "draws": self.draws.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self.steps, self.seconds = state["steps"], state["seconds"]
        self.steps_by_score = state["steps_by_score"]
        self.compiling = state["compiling"]
        self.draws[:] = state["draws"]


def _classes(targets: Any, count: int) -> list[int]:
    """Each row's class; 0 where targets are no classes."""
    try:
        return class_ids(targets, count).tolist()
    except ValueError:
        return [0] * count_rows(targets)
