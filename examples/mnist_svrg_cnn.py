#!/usr/bin/env python3
"""SCSG on MNIST with a convolutional network: a snapshot of ten batches every hundred steps."""

import time

from example_utils import get_parser, report, train

import keras
from keras.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from keras.models import Sequential

from importance_sampling.datasets import MNIST
from importance_sampling.training import SVRG

if __name__ == "__main__":
    options = get_parser(__doc__, epochs=1).parse_args()
    keras.utils.set_random_seed(options.seed)

    dataset = MNIST(options.data)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]

    model = Sequential(
        [
            Input((28, 28, 1)),
            Conv2D(16, (3, 3), activation="relu"),
            MaxPooling2D(pool_size=(2, 2)),
            Conv2D(32, (3, 3), activation="relu"),
            MaxPooling2D(pool_size=(2, 2)),
            Flatten(),
            Dense(64, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    sgd = keras.optimizers.SGD(0.05)
    model.compile(optimizer=sgd, loss="categorical_crossentropy", metrics=["accuracy"])
    training = SVRG(model, B=10.0, B_over_b=100, seed=options.seed)
    start = time.perf_counter()
    train(
        model,
        options,
        x_train,
        y_train,
        training=training,
        batch_size=128,
        validation_data=(x_test, y_test),
    )
    report(model, x_test, y_test, start, options)
