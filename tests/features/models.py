"""Kinds of models."""

import keras
import numpy as np
from helpers import CLASSES, FEATURES, data, mlp, oracle
from keras import layers, ops

from . import refused, works

LOSS = "sparse_categorical_crossentropy"


def head():
    return layers.Dense(CLASSES, activation="softmax")


def sequential(*middle, **kwargs):
    net = keras.Sequential([layers.Input((FEATURES,)), *middle, head()])
    net.compile(**{"optimizer": keras.optimizers.Adam(0.01), "loss": LOSS} | kwargs)
    return net


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


@works("BatchNormalization", "scoring a pool does not move its statistics")
def batch_normalization(cell):
    x, y = data(64)
    normal = layers.BatchNormalization(momentum=0.5)
    net = sequential(normal)
    cell.fit(net, x + 3, y)
    moved = normal.get_weights()[2]
    assert np.abs(moved - 3).max() < 2.5
    cell.wrap(net).model.score(x - 50, y)
    np.testing.assert_array_equal(moved, normal.get_weights()[2])


@works("Dropout and noise", "active in the step, not when a pool is scored")
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


@works("LSTM with masking", "masked steps neither score nor count")
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
    # p - y, as for a last layer that is not nested
    p = net.predict(x, verbose=0)
    expected = np.linalg.norm(p - np.eye(CLASSES)[y], axis=1)
    np.testing.assert_allclose(oracle(net).score(x, y), expected, rtol=1e-3, atol=1e-5)


@works("Fine-tuning on `keras.applications`")
def applications(cell):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 2, 16)
    base = keras.applications.MobileNet(
        (32, 32, 3), alpha=0.25, include_top=False, weights=None, pooling="avg"
    )
    base.trainable = False
    net = keras.Sequential([base, layers.Dense(2, activation="softmax")])
    net.compile("adam", LOSS)
    before = base.get_weights()[0]
    cell.fit(net, x, y, batch_size=8, steps_per_epoch=1)
    np.testing.assert_array_equal(before, base.get_weights()[0])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(8, activation="relu")
        self.out = head()

    def call(self, inputs):
        return self.out(self.hidden(inputs))


@works("Subclassed models")
def subclassed(cell):
    x, y = data(48)
    net = Subclassed()
    net.compile("adam", LOSS, metrics=["accuracy"])
    cell.fit(net, x, y)


@works("Overridden `compute_loss`", "if it multiplies `sample_weight` into each sample's loss")
def own_loss(cell):
    class Own(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            losses = keras.losses.sparse_categorical_crossentropy(y, y_pred)
            if sample_weight is not None:
                losses = losses * ops.reshape(sample_weight, (-1,))
            return 2.0 * ops.mean(losses) + sum(self.losses)

    x, y = data(48)
    net = Own([layers.Input((FEATURES,)), head()])
    net.compile("adam")
    cell.fit(net, x, y)
    p = net.predict(x, verbose=0)
    np.testing.assert_allclose(
        oracle(net, "loss").score(x, y), -2 * np.log(p[np.arange(48), y]), rtol=1e-3
    )


@refused("`compute_loss` that ignores `sample_weight`", "does not use `sample_weight`")
def deaf_loss(cell):
    class Deaf(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred))

    x, y = data(48)
    net = Deaf([layers.Input((FEATURES,)), head()])
    net.compile("adam")
    cell.fit(net, x, y)


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


def own_step_model(pass_weights=True, call_loss=True, accept=True):
    """A `train_step` as Keras' guides write it, which never calls compute_metrics."""
    backend = keras.backend.backend()

    def unpack(data):
        if accept:
            return keras.utils.unpack_x_y_sample_weight(data)
        x, y = data
        return x, y, None

    def loss_of(model, x, y, y_pred, w):
        if not call_loss:
            return ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred))
        return model.compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=w if pass_weights else None
        )

    if backend == "tensorflow":
        import tensorflow as tf

        class Own(keras.Sequential):
            def train_step(self, data):
                x, y, w = unpack(data)
                with tf.GradientTape() as tape:
                    y_pred = self(x, training=True)
                    loss = loss_of(self, x, y, y_pred, w)
                gradients = tape.gradient(loss, self.trainable_variables)
                self.optimizer.apply(gradients, self.trainable_variables)
                for metric in self.metrics:
                    if metric.name == "loss":
                        metric.update_state(loss)
                    else:
                        metric.update_state(y, y_pred)
                return {m.name: m.result() for m in self.metrics if m.name == "loss"}

    elif backend == "torch":
        import torch

        class Own(keras.Sequential):
            def train_step(self, data):
                x, y, w = unpack(data)
                self.zero_grad()
                y_pred = self(x, training=True)
                loss = loss_of(self, x, y, y_pred, w)
                loss.backward()
                gradients = [v.value.grad for v in self.trainable_weights]
                with torch.no_grad():
                    self.optimizer.apply(gradients, self.trainable_weights)
                for metric in self.metrics:
                    if metric.name == "loss":
                        metric.update_state(loss)
                    else:
                        metric.update_state(y, y_pred)
                return {m.name: m.result() for m in self.metrics if m.name == "loss"}

    else:
        import jax

        class Own(keras.Sequential):
            def train_step(self, state, data):
                trainable, rest, optimizer, metrics = state
                x, y, w = unpack(data)

                def total(values):
                    y_pred, after = self.stateless_call(values, rest, x, training=True)
                    if not call_loss:
                        return loss_of(self, x, y, y_pred, w), (y_pred, after)
                    loss, _ = self.stateless_compute_loss(
                        values,
                        after,
                        metrics,
                        x=x,
                        y=y,
                        y_pred=y_pred,
                        sample_weight=w if pass_weights else None,
                        training=True,
                    )
                    return loss, (y_pred, after)

                (loss, (_, rest)), gradients = jax.value_and_grad(total, has_aux=True)(trainable)
                trainable, optimizer = self.optimizer.stateless_apply(
                    optimizer, gradients, trainable
                )
                return {"loss": loss}, (trainable, rest, optimizer, metrics)

    net = Own([layers.Input((FEATURES,)), head()])
    net.compile(keras.optimizers.Adam(0.05), LOSS)
    return net


@works(
    "Overridden `train_step`",
    "if it passes `sample_weight` to `compute_loss`; without `compute_metrics` it costs one "
    "forward pass more",
)
def own_step(cell):
    x, y = data(64)
    history = cell.fit(own_step_model(), x, y, epochs=6)
    assert history["loss"][-1] < history["loss"][0]


@refused("`train_step` that leaves `sample_weight` out", "importance weights would be lost")
def deaf_step(cell):
    refused_untouched(cell, own_step_model(pass_weights=False))


@refused("`train_step` that takes `(x, y)` only", "does not take the sample weights")
def narrow_step(cell):
    refused_untouched(cell, own_step_model(accept=False))


@refused("`train_step` that never calls `compute_loss`", "never calls `self.compute_loss")
def own_objective(cell):
    refused_untouched(cell, own_step_model(call_loss=False))


def refused_untouched(cell, net):
    x, y = data(48)
    before = net.get_weights()
    try:
        cell.fit(net, x, y)
    finally:
        for a, b in zip(before, net.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
