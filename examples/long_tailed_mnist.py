#!/usr/bin/env python3
"""A long-tailed set: half as many images from digit to digit, tested on as many of each."""

import time

from example_utils import get_parser, report, train

import keras
import numpy as np
from keras.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from keras.models import Sequential

from importance_sampling.datasets import MNIST
from importance_sampling.training import HistoryImportanceTraining


def long_tailed(labels, rng):
    """Rows in a random order, of the class k a share of 0.5^k."""
    kept = []
    for k in range(10):
        rows = rng.permutation(np.flatnonzero(labels == k))
        kept.append(rows[: max(1, round(len(rows) * 0.5**k))])
    return rng.permutation(np.concatenate(kept))


if __name__ == "__main__":
    options = get_parser(__doc__, epochs=20).parse_args()
    keras.utils.set_random_seed(options.seed)

    dataset = MNIST(options.data)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]
    rows = long_tailed(y_train.argmax(axis=1), np.random.default_rng(options.seed))
    x_train, y_train = x_train[rows], y_train[rows]

    model = Sequential(
        [
            Input((28, 28, 1)),
            Conv2D(16, 3, activation="relu"),
            MaxPooling2D(),
            Conv2D(32, 3, activation="relu"),
            MaxPooling2D(),
            Flatten(),
            Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    training = HistoryImportanceTraining(model, constant="variance", seed=options.seed)
    start = time.perf_counter()
    train(model, options, x_train, y_train, training, batch_size=128)
    report(model, x_test, y_test, start, options)
    right = model.predict(x_test, verbose=0).argmax(axis=1) == y_test.argmax(axis=1)
    for k in range(10):
        share = right[y_test[:, k] == 1].mean()
        print(f"{k}: {y_train[:, k].sum():6.0f} images, {share:.1%} of the test's right")
