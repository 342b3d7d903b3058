"""What a smaller batch costs in time: a training step of each size, relative to the full one.

Two ways to take a step are timed for each task's network and each size, all of one task in one
process, in rounds that go through all sizes and ways:

* `keras`: `model.train_on_batch`;
* `library`: the wrapper's step on a draw with weights, its scores read (`train`, which is what
  `fit` calls; `train_batch` also evaluates all metrics example by example).

Both are called by hand and so bring the model up to date after each step, which `fit` does not.
Making the draw is not timed. A time is the median over the rounds of the mean step of a round.
Sizes are of a batch of 128; tasks that train by larger batches have theirs in proportion.

Example:

    IMPORTANCE_SAMPLING_DATA=../data python benchmarks/batch_cost.py \
        --tasks mnist_conv16 mnist_mlp --output benchmarks/results/batch_cost_tensorflow
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _header import header
from _tasks import TASKS

SIZES = [128, 96, 64, 48, 32, 24, 16]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="TASK")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="128 is always one")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each timing, about")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args()


def keras_step(task: Any, size: int, model: Any) -> Callable[[], Any]:
    """A step as Keras takes it."""
    x, y = (a[:size] for a in task.train)
    return lambda: model.train_on_batch(x, y)


def library_step(task: Any, size: int, training: Any) -> Callable[[], Any]:
    """A step as the library takes it, with weights."""
    import numpy as np

    from importance_sampling.proposal import Proposal

    rows = tuple(a[:size] for a in task.train)
    weights = np.ones((size, training.reweighting.weight_size))
    draw = Proposal(np.arange(size), rows, weights, np.ones(size))
    return lambda: training.model.train(draw).scores


def measure(name: str, options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """A row per way and size."""
    import keras

    from importance_sampling.training import HistoryImportanceTraining

    task = TASKS[name]()
    keras.utils.set_random_seed(seed)
    models = [task.compiled() for _ in range(2)]
    training = HistoryImportanceTraining(models[1], seed=seed)
    sizes = sorted({128, *options.sizes}, reverse=True)
    steps = {}
    for size in sizes:
        examples = size * task.batch_size // 128
        steps["keras", size] = keras_step(task, examples, models[0])
        steps["library", size] = library_step(task, examples, training)
    counts = {}
    for which, step in steps.items():
        step()
        step()
        began = time.perf_counter()
        step()
        counts[which] = max(1, int(options.seconds / (time.perf_counter() - began)))
    times: dict[Any, list[float]] = {which: [] for which in steps}
    for _ in range(options.rounds):
        for which, step in steps.items():
            began = time.perf_counter()
            for _ in range(counts[which]):
                step()
            times[which].append(1e3 * (time.perf_counter() - began) / counts[which])
    rows = []
    for (way, size), found in times.items():
        # Within a round, so that a change in the machine's speed meets both alike.
        ratios = [a / b for a, b in zip(found, times[way, 128], strict=True)]
        row = {"task": name, "seed": seed, "way": way, "size": size}
        row["examples"] = size * task.batch_size // 128
        row |= {"ms": statistics.median(found), "relative": statistics.median(ratios)}
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of one task and seed as Markdown, a line per way."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    full = rows[0]["examples"]
    lines = [
        f"| {rows[0]['task']}, {full} examples a step | ms | "
        + " | ".join(f"{size / 128:.3g}" for size in sizes[1:])
        + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        parts = " | ".join(f"{row['relative']:.2f}" for row in own[1:])
        lines.append(f"| {way} | {own[0]['ms']:.2f} | {parts} |")
    return "\n".join(lines)


def main() -> None:
    options = parse()
    os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if unknown := sorted(set(options.tasks) - set(TASKS)):
        raise SystemExit(f"Unknown tasks {unknown}; there are {sorted(TASKS)}.")
    if max(options.sizes) > 128:
        raise SystemExit(f"--sizes must be at most 128, got {options.sizes}.")
    from importance_sampling._files import write_json

    settings = {key: value for key, value in vars(options).items() if key != "output"}
    content = header(options.backend) | {"settings": settings, "rows": []}
    for name in options.tasks:
        for seed in range(1, options.seeds + 1):
            rows = measure(name, options, seed)
            content["rows"] += rows
            print(table(rows) + "\n", flush=True)
            if options.output:
                write_json(options.output.with_suffix(".json"), content)


if __name__ == "__main__":
    main()
