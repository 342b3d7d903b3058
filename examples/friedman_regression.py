#!/usr/bin/env python3
"""Regression: Friedman's function of five of ten numbers, hard in one corner, with noise."""

import time

from example_utils import get_parser, report, train

import keras
import numpy as np
from keras.layers import Dense, Input
from keras.models import Sequential


def friedman(n, rng):
    """Points of the cube and the function's values, with noise of standard deviation 0.2."""
    x = rng.random((n, 10)).astype("float32")
    corner = 20.0 * np.sin(20.0 * x[:, 5]) * ((x[:, 6] > 0.8) & (x[:, 7] > 0.5))
    y = 10.0 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20.0 * (x[:, 2] - 0.5) ** 2
    y = y + 10.0 * x[:, 3] + 5.0 * x[:, 4] + corner + rng.normal(size=n)
    return x, (y / 5.0).astype("float32")[:, None]


if __name__ == "__main__":
    options = get_parser(__doc__, epochs=20, data=None).parse_args()
    keras.utils.set_random_seed(options.seed)

    rng = np.random.default_rng(options.seed)
    x_train, y_train = friedman(options.examples or 50_000, rng)
    x_test, y_test = friedman(10_000, rng)

    model = Sequential(
        [
            Input((10,)),
            Dense(256, activation="relu"),
            Dense(256, activation="relu"),
            Dense(1),
        ]
    )
    optimizer = keras.optimizers.Adam(0.002)
    model.compile(optimizer, "mean_squared_error", metrics=["mean_absolute_error"])
    start = time.perf_counter()
    train(model, options, x_train, y_train, batch_size=128)
    report(model, x_test, y_test, start, options)
