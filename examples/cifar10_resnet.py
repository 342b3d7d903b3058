#!/usr/bin/env python3
"""A wide residual network on CIFAR-10 for a given time, after the Keras example."""

import time

from example_utils import get_parser, report

import keras

from importance_sampling.datasets import CIFAR10, OntheflyAugmentedImages
from importance_sampling.models import wide_resnet
from importance_sampling.training import ImportanceTraining
from importance_sampling.utils.keras_utils import DatasetSequence


class TrainingSchedule(keras.callbacks.Callback):
    """Lowers the learning rate in two steps and ends the training in time."""

    # The model is reached as `self.model` only.
    reaches_model_by_property = True

    def __init__(self, total_time):
        super().__init__()
        self.total_time = total_time

    def on_train_begin(self, logs=None):
        self.start = time.perf_counter()
        self.rate = None

    def on_train_batch_begin(self, batch, logs=None):
        progress = (time.perf_counter() - self.start) / self.total_time
        rate = 0.004 if progress > 0.8 else 0.02 if progress > 0.5 else 0.1
        if rate != self.rate:
            self.model.optimizer.learning_rate = self.rate = rate

    def on_train_batch_end(self, batch, logs=None):
        if time.perf_counter() - self.start >= self.total_time:
            self.model.stop_training = True


if __name__ == "__main__":
    parser = get_parser(__doc__, epochs=10**6, data="cifar10.npz, or its folder")
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--width", type=int, default=1)
    parser.add_argument("--presample", type=float, default=3.0)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--time_budget", type=int, default=300, help="seconds of training")
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)

    plain = CIFAR10(options.data)
    changes = {
        "featurewise_center": True,
        "width_shift_range": 0.1,
        "height_shift_range": 0.1,
        "horizontal_flip": True,
    }
    dataset = OntheflyAugmentedImages(plain, changes)

    model = wide_resnet(options.depth, options.width)(dataset.shape, dataset.output_size)
    model.compile(
        loss="categorical_crossentropy",
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        metrics=["accuracy"],
    )
    steps = max(1, (options.examples or len(plain.train_data)) // options.batch_size)
    schedule = TrainingSchedule(options.time_budget)
    start = time.perf_counter()
    if options.uniform:
        batches = DatasetSequence(dataset, batch_size=options.batch_size)
        model.fit(
            batches,
            steps_per_epoch=steps,
            epochs=options.epochs,
            callbacks=[schedule],
            verbose=2,
        )
    else:
        training = ImportanceTraining(model, presample=options.presample, seed=options.seed)
        training.fit_dataset(
            dataset,
            steps_per_epoch=steps,
            batch_size=options.batch_size,
            epochs=options.epochs,
            callbacks=[schedule],
            verbose=2,
        )
        options.report = training.report()
        print(options.report)
    x_test, y_test = dataset.test_data[:]
    report(model, x_test, y_test, start, options)
