"""Losses of the user's own and models that override `compute_loss`."""

import keras
import numpy as np
from keras import layers, ops

from . import program
from ._synthetic import table


def arguments(**kwargs):
    x, y = table()
    return {"x": x, "y": y, "batch_size": 16, "epochs": 4, "shuffle": False} | kwargs


class Distiller(keras.Model):
    """A student learns the labels and what a teacher says of them."""

    passes_weights = True

    def __init__(self, teacher, student, temperature=3.0):
        super().__init__()
        self.teacher, self.student, self.temperature = teacher, student, temperature
        self.teacher.trainable = False

    def compile(self, student_loss, distillation_loss, alpha=0.3, **kwargs):
        super().compile(**kwargs)
        self.student_loss, self.distillation_loss = student_loss, distillation_loss
        self.alpha = alpha

    def call(self, x):
        return self.student(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, allow_empty=False):
        said = self.teacher(x, training=False)
        labels = self.student_loss(y, y_pred)
        soft = self.distillation_loss(
            ops.softmax(said / self.temperature, axis=1),
            ops.softmax(y_pred / self.temperature, axis=1),
        )
        losses = self.alpha * labels + (1 - self.alpha) * soft * self.temperature**2
        if sample_weight is not None and self.passes_weights:
            losses = losses * ops.reshape(sample_weight, (-1,))
        return ops.mean(losses)


def distillation(cls):
    teacher = keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(2)])
    student = keras.Sequential([keras.Input((5,)), layers.Dense(2)])
    model = cls(teacher, student)
    model.compile(
        optimizer=keras.optimizers.Adam(0.05),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
        student_loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None),
        distillation_loss=keras.losses.KLDivergence(reduction=None),
    )
    return model, arguments()


@program()
def knowledge_distillation():
    return distillation(Distiller)


class DeafDistiller(Distiller):
    """Forgets the weights of its examples."""

    passes_weights = False


@program(refused="does not use `sample_weight`")
def knowledge_distillation_without_weights():
    return distillation(DeafDistiller)


def pinball(quantile):
    """A quantile's loss, one per row."""

    def loss(y_true, y_pred):
        error = y_true - y_pred
        return ops.mean(ops.maximum(quantile * error, (quantile - 1) * error), axis=-1)

    return loss


@program()
def quantile_regression():
    """One loss for each of two outputs."""
    x, _ = table()
    y = (x[:, :1] + 0.1 * x[:, 1:2]).astype("float32")
    inputs = keras.Input((5,))
    hidden = layers.Dense(6, activation="relu")(inputs)
    outputs = [layers.Dense(1, name=name)(hidden) for name in ("low", "high")]
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.05), loss=[pinball(0.1), pinball(0.9)])
    return model, arguments(x=x, y=[y, y])


class Focal(keras.losses.Loss):
    """Looks at what is still wrong."""

    def __init__(self, gamma=2.0, **kwargs):
        super().__init__(**kwargs)
        self.gamma = gamma

    def call(self, y_true, y_pred):
        y_true = ops.cast(y_true, y_pred.dtype)
        right = ops.clip(ops.where(y_true > 0.5, y_pred, 1 - y_pred), 1e-6, 1.0)
        return ops.mean(-ops.power(1 - right, self.gamma) * ops.log(right), axis=-1)


@program()
def own_loss_class():
    _, y = table()
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(6, "relu"), layers.Dense(1, activation="sigmoid")]
    )
    model.compile(keras.optimizers.Adam(0.03), Focal(), metrics=["binary_accuracy"])
    return model, arguments(y=y[:, None])


class WithReconstruction(keras.Model):
    """Classifies, and adds what a decoder makes of the hidden units to the loss."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(6, activation="tanh")
        self.out = layers.Dense(2, activation="softmax")
        self.decoder = layers.Dense(5)

    def call(self, x):
        hidden = self.hidden(x)
        self.add_loss(0.1 * ops.mean(ops.square(self.decoder(hidden) - x)))
        return self.out(hidden)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + 0.01 * sum(ops.sum(ops.abs(w)) for w in self.hidden.trainable_variables[:1])


@program()
def reconstruction_beside_the_loss():
    model = WithReconstruction()
    model.compile(
        keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model, arguments()


class Denoiser(keras.Model):
    """Its loss needs no targets but the rows themselves."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(8, activation="relu")
        self.out = layers.Dense(5)

    def call(self, x):
        return self.out(self.hidden(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        losses = ops.mean(ops.square(x - y_pred), axis=-1)
        if sample_weight is not None:
            losses = losses * ops.reshape(sample_weight, (-1,))
        return ops.mean(losses)


@program()
def own_loss_without_targets():
    """`fit(x)` alone."""
    x, _ = table()
    model = Denoiser()
    model.compile(keras.optimizers.Adam(0.03))
    return model, {"x": x, "batch_size": 16, "epochs": 4, "shuffle": False}


@program()
def multi_label():
    x, _ = table()
    y = (x[:, :3] > 0).astype("float32")
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(3, activation="sigmoid")]
    )
    model.compile(
        keras.optimizers.Adam(0.03),
        keras.losses.BinaryFocalCrossentropy(),
        metrics=[keras.metrics.F1Score(threshold=0.5, average="micro")],
    )
    return model, arguments(y=y, sample_weight=np.linspace(0.5, 1.5, 50).astype("float32"))
