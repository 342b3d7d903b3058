"""A label for every token, in sequences of different length."""

import math

import keras
import numpy as np
from keras import layers, ops

from . import DROPOUT, SCALAR, STREAM, program
from ._synthetic import tokens

TAGS = 4


def sentences():
    """Rows without padding, and the tags of their tokens, from 1."""
    x, _ = tokens(length=7, vocabulary=12)
    rows = [row[row > 0] for row in x]
    return rows, [row % (TAGS - 1) + 1 for row in rows]


def padded():
    x, _ = tokens(length=7, vocabulary=12, rows=48)
    return x, np.where(x > 0, x % (TAGS - 1) + 1, 0)


def tagger(mask_zero=True, distributed=False):
    last = layers.Dense(TAGS, activation="softmax")
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(12, 4, mask_zero=mask_zero),
            layers.SimpleRNN(4, return_sequences=True),
            layers.TimeDistributed(last) if distributed else last,
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


@program()
def tags_with_masks_from_arrays():
    x, y = padded()
    return tagger(distributed=True), {
        "x": x,
        "y": y,
        "batch_size": 16,
        "epochs": 3,
        "shuffle": False,
    }


def padded_batches():
    import tensorflow as tf

    x, y = sentences()
    spec = tf.TensorSpec((None,), "int32")
    rows = tf.data.Dataset.from_generator(
        lambda: zip(x, y, strict=True), output_signature=(spec, spec)
    )
    return rows.apply(tf.data.experimental.assert_cardinality(50)).padded_batch(16)


@program(refused_ways=STREAM)
def tags_with_masks_from_padded_batches():
    """Batches are as long as their longest sentence."""
    return tagger(), {"x": padded_batches(), "epochs": 3}


@program(refused_ways=STREAM, warns=("pad",))
def tags_of_padded_batches_without_masks():
    """As above, but the padding is a token like others."""
    return tagger(mask_zero=False), {"x": padded_batches(), "epochs": 3}


class TaggerWithAttention(keras.Model):
    """A transformer for tags, subclassed, which works the mask out by itself."""

    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(12, 4)
        self.attention = layers.MultiHeadAttention(2, 4, use_bias=False)
        self.norm = layers.LayerNormalization()
        self.dropout = layers.Dropout(0.1)
        self.out = layers.Dense(TAGS, activation="softmax")

    def call(self, inputs, training=False):
        known = ops.not_equal(inputs, 0)
        x = self.embedding(inputs)
        seen = self.attention(x, x, attention_mask=known[:, None, :])
        return self.out(self.dropout(self.norm(x + seen), training=training))


class TokenLoss(keras.losses.Loss):
    """The loss of tokens that are not padding: a mean for each sentence."""

    def call(self, y_true, y_pred):
        known = ops.cast(ops.greater(y_true, 0), "float32")
        losses = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
        return ops.sum(losses * known, axis=-1) / ops.sum(known, axis=-1)


class MeanTokenLoss(TokenLoss):
    """One mean over all tokens of the batch: no loss of one sentence."""

    def call(self, y_true, y_pred):
        known = ops.cast(ops.greater(y_true, 0), "float32")
        losses = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
        return ops.sum(losses * known) / ops.sum(known)


@program(not_exact=DROPOUT)
def named_entities_with_an_own_masked_loss():
    x, y = padded()
    model = TaggerWithAttention()
    model.compile(keras.optimizers.Adam(0.03), TokenLoss())
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 3, "shuffle": False}


@program(refused=SCALAR)
def named_entities_with_a_mean_over_the_batch():
    x, y = padded()
    model = TaggerWithAttention()
    model.compile(keras.optimizers.Adam(0.03), MeanTokenLoss())
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 3, "shuffle": False}


class Bucketed(keras.utils.PyDataset):
    """Batches of sentences of about one length: short ones first, each batch as long as needed."""

    def __init__(self, rows, tags, batch_size, **kwargs):
        super().__init__(**kwargs)
        self.order = np.argsort([len(row) for row in rows], kind="stable")
        self.rows, self.tags, self.batch_size = rows, tags, batch_size

    def __len__(self):
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        length = max(len(self.rows[i]) for i in chosen)
        pad = keras.utils.pad_sequences
        x = pad([self.rows[i] for i in chosen], length, padding="post")
        return x, pad([self.tags[i] for i in chosen], length, padding="post")


@program(refused_ways=STREAM)
def buckets_of_different_length():
    batches = Bucketed(*sentences(), batch_size=16)
    return tagger(), {"x": batches, "epochs": 3, "shuffle": False}


@program(backends=("jax", "torch"), refused_ways=STREAM)
def loader_that_pads():
    """A DataLoader with a `collate_fn` for sentences of different length.

    On TensorFlow, Keras wants batches of a DataLoader to have the length of the first.
    """
    import torch

    x, y = sentences()

    def collate(pairs):
        pad = torch.nn.utils.rnn.pad_sequence
        return tuple(
            pad([torch.as_tensor(part) for part in parts], batch_first=True)
            for parts in zip(*pairs, strict=True)
        )

    loader = torch.utils.data.DataLoader(
        list(zip(x, y, strict=True)), batch_size=16, collate_fn=collate
    )
    return tagger(), {"x": loader, "epochs": 3}
