#!/usr/bin/env python3
"""A stream of `tf.data`: shifted digits, scored in pools of eight batches for four steps.

A stream has no examples to come back to, so a pool is scored before batches are drawn from it.
"""

import time

from example_utils import get_parser, report

import keras
import tensorflow as tf
from keras.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from keras.models import Sequential

from importance_sampling.datasets import MNIST
from importance_sampling.training import ImportanceTraining

BATCH_SIZE = 128


def shifted(image, label):
    """The image moved by up to two pixels, anew in every epoch."""
    padded = tf.pad(image, [[2, 2], [2, 2], [0, 0]])
    return tf.image.random_crop(padded, (28, 28, 1)), label


if __name__ == "__main__":
    options = get_parser(__doc__.splitlines()[0], epochs=5).parse_args()
    keras.utils.set_random_seed(options.seed)

    dataset = MNIST(options.data)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]
    x_train, y_train = x_train[: options.examples], y_train[: options.examples]
    stream = tf.data.Dataset.from_tensor_slices((x_train, y_train))
    stream = stream.shuffle(10_000, seed=options.seed).map(shifted)
    stream = stream.batch(BATCH_SIZE, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

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
    start = time.perf_counter()
    if options.uniform:
        model.fit(stream, epochs=options.epochs, verbose=2)
    else:
        training = ImportanceTraining(model, presample=8, reuse=4, seed=options.seed)
        training.fit(stream, epochs=options.epochs, verbose=2)
        options.report = training.report()
        print(options.report)
    report(model, x_test, y_test, start, options)
