#!/usr/bin/env python3
"""A small convolutional network on CIFAR-10 with shifts and flips, after the Keras example."""

import time

from example_utils import get_parser, report

import keras
from keras.layers import Activation, Conv2D, Dense, Flatten, Input, MaxPooling2D
from keras.models import Sequential
from keras.regularizers import L2

from importance_sampling.datasets import CIFAR10, OntheflyAugmentedImages
from importance_sampling.training import ImportanceTraining
from importance_sampling.utils.keras_utils import DatasetSequence

if __name__ == "__main__":
    parser = get_parser(__doc__, epochs=8, data="cifar10.npz, or its folder")
    parser.add_argument("--batch_size", type=int, default=32)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)

    plain = CIFAR10(options.data)
    size = options.examples or len(plain.train_data)
    # An epoch goes through every image once, each time changed in another way.
    changes = {"width_shift_range": 0.1, "height_shift_range": 0.1, "horizontal_flip": True}
    dataset = OntheflyAugmentedImages(plain, changes, N=size * options.epochs)

    model = Sequential(
        [
            Input(dataset.shape),
            Conv2D(32, (3, 3), padding="same", kernel_regularizer=L2(1e-4)),
            Activation("relu"),
            Conv2D(32, (3, 3), kernel_regularizer=L2(1e-4)),
            Activation("relu"),
            MaxPooling2D(pool_size=(2, 2)),
            Conv2D(64, (3, 3), padding="same", kernel_regularizer=L2(1e-4)),
            Activation("relu"),
            Conv2D(64, (3, 3), kernel_regularizer=L2(1e-4)),
            Activation("relu"),
            MaxPooling2D(pool_size=(2, 2)),
            Flatten(),
            Dense(512, kernel_regularizer=L2(1e-4)),
            Activation("relu"),
            Dense(dataset.output_size, kernel_regularizer=L2(1e-4)),
            Activation("softmax"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    steps = size // options.batch_size
    start = time.perf_counter()
    if options.uniform:
        batches = DatasetSequence(dataset, batch_size=options.batch_size)
        model.fit(batches, steps_per_epoch=steps, epochs=options.epochs, verbose=2)
    else:
        training = ImportanceTraining(model, seed=options.seed)
        training.fit_dataset(
            dataset,
            steps_per_epoch=steps,
            batch_size=options.batch_size,
            epochs=options.epochs,
            verbose=2,
        )
        options.report = training.report()
        print(options.report)
    report(model, *plain.test_data[:], start, options)
