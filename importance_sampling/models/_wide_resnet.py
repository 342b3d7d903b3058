"""Wide residual networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from ..layers import LayerNormalization


def _decay() -> keras.regularizers.Regularizer:
    return keras.regularizers.L2(5e-4)


def _convolution(filters: int, kernel: int, strides: int = 1, decay: bool = True) -> keras.Layer:
    return layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_regularizer=_decay() if decay else None,
    )


def _normalized(x: Any) -> Any:
    return layers.Activation("relu")(LayerNormalization()(x))


def _block(x: Any, filters: int, strides: int, drop_rate: float) -> Any:
    y = _convolution(filters, 3, strides)(_normalized(x))
    if drop_rate:
        y = layers.Dropout(drop_rate)(y)
    y = _convolution(filters, 3)(_normalized(y))
    if x.shape != y.shape:
        x = _convolution(filters, 1, strides, decay=False)(x)
    return layers.add([x, y])


def wide_resnet(
    L: int, k: int, drop_rate: float = 0.0
) -> Callable[[Sequence[int], int], keras.Model]:
    """A wide residual network ([1605.07146](https://arxiv.org/abs/1605.07146)).

    Normalized by each sample's own statistics instead of the batch's, so that an example's score
    does not depend on what else is in its batch.

    Args:
        L: int, depth in layers, $6 n + 4$ with n blocks in each of three groups; any other is
            rounded down to the next such depth, with a warning.
        k: int, factor on the number of channels, 16, 32 and 64.
        drop_rate: float in [0, 1), dropout between the convolutions of a block. Defaults to
            `0.0`.

    Returns:
        A function of `(input_shape, output_size)` that returns a compiled model.

    Raises:
        ValueError: if there is no such network.
    """
    blocks, rest = divmod(L - 4, 6)
    if blocks < 0 or k < 1 or not 0 <= drop_rate < 1:
        raise ValueError(
            "Expected a depth L of at least 4 (4, 10, 16, 22, 28, ...), k of at least 1 and "
            f"drop_rate in [0, 1), got L={L!r}, k={k!r}, drop_rate={drop_rate!r}."
        )
    if rest:
        warnings.warn(
            f"A wide residual network has a depth of 4, 10, 16, 22, 28, ...: L={L} is rounded "
            f"down to {L - rest}.",
            stacklevel=2,
        )
    blocks = int(blocks)

    def build(input_shape: Sequence[int], output_size: int) -> keras.Model:
        inputs = keras.Input(tuple(input_shape))
        x = _convolution(16, 3)(inputs)
        for filters, strides in ((16, 1), (32, 2), (64, 2)):
            for block in range(blocks):
                x = _block(x, filters * k, strides if block == 0 else 1, drop_rate)
        x = layers.GlobalAveragePooling2D()(_normalized(x))
        x = layers.Dense(output_size, kernel_regularizer=_decay())(x)
        model = keras.Model(inputs, layers.Activation("softmax")(x))
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        return model

    return build
