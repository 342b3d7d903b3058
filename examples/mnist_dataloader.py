#!/usr/bin/env python3
"""A `DataLoader` of PyTorch: noisy digits, scored in pools of three batches.

It serves on every backend of Keras, as the loader only brings the batches.
"""

import time

from example_utils import get_parser, report

import keras
import torch
from keras.layers import Dense, Flatten, Input
from keras.models import Sequential
from torch.utils.data import DataLoader, Dataset

from importance_sampling.datasets import MNIST
from importance_sampling.training import ImportanceTraining

BATCH_SIZE = 128


class NoisyDigits(Dataset):
    """Digits with noise that is another one whenever they are asked for."""

    def __init__(self, x, y):
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        x = self.x[index]
        return x + 0.1 * torch.randn_like(x), self.y[index]


if __name__ == "__main__":
    options = get_parser(__doc__.splitlines()[0], epochs=5).parse_args()
    keras.utils.set_random_seed(options.seed)

    dataset = MNIST(options.data)
    x_train, y_train = dataset.train_data[:]
    x_test, y_test = dataset.test_data[:]
    digits = NoisyDigits(x_train[: options.examples], y_train[: options.examples])
    loader = DataLoader(digits, BATCH_SIZE, shuffle=True, drop_last=True)

    model = Sequential(
        [
            Input((28, 28, 1)),
            Flatten(),
            Dense(256, activation="relu"),
            Dense(256, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    start = time.perf_counter()
    if options.uniform:
        model.fit(loader, epochs=options.epochs, verbose=2)
    else:
        training = ImportanceTraining(model, seed=options.seed)
        training.fit(loader, epochs=options.epochs, verbose=2)
        options.report = training.report()
        print(options.report)
    report(model, x_test, y_test, start, options)
