"""Texts as arrays of integers."""

import keras
import numpy as np
from keras import layers, ops

from . import DROPOUT, program
from ._synthetic import tokens


@program()
def bidirectional_lstm():
    x, y = tokens(rows=48)
    inputs = keras.Input((None,), dtype="int32")
    hidden = layers.Embedding(20, 4)(inputs)
    hidden = layers.Bidirectional(layers.LSTM(3))(hidden)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
    return model, {
        "x": x,
        "y": y,
        "batch_size": 16,
        "epochs": 4,
        "shuffle": False,
    }


class TokensAndPositions(layers.Layer):
    """What a token is and where it stands."""

    def __init__(self, length, vocabulary, width):
        super().__init__()
        self.tokens = layers.Embedding(vocabulary, width)
        self.positions = layers.Embedding(length, width)

    def call(self, x):
        return self.tokens(x) + self.positions(ops.arange(ops.shape(x)[-1]))


class TransformerBlock(layers.Layer):
    """Attention, then a small network, each with dropout and around each a shortcut."""

    def __init__(self, width, heads, rate=0.1, causal=False):
        super().__init__()
        self.causal = causal
        self.attention = layers.MultiHeadAttention(heads, width, use_bias=False)
        self.network = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(width)])
        self.norm1 = layers.LayerNormalization(epsilon=1e-6)
        self.norm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, x, training=None):
        seen = self.attention(x, x, use_causal_mask=self.causal)
        x = self.norm1(x + self.dropout1(seen, training=training))
        return self.norm2(x + self.dropout2(self.network(x), training=training))


@program(not_exact=DROPOUT)
def transformer_text():
    x, _ = tokens(rows=48)
    y = (x[:, 5] > 0).astype("int64")
    inputs = keras.Input((8,), dtype="int32")
    hidden = TransformerBlock(4, 2)(TokensAndPositions(8, 20, 4)(inputs))
    hidden = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(hidden))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(hidden))
    model.compile(
        keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 4, "shuffle": False}


@program(not_exact=DROPOUT)
def causal_language_model():
    """The next token at every place; the second output is for those who look inside."""
    # Keras 3.15 takes the targets of two rows for those of two outputs: no batch has two.
    start = np.random.default_rng(0).integers(1, 9, (48, 1))
    x = (start + np.arange(7)) % 9
    inputs = keras.Input((6,), dtype="int32")
    hidden = TransformerBlock(4, 2, causal=True)(TokensAndPositions(6, 9, 4)(inputs))
    model = keras.Model(inputs, [layers.Dense(9)(hidden), hidden])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss=[loss, None])
    return model, {
        "x": x[:, :-1].astype("int32"),
        "y": x[:, 1:],
        "batch_size": 16,
        "epochs": 3,
        "shuffle": False,
    }


@program()
def sequence_to_sequence():
    """Characters in, characters out; the decoder is given the right ones before."""
    rng = np.random.default_rng(0)
    source = rng.integers(1, 5, (48, 4))
    target = np.concatenate([np.zeros((48, 1), int), source[:, ::-1]], axis=1)
    one_hot = np.eye(5, dtype="float32")
    encoder_inputs = keras.Input((None, 5))
    _, *states = layers.LSTM(6, return_state=True)(encoder_inputs)
    decoder_inputs = keras.Input((None, 5))
    decoder = layers.LSTM(6, return_sequences=True, return_state=True)
    outputs, _, _ = decoder(decoder_inputs, initial_state=states)
    model = keras.Model(
        [encoder_inputs, decoder_inputs], layers.Dense(5, activation="softmax")(outputs)
    )
    model.compile(keras.optimizers.RMSprop(0.02), "categorical_crossentropy", metrics=["accuracy"])
    return model, {
        "x": [one_hot[source], one_hot[target[:, :-1]]],
        "y": one_hot[target[:, 1:]],
        "batch_size": 16,
        "epochs": 3,
        "shuffle": False,
    }
