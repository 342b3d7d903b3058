"""Rows of a table."""

import keras
import numpy as np
from keras import layers, ops

from . import DROPOUT, FALLBACK, program
from ._synthetic import table


@program(not_exact=DROPOUT)
def imbalanced_classes():
    """One row in ten is positive; `class_weight` makes up for it."""
    x, _ = table(rows=90)
    y = (x[:, 0] > 1.0).astype("float32")[:, None]
    normal = layers.Normalization()
    normal.adapt(x)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            normal,
            layers.Dense(8, activation="relu"),
            layers.Dropout(0.1),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.02),
        "binary_crossentropy",
        metrics=[
            keras.metrics.FalseNegatives(name="fn"),
            keras.metrics.TruePositives(name="tp"),
            keras.metrics.Precision(name="precision"),
            keras.metrics.AUC(name="auc"),
        ],
    )
    positive = float(y.mean())
    return model, {
        "x": x,
        "y": y,
        "batch_size": 32,
        "epochs": 4,
        "shuffle": False,
        "class_weight": {0: 0.5 / (1 - positive), 1: 0.5 / positive},
        "validation_data": (x[:20], y[:20]),
    }


@program()
def regression_with_sample_weight():
    x, _ = table()
    y = (x @ np.arange(5) + 1).astype("float32")
    model = keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(1)])
    model.compile(
        keras.optimizers.Adam(0.05),
        "huber",
        metrics=["mae"],
        weighted_metrics=[keras.metrics.RootMeanSquaredError(name="rmse")],
    )
    return model, {
        "x": x,
        "y": y,
        "sample_weight": np.linspace(0.1, 2, 50).astype("float32"),
        "batch_size": 16,
        "epochs": 4,
        "shuffle": False,
        "validation_split": 0.2,
    }


class NeuralDecisionTree(layers.Layer):
    """Routes each row through a tree whose branches are learnt, to a class at every leaf."""

    def __init__(self, depth, share, classes):
        super().__init__()
        self.depth, self.share, self.classes = depth, share, classes
        self.decide = layers.Dense(2**depth, activation="sigmoid")

    def build(self, shape):
        rng = np.random.default_rng(shape[-1])
        used = rng.choice(shape[-1], int(shape[-1] * self.share), replace=False)
        self.mask = np.eye(shape[-1], dtype="float32")[used]
        self.leaves = self.add_weight(shape=(2**self.depth, self.classes))
        self.decide.build((None, len(used)))

    def call(self, features):
        features = ops.matmul(features, ops.transpose(ops.convert_to_tensor(self.mask)))
        right = ops.expand_dims(self.decide(features), axis=2)
        ways = ops.concatenate([right, 1 - right], axis=2)
        reached = ops.ones_like(right[:, :1, :1])
        first, last = 1, 2
        for _ in range(self.depth):
            reached = ops.tile(ops.reshape(reached, (-1, last - first, 1)), (1, 1, 2))
            reached = reached * ways[:, first:last, :]
            first, last = last, last + 2 * (last - first)
            reached = ops.reshape(reached, (-1, last - first, 1))
        reached = ops.reshape(reached, (-1, 2**self.depth))
        return ops.matmul(reached, ops.softmax(self.leaves))


@program(warns=(FALLBACK,))
def neural_decision_tree():
    x, y = table()
    inputs = {name: keras.Input((1,), name=name) for name in "abcde"}
    features = layers.BatchNormalization(momentum=0.5)(layers.concatenate(list(inputs.values())))
    model = keras.Model(inputs, NeuralDecisionTree(2, 0.9, 2)(features))
    model.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(),
        metrics=["sparse_categorical_accuracy"],
    )
    columns = {name: x[:, i : i + 1] for i, name in enumerate("abcde")}
    return model, {"x": columns, "y": y, "batch_size": 16, "epochs": 4, "shuffle": False}


class AverageOf(layers.Layer):
    """The mean of what several layers say."""

    def __init__(self, members):
        super().__init__()
        self.members = members

    def call(self, x):
        return sum(member(x) for member in self.members) / len(self.members)


@program(warns=(FALLBACK,))
def neural_decision_forest():
    x, y = table()
    trees = [NeuralDecisionTree(2, share, 2) for share in (0.8, 0.6)]
    model = keras.Sequential([keras.Input((5,)), AverageOf(trees)])
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy())
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 4, "shuffle": False}


class Recommender(keras.Model):
    """How users rate films, by the product of what is learnt of both."""

    def __init__(self, users, films, width):
        super().__init__()
        regular = keras.regularizers.l2(1e-6)
        self.user = layers.Embedding(users, width, embeddings_regularizer=regular)
        self.user_bias = layers.Embedding(users, 1)
        self.film = layers.Embedding(films, width, embeddings_regularizer=regular)
        self.film_bias = layers.Embedding(films, 1)

    def call(self, inputs):
        user, film = inputs[:, 0], inputs[:, 1]
        match = ops.sum(self.user(user) * self.film(film), axis=1, keepdims=True)
        return ops.sigmoid(match + self.user_bias(user) + self.film_bias(film))


@program(warns=(FALLBACK,))
def recommender():
    rng = np.random.default_rng(0)
    x = np.stack([rng.integers(0, 10, 50), rng.integers(0, 8, 50)], axis=1)
    y = ((x[:, 0] + x[:, 1]) % 5 / 4).astype("float32")
    model = Recommender(10, 8, 4)
    model.compile(keras.optimizers.Adam(0.05), keras.losses.BinaryCrossentropy())
    return model, {
        "x": x,
        "y": y,
        "batch_size": 16,
        "epochs": 8,
        "shuffle": False,
        "validation_split": 0.1,
    }


class GraphAttention(layers.Layer):
    """One head: neighbours speak as loud as the pair of states says."""

    def __init__(self, units):
        super().__init__()
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), initializer="glorot_uniform")
        self.attention = self.add_weight(shape=(2 * self.units, 1), initializer="glorot_uniform")

    def call(self, states, edges):
        states = ops.matmul(states, self.kernel)
        ends = ops.reshape(ops.take(states, edges, axis=0), (edges.shape[0], -1))
        loud = ops.exp(ops.clip(ops.leaky_relu(ops.matmul(ends, self.attention)), -2, 2))
        target, nodes = edges[:, 0], states.shape[0]
        total = ops.segment_sum(loud, target, num_segments=nodes)
        heard = loud / ops.take(total, target, axis=0) * ops.take(states, edges[:, 1], axis=0)
        return ops.segment_sum(heard, target, num_segments=nodes)


class GraphNetwork(keras.Model):
    """Classes of nodes; the whole graph is part of the model, the rows are indices of nodes."""

    def __init__(self, states, edges, classes):
        super().__init__()
        self.states, self.edges = states, edges
        self.before = layers.Dense(8, activation="relu")
        self.attend = GraphAttention(8)
        self.out = layers.Dense(classes)

    def call(self, indices):
        states = self.before(ops.convert_to_tensor(self.states))
        states = self.attend(states, ops.convert_to_tensor(self.edges)) + states
        return self.out(ops.take(states, ops.reshape(indices, (-1,)), axis=0))


def graph():
    """States, edges in both directions and with itself, and classes of 50 nodes."""
    rng = np.random.default_rng(0)
    states, y = table(columns=4)
    pairs = rng.integers(0, 50, (80, 2))
    itself = np.repeat(np.arange(50)[:, None], 2, axis=1)
    edges = np.concatenate([pairs, pairs[:, ::-1], itself]).astype("int32")
    return states, edges, y


@program()
def graph_attention():
    states, edges, y = graph()
    model = GraphNetwork(states, edges, 2)
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("acc")],
    )
    return model, {
        "x": np.arange(50, dtype="int32"),
        "y": y,
        "batch_size": 16,
        "epochs": 4,
        "shuffle": False,
    }
