"""Plain convolutional networks for small images."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

from ..backend.base import Tensor
from ..layers import BatchRenormalization
from ._dense import classifier


def _pooled(*filters: int) -> list[keras.Layer]:
    convolutions = [layers.Conv2D(n, 3, padding="same", activation="relu") for n in filters]
    return [*convolutions, layers.MaxPooling2D(2)]


def small_cnn(input_shape: Sequence[int], output_size: int) -> keras.Model:
    """Four convolutions of 32 and 64 channels and two hidden layers of 512 units.

    Args:
        input_shape: height, width and channels of an image.
        output_size: int, number of classes.

    Returns:
        A `keras.Model`, compiled with Adam and categorical cross-entropy.
    """
    hidden = [*_pooled(32, 32), *_pooled(64, 64), layers.Flatten()]
    hidden += [layers.Dense(512, activation="relu"), layers.Dense(512, activation="relu")]
    return classifier(input_shape, hidden, output_size)


@keras.saving.register_keras_serializable("importance_sampling")
def squared_categorical_crossentropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """The square of each example's cross-entropy.

    Args:
        y_true: `(n, classes)` one-hot targets.
        y_pred: `(n, classes)` probabilities.

    Returns:
        `(n,)`.
    """
    return ops.square(keras.losses.categorical_crossentropy(y_true, y_pred))


def small_cnn_sq(input_shape: Sequence[int], output_size: int) -> keras.Model:
    """`small_cnn` with squared cross-entropy, under which hard examples count for more.

    Args:
        input_shape: height, width and channels of an image.
        output_size: int, number of classes.

    Returns:
        A `keras.Model`, compiled with Adam and
        `squared_categorical_crossentropy`.
    """
    model = small_cnn(input_shape, output_size)
    model.compile("adam", squared_categorical_crossentropy, metrics=["accuracy"])
    return model


def _renormalized(filters: int, kernel: int = 3, strides: int = 1) -> list[keras.Layer]:
    return [
        layers.Conv2D(filters, kernel, strides=strides, padding="same", activation="relu"),
        BatchRenormalization(),
    ]


def cnn(input_shape: Sequence[int], output_size: int) -> keras.Model:
    """Six convolutions of 64 to 256 channels with batch renormalization and dropout.

    Args:
        input_shape: height, width and channels of an image.
        output_size: int, number of classes.

    Returns:
        A `keras.Model`, compiled with Adam and categorical cross-entropy.
    """
    hidden: list[keras.Layer] = []
    for filters in (64, 128, 256):
        hidden += [*_renormalized(filters), *_renormalized(filters)]
        hidden += [layers.MaxPooling2D(2), layers.Dropout(0.25)]
    hidden.append(layers.Flatten())
    for units in (1024, 512):
        hidden += [layers.Dense(units, activation="relu"), layers.Dropout(0.5)]
    return classifier(input_shape, hidden, output_size)


def _momentum() -> keras.Optimizer:
    return keras.optimizers.SGD(momentum=0.9)


def all_conv(input_shape: Sequence[int], output_size: int) -> keras.Model:
    """Convolutions only, near the "All-CNN" of [1412.6806](https://arxiv.org/abs/1412.6806).

    Args:
        input_shape: height, width and channels of an image.
        output_size: int, number of classes.

    Returns:
        A `keras.Model`, compiled with momentum (SGD) and categorical cross-entropy.
    """
    stack: list[keras.Layer] = []
    for filters in (96, 192):
        stack += [*_renormalized(filters), *_renormalized(filters)]
        stack += [*_renormalized(filters, strides=2), layers.Dropout(0.25)]
    stack += [*_renormalized(192, kernel=1), layers.Dropout(0.25)]
    return _averaged(input_shape, stack, output_size, activation="relu")


def elu_cnn(input_shape: Sequence[int], output_size: int) -> keras.Model:
    """Eighteen convolutions with ELU, near the network of
    [1511.07289](https://arxiv.org/abs/1511.07289).

    Args:
        input_shape: height, width and channels of an image, at least 32 x 32.
        output_size: int, number of classes.

    Returns:
        A `keras.Model`, compiled with momentum (SGD) and categorical cross-entropy.
    """
    # (how many, channels, kernel) of each group between poolings
    groups = [
        [(1, 384, 3)],
        [(1, 384, 1), (1, 384, 2), (2, 640, 2)],
        [(1, 640, 1), (3, 768, 2)],
        [(1, 768, 1), (2, 896, 2)],
        [(1, 896, 3), (2, 1024, 2)],
    ]
    stack: list[keras.Layer] = [layers.Conv2D(384, 3, padding="same")]
    for group in groups:
        for count, channels, kernel in group:
            for _ in range(count):
                stack += [layers.Conv2D(channels, kernel, padding="same"), layers.ELU()]
        stack.append(layers.MaxPooling2D(2))
    return _averaged(input_shape, stack, output_size)


def _averaged(
    input_shape: Sequence[int],
    stack: list[keras.Layer],
    output_size: int,
    activation: str | None = None,
) -> keras.Model:
    """Class maps averaged over the image, softmax, momentum."""
    model = keras.Sequential(
        [
            layers.Input(tuple(input_shape)),
            *stack,
            layers.Conv2D(output_size, 1, padding="same", activation=activation),
            layers.GlobalAveragePooling2D(),
            layers.Activation("softmax"),
        ]
    )
    model.compile(_momentum(), "categorical_crossentropy", metrics=["accuracy"])
    return model
