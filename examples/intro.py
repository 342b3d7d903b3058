#!/usr/bin/env python3
"""The introduction: a small network on a toy problem, with and without importance sampling."""

import argparse

import example_utils  # noqa: F401 - loads Keras without the lines of its start

from keras.layers import Dense, Input
from keras.models import Sequential

from importance_sampling.datasets import CanevetICML2016
from importance_sampling.training import ImportanceTraining


def create_nn():
    """Build a simple fully connected network."""
    model = Sequential(
        [
            Input((2,)),
            Dense(40, activation="tanh"),
            Dense(40, activation="tanh"),
            Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return model


def main(epochs=10):
    """Trains uniformly for some epochs, then from the same weights by importance."""
    # Load the data
    dataset = CanevetICML2016(N=1024)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]
    y_train, y_test = y_train.argmax(axis=1), y_test.argmax(axis=1)

    # Create the network and keep the initial weights
    model = create_nn()
    weights = model.get_weights()

    # Train with uniform sampling
    model.optimizer.learning_rate = 0.01
    validation = (x_test, y_test)
    model.fit(x_train, y_train, batch_size=64, epochs=epochs, validation_data=validation, verbose=2)

    # Train with importance sampling
    model.set_weights(weights)
    model.optimizer.learning_rate = 0.01
    training = ImportanceTraining(model, forward_batch_size=1024)
    training.fit(x_train, y_train, batch_size=64, epochs=3, validation_data=validation, verbose=2)
    print(training.report())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, help="of uniform training, 10 by default")
    options = parser.parse_args()
    main(options.epochs) if options.epochs else main()
