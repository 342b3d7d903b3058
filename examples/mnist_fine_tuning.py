#!/usr/bin/env python3
"""Fine-tuning: filters learnt from the digits 0 to 4 stay, a new last part learns 5 to 9.

After the example of transfer learning of Keras. A step of the new part is one forward pass of the
filters and little more.
"""

import time

from example_utils import get_parser, report, train

import keras
from keras.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from keras.models import Sequential

from importance_sampling.datasets import MNIST


def last_part():
    """What tells five digits apart by what the filters say."""
    return [Dense(64, activation="relu"), Dense(5, activation="softmax")]


if __name__ == "__main__":
    options = get_parser(__doc__.splitlines()[0], epochs=8).parse_args()
    keras.utils.set_random_seed(options.seed)

    dataset = MNIST(options.data)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]
    y_train, y_test = y_train.argmax(axis=1), y_test.argmax(axis=1)
    low, high, high_test = y_train < 5, y_train >= 5, y_test >= 5

    filters = [
        Conv2D(16, 3, activation="relu"),
        MaxPooling2D(),
        Conv2D(32, 3, activation="relu"),
        MaxPooling2D(),
        Flatten(),
    ]
    model = Sequential([Input((28, 28, 1)), *filters, *last_part()])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    some = slice(0, options.examples)
    model.fit(x_train[low][some], y_train[low][some], batch_size=128, epochs=1, verbose=2)

    for layer in filters:
        layer.trainable = False
    model = Sequential([Input((28, 28, 1)), *filters, *last_part()])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    start = time.perf_counter()
    train(model, options, x_train[high], y_train[high] - 5, batch_size=128)
    report(model, x_test[high_test], y_test[high_test] - 5, start, options)
