"""One run of `time_to_accuracy.py`: an arm, its clock and what it measures."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

_CONSTANT = 0.5
_POINTS = 10
_TURN = 1.0


def arms() -> dict[str, Callable[[Any, int], Any]]:
    """The ways to train: name to `(model, seed) -> training`; None stands for `model.fit`."""
    from importance_sampling import training
    from importance_sampling.experiment._arms import RandomSubsetTraining

    return {
        "uniform": lambda model, seed: None,
        "random subset": lambda model, seed: RandomSubsetTraining(model, seed=seed),
        "auto": lambda model, seed: training.ImportanceTraining(model, presample="auto", seed=seed),
        "history": lambda model, seed: training.HistoryImportanceTraining(model, seed=seed),
        "history k=0.5": lambda model, seed: training.HistoryImportanceTraining(
            model, k=0.5, seed=seed
        ),
        "robust": lambda model, seed: training.RobustImportanceTraining(model, seed=seed),
        "pool": lambda model, seed: training.ImportanceTraining(model, seed=seed),
        "pool, measured": lambda model, seed: training.ImportanceTraining(
            model, tau_th="measured", resampling="systematic", seed=seed
        ),
        "pool, reused": lambda model, seed: training.ImportanceTraining(
            model, presample=8, reuse=4, resampling="systematic", seed=seed
        ),
        "biased": lambda model, seed: training.BiasedImportanceTraining(
            model, presample=384, forward_batch_size=384, seed=seed
        ),
        "approximate": lambda model, seed: training.ApproximateImportanceTraining(
            model, presample=1024, seed=seed
        ),
        "constant variance": lambda model, seed: training.ConstantVarianceImportanceTraining(
            model, seed=seed
        ),
        "constant time": lambda model, seed: training.ConstantTimeImportanceTraining(
            model, seed=seed
        ),
    }


def _outputs(model: Any, x: np.ndarray) -> np.ndarray:
    import keras

    parts = [
        keras.ops.convert_to_numpy(model.predict_on_batch(x[i : i + 4096]))
        for i in range(0, len(x), 4096)
    ]
    return np.concatenate(parts).astype(np.float64)


def wait_for_turn() -> None:
    """Lets the other arms train until the driver says that it is this one's turn."""
    print("turn", flush=True)
    sys.stdin.readline()


def make_clock(task: Any, seconds: float, seed: int) -> Any:
    """The callback that keeps the budget, the learning rate and the measurements."""
    import keras

    rows = np.random.default_rng(seed).permutation(len(task.train[0]))[:4000]
    some = (task.train[0][rows], task.train[1][rows])

    class Clock(keras.callbacks.Callback):
        # The model is only reached through `Callback.model`.
        reaches_model_by_property = True

        def __init__(self):
            super().__init__()
            self.history: list[dict[str, float]] = []
            self.steps = 0
            self.paused = 0.0
            self.percent = -1
            self.ended: float | None = None

        def on_train_begin(self, logs: Any = None) -> None:
            self.measure(0.0, some)
            wait_for_turn()
            self.start = self.turn = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.steps += 1
            now = time.perf_counter()
            if self.ended is not None:
                self.paused += now - self.ended
                self.ended = None
            elapsed = now - self.start - self.paused
            share = min(elapsed / seconds, 1.0)
            if int(100 * share) != self.percent:
                # Setting the rate is not free on every backend: a hundred steps will do.
                self.percent = int(100 * share)
                decay = max(0.0, (share - _CONSTANT) / (1.0 - _CONSTANT))
                rate = task.rate * 0.5 * (1 + math.cos(math.pi * decay))
                self.model.optimizer.learning_rate = rate
            if elapsed >= seconds:
                self.model.stop_training = True
                self.measure(elapsed, task.train)
                return
            if share >= len(self.history) / _POINTS:
                self.measure(elapsed, some)
            if now - self.turn > _TURN:
                wait_for_turn()
                self.turn = time.perf_counter()
            self.paused += time.perf_counter() - now

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.ended = time.perf_counter()

        def measure(self, elapsed: float, train: Any) -> None:
            row = {"seconds": elapsed, "steps": self.steps}
            for name, (x, y) in (("train", train), ("test", task.test)):
                loss, error = task.measure(_outputs(self.model, x), y)
                row |= {f"{name}_loss": loss, f"{name}_error": error}
            self.history.append(row)

    return Clock()


def _warm_up(model: Any, training: Any, task: Any) -> None:
    """Compiles what the run will need, then puts the model back to its start."""
    import keras

    size = task.batch_size
    x, y = task.train[0][: 8 * size], task.train[1][: 8 * size]
    few = 3 * size
    model(x[:1])
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    start = [keras.ops.convert_to_numpy(v.value).copy() for v in variables]
    if training is None:
        model.fit(x[:few], y[:few], batch_size=size, verbose=0)
    else:
        training.fit(x[: 3 * size], y[: 3 * size], batch_size=size, verbose=0)
        for pool in (3 * size, 8 * size):
            training.model.score(x[:pool], y[:pool], batch_size=pool)
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)


def run_one(order: dict[str, Any]) -> dict[str, Any]:
    """Trains one arm for one budget, or times `model.fit`."""
    import keras
    from _tasks import TASKS

    task = TASKS[order["task"]]()
    keras.utils.set_random_seed(order["seed"])
    model = task.compiled()
    if order["arm"] == "time":
        return _time_fit(model, task)
    training = arms()[order["arm"]](model, order["seed"])
    _warm_up(model, training, task)
    clock = make_clock(task, order["seconds"], order["seed"])
    x, y = task.train
    options = {"batch_size": task.batch_size, "verbose": 0, "callbacks": [clock]}
    # Epochs without end: the clock stops them.
    (model if training is None else training).fit(x, y, epochs=10**6, **options)
    last = clock.history[-1]
    result = {
        **order,
        **last,
        "history": clock.history,
        "ms": 1e3 * last["seconds"] / last["steps"],
    }
    if training is not None:
        report = training.report().to_dict()
        kept = ("steps_on", "steps_off", "variance_reduction", "gain", "drawing_seconds")
        result["report"] = {key: report[key] for key in kept}
        result["report"]["choices"] = [choice["choice"] for choice in report["choices"]]
    return result


def _time_fit(model: Any, task: Any) -> dict[str, Any]:
    """The time of an epoch of `model.fit`: its steps by the median of one."""
    import keras

    class Steps(keras.callbacks.Callback):
        reaches_model_by_property = True

        def __init__(self):
            super().__init__()
            self.ends: list[float] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.ends.append(time.perf_counter())

    steps = len(task.train[0]) // task.batch_size
    rows = 20 * task.batch_size
    x, y = (a[:rows] for a in task.train)
    clock = Steps()
    while len(clock.ends) < 200 or clock.ends[-1] - clock.ends[0] < 6.0:
        model.fit(x, y, batch_size=task.batch_size, verbose=0, callbacks=[clock])
    step = statistics.median(np.diff(clock.ends[100:]))
    return {"epoch_seconds": steps * step, "steps_per_epoch": steps}
