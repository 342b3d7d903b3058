"""Time series."""

import keras
import numpy as np
from keras import layers

from . import DROPOUT, STREAM, program
from ._synthetic import waves


@program()
def timeseries_convolutions():
    x, y = waves(rows=40)
    inputs = keras.Input((16, 1))
    hidden = inputs
    for _ in range(2):
        hidden = layers.Conv1D(4, 3, padding="same", use_bias=False)(hidden)
        hidden = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(hidden))
    hidden = layers.GlobalAveragePooling1D()(hidden)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(hidden))
    model.compile(
        keras.optimizers.Adam(0.03),
        "sparse_categorical_crossentropy",
        metrics=["sparse_categorical_accuracy"],
    )
    return model, {
        "x": x,
        "y": y,
        "batch_size": 16,
        "epochs": 4,
        "shuffle": False,
        "validation_split": 0.2,
        "callbacks": [
            keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=20, min_lr=1e-4),
            keras.callbacks.EarlyStopping("val_loss", patience=50),
        ],
    }


@program(not_exact=DROPOUT)
def timeseries_transformer():
    x, y = waves(rows=48)
    inputs = keras.Input((16, 1))
    seen = layers.MultiHeadAttention(2, 4, dropout=0.1, use_bias=False)(inputs, inputs)
    hidden = layers.LayerNormalization(epsilon=1e-6)(layers.Dropout(0.1)(seen)) + inputs
    wide = layers.Conv1D(4, 3, activation="relu")(hidden)
    pooled = layers.GlobalAveragePooling1D(data_format="channels_last")(wide)
    hidden = layers.Dense(8, activation="relu")(pooled)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(hidden))
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 4, "shuffle": False}


@program(refused_ways=STREAM)
def lstm_forecast():
    """The next value from windows that `timeseries_dataset_from_array` cuts."""
    t = np.arange(60)
    series = np.stack([np.sin(t / 3), np.cos(t / 5)], axis=1).astype("float32")
    windows = keras.utils.timeseries_dataset_from_array(
        series[:-6], series[6:, :1], sequence_length=6, batch_size=16
    )
    inputs = keras.Input((6, 2))
    model = keras.Model(inputs, layers.Dense(1)(layers.LSTM(6)(inputs)))
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model, {"x": windows, "epochs": 4}


@program(not_exact=DROPOUT)
def anomalies_by_reconstruction():
    """A convolutional autoencoder of windows; stops early."""
    x, _ = waves()
    model = keras.Sequential(
        [
            keras.Input((16, 1)),
            layers.Conv1D(4, 4, strides=2, padding="same", activation="relu"),
            layers.Dropout(0.1),
            layers.Conv1DTranspose(4, 4, strides=2, padding="same", activation="relu"),
            layers.Conv1DTranspose(1, 3, padding="same"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model, {
        "x": x,
        "y": x,
        "epochs": 4,
        "batch_size": 16,
        "shuffle": False,
        "validation_split": 0.1,
        "callbacks": [keras.callbacks.EarlyStopping("val_loss", patience=5, mode="min")],
    }
