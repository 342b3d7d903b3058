"""What each way to train reaches in the same wall-clock time.

A budget is the time that `model.fit` takes for some epochs, measured first. Every arm then trains
the same network from the same weights for exactly that time, the learning rate decayed over it
(constant for the first half, then a cosine to zero), in a process of its own. The arms of a seed
take turns of a second, so that all of them meet the machine in the same mood. Beside the clock
stand compiling, measuring, waiting and the first step of every epoch, before which `model.fit` on
TensorFlow may pause for as long as many steps take. Runs are written as they end, and those
already in the file are not made again. Tables give means over the seeds with 95 % confidence
intervals (Student's t).

Example:

    IMPORTANCE_SAMPLING_DATA=../data python benchmarks/time_to_accuracy.py \
        --tasks mnist_small_cnn --epochs 5 --seeds 5 --arms uniform auto history \
        --output benchmarks/results/small_cnn
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Student's t: the factor of a 95 % confidence interval of a mean, by number of seeds.
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
_CONSTANT = 0.5
_POINTS = 12
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


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", nargs="+", default=["canevet", "mnist_mlp", "friedman"])
    parser.add_argument("--arms", nargs="+", default=["uniform", "auto", "history"])
    parser.add_argument("--epochs", type=float, nargs="+", default=[2.0], help="budgets")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each arm, from 1")
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--output", type=Path, default=Path("time_to_accuracy"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


# -- one run, in a process of its own ---------------------------------------------------------


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

    rows = np.random.default_rng(seed).permutation(len(task.train[0]))[:10_000]
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
        ends: list[float] = []

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


# -- the driver -------------------------------------------------------------------------------


class Arm:
    """An order that is carried out in a fresh process, turn by turn."""

    def __init__(self, order: dict[str, Any], backend: str):
        environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.order = order
        # Closed, and with that removed, when the process is forgotten.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--one", json.dumps(order)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def next(self) -> dict[str, Any] | None:
        """Waits until its turn ends; the result, if it is done."""
        for line in self.process.stdout:
            if line == "turn\n":
                return None
            if line.startswith("{"):
                self.process.wait()
                return json.loads(line)
        self.errors.seek(0)
        raise RuntimeError(f"The run {self.order} failed:\n{self.errors.read()[-2000:]}")

    def go(self) -> None:
        """Gives it a turn."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


def ask(order: dict[str, Any], backend: str) -> dict[str, Any]:
    """Carries out an order that takes no turns."""
    return Arm(order, backend).next()


def take_turns(orders: list[dict[str, Any]], backend: str) -> list[dict[str, Any]]:
    """Carries out orders in turns; the results in the order of the orders."""
    waiting = []
    for i, order in enumerate(orders):
        arm = Arm(order, backend)
        # Compiled and measured before the next one starts.
        arm.next()
        waiting.append((i, arm))
    results = {}
    while waiting:
        i, arm = waiting.pop(0)
        arm.go()
        result = arm.next()
        if result is None:
            waiting.append((i, arm))
        else:
            results[i] = result
    return [results[i] for i in range(len(orders))]


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half of its 95 % confidence interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    factor = _STUDENT.get(len(values), 2.0)
    return mean, factor * statistics.stdev(values) / math.sqrt(len(values))


def time_to(run: dict[str, Any], error: float) -> float | None:
    """When a run first had a test error of at most `error`; between points, on a line."""
    before = None
    for row in run["history"]:
        if row["test_error"] <= error:
            if before is None or before["test_error"] == row["test_error"]:
                return row["seconds"]
            share = (before["test_error"] - error) / (before["test_error"] - row["test_error"])
            return before["seconds"] + share * (row["seconds"] - before["seconds"])
        before = row
    return None


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per task, budget and arm."""
    groups: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["task"], run["epochs"], run["arm"]), []).append(run)
    rows = []
    for (task, epochs, arm), found in groups.items():
        uniform = groups.get((task, epochs, "uniform"), [])
        row: dict[str, Any] = {"task": task, "epochs": epochs, "arm": arm, "seeds": len(found)}
        for key in ("train_loss", "test_loss", "test_error", "steps", "ms"):
            row[key], row[f"{key}_ci"] = interval([run[key] for run in found])
        if uniform:
            goal = statistics.fmean(run["test_error"] for run in uniform)
            times = [time_to(run, goal) for run in found]
            reached = [t / run["seconds"] for t, run in zip(times, found, strict=True) if t]
            row["reached"] = len(reached)
            row["time_to_uniform"] = statistics.median(reached) if reached else None
            row["cost"] = row["ms"] / statistics.fmean(run["ms"] for run in uniform)
            pairs = [
                run["test_error"] - other["test_error"]
                for run in found
                for other in uniform
                if other["seed"] == run["seed"]
            ]
            row["against_uniform"], row["against_uniform_ci"] = interval(pairs)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The summary as text."""
    head = (
        f"{'':<18} {'steps':>7} {'step cost':>9} {'training loss':>19} {'test error':>17} "
        f"{'minus uniform':>17} {'time to its error':>18}"
    )
    lines = []
    last = None
    for row in rows:
        if (row["task"], row["epochs"]) != last:
            last = row["task"], row["epochs"]
            lines += ["", f"{last[0]}, budget of {last[1]:g} uniform epochs", head]
        when = row.get("time_to_uniform")
        reached = "-" if when is None else f"{when:.2f} ({row['reached']}/{row['seeds']})"
        lines.append(
            f"{row['arm']:<18} {row['steps']:>7.0f} {row.get('cost', math.nan):>9.2f} "
            f"{row['train_loss']:>10.5f} ±{row['train_loss_ci']:>7.5f} "
            f"{row['test_error']:>8.3f} ±{row['test_error_ci']:>6.3f} "
            f"{row.get('against_uniform', math.nan):>+8.3f} "
            f"±{row.get('against_uniform_ci', math.nan):>6.3f} {reached:>18}"
        )
    return "\n".join(lines).lstrip("\n")


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Training loss and test error over time, a row of panels per task and budget."""
    from matplotlib.figure import Figure

    from importance_sampling import plots

    panels = list(dict.fromkeys((run["task"], run["epochs"]) for run in runs))
    with plots.style():
        figure = Figure(figsize=(11, 3.6 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 2, squeeze=False)
        for i, (task, epochs) in enumerate(panels):
            here = [run for run in runs if (run["task"], run["epochs"]) == (task, epochs)]
            for axis, key, label in (
                (axes[i, 0], "train_loss", "training loss"),
                (axes[i, 1], "test_error", "test error"),
            ):
                curves = []
                for arm in dict.fromkeys(run["arm"] for run in here):
                    grids = [run["history"] for run in here if run["arm"] == arm]
                    length = min(map(len, grids))
                    mean = [
                        [statistics.fmean(g[j][name] for g in grids) for j in range(1, length)]
                        for name in ("seconds", key)
                    ]
                    curves.append(plots.Curve(arm, np.array(mean[0]), np.array(mean[1])))
                plots.training_curves(axis, curves, "training time (s)", label)
                axis.set_title(f"{task}, time of {epochs:g} uniform epochs")
    figure.savefig(path, dpi=100)


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(run_one(json.loads(options.one))))
        return
    from importance_sampling._files import write_json, write_whole

    unknown = set(options.arms) - set(arms())
    if unknown:
        raise SystemExit(f"Unknown arms {sorted(unknown)}; there are {sorted(arms())}.")
    target = options.output.with_suffix(".json")
    stored: dict[str, Any] = {"backend": options.backend, "timing": {}, "runs": []}
    if target.exists():
        stored = json.loads(target.read_text())
        if stored["backend"] != options.backend:
            raise SystemExit(f"{target} holds runs of {stored['backend']}; name another file.")
    done = {(r["task"], r["epochs"], r["arm"], r["seed"]) for r in stored["runs"]}
    for task in options.tasks:
        for epochs in options.epochs:
            for seed in range(1, options.seeds + 1):
                left = [a for a in options.arms if (task, epochs, a, seed) not in done]
                if not left:
                    continue
                # Anew for each seed: machines change their speed.
                timing = ask({"task": task, "arm": "time", "seed": 0}, options.backend)
                stored["timing"].setdefault(task, []).append(timing)
                seconds = epochs * timing["epoch_seconds"]
                order = {"task": task, "epochs": epochs, "seed": seed, "seconds": seconds}
                orders = [order | {"arm": arm} for arm in left]
                stored["runs"] += take_turns(orders, options.backend)
                write_json(target, stored)
                for result in stored["runs"][-len(left) :]:
                    print(
                        f"{task} {epochs:g} {result['arm']} seed {seed}: {result['steps']} steps, "
                        f"training loss {result['train_loss']:.5f}, "
                        f"test error {result['test_error']:.3f}",
                        flush=True,
                    )
    rows = summary(stored["runs"])
    # JSON knows no NaN, which is the interval of a single run.
    stored["summary"] = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in rows
    ]
    write_json(target, stored)
    print("\n" + table(rows))
    write_whole(options.output.with_suffix(".png"), lambda path: draw(stored["runs"], path))


if __name__ == "__main__":
    main()
