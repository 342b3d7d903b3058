"""What a task of the benchmarks is, and how its outputs are judged."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


@dataclass
class Task:
    """Data, network and measure of one task.

    Attributes:
        train: `(x, y)`.
        test: `(x, y)`.
        build: makes the network, not compiled.
        loss: what to compile it with.
        rate: learning rate of Adam at the start.
        measure: `(outputs, y) -> (loss, error)`; a lower error is better.
        batch_size: examples per step of uniform training.
        error: what the error is, and its unit, for tables.
    """

    train: Pair
    test: Pair
    build: Callable[[], Any]
    loss: str
    rate: float
    measure: Callable[[np.ndarray, np.ndarray], tuple[float, float]]
    batch_size: int = 128
    error: str = "test error (%)"

    def __post_init__(self) -> None:
        self.cut(self.batch_size)

    def cut(self, size: int) -> None:
        """Leaves out what is no whole batch of `size` examples.

        With TensorFlow's XLA, `model.fit` stops for as long as a compilation takes at the
        beginning of every epoch whose last batch has another shape, which arms that know no such
        batches would win by.
        """
        whole = max(len(self.train[0]) // size, 1) * size
        self.train = self.train[0][:whole], self.train[1][:whole]

    def shrink(self, examples: int, seed: int = 0) -> None:
        """Keeps no more than some training and test examples, for a quick look."""
        rng = np.random.default_rng(seed)
        for part in ("train", "test"):
            x, y = getattr(self, part)
            rows = rng.permutation(len(x))[:examples]
            setattr(self, part, (x[rows], y[rows]))
        self.cut(self.batch_size)

    def compiled(self, rate: Any = None, together: int = 1) -> Any:
        """A fresh network.

        Args:
            rate: learning rate or schedule; that of the task if left out.
            together: Keras' `steps_per_execution`.
        """
        import keras

        model = self.build()
        optimizer = keras.optimizers.Adam(self.rate if rate is None else rate)
        model.compile(optimizer, self.loss, steps_per_execution=together)
        return model


def classes(outputs: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Cross-entropy, and the share of wrong classes in per cent."""
    likelihood = outputs[np.arange(len(y)), y]
    loss = -np.log(np.maximum(likelihood, 1e-7)).mean()
    return float(loss), 100.0 * float((outputs.argmax(1) != y).mean())


def regression(outputs: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean squared and mean absolute error."""
    difference = outputs.reshape(-1) - y.reshape(-1)
    return float((difference**2).mean()), float(np.abs(difference).mean())


def data_folder() -> Path:
    """Where the files of images lie."""
    return Path(os.environ.get("IMPORTANCE_SAMPLING_DATA", "."))


def images(name: str) -> tuple[Pair, Pair]:
    """Training and test images of a `.npz` file, between 0 and 1, with their classes."""
    with np.load(data_folder() / name) as stored:
        arrays = {key: stored[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    pairs = []
    for part in ("train", "test"):
        x = arrays[f"x_{part}"].astype("float32") / 255.0
        x = x[..., None] if x.ndim == 3 else x
        pairs.append((x, arrays[f"y_{part}"].reshape(-1).astype("int32")))
    return pairs[0], pairs[1]


def dense(shape: tuple[int, ...], *units: int, activation: str, last: Any) -> Any:
    """A network of dense layers that ends in the layer `last`."""
    import keras
    from keras import layers

    hidden = [layers.Dense(n, activation=activation) for n in units]
    return keras.Sequential([layers.Input(shape), layers.Flatten(), *hidden, last])
