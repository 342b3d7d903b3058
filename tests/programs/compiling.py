"""Precision, optimizers, learning rates and callbacks."""

import keras
import numpy as np
from keras import layers

from . import program
from ._synthetic import table


def network():
    inputs = keras.Input((5,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    # The outputs are float32 whatever the policy is, as the guide to mixed precision says.
    return keras.Model(inputs, layers.Dense(2, activation="softmax", dtype="float32")(hidden))


def arguments(**kwargs):
    x, y = table()
    return {"x": x, "y": y, "batch_size": 16, "epochs": 4, "shuffle": False} | kwargs


@program()
def mixed_float16():
    """Keras puts a LossScaleOptimizer around the optimizer by itself."""
    keras.config.set_dtype_policy("mixed_float16")
    model = network()
    model.compile(
        keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model, arguments()


@program()
def mixed_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = network()
    model.compile(
        keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model, arguments()


@program()
def learning_rate_schedule():
    model = network()
    rate = keras.optimizers.schedules.CosineDecay(0.0, 20, warmup_target=0.05, warmup_steps=3)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, global_clipnorm=1.0),
        "sparse_categorical_crossentropy",
    )
    return model, arguments(epochs=5)


@program()
def callbacks_that_change_the_rate():
    """A schedule by epoch, and one that waits for the validation loss."""
    model = network()
    model.compile(
        keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model, arguments(
        validation_split=0.2,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
            keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1),
            keras.callbacks.TerminateOnNaN(),
        ],
    )


@program()
def early_stopping():
    """Waits for what never comes, and so stops after the second epoch."""
    model = network()
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=100.0)
    return model, arguments(validation_split=0.2, epochs=6, callbacks=[stop])


@program()
def gradient_accumulation():
    model = network()
    optimizer = keras.optimizers.Adam(0.05, gradient_accumulation_steps=2, use_ema=True)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model, arguments()


@program()
def two_fits_in_a_row():
    """The second goes on at the epoch at which the first ended."""
    model = network()
    model.compile(
        keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )

    def more(model):
        return arguments(epochs=6, initial_epoch=3)

    return model, arguments(epochs=3), more


@program()
def eager():
    model = network()
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", run_eagerly=True)
    x, y = table(rows=40)
    return model, arguments(x=x, y=y, epochs=2)


@program()
def pandas_frame():
    """Columns by name, targets as a series."""
    import pandas as pd

    x, y = table()
    model = network()
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    frame = pd.DataFrame(x, columns=list("abcde"))
    return model, arguments(x=frame, y=pd.Series(y))


@program()
def weights_in_the_validation_data():
    x, y = table()
    model = network()
    model.compile(
        keras.optimizers.Adam(0.03),
        "sparse_categorical_crossentropy",
        weighted_metrics=["accuracy"],
    )
    weights = np.where(y, 2.0, 1.0)
    return model, arguments(
        x=x[:35],
        y=y[:35],
        sample_weight=weights[:35],
        validation_data=(x[35:], y[35:], weights[35:]),
    )
