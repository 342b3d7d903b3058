"""Small networks, data and reference formulas in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from importance_sampling.datasets import InMemoryDataset
from importance_sampling.model_wrappers import OracleWrapper
from importance_sampling.proposal import Kind, Proposal, StepRecord
from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers.compatibility import GivenScores

CLASSES = 4
FEATURES = 6


def data(n=24, classes=CLASSES, seed=0, noise=0.1):
    """Rows that two of the features tell apart, with a share of labels drawn at random."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, FEATURES)).astype("float32")
    y = (2 * (x[:, 0] > 0) + (x[:, 1] > 0)) % classes
    flip = rng.random(n) < noise
    return x, np.where(flip, rng.integers(0, classes, n), y).astype("int64")


def mlp(activation="softmax", units=CLASSES, separate=False, **compile_arguments):
    """tanh network; `separate` puts the last activation into a layer of its own."""
    last = [layers.Dense(units, activation=None if separate else activation)]
    if separate:
        last.append(layers.Activation(activation))
    model = keras.Sequential([layers.Input((FEATURES,)), layers.Dense(8, activation="tanh"), *last])
    arguments = {"optimizer": "sgd", "loss": "sparse_categorical_crossentropy"}
    model.compile(**arguments | compile_arguments)
    return model


def adam_mlp(rate=0.01, **kwargs):
    return mlp(optimizer=keras.optimizers.Adam(rate), metrics=["accuracy"], **kwargs)


def oracle(model, score="gnorm", layer=None, k=1.0):
    return OracleWrapper(model, BiasedReweightingPolicy(k), score=score, layer=layer)


def predict(model, x):
    return ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False)).astype("float64")


def forward64(weights, x):
    """Hidden activations and last pre-activations of `mlp`, in float64."""
    w1, b1, w2, b2 = (w.astype("float64") for w in weights)
    hidden = np.tanh(x.astype("float64") @ w1 + b1)
    return hidden, hidden @ w2 + b2


def softmax64(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def one_hot(y, classes=CLASSES):
    return np.eye(classes)[y]


def full_norm64(weights, x, delta):
    """Exact gradient norms over all weights of `mlp`, from d loss / d pre-activation."""
    hidden, _ = forward64(weights, x)
    w2 = weights[2].astype("float64")
    back = (delta @ w2.T) * (1 - hidden**2)
    x = x.astype("float64")
    squares = (delta**2).sum(1) * ((hidden**2).sum(1) + 1)
    squares += (back**2).sum(1) * ((x**2).sum(1) + 1)
    return np.sqrt(squares)


def check_like_numpy(view):
    """What an index selects is what numpy selects from all rows."""
    every_x, every_y = view[:]
    parts = every_x if isinstance(every_x, list) else [every_x]
    n = len(view)
    mask = np.arange(n) % 2 == 0
    for idx in (0, -1, slice(1, None), slice(None, None, -2), [n - 1, 0], [-1], mask, []):
        x, y = view[idx]
        select = np.asarray(idx, int) if isinstance(idx, list) else idx
        np.testing.assert_array_equal(y, every_y[select])
        for got, part in zip(x if isinstance(x, list | tuple) else [x], parts, strict=True):
            np.testing.assert_array_equal(got, part[select])
    for wrong in (n, -n - 1, [0, n]):
        with pytest.raises(IndexError, match=f"has {n} rows"):
            view[wrong]


class Scorer:
    """Scores of its own for each of the `numbered` examples; counts how many it was asked for."""

    def __init__(self, scores):
        self.scores = scores
        self.asked = 0

    def score(self, x, y, batch_size=128):
        self.asked += len(x)
        return self.scores[x[:, 0].astype(int)]


def numbered(n):
    """Examples whose only feature is their index."""
    x = np.arange(n, dtype="float32")[:, None]
    return InMemoryDataset(x, np.arange(n) % 3, x[:3], np.arange(3), categorical=False)


def fixed_draw(importance, scored=True):
    """A draw of four examples, of a scored or reused pool or uniform."""
    if not importance:
        return Proposal(np.arange(4), (), np.ones((4, 1)))
    pool_scores = np.ones(8) if scored else None
    weights = np.ones((4, 1))
    return Proposal(np.arange(4), (), weights, np.ones(4), kind=Kind.POOL, pool_scores=pool_scores)


class _Unread:
    """The outcome of a step whose scores nobody may read."""

    logs = {}

    @property
    def scores(self):
        raise AssertionError("scores of a step whose proposal says that they are not read")


def observe(sampler, proposal, scores=None, seconds=float("nan")):
    """Tells a sampler of a step; scores of None may not be read."""
    outcome = _Unread() if scores is None else GivenScores(np.asarray(scores))
    sampler.observe(StepRecord(proposal, outcome, seconds=seconds))
