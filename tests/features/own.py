"""Losses and steps of the user's own."""

import keras
import numpy as np
from helpers import CLASSES, FEATURES, data, oracle
from keras import layers, ops

from . import refused, works
from .models import LOSS, head


@works(
    "Overridden `compute_loss`",
    "if it multiplies `sample_weight` into each sample's loss",
    everywhere=True,
)
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


def own_step_model(call_loss=True, three_parts=False):
    """A `train_step` as Keras' guides write it, which never calls compute_metrics."""
    backend = keras.backend.backend()

    def unpack(data):
        if three_parts:
            return keras.utils.unpack_x_y_sample_weight(data)
        x, y = data
        return x, y, None

    def loss_of(model, x, y, y_pred, w):
        if not call_loss:
            return ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred))
        return model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=w)

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
                        sample_weight=w,
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
    "`x, y = data` in a `train_step`",
    "it gets what Keras hands it; weights enter through `compute_loss`",
    everywhere=True,
)
def two_parts(cell):
    x, y = data(72)
    history = cell.fit(own_step_model(), x, y, epochs=6)
    assert history["loss"][-1] < history["loss"][0]


@works(
    "`train_step` with sample weights",
    "the user's; without `compute_metrics` a step costs one forward pass more on JAX",
    everywhere=True,
)
def three_parts(cell):
    x, y = data(72)
    w = np.linspace(0.5, 1.5, 72).astype("float32")
    history = cell.fit(own_step_model(three_parts=True), x, y, sample_weight=w, epochs=6)
    assert history["loss"][-1] < history["loss"][0]


@refused("`train_step` that never calls `compute_loss`", "without `self.compute_loss`")
def own_objective(cell):
    refused_untouched(cell, own_step_model(call_loss=False))


@refused(
    "A GAN", "train it with `model.fit`", "its step has no one loss per example", everywhere=True
)
def gan(cell):
    class Gan(keras.Model):
        def __init__(self):
            super().__init__()
            self.generator = layers.Dense(FEATURES)
            self.discriminator = layers.Dense(1)

        def call(self, x):
            return self.discriminator(self.generator(x))

        def train_step(self, *args):
            raise AssertionError("it must not come to this")

    net = Gan()
    net.compile("adam")
    x, _ = data(48)
    cell.fit(net, x, batch_size=16)


@refused("A model without `call`", "call")
def no_call(cell):
    class Empty(keras.Model):
        pass

    net = Empty()
    net.compile("adam", LOSS)
    cell.fit(net, *data(48))


class Embedder(keras.Model):
    """Two towers; what is right for one row is wrong for the others of its batch."""

    def __init__(self, weighs):
        super().__init__()
        self.one, self.other = layers.Dense(3), layers.Dense(3)
        self.weighs = weighs

    def call(self, x):
        return ops.stack([self.one(x), self.other(x)], axis=1)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        alike = ops.matmul(y_pred[:, 0], ops.transpose(y_pred[:, 1]))
        rows = ops.arange(ops.shape(alike)[0])
        losses = keras.losses.sparse_categorical_crossentropy(rows, alike, from_logits=True)
        if sample_weight is not None and self.weighs:
            losses = losses * sample_weight
        return ops.mean(losses)


@refused("Losses over the whole batch", "compares the examples of a batch", "retrieval, contrast")
def whole_batch(cell):
    for weighs in (True, False):
        net = Embedder(weighs)
        net.compile("adam")
        try:
            cell.fit(net, *data(48))
        except ValueError as error:
            if "compares the examples of a batch" not in str(error) or not weighs:
                raise
    raise AssertionError("the second was not refused")


@works("Several outputs under one `compute_loss`", "weights in the form it takes", kind="targets")
def dict_outputs(cell):
    class Two(keras.Model):
        def __init__(self, by_output):
            super().__init__()
            self.inner = layers.Dense(8, activation="tanh")
            self.a, self.b = layers.Dense(1), layers.Dense(CLASSES, activation="softmax")
            self.by_output = by_output

        def call(self, x):
            inner = self.inner(x)
            return {"a": self.a(inner), "b": self.b(inner)}

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            losses = ops.mean(ops.square(y["a"] - y_pred["a"]), axis=-1)
            losses = losses + keras.losses.sparse_categorical_crossentropy(y["b"], y_pred["b"])
            if sample_weight is not None:
                weight = sample_weight["a"][:, 0] if self.by_output else sample_weight
                losses = losses * weight
            return ops.mean(losses)

    x, y = data(50)
    for by_output in (False, True):
        net = Two(by_output)
        net.compile(keras.optimizers.Adam(0.01))
        history = cell.fit(net, x, {"a": x[:, :1], "b": y}, epochs=6, batch_size=16)
        assert history["loss"][-1] < history["loss"][0]


@works("CTC", "`keras.losses.CTC` and `keras.ops.ctc_loss` in a function")
def ctc(cell):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 12, 3)).astype("float32")
    y = rng.integers(1, 5, (40, 4))

    def loss(y_true, y_pred):
        n = ops.shape(y_pred)[0]
        lengths = ops.full((n,), 4, "int32"), ops.full((n,), 12, "int32")
        return ops.ctc_loss(ops.cast(y_true, "int32"), y_pred, *lengths)

    for chosen in (keras.losses.CTC(), loss):
        inputs = keras.Input((12, 3))
        net = keras.Model(inputs, layers.Dense(6)(layers.Conv1D(6, 3, padding="same")(inputs)))
        net.compile(keras.optimizers.Adam(0.02), chosen)
        alone = [net.evaluate(x[i : i + 1], y[i : i + 1], verbose=0) for i in range(3)]
        np.testing.assert_allclose(oracle(net, "loss").score(x[:3], y[:3]), alone, rtol=1e-4)
        history = cell.fit(net, x, y, epochs=4)
        assert history["loss"][-1] < history["loss"][0]


def refused_untouched(cell, net):
    x, y = data(48)
    before = net.get_weights()
    try:
        cell.fit(net, x, y)
    finally:
        for a, b in zip(before, net.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
