"""Connectionist temporal classification."""

import keras
import numpy as np
from keras import layers, ops

from . import program

CLASSES = 4


def recordings():
    """Spectra of three sounds each, padded targets from 1; class 0 is the blank."""
    rng = np.random.default_rng(0)
    y = rng.integers(1, CLASSES, (48, 3))
    y[::3, 2] = 0
    x = np.repeat(np.eye(CLASSES)[y], 3, axis=1) + 0.1 * rng.normal(size=(48, 9, CLASSES))
    return x.astype("float32"), y.astype("int32")


def recognizer(activation=None):
    return keras.Sequential(
        [
            keras.Input((9, CLASSES)),
            layers.Conv1D(6, 3, padding="same", activation="relu"),
            layers.Dense(CLASSES, activation=activation),
        ]
    )


@program()
def ctc_compiled():
    x, y = recordings()
    model = recognizer()
    model.compile(keras.optimizers.Adam(0.03), keras.losses.CTC())
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 3, "shuffle": False}


def ctc_loss(y_true, y_pred):
    """One loss per recording."""
    lengths = ops.sum(ops.cast(ops.not_equal(y_true, 0), "int32"), axis=-1)
    frames = ops.ones_like(lengths) * ops.shape(y_pred)[1]
    return ops.ctc_loss(y_true, y_pred, lengths, frames, mask_index=0)


@program()
def ctc_as_a_function():
    x, y = recordings()
    model = recognizer()
    model.compile(keras.optimizers.Adam(0.03), ctc_loss)
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 3, "shuffle": False}


class EndpointCTC(layers.Layer):
    """Takes the targets as an input and adds the loss itself."""

    def call(self, y_true, y_pred):
        self.add_loss(ops.mean(ctc_loss(y_true, y_pred)))
        return y_pred


@program(refused="compiled without a loss")
def ctc_as_an_endpoint_layer():
    """The model has no loss but what a layer adds, which belongs to no example."""
    x, y = recordings()
    sound = keras.Input((9, CLASSES), name="sound")
    label = keras.Input((3,), name="label", dtype="int32")
    model = keras.Model([sound, label], EndpointCTC()(label, recognizer()(sound)))
    model.compile(keras.optimizers.Adam(0.03))
    return model, {"x": [x, y], "y": y, "batch_size": 16, "epochs": 3, "shuffle": False}
