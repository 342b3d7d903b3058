#!/usr/bin/env python3
"""A fully connected network on MNIST, after the Keras example of that name."""

import time

from example_utils import get_parser, report, train

import keras
from keras.layers import Dense, Dropout, Input
from keras.models import Sequential

from importance_sampling.datasets import MNIST

if __name__ == "__main__":
    options = get_parser(__doc__, epochs=8).parse_args()
    keras.utils.set_random_seed(options.seed)

    dataset = MNIST(options.data)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]
    x_train, x_test = x_train.reshape(-1, 784), x_test.reshape(-1, 784)

    model = Sequential(
        [
            Input((784,)),
            Dense(512, activation="relu"),
            Dropout(0.2),
            Dense(512, activation="relu"),
            Dropout(0.2),
            Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    start = time.perf_counter()
    train(model, options, x_train, y_train, batch_size=128, validation_data=(x_test, y_test))
    report(model, x_test, y_test, start, options)
