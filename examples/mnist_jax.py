#!/usr/bin/env python3
"""JAX: 32 steps in each call of the device, drawn by the scores of earlier passes.

`KERAS_BACKEND=tensorflow` does the same there.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import time

from example_utils import get_parser, report, train

import keras
from keras.layers import Dense, Input
from keras.models import Sequential

from importance_sampling.datasets import MNIST
from importance_sampling.training import HistoryImportanceTraining

if __name__ == "__main__":
    options = get_parser(__doc__.splitlines()[0], epochs=10).parse_args()
    keras.utils.set_random_seed(options.seed)

    dataset = MNIST(options.data)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]
    x_train, x_test = x_train.reshape(-1, 784), x_test.reshape(-1, 784)

    model = Sequential(
        [
            Input((784,)),
            Dense(128, activation="relu"),
            Dense(128, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    # Small steps take less time than calling for them does. PyTorch makes them one by one.
    at_once = 1 if keras.backend.backend() == "torch" else 32
    model.compile(
        "adam",
        "categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=at_once,
    )
    training = HistoryImportanceTraining(model, seed=options.seed)
    start = time.perf_counter()
    train(model, options, x_train, y_train, training, batch_size=128)
    report(model, x_test, y_test, start, options)
