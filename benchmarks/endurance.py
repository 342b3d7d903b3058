"""20,000 steps of each way to train: do memory, threads, open files and the time of a step grow?

Each way runs in a process of its own, on a small network with validation after each epoch, so that
what a step or an epoch leaves behind shows. Figures are read once in `--every` steps. What grows is
judged from the second quarter on, when everything has been compiled and every cache is filled.
Times are the processor's, which other programs lengthen less than the clock's.

Needs Linux, whose `/proc` tells the figures.

Examples:

    python benchmarks/endurance.py --backend torch --output endurance_torch.json
    python benchmarks/endurance.py --backend jax --ways history pool
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH = 32

# Name to `(importance_sampling.training, model) -> training`; None for `model.fit`.
WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "model.fit": lambda t, model: None,
    "off": lambda t, model: t.ImportanceTraining(model, tau_th=1e9, seed=0),
    "pool": lambda t, model: t.ImportanceTraining(model, tau_th=1e-9, seed=0),
    "pool, reused": lambda t, model: t.ImportanceTraining(
        model, presample=8, reuse=4, tau_th=1e-9, seed=0
    ),
    "pool of a generator": lambda t, model: t.ImportanceTraining(model, tau_th=1e-9, seed=0),
    "history": lambda t, model: t.HistoryImportanceTraining(model, seed=0),
    "history, x8": lambda t, model: t.HistoryImportanceTraining(model, seed=0),
    "robust": lambda t, model: t.RobustImportanceTraining(model, seed=0),
    "same noise": lambda t, model: t.HistoryImportanceTraining(model, constant="variance", seed=0),
    "auto": lambda t, model: t.ImportanceTraining(model, presample="auto", seed=0),
    "biased": lambda t, model: t.BiasedImportanceTraining(model, seed=0),
    "LSTM": lambda t, model: t.ApproximateImportanceTraining(model, presample=64, seed=0),
    "constant variance": lambda t, model: t.ConstantVarianceImportanceTraining(model, seed=0),
    "constant time": lambda t, model: t.ConstantTimeImportanceTraining(model, seed=0),
    "InfoBatch": lambda t, model: t.InfoBatchTraining(model, seed=0),
    "Selective Backprop": lambda t, model: t.SelectiveBackpropTraining(model, seed=0),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=500, help="steps between readings, an epoch")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    return parser.parse_args()


def reading() -> dict[str, float]:
    """Memory in MiB, threads and open files of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "mib": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "threads": len(os.listdir("/proc/self/task")),
        "files": len(os.listdir("/proc/self/fd")),
    }


def run_one(options: argparse.Namespace) -> list[dict[str, float]]:
    """In the child: trains one way; the readings."""
    import gc

    import keras
    import numpy as np

    from importance_sampling import training

    rng = np.random.default_rng(0)
    x = rng.normal(size=(4096, 16)).astype("float32")
    y = (x[:, 0] + 0.5 * rng.normal(size=4096) > 0).astype("int64")
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(32, activation="relu"), keras.layers.Dense(2, "softmax")]
    model = keras.Sequential([keras.layers.Input((16,)), *layers])
    together = 8 if options.way.endswith("x8") else 1
    model.compile(
        "sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=together
    )
    readings: list[dict[str, float]] = []

    class Reads(keras.callbacks.Callback):
        reaches_model_by_property = True
        steps = 0

        def on_train_begin(self, logs: Any = None) -> None:
            self.last, self.since = -1, time.process_time()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.last = -1

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            before, self.steps = self.steps, self.steps + batch - self.last
            self.last = batch
            if self.steps // options.every == before // options.every:
                return
            now = time.process_time()
            milliseconds = 1000 * (now - self.since) / options.every
            gc.collect()
            readings.append({"step": self.steps, **reading(), "ms": milliseconds})
            if self.steps >= options.steps:
                self.model.stop_training = True
            self.since = time.process_time()

    def batches() -> Iterator[Any]:
        for i in itertools.count():
            rows = np.arange(i * BATCH, (i + 1) * BATCH) % len(x)
            yield x[rows], y[rows]

    trainer = WAYS[options.way](training, model) or model
    data = (batches(),) if "generator" in options.way else (x, y)
    trainer.fit(
        *data,
        epochs=10 * options.steps // options.every,
        steps_per_epoch=options.every if len(data) == 1 else len(x) // BATCH,
        validation_data=(x[:512], y[:512]),
        verbose=0,
        callbacks=[Reads()],
    )
    return readings


def judge(readings: list[dict[str, float]]) -> dict[str, float]:
    """What has changed from the second quarter of the run to the last."""
    quarter = len(readings) // 4
    second, last = readings[quarter : 2 * quarter], readings[-quarter:]

    def change(name: str, of: Callable[..., float]) -> tuple[float, float]:
        return of(r[name] for r in second), of(r[name] for r in last)

    memory, milliseconds = change("mib", statistics.median), change("ms", statistics.median)
    threads, files = change("threads", max), change("files", max)
    between = (last[0]["step"] - second[0]["step"]) / 10_000
    return {
        "mib": memory[1],
        "mib_per_10000_steps": (memory[1] - memory[0]) / between,
        "threads": threads[1],
        "more_threads": threads[1] - threads[0],
        "files": files[1],
        "more_files": files[1] - files[0],
        "ms_per_step": milliseconds[1],
        "times_as_long": milliseconds[1] / milliseconds[0],
    }


def main() -> None:
    options = arguments()
    os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.way:
        print(json.dumps(run_one(options)))
        return
    from _header import header

    table = []
    for way in options.ways:
        if way.endswith("x8") and options.backend == "torch":
            # Keras has it take one step at a time.
            continue
        command = [sys.executable, __file__, "--way", way, "--backend", options.backend]
        command += ["--steps", str(options.steps), "--every", str(options.every)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        readings = json.loads(out.strip().splitlines()[-1])
        row = {"way": way, "steps": readings[-1]["step"], **judge(readings), "readings": readings}
        table.append(row)
        print(
            f"{options.backend:<10} {way:<20} {row['mib']:7.1f} MiB "
            f"({row['mib_per_10000_steps']:+.2f} per 10,000 steps)   "
            f"{row['threads']} threads ({row['more_threads']:+d})   "
            f"{row['files']} files ({row['more_files']:+d})   "
            f"{row['ms_per_step']:.2f} ms a step (x {row['times_as_long']:.2f})",
            flush=True,
        )
        if options.output:
            content = {**header(options.backend), "ways": table}
            temporary = options.output.with_suffix(".tmp")
            temporary.write_text(json.dumps(content, indent=1) + "\n")
            temporary.replace(options.output)


if __name__ == "__main__":
    main()
