"""Time of a step on one and on two devices, at the same work for each, scored pools included.

Each engine is compared with what trains uniformly on the same devices by it: on JAX and TensorFlow
Keras' own `fit`, under `keras.distribution.DataParallel` and `tf.distribute.MirroredStrategy`. On
PyTorch Keras' `fit` knows one process, so that the comparison is a loop around PyTorch's
`DistributedDataParallel` with the model's own loss, metrics and optimizer, started as torchrun
starts it.

    fit        uniform steps by the engine's own loop
    off        uniform steps of `ImportanceTraining`
    history    steps of `HistoryImportanceTraining`
    pool       steps of `ImportanceTraining`, each with a scored pool of `--presample` batches
    forward    forward passes over such pools, each device with its part

Figures are medians of rounds in which all take turns, in milliseconds a step. `of fit` is how much
of the speed of the engine's own loop is reached: fit / off, fit / history, (fit + forward) / pool.
On one machine without accelerators two devices share its cores: then only these ratios tell.

Example:

    PYTHONPATH=. python benchmarks/many_devices.py --backend torch --output many_devices_torch.json
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CLASSES = 10
SHAPES = {"mlp": (784,), "small_cnn": (28, 28, 1)}
RATIOS = ("off", "history", "pool")
# Rounds that compile: the first pass of the history is uniform, later ones are by score.
_WARM_UP = 2


def network(name: str) -> Any:
    import keras
    from keras import layers

    body = [layers.Dense(512, activation="relu") for _ in range(2)]
    if name == "small_cnn":
        body = [
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
        ]
    last = layers.Dense(CLASSES, activation="softmax")
    model = keras.Sequential([layers.Input(SHAPES[name]), *body, last])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


# -- engines ------------------------------------------------------------------------------------


class Engine:
    """How a backend trains on several devices; one for each.

    Args:
        options: of the command line.
        devices: int, how many.
    """

    def __init__(self, options: argparse.Namespace, devices: int):
        self.options, self.devices = options, devices

    @staticmethod
    def environments(devices: int) -> list[dict[str, str]]:
        """Variables of each process that is to be started."""
        return [{}]

    def model(self) -> Any:
        """A network on all devices."""
        return network(self.options.model)

    def fit(self, x: Any, y: Any) -> Callable[[], Any]:
        """Uniform steps by the engine's own loop, one pass over the data."""
        model = self.model()
        return lambda: model.fit(x, y, batch_size=self.batch, verbose=0)

    @property
    def batch(self) -> int:
        """Rows of a step on all devices together."""
        return self.options.rows * self.devices

    def forward(self, x: Any) -> Callable[[], Any]:
        """A forward pass over a pool for each step."""
        import keras
        import numpy as np

        from importance_sampling import backend

        model = self.model()
        runtime = backend.get().Runtime(model)

        def outputs(rows: Any) -> Any:
            with runtime.scope():
                return model(rows, training=False)

        compiled = runtime.compile_pure(runtime.spread(outputs, slice(1), joining="rows"))
        rng = np.random.default_rng(0)
        pool = int(self.options.presample * self.batch)

        def run() -> None:
            for _ in range(self.options.steps):
                rows = np.take(x, rng.integers(0, len(x), pool), axis=0)
                keras.ops.convert_to_numpy(compiled(runtime.to_device(self.own(rows))))

        return run

    def own(self, rows: Any) -> Any:
        """The rows that this process computes."""
        return rows

    def wait(self) -> None:
        """Waits for the other processes."""

    def end(self) -> None:
        """Leaves them."""

    @property
    def tells(self) -> bool:
        """Whether this process prints the figures."""
        return True


class Jax(Engine):
    """The devices of one process under `keras.distribution.DataParallel`."""

    def __init__(self, options: argparse.Namespace, devices: int):
        super().__init__(options, devices)
        import keras

        present = keras.distribution.list_devices()
        if len(present) < devices:
            raise SystemExit(f"JAX has {len(present)} devices, not {devices}.")
        if devices > 1:
            chosen = keras.distribution.DataParallel(devices=present[:devices])
            keras.distribution.set_distribution(chosen)

    @staticmethod
    def environments(devices: int) -> list[dict[str, str]]:
        """As many devices of the CPU, where there are no others."""
        flags = f"--xla_force_host_platform_device_count={devices}"
        return [{"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}]


class Tensorflow(Engine):
    """Replicas of the model on the devices of one process, by `tf.distribute.MirroredStrategy`."""

    def __init__(self, options: argparse.Namespace, devices: int):
        super().__init__(options, devices)
        import tensorflow as tf

        kind, present = "GPU", tf.config.list_physical_devices("GPU")
        if not present:
            # As many devices of the CPU.
            kind, logical = "CPU", [tf.config.LogicalDeviceConfiguration()] * devices
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, logical)
        elif len(present) < devices:
            raise SystemExit(f"TensorFlow has {len(present)} GPUs, not {devices}.")
        chosen = [f"{kind}:{i}" for i in range(devices)]
        self._strategy = tf.distribute.MirroredStrategy(chosen) if devices > 1 else None

    def model(self) -> Any:
        """Built and compiled in the scope of the strategy."""
        if self._strategy is None:
            return super().model()
        with self._strategy.scope():
            return super().model()


class Torch(Engine):
    """A process for each device, as torchrun starts them."""

    def __init__(self, options: argparse.Namespace, devices: int):
        super().__init__(options, devices)
        import torch
        import torch.distributed as dist

        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        else:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // devices))
        dist.init_process_group("nccl" if on_gpu else "gloo")
        self.rank = dist.get_rank()

    @staticmethod
    def environments(devices: int) -> list[dict[str, str]]:
        """What torchrun sets."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(devices),
        }
        ranks = map(str, range(devices))
        return [{**common, "RANK": rank, "LOCAL_RANK": rank} for rank in ranks]

    def fit(self, x: Any, y: Any) -> Callable[[], Any]:
        """A loop around `DistributedDataParallel`; every process has its rows of each batch."""
        import keras
        import numpy as np
        import torch
        from torch.nn.parallel import DistributedDataParallel

        model = self.model()
        model.optimizer.build(model.trainable_variables)
        parallel = DistributedDataParallel(model)
        rng = np.random.default_rng(0)

        def run() -> None:
            model.train()
            order = rng.permutation(len(x))
            model.reset_metrics()
            for step in range(self.options.steps):
                idxs = self.own(order[step * self.batch : (step + 1) * self.batch])
                rows = keras.ops.convert_to_tensor(np.take(x, idxs, axis=0))
                targets = keras.ops.convert_to_tensor(y[idxs])
                outputs = parallel(rows, training=True)
                model.zero_grad()
                loss = model.compute_loss(x=rows, y=targets, y_pred=outputs)
                loss.backward()
                gradients = [v.value.grad for v in model.trainable_variables]
                with torch.no_grad():
                    model.optimizer.apply(gradients, model.trainable_variables)
                model.compute_metrics(rows, targets, outputs)
            model.eval()

        return run

    def own(self, rows: Any) -> Any:
        """One piece of them."""
        size = len(rows) // self.devices
        return rows[self.rank * size : (self.rank + 1) * size]

    def wait(self) -> None:
        """At a barrier."""
        import torch.distributed as dist

        dist.barrier()

    def end(self) -> None:
        """Leaves the group."""
        import torch.distributed as dist

        dist.destroy_process_group()

    @property
    def tells(self) -> bool:
        """Of several processes the first one does."""
        return self.rank == 0


ENGINES: dict[str, type[Engine]] = {"jax": Jax, "tensorflow": Tensorflow, "torch": Torch}


# -- measuring ----------------------------------------------------------------------------------


def measure(engine: Engine, options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Milliseconds of a step of each kind, and the ratios."""
    import numpy as np

    from importance_sampling import HistoryImportanceTraining, ImportanceTraining

    rng = np.random.default_rng(seed)
    n = engine.batch * options.steps
    x = rng.random((n, *SHAPES[options.model]), dtype=np.float32)
    y = rng.integers(0, CLASSES, n)
    trainings = {
        "off": ImportanceTraining(engine.model(), tau_th=1e9, seed=seed),
        "history": HistoryImportanceTraining(engine.model(), seed=seed),
        "pool": ImportanceTraining(
            engine.model(), presample=options.presample, tau_th=0.0, seed=seed
        ),
    }

    def training(name: str) -> Callable[[], Any]:
        return lambda: trainings[name].fit(x, y, batch_size=engine.batch, verbose=0)

    runs = {"fit": engine.fit(x, y), **{name: training(name) for name in trainings}}
    runs["forward"] = engine.forward(x)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(options.rounds + _WARM_UP):
        for name, run in runs.items():
            engine.wait()
            begin = time.perf_counter()
            run()
            engine.wait()
            if round_ >= _WARM_UP:
                times[name].append((time.perf_counter() - begin) / options.steps * 1e3)
    found = {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    for name in RATIOS:
        base = times["fit"]
        if name == "pool":
            base = [a + b for a, b in zip(times["fit"], times["forward"], strict=True)]
        ratios = [a / b for a, b in zip(base, times[name], strict=True)]
        found[f"{name} of fit"] = statistics.median(ratios)
    return found


def child(options: argparse.Namespace) -> None:
    """Measures in a process of its own, which has the devices it was started with."""
    engine = ENGINES[options.backend](options, options.one)
    for seed in options.seeds:
        row = measure(engine, options, seed)
        if engine.tells:
            print(json.dumps({"devices": options.one, "seed": seed, **row}), flush=True)
    engine.end()


def rows_of(options: argparse.Namespace, devices: int) -> Iterator[dict[str, Any]]:
    """Starts the processes, and reads what they found.

    Raises:
        SystemExit: if one of them fails.
    """
    command = [sys.executable, *sys.argv, "--one", str(devices)]
    processes = [
        subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True)
        for variables in ENGINES[options.backend].environments(devices)
    ]
    said = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"A process on {devices} devices has failed.")
    for line in "".join(said).splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--backend", default=os.environ.get("KERAS_BACKEND", "torch"), choices=ENGINES
    )
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", default="mlp", choices=SHAPES)
    parser.add_argument("--rows", type=int, default=128, help="rows of a step on each device")
    parser.add_argument("--presample", type=float, default=3.0, help="the pool, in batches")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Prints the table and writes it as JSON."""
    options = arguments()
    os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.one:
        child(options)
        return
    from _header import header

    settings = {k: v for k, v in vars(options).items() if k not in ("output", "one")}
    content = {**header(options.backend), "settings": settings, "rows": []}
    kinds = ("fit", *RATIOS, "forward")
    print(f"{'':24}" + "".join(f"{kind:>10}" for kind in kinds) + "   ms; of fit")
    for devices in options.devices:
        for row in rows_of(options, devices):
            content["rows"].append({"engine": options.backend, "model": options.model, **row})
            name = f"{options.backend}, {options.model}, {devices}"
            told = "  ".join(f"{kind} {row[f'{kind} of fit']:.2f}" for kind in RATIOS)
            figures = "".join(f"{row[f'{kind}_ms']:10.2f}" for kind in kinds)
            print(f"{name:24}{figures}   {told}", flush=True)
    if options.output:
        temporary = options.output.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(options.output)


if __name__ == "__main__":
    main()
