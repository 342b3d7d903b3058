"""Networks, data and trainings that processes of PyTorch make together; see `two_processes.py`."""

import random

import keras
import numpy as np
import torch
from keras import layers

from importance_sampling import model_wrappers, reweighting
from importance_sampling import training as trainings
from importance_sampling.datasets import IndexedExamples

# The last batch of a pass has one row, so that one of the processes has none.
rng = np.random.default_rng(0)
N, BATCH = 33, 16
x = rng.normal(size=(N, 8)).astype("float32")
y = rng.integers(0, 4, N)
kept = rng.random(N).astype("float32")
words = rng.integers(1, 9, (N, 5)) * (np.arange(5) < rng.integers(1, 6, (N, 1)))
tags = rng.integers(0, 3, (N, 5))


def seed():
    # Not `keras.utils.set_random_seed`, which loads TensorFlow, wherever that is there.
    random.seed(0)
    torch.manual_seed(0)


def two_outputs(**arguments):
    seed()
    inputs = keras.Input((8,))
    hidden = layers.Dense(16, activation="relu", kernel_regularizer="l2")(inputs)
    label = layers.Dense(4, activation="softmax", name="label")(hidden)
    value = layers.Dense(2, name="value", activity_regularizer="l2")(hidden)
    net = keras.Model(inputs, {"label": label, "value": value})
    losses = {"label": "sparse_categorical_crossentropy", "value": "mse"}
    metrics = {"label": ["accuracy"], "value": [keras.metrics.MeanAbsoluteError()]}
    net.compile(arguments.pop("optimizer", "adam"), losses, metrics=metrics, **arguments)
    return net


def one_output(
    reduction="sum_over_batch_size",
    kind=keras.Sequential,
    optimizer="adam",
    batch_size=None,
    units=16,
):
    seed()
    hidden = layers.Dense(units, activation="relu", kernel_regularizer="l2")
    net = kind([keras.Input((8,), batch_size), hidden, layers.Dense(4, activation="softmax")])
    loss = keras.losses.SparseCategoricalCrossentropy(reduction=reduction)
    net.compile(optimizer, loss, metrics=["accuracy"])
    return net


def tagger():
    seed()
    net = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 6, mask_zero=True),
            layers.Dense(3, activation="softmax"),
        ]
    )
    net.compile("adam", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    return net


class OwnStep(keras.Sequential):
    """A step of the user's, which logs a number of its own."""

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        loss.backward()
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in self.trainable_variables])
        return {"loss": loss.detach()}


class OwnLoss(keras.Sequential):
    """A loss that looks at disturbed rows as well, by way of itself."""

    disturbed = False

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.disturbed:
            return loss
        self.disturbed = True
        loss = loss + 0.1 * self.compute_loss(x, y, self(1.1 * x), sample_weight, training)
        self.disturbed = False
        return loss


class GuideStep(keras.Sequential):
    """As Keras' guide writes it: some metrics in a dictionary of their own."""

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        loss.backward()
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in self.trainable_variables])
        for metric in self.metrics:
            # By rows, for parts are not of one size.
            metric.update_state(*((loss, len(x)) if metric.name == "loss" else (y, y_pred)))
        return {metric.name: metric.result() for metric in self.metrics}


class Rows(keras.metrics.Metric):
    """Counts rows, in whole numbers."""

    def __init__(self):
        super().__init__(name="rows")
        self.count = self.add_weight(shape=(), initializer="zeros", dtype="int32")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.count.assign_add(len(y_true))

    def result(self):
        return self.count.value


def many_metrics():
    """One of them has several values, another a state of whole numbers."""
    net = one_output()
    metrics = [Rows(), keras.metrics.F1Score()]
    net.compile("adam", "categorical_crossentropy", metrics=metrics)
    return net


def log_output(net):
    """Makes a network log more than its metrics say; on the model, not in its class."""
    compute_metrics = net.compute_metrics

    def and_output(x, y, y_pred, sample_weight=None):
        logs = compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "output": float(y_pred[:, 0].mean())}

    net.compute_metrics = and_output
    return net


def own_metrics():
    return log_output(one_output())


class Examples:
    """Rows by index; notes which were read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return N

    def __getitem__(self, index):
        self.read.append(index)
        return x[index], y[index]


EXAMPLES = Examples()
BOTH = {"x": x, "y": {"label": y, "value": x[:, :2]}}
WEIGHTED = {**BOTH, "sample_weight": {"label": kept, "value": kept}}
LABELS = {"x": x, "y": y}
TAGS = {"x": words, "y": tags}


def pools(net, **arguments):
    return trainings.ImportanceTraining(net, presample=2.0, tau_th=0.0, **arguments)


def accumulating():
    return keras.optimizers.Adam(gradient_accumulation_steps=2)


class Adjusted(trainings.BiasedImportanceTraining):
    @property
    def reweighting(self):
        return reweighting.AdjustedBiasedReweightingPolicy(0.5)


class Katyusha(trainings.SVRG):
    def _wrap(self, model, score, layer, score_dtype):
        return model_wrappers.KatyushaWrapper(model)


def variance(net):
    return trainings.HistoryImportanceTraining(net, constant="variance", min_batch_size=3, seed=1)


# Name: network, what makes the training of it, data.
WAYS = {
    "gnorm": (two_outputs, lambda net: pools(net, seed=1), WEIGHTED),
    "batch sizes": (lambda: one_output(optimizer=accumulating()), variance, LABELS),
    "masked": (tagger, lambda net: trainings.BiasedImportanceTraining(net, seed=1), TAGS),
    "svrg": (two_outputs, lambda net: trainings.SVRG(net, 0, B_over_b=2, seed=1), WEIGHTED),
    "by index": (one_output, lambda net: pools(net, seed=1), {"x": IndexedExamples(EXAMPLES)}),
    "own step": (
        lambda: one_output(kind=OwnStep),
        lambda net: pools(net, score="loss", seed=1),
        LABELS,
    ),
    "own loss": (
        lambda: one_output(kind=OwnLoss),
        lambda net: pools(net, score="loss", seed=1),
        LABELS,
    ),
    "metrics of many kinds": (
        many_metrics,
        lambda net: pools(net, score="loss", seed=1),
        {"x": x, "y": np.eye(4)[y], "validation_data": (x, np.eye(4)[y])},
    ),
    "own metrics": (own_metrics, lambda net: pools(net, score="loss", seed=1), LABELS),
    "sum": (lambda: one_output("sum"), lambda net: pools(net, score="loss", seed=1), LABELS),
}
MORE = {
    "guide": (
        lambda: one_output(kind=GuideStep),
        lambda net: trainings.HistoryImportanceTraining(net, score="loss", seed=1),
        LABELS,
    ),
    "katyusha": (lambda: one_output(optimizer="sgd"), lambda net: Katyusha(net, 0, seed=1), LABELS),
    "masked svrg": (tagger, lambda net: trainings.SVRG(net, 0, B_over_b=2, seed=1), TAGS),
    "loss": (two_outputs, lambda net: pools(net, score="loss", seed=1), WEIGHTED),
    "acc": (one_output, lambda net: pools(net, score="acc", smooth=0.5, seed=1), LABELS),
    "full_gnorm": (two_outputs, lambda net: pools(net, score="full_gnorm", seed=1), WEIGHTED),
    "layer": (one_output, lambda net: pools(net, layer=0, seed=1), LABELS),
    "masked gnorm": (tagger, lambda net: pools(net, seed=1), TAGS),
    "masked full_gnorm": (tagger, lambda net: pools(net, score="full_gnorm", seed=1), TAGS),
    "masked history": (
        tagger,
        lambda net: trainings.HistoryImportanceTraining(net, seed=1),
        TAGS,
    ),
    "biased sum": (
        lambda: one_output("sum"),
        lambda net: trainings.BiasedImportanceTraining(net, seed=1),
        LABELS,
    ),
    "reuse": (one_output, lambda net: pools(net, reuse=1, resampling="systematic", seed=1), LABELS),
    "adjusted": (one_output, lambda net: Adjusted(net, seed=1), LABELS),
    "history": (
        two_outputs,
        lambda net: trainings.HistoryImportanceTraining(net, seed=1, refresh=0.5),
        WEIGHTED,
    ),
    "robust": (two_outputs, lambda net: trainings.RobustImportanceTraining(net, seed=1), WEIGHTED),
    "infobatch": (
        two_outputs,
        lambda net: trainings.InfoBatchTraining(net, anneal=1.0, seed=1),
        WEIGHTED,
    ),
    "selective": (
        two_outputs,
        lambda net: trainings.SelectiveBackpropTraining(net, seed=1),
        WEIGHTED,
    ),
    "constant time": (
        one_output,
        lambda net: trainings.ConstantTimeImportanceTraining(net, seed=1),
        LABELS,
    ),
    "constant variance": (
        one_output,
        lambda net: trainings.ConstantVarianceImportanceTraining(net, seed=1),
        LABELS,
    ),
    "approximate": (
        one_output,
        lambda net: trainings.ApproximateImportanceTraining(net, presample=24, seed=1),
        LABELS,
    ),
}


# Draws depend on measured times: the same in both processes, but others than in one.
MEASURED = {
    "auto": (one_output, lambda net: trainings.ImportanceTraining(net, "auto", seed=1), LABELS),
    "measured": (
        one_output,
        lambda net: trainings.ImportanceTraining(net, 2.0, "measured", seed=1),
        LABELS,
    ),
}
