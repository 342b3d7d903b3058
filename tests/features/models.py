"""Kinds of models."""

import keras
import numpy as np
from helpers import CLASSES, FEATURES, data, mlp, oracle
from keras import layers, ops

from . import works

LOSS = "sparse_categorical_crossentropy"


def head():
    return layers.Dense(CLASSES, activation="softmax")


def sequential(*middle, **kwargs):
    net = keras.Sequential([layers.Input((FEATURES,)), *middle, head()])
    net.compile(**{"optimizer": keras.optimizers.Adam(0.01), "loss": LOSS} | kwargs)
    return net


def scores_are_gradients(cell, net, x, y):
    """The last layer was found: the score is the norm of p - y."""
    if cell.main:
        p = net.predict(x, verbose=0)
        expected = np.linalg.norm(p - np.eye(p.shape[1])[y], axis=1)
        np.testing.assert_allclose(oracle(net).score(x, y), expected, rtol=1e-3, atol=1e-5)


@works("Unbuilt models", "built on the first rows, as in Keras")
def unbuilt(cell):
    x, y = data(48)
    net = keras.Sequential([layers.Dense(8, activation="relu"), head()])
    net.compile("adam", LOSS)
    cell.fit(net, x, y)
    assert net.built


@works("Frozen layers")
def frozen(cell):
    x, y = data(48)
    net = mlp()
    net.layers[0].trainable = False
    net.compile("adam", LOSS)
    before = net.layers[0].get_weights()
    cell.fit(net, x, y)
    for a, b in zip(before, net.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@works("BatchNormalization", "scoring a pool does not move its statistics", everywhere=True)
def batch_normalization(cell):
    x, y = data(64)
    normal = layers.BatchNormalization(momentum=0.5)
    net = sequential(normal)
    cell.fit(net, x + 3, y)
    moved = normal.get_weights()[2]
    assert np.abs(moved - 3).max() < 2.5
    cell.wrap(net).model.score(x - 50, y)
    np.testing.assert_array_equal(moved, normal.get_weights()[2])


@works("Dropout and noise", "active in the step, not when a pool is scored", everywhere=True)
def dropout(cell):
    x, y = data(64)
    net = sequential(layers.Dropout(0.5, seed=1), layers.GaussianNoise(0.1, seed=2))
    cell.fit(net, x, y)
    wrapper = cell.wrap(net).model
    np.testing.assert_array_equal(wrapper.score(x, y), wrapper.score(x, y))


@works("SpectralNormalization", "its own state is updated by the steps")
def spectral(cell):
    x, y = data(48)
    layer = layers.SpectralNormalization(layers.Dense(8, activation="relu"))
    net = sequential(layer)
    before = [ops.convert_to_numpy(v) for v in layer.non_trainable_variables]
    cell.fit(net, x, y)
    after = [ops.convert_to_numpy(v) for v in layer.non_trainable_variables]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


@works("Integer inputs", "`Embedding`, `IntegerLookup` outside the model")
def integer_inputs(cell):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 20, (64, 5))
    y = (x[:, 0] % CLASSES).astype("int64")
    net = keras.Sequential(
        [layers.Input((5,), dtype="int32"), layers.Embedding(20, 8), layers.Flatten(), head()]
    )
    net.compile(keras.optimizers.Adam(0.05), LOSS)
    history = cell.fit(net, x, y, epochs=5)
    assert history["loss"][-1] < history["loss"][0]


@works("LSTM with masking", "masked steps neither score nor count", everywhere=True)
def lstm(cell):
    rng = np.random.default_rng(0)
    x = rng.integers(1, 9, (48, 6))
    x[:24, 3:] = 0
    y = (x[:, 0] % 3).astype("int64")
    net = keras.Sequential(
        [
            layers.Input((6,)),
            layers.Embedding(9, 4, mask_zero=True),
            layers.LSTM(6),
            layers.Dense(3, activation="softmax"),
        ]
    )
    net.compile("adam", LOSS)
    cell.fit(net, x, y)
    other = x.copy()
    other[:24, 3:] = 0
    np.testing.assert_allclose(
        cell.wrap(net).model.score(x, y), cell.wrap(net).model.score(other, y), rtol=1e-5
    )


@works("Attention")
def attention(cell):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 5, 4)).astype("float32")
    y = (x[:, 0, 0] > 0).astype("int64")
    inputs = keras.Input((5, 4))
    seen = layers.MultiHeadAttention(2, 3)(inputs, inputs)
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(seen + inputs))
    net = keras.Model(inputs, layers.Dense(2, activation="softmax")(pooled))
    net.compile("adam", LOSS)
    cell.fit(net, x, y)
    scores_are_gradients(cell, net, x, y)


@works("Convolutions")
def convolutions(cell):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 8, 8, 1)).astype("float32")
    y = (x.mean((1, 2, 3)) > 0).astype("int64")
    net = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    net.compile("adam", LOSS)
    cell.fit(net, x, y)
    scores_are_gradients(cell, net, x, y)


@works("Models in models", "to any depth; the last layer is found inside")
def nested(cell):
    x, y = data(48)
    inner = keras.Sequential([layers.Input((FEATURES,)), layers.Dense(8, activation="relu")])
    top = keras.Sequential([layers.Input((8,)), keras.Sequential([layers.Input((8,)), head()])])
    inputs = keras.Input((FEATURES,))
    net = keras.Model(inputs, top(inner(inputs)))
    net.compile("adam", LOSS)
    before = inner.get_weights()[0]
    cell.fit(net, x, y)
    assert (before != inner.get_weights()[0]).any()
    scores_are_gradients(cell, net, x, y)


@works("Fine-tuning on `keras.applications`")
def applications(cell):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 2, 16)
    base = keras.applications.MobileNet(
        (32, 32, 3), alpha=0.25, include_top=False, weights=None, pooling="avg"
    )
    base.trainable = False
    # What untrained features say of these images is next to nothing: classes must differ.
    bias = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    net = keras.Sequential([base, layers.Dense(2, activation="softmax", bias_initializer=bias)])
    net.compile("adam", LOSS)
    before = base.get_weights()[0]
    cell.fit(net, x, y, batch_size=8)
    np.testing.assert_array_equal(before, base.get_weights()[0])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(8, activation="relu")
        self.out = head()

    def call(self, inputs):
        return self.out(self.hidden(inputs))


@works("Subclassed models", everywhere=True)
def subclassed(cell):
    x, y = data(48)
    net = Subclassed()
    net.compile("adam", LOSS, metrics=["accuracy"])
    cell.fit(net, x, y)
    scores_are_gradients(cell, net, x, y)


@works("Overridden `compute_metrics`")
def own_metrics(cell):
    class Own(keras.Sequential):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
            return {**logs, "twice": 2 * logs["loss"]}

    x, y = data(48)
    net = Own([layers.Input((FEATURES,)), head()])
    net.compile("adam", LOSS)
    history = cell.fit(net, x, y)
    np.testing.assert_allclose(history["twice"], 2 * np.array(history["loss"]), rtol=1e-4)
