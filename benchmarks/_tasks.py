"""The tasks of `time_to_accuracy.py`: data that needs no network, and a network for each."""

from __future__ import annotations

import os
import re
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
        batch_size: examples per step.
        measure: `(outputs, y) -> (loss, error)`, both means over the examples.
        error: what the error is, for tables and axes.
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
        # No last batch of another shape: with TensorFlow's XLA, `model.fit` then stops for as long
        # as a compilation takes at the beginning of every epoch, which the other arms, who know
        # no such batches, would win by.
        whole = len(self.train[0]) // self.batch_size * self.batch_size
        self.train = self.train[0][:whole], self.train[1][:whole]

    def compiled(self) -> Any:
        """A fresh network."""
        import keras

        model = self.build()
        model.compile(keras.optimizers.Adam(self.rate), self.loss)
        return model


def _classes(outputs: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    likelihood = outputs[np.arange(len(y)), y]
    loss = -np.log(np.maximum(likelihood, 1e-7)).mean()
    return float(loss), 100.0 * float((outputs.argmax(1) != y).mean())


def _regression(outputs: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    difference = outputs.reshape(-1) - y.reshape(-1)
    return float((difference**2).mean()), float(np.abs(difference).mean())


def _data() -> Path:
    return Path(os.environ.get("IMPORTANCE_SAMPLING_DATA", "."))


def _images(name: str) -> tuple[Pair, Pair]:
    with np.load(_data() / name) as stored:
        arrays = {key: stored[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    pairs = []
    for part in ("train", "test"):
        x = arrays[f"x_{part}"].astype("float32") / 255.0
        x = x[..., None] if x.ndim == 3 else x
        pairs.append((x, arrays[f"y_{part}"].reshape(-1).astype("int32")))
    return pairs[0], pairs[1]


def _dense(shape: tuple[int, ...], *units: int, activation: str, last: Any) -> Any:
    import keras
    from keras import layers

    hidden = [layers.Dense(n, activation=activation) for n in units]
    return keras.Sequential([layers.Input(shape), layers.Flatten(), *hidden, last])


def canevet() -> Task:
    """Points in the plane: 262,144 of them, two classes, almost all of them easy."""
    from keras import layers

    from importance_sampling.datasets import CanevetICML2016

    data = CanevetICML2016(N=512, seed=0)
    (x, y), (xt, yt) = data.train_data[:], data.test_data[:]
    train, test = ((a, b.argmax(1).astype("int32")) for a, b in ((x, y), (xt, yt)))
    return Task(
        train,
        test,
        lambda: _dense((2,), 64, 64, activation="tanh", last=layers.Dense(2, activation="softmax")),
        "sparse_categorical_crossentropy",
        0.01,
        _classes,
    )


def _mnist(build: Callable[[], Any]) -> Task:
    train, test = _images("mnist.npz")
    return Task(train, test, build, "sparse_categorical_crossentropy", 1e-3, _classes)


def mnist_mlp() -> Task:
    """MNIST, two hidden layers of 512 units."""
    from keras import layers

    return _mnist(
        lambda: _dense(
            (28, 28, 1), 512, 512, activation="relu", last=layers.Dense(10, activation="softmax")
        )
    )


def mnist_small_cnn() -> Task:
    """MNIST, the network `small_cnn`."""
    from importance_sampling import models

    return _mnist(lambda: models.small_cnn((28, 28, 1), 10))


def _residual(shape: tuple[int, ...], classes: int) -> Any:
    import keras
    from keras import layers

    def normalized(x: Any) -> Any:
        return layers.ReLU()(layers.GroupNormalization(8)(x))

    inputs = keras.Input(shape)
    x = layers.Conv2D(16, 3, padding="same")(layers.RandomFlip("horizontal", seed=0)(inputs))
    for filters in (16, 32, 64):
        strides = 1 if filters == 16 else 2
        inner = layers.Conv2D(filters, 3, strides=strides, padding="same")(normalized(x))
        inner = layers.Conv2D(filters, 3, padding="same")(normalized(inner))
        shortcut = x if strides == 1 else layers.Conv2D(filters, 1, strides=strides)(x)
        x = layers.Add()([shortcut, inner])
    x = layers.GlobalAveragePooling2D()(normalized(x))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))


def cifar10() -> Task:
    """10,000 images of CIFAR-10 with random flips, a residual network of 7 convolutions."""
    train, test = _images("cifar10_12k.npz")
    return Task(
        train,
        test,
        lambda: _residual((32, 32, 3), 10),
        "sparse_categorical_crossentropy",
        2e-3,
        _classes,
    )


def friedman() -> Task:
    """Regression: Friedman's function of five of ten numbers, hard in one corner of the cube."""
    from keras import layers

    rng = np.random.default_rng(0)

    def pair(n: int) -> Pair:
        x = rng.random((n, 10)).astype("float32")
        corner = 20.0 * np.sin(20.0 * x[:, 5]) * ((x[:, 6] > 0.8) & (x[:, 7] > 0.5))
        y = 10.0 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20.0 * (x[:, 2] - 0.5) ** 2
        y = y + 10.0 * x[:, 3] + 5.0 * x[:, 4] + corner + rng.normal(size=n)
        return x, (y / 5.0).astype("float32")[:, None]

    return Task(
        pair(50_000),
        pair(10_000),
        lambda: _dense((10,), 256, 256, activation="relu", last=layers.Dense(1)),
        "mean_squared_error",
        2e-3,
        _regression,
        error="mean absolute error",
    )


def next_character() -> Task:
    """Text: the next character of Python's own reference, from the 16 before it."""
    from pydoc_data import topics

    import keras
    from keras import layers

    text = re.sub(r"\s+", " ", "\n".join(topics.topics[key] for key in sorted(topics.topics)))
    known = sorted(set(text))
    codes = np.array([known.index(c) for c in text], "int32")
    starts = np.arange(0, len(codes) - 17, 5)
    # The last tenth of the text is kept for testing.
    cut = int(0.9 * len(starts))

    def pair(which: np.ndarray) -> Pair:
        windows = codes[which[:, None] + np.arange(17)]
        return windows[:, :16], windows[:, 16]

    def build() -> Any:
        return keras.Sequential(
            [
                layers.Input((16,), dtype="int32"),
                layers.Embedding(len(known), 24),
                layers.Conv1D(96, 4, activation="relu"),
                layers.Flatten(),
                layers.Dense(192, activation="relu"),
                layers.Dense(len(known), activation="softmax"),
            ]
        )

    loss = "sparse_categorical_crossentropy"
    return Task(pair(starts[:cut]), pair(starts[cut:]), build, loss, 2e-3, _classes)


TASKS: dict[str, Callable[[], Task]] = {
    "canevet": canevet,
    "mnist_mlp": mnist_mlp,
    "mnist_small_cnn": mnist_small_cnn,
    "cifar10": cifar10,
    "friedman": friedman,
    "next_character": next_character,
}
