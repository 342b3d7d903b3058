"""`importance-sampling demo`: five ways to take the same steps, a table and a picture."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from typing import Any, NamedTuple

import keras
import numpy as np

from ... import __version__, _requirements
from ..._files import make_directory, write_json, write_whole
from ..._progress import Progress
from ..._text_tables import print_paragraph, print_table
from ...datasets import MNIST, BaseDataset, CanevetICML2016
from ...protocols import Sampler
from ...training import BaseTraining
from ..arm_names import BY_SCORE, UNIFORM
from ..arms import ARMS
from ..schedule import Schedule


class _Task(NamedTuple):
    """A network and how it is trained."""

    hidden: tuple[int, ...]
    activation: str
    rate: float
    batch_size: int


_TASKS = {
    "canevet": _Task((128, 128), "tanh", 0.01, 1024),
    "mnist": _Task((256, 256), "relu", 0.002, 128),
}
_MEASURED_ON = 10_000
# Steps by which the time of a uniform one is measured.
_TIMED_STEPS = 300


def load(name: str, path: str | None, seed: int) -> BaseDataset:
    """The data set to train on, with one-hot targets.

    Args:
        name: str, "canevet" or "mnist".
        path: where MNIST lies; None to look for it.
        seed: int, of made-up data.

    Returns:
        A `BaseDataset`.
    """
    return CanevetICML2016(N=512, seed=seed) if name == "canevet" else MNIST(path)


def build(task: _Task, dataset: BaseDataset) -> keras.Model:
    """A fresh network, compiled.

    Args:
        task: what it looks like.
        dataset: the data set to build it for.

    Returns:
        A compiled `keras.Model`.
    """
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input(dataset.shape),
            layers.Flatten(),
            *[layers.Dense(units, activation=task.activation) for units in task.hidden],
            layers.Dense(dataset.output_size, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.Adam(task.rate)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


class _Recorder:
    """Counts how often each example was drawn by score."""

    def __init__(self, n: int):
        self.counts = np.zeros(n, dtype=np.int64)

    def __call__(
        self, sampler: Sampler, idxs: np.ndarray, w: np.ndarray, scores: np.ndarray
    ) -> None:
        # Hooks are told ones for uniform draws.
        if (scores != 1.0).any():
            np.add.at(self.counts, idxs, 1)


class _Share(keras.callbacks.Callback):
    """Takes the share of steps with importance sampling on out of the last epoch's logs."""

    value = 0.0

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Remembers the share.

        Args:
            epoch: int.
            logs: those of the epoch.
        """
        self.value = float(logs["importance_sampling"])


def _warm_up(training: BaseTraining, dataset: BaseDataset, batch_size: int) -> None:
    """Compiles everything the run will need, then puts the model back to its start."""
    model, wrapper = training.original_model, training.model
    x, y = dataset.train_data[np.arange(3 * batch_size)]
    wrapper.build(x, y)
    variables = [*model.variables, *model.optimizer.variables]
    start = [keras.ops.convert_to_numpy(v.value).copy() for v in variables]
    wrapper.score(x, y, batch_size=3 * batch_size)
    training.fit(x, y, batch_size=batch_size, verbose=0)
    for size in training.sampler(dataset, batch_size, 1, 1).batch_sizes(batch_size):
        wrapper.train_batch(x[:size], y[:size], np.ones((size, 1)))
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)


def steps_in(seconds: float, options: argparse.Namespace, dataset: BaseDataset) -> int:
    """How many uniform steps take so long on this machine.

    Args:
        seconds: float.
        options: the command's arguments.
        dataset: the data set to train on.

    Returns:
        int, at least 1.
    """
    task = _TASKS[options.dataset]
    training = ARMS[UNIFORM](build(task, dataset), seed=options.seed)
    _warm_up(training, dataset, task.batch_size)
    steps = min(_TIMED_STEPS, len(dataset.train_data) // task.batch_size)
    x, y = dataset.train_data[np.arange(steps * task.batch_size)]
    began = time.perf_counter()
    training.fit(x, y, batch_size=task.batch_size, verbose=0)
    return max(1, round(seconds * steps / (time.perf_counter() - began)))


def run_arm(
    label: str,
    options: argparse.Namespace,
    dataset: BaseDataset,
    weights: list[np.ndarray],
    steps: int,
) -> tuple[dict[str, Any], np.ndarray]:
    """Trains one arm.

    Args:
        label: str, one of `ARMS`.
        options: the command's arguments.
        dataset: the data set to train on.
        weights: the weights to start from.
        steps: int, optimizer steps.

    Returns:
        The arm's results and how often each example was drawn, `(N,)`.
    """
    task = _TASKS[options.dataset]
    model = build(task, dataset)
    model.set_weights(weights)
    training = ARMS[label](model, seed=options.seed)
    _warm_up(training, dataset, task.batch_size)
    rows = np.arange(min(_MEASURED_ON, len(dataset.train_data)))
    x_test, y_test = dataset.test_data[np.arange(min(_MEASURED_ON, len(dataset.test_data)))]
    recorder, share = _Recorder(len(dataset.train_data)), _Share()
    x, y = dataset.train_data[:]
    with Progress(f"{label:{max(map(len, ARMS))}}", 100, "%") as progress:
        schedule = Schedule(
            steps,
            task.rate,
            dataset.train_data[rows],
            (x_test, y_test),
            bar=lambda percent, values: progress.update(
                percent, "  ".join(f"{name} {value:.4f}" for name, value in values.items())
            ),
        )
        # One endless epoch: the schedule ends it.
        training.fit(
            x,
            y,
            batch_size=task.batch_size,
            steps_per_epoch=sys.maxsize,
            verbose=0,
            callbacks=[schedule, share],
            on_sample=recorder,
        )
    last = schedule.history[-1]
    result = {
        "arm": label,
        "steps": last["steps"],
        "examples": training.report().examples,
        "seconds": last["seconds"],
        "train_loss": last["train_loss"],
        "test_loss": last["test_loss"],
        "test_error": last["test_error"],
        "share_on": share.value,
        "history": schedule.history,
    }
    return result, recorder.counts


def _made(options: argparse.Namespace) -> dict[str, Any]:
    """When, on what machine, with what and by which command the figures were made."""
    length = "seconds" if options.steps is None else "steps"
    command = ["importance-sampling", "demo"]
    for name in ("dataset", length, "seed"):
        command += [f"--{name}", str(getattr(options, name))]
    names = ("keras", keras.backend.backend(), "numpy")
    # Those that this process may use; not every system can tell.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": date.today().isoformat(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": cores},
        "versions": {
            "python": platform.python_version(),
            "importance_sampling": __version__,
            **{name: version(name) for name in names},
        },
        "command": command,
    }


HEAD = ("", "examples", "seconds", "time", "training loss", "test error", "steps by score")
"""Columns of the demo's table."""


def rows_of(results: list[dict[str, Any]]) -> list[list[str]]:
    """The results as cells of a table.

    Args:
        results: of all arms.

    Returns:
        A list of cells for each arm.
    """
    uniform = next(r for r in results if r["arm"] == UNIFORM)
    return [
        [
            r["arm"],
            str(r["examples"]),
            f"{r['seconds']:.1f}",
            f"{r['seconds'] / uniform['seconds']:.2f} x",
            f"{r['train_loss']:.4f}",
            f"{100 * r['test_error']:.2f} %",
            "-" if r["arm"] not in BY_SCORE else f"{100 * r['share_on']:.0f} %",
        ]
        for r in results
    ]


def note_on(results: list[dict[str, Any]]) -> str | None:
    """What is to be said of arms that drew no step by score, or nothing.

    Args:
        results: of all arms.

    Returns:
        A sentence or two; None if there is no such arm.
    """
    uniform = [r["arm"] for r in results if r["arm"] in BY_SCORE and not r["share_on"]]
    if not uniform:
        return None
    return (
        f"No step was drawn by score: {', '.join(uniform)}. These rows are uniform training with "
        "the work of looking for a gain. Draws by score begin after the first pass over the data, "
        "or once pools promise enough: take more --steps or --seconds."
    )


def main(options: argparse.Namespace) -> int:
    """Runs the demo."""
    _requirements.require("matplotlib", "plots", "The demo's picture")
    from ..demo_picture import draw, what_was_drawn

    output = make_directory(options.output)
    dataset = load(options.dataset, options.data, options.seed)
    keras.utils.set_random_seed(options.seed)
    weights = build(_TASKS[options.dataset], dataset).get_weights()
    steps, about = options.steps, ""
    if steps is None:
        print("Measuring how long a step takes here ...", flush=True)
        steps = steps_in(options.seconds, options, dataset)
        about = f" about {options.seconds:g} seconds of uniform training,"
    print_paragraph(
        f"{options.dataset}: {len(dataset.train_data)} training examples, "
        f"{keras.backend.backend()} backend; {steps} steps,{about} in {len(ARMS)} ways from the "
        "same start. Before each, what it needs is compiled, which no time below counts."
    )
    print(flush=True)
    results, counts = [], {}
    for label in ARMS:
        result, counts[label] = run_arm(label, options, dataset, weights, steps)
        results.append(result)
    print()
    print_table(HEAD, rows_of(results))
    note = note_on(results)
    if note:
        print()
        print_paragraph(note)
    settings = {"dataset": options.dataset, "seed": options.seed, "seconds": options.seconds}
    settings |= {"steps": steps, "backend": keras.backend.backend()}
    drawn = what_was_drawn(options.dataset, dataset, counts)
    found = {"made": _made(options), "settings": settings, "results": results, "drawn": drawn}
    write_json(output / "demo.json", found)
    picture = output / "demo.png"
    figure = draw(settings, results, drawn, dataset)
    write_whole(picture, figure.savefig)
    print(f"\nThe picture is {picture}\nThe figures are {output / 'demo.json'}")
    return 0
