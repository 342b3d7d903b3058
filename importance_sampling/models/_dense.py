"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers


def classifier(
    input_shape: Sequence[int],
    hidden: Sequence[keras.Layer],
    output_size: int,
    optimizer: str | keras.Optimizer = "adam",
    loss: str = "categorical_crossentropy",
) -> keras.Model:
    """Hidden layers and a softmax over classes, compiled.

    Args:
        input_shape: shape of one input.
        hidden: layers before the last; what they give is `(n, features)`.
        output_size: int, number of classes.
        optimizer: name or Keras optimizer. Defaults to `"adam"`.
        loss: str, name of a loss of class probabilities. Defaults to
            `"categorical_crossentropy"`, for one-hot targets.

    Returns:
        A compiled `keras.Model` that measures the accuracy.
    """
    model = keras.Sequential(
        [
            layers.Input(tuple(input_shape)),
            *hidden,
            layers.Dense(output_size),
            layers.Activation("softmax"),
        ]
    )
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def small_nn(input_shape: Sequence[int], output_size: int) -> keras.Model:
    """Two hidden layers of 40 units, for points in the plane.

    Args:
        input_shape: shape of one input, `(2,)` for example.
        output_size: int, number of classes.

    Returns:
        A `keras.Model`, compiled with Adam and categorical cross-entropy.
    """
    hidden = [layers.Dense(40, activation="tanh"), layers.Dense(40, activation="tanh")]
    return classifier(input_shape, hidden, output_size)


def svrg_nn(input_shape: Sequence[int], output_size: int) -> keras.Model:
    """One hidden layer of 100 units, as papers on variance reduction train on MNIST.

    Args:
        input_shape: shape of one input, which is made flat.
        output_size: int, number of classes.

    Returns:
        A `keras.Model`, compiled with Adam and categorical cross-entropy.
    """
    hidden = [layers.Flatten(), layers.Dense(100, activation="tanh")]
    return classifier(input_shape, hidden, output_size)


def logistic_regression(input_shape: Sequence[int], output_size: int) -> keras.Model:
    """No hidden layer: the softmax of a linear function of the inputs.

    Args:
        input_shape: shape of one input, which is made flat.
        output_size: int, number of classes.

    Returns:
        A `keras.Model`, compiled with Adam and categorical cross-entropy.
    """
    return classifier(input_shape, [layers.Flatten()], output_size)
