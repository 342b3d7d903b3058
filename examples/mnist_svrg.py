#!/usr/bin/env python3
"""SVRG on MNIST: one hidden layer and weight decay, as papers on variance reduction have it."""

import time

from example_utils import get_parser, report, train

import keras
from keras.layers import Dense, Input
from keras.models import Sequential
from keras.regularizers import L2

from importance_sampling.datasets import MNIST
from importance_sampling.training import SVRG

BATCH_SIZE = 128

if __name__ == "__main__":
    options = get_parser(__doc__, epochs=5).parse_args()
    keras.utils.set_random_seed(options.seed)

    dataset = MNIST(options.data)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]
    x_train, x_test = x_train.reshape(-1, 784), x_test.reshape(-1, 784)

    model = Sequential(
        [
            Input((784,)),
            Dense(100, activation="tanh", kernel_regularizer=L2(1e-4)),
            Dense(10, activation="softmax", kernel_regularizer=L2(1e-4)),
        ]
    )
    sgd = keras.optimizers.SGD(0.1)
    model.compile(optimizer=sgd, loss="categorical_crossentropy", metrics=["accuracy"])
    # A snapshot of the whole training set at the beginning of every epoch.
    steps = -(-len(x_train[: options.examples]) // BATCH_SIZE)
    training = SVRG(model, B=0, B_over_b=steps, seed=options.seed)
    start = time.perf_counter()
    train(
        model,
        options,
        x_train,
        y_train,
        training=training,
        batch_size=BATCH_SIZE,
        validation_data=(x_test, y_test),
    )
    report(model, x_test, y_test, start, options)
