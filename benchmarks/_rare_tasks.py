"""Tasks whose hard part is rare, as it often is in practice."""

from __future__ import annotations

from typing import Any

import numpy as np
from _plain_tasks import conv16
from _task import Pair, Task, classes, dense, images


def long_tailed_mnist() -> Task:
    """MNIST with half as many images from class to class, tested on as many of each."""
    rng = np.random.default_rng(0)
    (x, y), (xt, yt) = images("mnist.npz")
    kept = [
        rows[: max(1, round(len(rows) * 0.5**k))]
        for k, rows in ((k, rng.permutation(np.flatnonzero(y == k))) for k in range(10))
    ]
    train = rng.permutation(np.concatenate(kept))
    each = np.bincount(yt).min()
    test = np.concatenate([np.flatnonzero(yt == k)[:each] for k in range(10)])
    loss = "sparse_categorical_crossentropy"
    return Task((x[train], y[train]), (xt[test], yt[test]), conv16, loss, 1e-3, classes)


def _precision(outputs: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Binary cross-entropy, and what average precision lacks of 100 %."""
    from sklearn.metrics import average_precision_score

    p, y = np.clip(outputs.reshape(-1), 1e-7, 1 - 1e-7), y.reshape(-1)
    loss = -np.where(y > 0, np.log(p), np.log1p(-p)).mean()
    return float(loss), 100.0 * (1.0 - float(average_precision_score(y, p)))


def rare_positives() -> Task:
    """Two classes, 1 % of them positive: the upper end of a random network's noisy output."""
    from keras import layers

    rng = np.random.default_rng(0)
    inner, outer = rng.normal(size=(20, 12)) / np.sqrt(20.0), rng.normal(size=12)

    def pair(n: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(n, 20))
        output = np.sin(2.0 * x @ inner) @ outer
        return x.astype("float32"), output + 0.1 * rng.normal(size=n)

    (x, level), (xt, level_test) = pair(200_000), pair(100_000)
    threshold = np.quantile(level, 0.99)

    def positive(level: np.ndarray) -> np.ndarray:
        return (level > threshold).astype("float32")[:, None]

    last = {"units": 1, "activation": "sigmoid"}
    return Task(
        (x, positive(level)),
        (xt, positive(level_test)),
        lambda: dense((20,), 256, 256, activation="relu", last=layers.Dense(**last)),
        "binary_crossentropy",
        1e-3,
        _precision,
        error="1 - average precision (%)",
    )


def _psnr(outputs: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean squared error, and the ratio of peak to noise in dB, negated: lower is better."""
    mse = float(((outputs - y) ** 2).mean())
    return mse, 10.0 * float(np.log10(max(mse, 1e-12)))


def image_field() -> Task:
    """A photograph as a network from coordinates to colour, tested on the whole of it.

    Such a network is there to hold the image, so that all pixels are trained on (but those that
    make no whole batch) and all are tested. 213 x 320 pixels, each the mean of four.
    """
    import keras
    from keras import layers
    from sklearn.datasets import load_sample_image

    photograph = load_sample_image("china.jpg")[:426, :640] / 255.0
    colours = photograph.reshape(213, 2, 320, 2, 3).mean((1, 3))
    rows, columns = np.mgrid[0:213, 0:320]
    x = np.stack([rows.ravel(), columns.ravel()], 1).astype("float32") / 320.0
    y = colours.reshape(-1, 3).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    image: Pair = x[order], y[order]

    def build() -> Any:
        waves = layers.Dense(
            256,
            # Sines of random frequency and phase, which stay as they are.
            activation=keras.ops.sin,
            kernel_initializer=keras.initializers.RandomNormal(stddev=60.0, seed=0),
            bias_initializer=keras.initializers.RandomUniform(0.0, 2.0 * np.pi, seed=1),
            trainable=False,
        )
        hidden = [layers.Dense(128, activation="relu") for _ in range(3)]
        colour = layers.Dense(3, activation="sigmoid")
        return keras.Sequential([layers.Input((2,)), waves, *hidden, colour])

    loss, error = "mean_squared_error", "minus PSNR (dB)"
    return Task(image, image, build, loss, 1e-3, _psnr, batch_size=512, error=error)
