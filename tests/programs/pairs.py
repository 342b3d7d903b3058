"""Losses over pairs: of two inputs, or of all examples of a batch."""

import keras
import numpy as np
from keras import layers, ops

from . import SCALAR, WHOLE_BATCH, program
from ._synthetic import images, table


def contrastive(margin=1.0):
    """A loss for distances: small for pairs of the same class, else above the margin."""

    def contrastive_loss(y_true, y_pred):
        apart = ops.square(ops.maximum(margin - y_pred, 0))
        return ops.mean((1 - y_true) * ops.square(y_pred) + y_true * apart, axis=-1)

    return contrastive_loss


class Distance(layers.Layer):
    """Euclidean distance of two vectors."""

    def call(self, vectors):
        one, two = vectors
        squares = ops.sum(ops.square(one - two), axis=1, keepdims=True)
        return ops.sqrt(ops.maximum(squares, keras.config.epsilon()))


def siamese_with(loss):
    x, y = images(size=8, rows=96)
    inner = keras.Input((8, 8, 1))
    hidden = layers.Flatten()(layers.AveragePooling2D(2)(layers.BatchNormalization()(inner)))
    embedding = keras.Model(inner, layers.Dense(4, activation="tanh")(hidden))
    left, right = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    distance = layers.BatchNormalization()(Distance()([embedding(left), embedding(right)]))
    model = keras.Model([left, right], layers.Dense(1, activation="sigmoid")(distance))
    model.compile(keras.optimizers.RMSprop(0.02), loss, metrics=["accuracy"])
    unlike = (y[:48] != y[48:]).astype("float32")
    return model, {
        "x": [x[:48, ..., None], x[48:, ..., None]],
        "y": unlike,
        "epochs": 4,
        "batch_size": 16,
        "shuffle": False,
    }


@program()
def siamese():
    return siamese_with(contrastive())


@program(refused=SCALAR)
def siamese_with_a_scalar_loss():
    """The mean over all pairs leaves no loss of one."""
    each = contrastive()
    return siamese_with(lambda y_true, y_pred: ops.mean(each(y_true, y_pred)))


class SupervisedContrastive(keras.losses.Loss):
    """Examples of one class are drawn together and away from all others of the batch."""

    def call(self, y_true, y_pred):
        vectors = ops.normalize(y_pred, axis=1)
        logits = ops.matmul(vectors, ops.transpose(vectors)) / 0.5
        labels = ops.reshape(y_true, (-1, 1))
        same = ops.cast(ops.equal(labels, ops.transpose(labels)), logits.dtype)
        same = same / ops.sum(same, axis=1, keepdims=True)
        return keras.losses.categorical_crossentropy(same, logits, from_logits=True)


@program(refused=WHOLE_BATCH)
def supervised_contrastive():
    x, y = table()
    model = keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(4)])
    model.compile(keras.optimizers.Adam(0.02), SupervisedContrastive())
    return model, {"x": x, "y": y, "epochs": 4, "batch_size": 16, "shuffle": False}


class TwoTowers(keras.Model):
    """Finds the item of each user among the items of all users of the batch."""

    def __init__(self, users, items):
        super().__init__()
        self.users = layers.Embedding(users, 4)
        self.items = layers.Embedding(items, 4)

    def call(self, inputs):
        return {"user": self.users(inputs["user"]), "item": self.items(inputs["item"])}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        scores = ops.matmul(y_pred["user"], ops.transpose(y_pred["item"]))
        labels = ops.arange(ops.shape(scores)[0])
        losses = keras.losses.sparse_categorical_crossentropy(labels, scores, from_logits=True)
        if sample_weight is not None:
            losses = losses * ops.reshape(sample_weight, (-1,))
        return ops.mean(losses)


@program(refused=WHOLE_BATCH)
def two_tower_retrieval():
    rng = np.random.default_rng(0)
    user = rng.integers(0, 12, 50)
    model = TwoTowers(12, 6)
    model.compile(keras.optimizers.Adagrad(0.5))
    x = {"user": user, "item": user % 6}
    return model, {
        "x": x,
        "y": np.ones((50, 1), "float32"),
        "epochs": 5,
        "batch_size": 16,
        "shuffle": False,
    }
