#!/usr/bin/env python3
"""A convolutional network on MNIST, after the Keras example of that name."""

import time

from example_utils import get_parser, report, train

import keras
from keras.layers import Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from keras.models import Sequential

from importance_sampling.datasets import MNIST

if __name__ == "__main__":
    options = get_parser(__doc__, epochs=5).parse_args()
    keras.utils.set_random_seed(options.seed)

    dataset = MNIST(options.data)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]

    model = Sequential(
        [
            Input((28, 28, 1)),
            Conv2D(32, (3, 3), activation="relu"),
            Conv2D(64, (3, 3), activation="relu"),
            MaxPooling2D(pool_size=(2, 2)),
            Dropout(0.25),
            Flatten(),
            Dense(128, activation="relu"),
            Dropout(0.5),
            Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adadelta", loss="categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.learning_rate = 1.0
    start = time.perf_counter()
    train(model, options, x_train, y_train, batch_size=128, validation_data=(x_test, y_test))
    report(model, x_test, y_test, start, options)
