#!/usr/bin/env python3
"""The same noise from fewer images: a convolutional network on MNIST, drawn by earlier scores.

The first epoch is uniform and scores every image while it trains; later batches hold no more images
than it takes for the gradient noise of a uniform batch.
"""

import time

from example_utils import get_parser, report, train

import keras
from keras.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from keras.models import Sequential

from importance_sampling.datasets import MNIST
from importance_sampling.training import HistoryImportanceTraining

if __name__ == "__main__":
    options = get_parser(__doc__.splitlines()[0], epochs=10).parse_args()
    keras.utils.set_random_seed(options.seed)

    dataset = MNIST(options.data)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]

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
