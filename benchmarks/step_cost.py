"""What a training step costs: off, on, and in its parts, against plain `model.fit`.

All figures of one model are taken in one process, alternating, so that only ratios of medians
are quoted. Three things are timed per round, each over `--steps` steps:

* `fit`: `model.fit` on batches of `--batch`;
* `off`: `ImportanceTraining.fit` with a threshold that is never reached;
* `on`: `ImportanceTraining.fit` with a threshold that is always reached;

and, in the same round, `pool`: forward passes over pools, run the way Keras' `predict` runs
them (compiled, inference mode), without any score.

`--model stream` is a small network on a `tf.data` pipeline of small rows (32 a batch, shuffled),
where a step is little more than reading: `fit`, `off` and `auto` (`presample="auto"`, uniform).

`--model small` is networks of two hidden layers (`--networks`), by default of 64 on 2 and on 10
features, where a step is little more than the host's work: `fit`, `off`, `history` and `auto`, with
steps made one by one, with as many in a call as the library chooses (`... chosen`), and, as
`... xK`, with `steps_per_execution=K` (`--together`). Each timing is of `--epochs` epochs of
`--steps` steps; the library makes steps together in trainings of 2048 steps or more, 4096 for
`auto`. `--device-data` adds `... device`, which is `... chosen` with the data on the device.

Examples:

    KERAS_BACKEND=jax python benchmarks/step_cost.py --model small --steps 469 --together 8 32
    KERAS_BACKEND=jax python benchmarks/step_cost.py --model small --steps 469 --device-data
    KERAS_BACKEND=jax python benchmarks/step_cost.py --model small --networks 784-512-512-10
    KERAS_BACKEND=torch python benchmarks/step_cost.py --model mlp --output step_cost_torch.json
    KERAS_BACKEND=jax python benchmarks/step_cost.py --model stream --steps 500
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _header import header


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument(
        "--model", choices=["mlp", "small_cnn", "both", "stream", "small"], default="both"
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pool", type=int, default=384)
    parser.add_argument("--steps", type=int, default=60, help="steps per timing")
    parser.add_argument("--rounds", type=int, default=7, help="timings of each kind")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the data")
    parser.add_argument(
        "--together", type=int, nargs="*", default=[8], help="steps in one call, with `small`"
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        default=["2-64-64-10", "10-64-64-10"],
        help="with `small`: features, units of each hidden layer, classes",
    )
    parser.add_argument(
        "--device-data", action="store_true", help="with `small`: the data on the device, too"
    )
    parser.add_argument("--epochs", type=int, default=10, help="epochs of a timing, with `small`")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args()


def make_model(name: str):
    import keras
    from keras import layers

    if name == "mlp":
        body = [
            layers.Input((784,)),
            layers.Dense(512, activation="relu"),
            layers.Dense(512, activation="relu"),
        ]
    else:
        body = [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
        ]
    model = keras.Sequential([*body, layers.Dense(10, activation="softmax")])
    model.compile(
        keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def forward_pools(model, x, pool: int, steps: int) -> Callable[[], None]:
    """Forward passes over `steps` pools, compiled as Keras compiles `predict`."""
    import keras
    import numpy as np

    from importance_sampling import backend

    runtime = backend.get().Runtime(model)

    def forward(batch):
        with runtime.scope():
            return model(batch, training=False)

    compiled = runtime.compile_pure(forward)
    rng = np.random.default_rng(0)

    def run() -> None:
        for _ in range(steps):
            rows = rng.integers(0, len(x), pool)
            keras.ops.convert_to_numpy(compiled(runtime.to_device(np.take(x, rows, axis=0))))

    return run


def measure(name: str, options: argparse.Namespace, seed: int) -> dict[str, float]:
    import numpy as np

    from importance_sampling import ImportanceTraining

    rng = np.random.default_rng(seed)
    shape = (784,) if name == "mlp" else (28, 28, 1)
    n = options.batch * options.steps
    x = rng.random((n, *shape), dtype=np.float32)
    y = rng.integers(0, 10, n)
    fit_arguments = {"batch_size": options.batch, "verbose": 0}
    plain, off, on, scored = (make_model(name) for _ in range(4))
    training_off = ImportanceTraining(off, tau_th=1e9, seed=seed)
    training_on = ImportanceTraining(
        on, presample=options.pool / options.batch, tau_th=0.0, seed=seed
    )
    times = alternate(
        {
            "fit": lambda: plain.fit(x, y, **fit_arguments),
            "off": lambda: training_off.fit(x, y, **fit_arguments),
            "on": lambda: training_on.fit(x, y, **fit_arguments),
            "pool": forward_pools(scored, x, options.pool, options.steps),
        },
        options,
    )
    ratios_off = [a / b for a, b in zip(times["off"], times["fit"], strict=True)]
    ratios_on = [
        a / (b + c) for a, b, c in zip(times["on"], times["fit"], times["pool"], strict=True)
    ]
    result = {f"{kind}_ms": statistics.median(values) for kind, values in times.items()}
    result["off / fit"] = statistics.median(ratios_off)
    result["on / (pool + fit)"] = statistics.median(ratios_on)
    return result


def alternate(
    runs: dict[str, Callable[[], Any]], options: argparse.Namespace, steps: int | None = None
) -> dict[str, list[float]]:
    """Milliseconds per step of each run in each round, after one that compiles."""
    steps = steps or options.steps
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {kind: [] for kind in runs}
    for _ in range(options.rounds):
        for kind, run in runs.items():
            start = time.perf_counter()
            run()
            times[kind].append((time.perf_counter() - start) / steps * 1e3)
    return times


def measure_stream(options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Uniform steps on a `tf.data` pipeline of small rows."""
    import keras
    import numpy as np
    import tensorflow as tf
    from keras import layers

    from importance_sampling import ImportanceTraining

    rng = np.random.default_rng(seed)
    rows, batch = 32 * options.steps, 32
    arrays = rng.random((rows, 10), dtype=np.float32), rng.integers(0, 4, rows)
    data = tf.data.Dataset.from_tensor_slices(arrays).shuffle(1000, seed).batch(batch).prefetch(2)

    def network():
        hidden = [layers.Dense(64, activation="relu") for _ in range(2)]
        last = layers.Dense(4, activation="softmax")
        model = keras.Sequential([layers.Input((10,)), *hidden, last])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    plain, off, auto = (network() for _ in range(3))
    trainings = {
        "off": ImportanceTraining(off, tau_th=1e9, seed=seed),
        "auto": ImportanceTraining(auto, presample="auto", seed=seed),
    }
    times = alternate(
        {
            "fit": lambda: plain.fit(data, verbose=0),
            "off": lambda: trainings["off"].fit(data, verbose=0),
            "auto": lambda: trainings["auto"].fit(data, verbose=0),
        },
        options,
    )
    result = {f"{kind}_ms": statistics.median(values) for kind, values in times.items()}
    for kind in trainings:
        pairs = zip(times[kind], times["fit"], strict=True)
        result[f"{kind} / fit"] = statistics.median(a / b for a, b in pairs)
    return result


def measure_small(options: argparse.Namespace, name: str, seed: int) -> dict[str, float]:
    """A small network, with steps one by one, several in a call, and as many as are chosen."""
    import keras
    import numpy as np
    from keras import layers

    from importance_sampling import HistoryImportanceTraining, ImportanceTraining

    features, *units, classes = map(int, name.split("-"))

    def network(together: int):
        hidden = [layers.Dense(size, activation="relu") for size in units]
        last = layers.Dense(classes, activation="softmax")
        model = keras.Sequential([layers.Input((features,)), *hidden, last])
        model.compile(
            "adam",
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=together,
        )
        return model

    rng = np.random.default_rng(seed)
    n = options.batch * options.steps
    x, y = rng.random((n, features), dtype=np.float32), rng.integers(0, classes, n)
    makers: dict[str, Callable[[Any], Any]] = {
        "fit": lambda model: model,
        "off": lambda model: ImportanceTraining(model, tau_th=1e9, seed=seed),
        "history": lambda model: HistoryImportanceTraining(model, seed=seed),
        "auto": lambda model: ImportanceTraining(model, presample="auto", seed=seed),
    }
    arguments = {"batch_size": options.batch, "epochs": options.epochs, "verbose": 0}
    runs: dict[str, Callable[[], Any]] = {}
    for kind, make in makers.items():
        single = {} if kind == "fit" else {"steps_per_execution": 1}
        runs[kind] = functools.partial(make(network(1)).fit, x, y, **arguments, **single)
        if kind != "fit":
            chosen: dict[str, dict[str, Any]] = {"chosen": {}}
            if options.device_data:
                chosen = {"chosen": {"device_data": False}, "device": {"device_data": True}}
            for way, given in chosen.items():
                run = functools.partial(make(network(1)).fit, x, y, **arguments, **given)
                runs[f"{kind} {way}"] = run
        for together in options.together:
            run = functools.partial(make(network(together)).fit, x, y, **arguments)
            runs[f"{kind} x{together}"] = run
    times = alternate(runs, options, options.steps * options.epochs)
    result = {f"{kind}_ms": statistics.median(values) for kind, values in times.items()}
    for kind in runs:
        pairs = zip(times[kind], times["fit"], strict=True)
        result[f"{kind} / fit"] = statistics.median(a / b for a, b in pairs)
    return result


def main() -> None:
    options = arguments()
    os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    names = ["mlp", "small_cnn"] if options.model == "both" else [options.model]
    if options.model == "small":
        names = options.networks
    table = []
    for name in names:
        for seed in options.seeds:
            row = {"backend": options.backend, "model": name, "seed": seed}
            row |= header(options.backend)
            if options.model == "small":
                row |= measure_small(options, name, seed)
                table.append(row)
                kinds = [key.removesuffix("_ms") for key in row if key.endswith("_ms")]
                told = "   ".join(
                    f"{k} {row[f'{k}_ms']:.3f} ({row[f'{k} / fit']:.2f})" for k in kinds
                )
                print(f"{options.backend:<10} {name:<11} {told}", flush=True)
                continue
            if name == "stream":
                row |= measure_stream(options, seed)
                table.append(row)
                figures = ("fit_ms", "off_ms", "auto_ms", "off / fit", "auto / fit")
                told = "   ".join(f"{k} {row[k]:.3f}" for k in figures)
                print(f"{options.backend:<10} {name:<9} {told}", flush=True)
                continue
            row |= measure(name, options, seed)
            table.append(row)
            print(
                f"{options.backend:<10} {name:<9} fit {row['fit_ms']:8.2f} ms   "
                f"off {row['off_ms']:8.2f} ms   on {row['on_ms']:8.2f} ms   "
                f"pool {row['pool_ms']:8.2f} ms   off/fit {row['off / fit']:.3f}   "
                f"on/(pool+fit) {row['on / (pool + fit)']:.3f}",
                flush=True,
            )
    if options.output:
        temporary = options.output.with_suffix(".tmp")
        temporary.write_text(json.dumps(table, indent=2) + "\n")
        temporary.replace(options.output)


if __name__ == "__main__":
    main()
