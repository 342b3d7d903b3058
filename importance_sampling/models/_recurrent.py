"""Recurrent networks: language models and classifiers of sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
from keras import layers

from ._dense import classifier

_SPARSE = "sparse_categorical_crossentropy"


def language_model(
    embedding: int, units: int, drop_rate: float = 0.0
) -> Callable[[Sequence[int], int], keras.Model]:
    """Two LSTM layers that predict the next word; inputs are words from 1 on, 0 for none.

    Args:
        embedding: int, size of a word's embedding.
        units: int, of each LSTM layer.
        drop_rate: float in [0, 1), dropout after each LSTM layer. Defaults to `0.0`.

    Returns:
        A function of `(input_shape, output_size)`, `(steps,)` and the number of words, that
        returns a compiled `keras.Model`.
    """

    def build(input_shape: Sequence[int], output_size: int) -> keras.Model:
        hidden: list[keras.Layer] = [layers.Embedding(output_size + 1, embedding, mask_zero=True)]
        for sequences in (True, False):
            hidden.append(layers.LSTM(units, return_sequences=sequences))
            if drop_rate:
                hidden.append(layers.Dropout(drop_rate))
        return classifier(input_shape, hidden, output_size, loss=_SPARSE)

    return build


def lstm_timit(input_shape: Sequence[int], output_size: int) -> keras.Model:
    """One LSTM of 256 units that names the last frame's phoneme.

    Args:
        input_shape: `(frames, features)`.
        output_size: int, number of classes.

    Returns:
        A `keras.Model`, compiled with Adam and cross-entropy of integer targets.
    """
    return classifier(input_shape, [layers.LSTM(256)], output_size, loss=_SPARSE)


def lstm_mnist(input_shape: Sequence[int], output_size: int) -> keras.Model:
    """One LSTM of 128 units that reads digits pixel by pixel.

    Args:
        input_shape: `(pixels, 1)`.
        output_size: int, number of classes.

    Returns:
        A `keras.Model`, compiled with Adam and categorical cross-entropy.
    """
    return classifier(input_shape, [layers.LSTM(128)], output_size)
