"""Tasks of the usual kind, with data that needs no network."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from _task import Pair, Task, classes, dense, images, regression


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
        lambda: dense((2,), 64, 64, activation="tanh", last=layers.Dense(2, activation="softmax")),
        "sparse_categorical_crossentropy",
        0.01,
        classes,
    )


def _mnist(build: Callable[[], Any]) -> Task:
    train, test = images("mnist.npz")
    return Task(train, test, build, "sparse_categorical_crossentropy", 1e-3, classes)


def conv16() -> Any:
    """For images of 28 x 28: two convolutions of 16 and 32 filters, each pooled, 64 units."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def mnist_conv16() -> Task:
    """MNIST, conv16-pool-conv32-pool-dense64."""
    return _mnist(conv16)


def mnist_mlp() -> Task:
    """MNIST, two hidden layers of 512 units."""
    from keras import layers

    return _mnist(
        lambda: dense(
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
    train, test = images("cifar10_12k.npz")
    return Task(
        train,
        test,
        lambda: _residual((32, 32, 3), 10),
        "sparse_categorical_crossentropy",
        2e-3,
        classes,
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
        lambda: dense((10,), 256, 256, activation="relu", last=layers.Dense(1)),
        "mean_squared_error",
        2e-3,
        regression,
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
    return Task(pair(starts[:cut]), pair(starts[cut:]), build, loss, 2e-3, classes)
