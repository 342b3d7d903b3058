"""What a model can be compiled with."""

import keras
import numpy as np
import pytest
from helpers import CLASSES, data, mlp, oracle
from keras import layers, ops

from importance_sampling.proposal import Proposal

from . import refused, works
from .columns import BY_SNAPSHOT


def two_headed(as_dict):
    """Outputs named against the alphabet, so that an order by name shows."""
    inputs = keras.Input((6,))
    classes = layers.Dense(CLASSES, activation="softmax", name="z")(inputs)
    number = layers.Dense(1, name="b")(inputs)
    return keras.Model(inputs, {"z": classes, "b": number} if as_dict else [classes, number])


def head_targets(x, y, as_dict):
    return {"z": y, "b": x[:, :1]} if as_dict else [y, x[:, :1]]


def losses_are_keras(net, x, y):
    """Per-sample losses average to what `evaluate` reports."""
    expected = net.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(oracle(net, "loss").score(x, y).mean(), expected, rtol=1e-4)


def rmsprop():
    return keras.optimizers.RMSprop(0.01)


@works("Several outputs, lists", "losses, metrics and targets as lists", kind="targets")
def list_outputs(cell):
    x, y = data(48)
    net = two_headed(False)
    net.compile(rmsprop(), ["sparse_categorical_crossentropy", "mse"], metrics=[["accuracy"], []])
    targets = head_targets(x, y, False)
    cell.fit(net, x, targets)
    losses_are_keras(net, x, targets)


@works("Several outputs, dicts", "losses and targets by output name, in any order", kind="targets")
def dict_outputs(cell):
    x, y = data(48)
    net = two_headed(True)
    net.compile(rmsprop(), {"b": "mse", "z": "sparse_categorical_crossentropy"})
    targets = head_targets(x, y, True)
    cell.fit(net, x, targets)
    losses_are_keras(net, x, targets)


@works(
    "List of outputs, dict of losses and targets", "matched by the outputs' names", kind="targets"
)
def mixed_outputs(cell):
    x, y = data(48)
    net = two_headed(False)
    loss = {"b": "mse", "z": keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)}
    net.compile(rmsprop(), loss)
    targets = head_targets(x, y, True)
    cell.fit(net, x, targets)
    # p - y and 2 (p - y): the norm over both heads, each with its own targets
    classes, number = net.predict(x, verbose=0)
    first = classes - np.eye(CLASSES)[y]
    norms = np.sqrt((first**2).sum(1) + (2 * (number - x[:, :1]) ** 2).sum(1) * 2)
    np.testing.assert_allclose(oracle(net).score(x, targets), norms, rtol=1e-3)
    with pytest.raises(ValueError, match="`y` holds the label"):
        cell.fit(net, x, {**targets, "z": y + 4})


@works("`loss_weights`", kind="targets")
def loss_weights(cell):
    x, y = data(48)
    net = two_headed(False)
    net.compile(rmsprop(), ["sparse_categorical_crossentropy", "mse"], loss_weights=[1.0, 0.0])
    frozen = net.get_layer("b").get_weights()[0]
    cell.fit(net, x, head_targets(x, y, False))
    np.testing.assert_array_equal(frozen, net.get_layer("b").get_weights()[0])


@works("`metrics` and `weighted_metrics`", "both importance-weighted while it is on")
def weighted_metrics(cell):
    x, y = data(64)
    net = mlp(
        optimizer=keras.optimizers.SGD(0.0), metrics=["accuracy"], weighted_metrics=["accuracy"]
    )
    net.fit(x, y, batch_size=16, verbose=0)
    training = cell.wrap(net)
    history = training.fit(x, y, batch_size=16, epochs=10, verbose=0).history
    # The weights stand still, so that both estimate what `evaluate` says.
    expected = net.evaluate(x, y, verbose=0, return_dict=True)
    for name in ("accuracy", "weighted_accuracy"):
        np.testing.assert_allclose(np.mean(history[name]), expected["accuracy"], atol=0.15)


@works("Custom loss functions", "one loss per sample")
def custom_loss(cell):
    def squared(y_true, y_pred):
        return ops.mean(ops.square(y_pred - ops.cast(y_true, y_pred.dtype)), axis=-1)

    x, y = data(48)
    net = mlp(loss=squared, optimizer="adam")
    targets = np.eye(CLASSES, dtype="float32")[y]
    cell.fit(net, x, targets)
    losses_are_keras(net, x, targets)


class _Squared(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_pred - ops.cast(y_true, y_pred.dtype)), axis=-1)


@works("Custom `Loss` classes", '`reduction="sum_over_batch_size"` (or "mean")')
def custom_class(cell):
    x, y = data(48)
    targets = np.eye(CLASSES, dtype="float32")[y]
    net = mlp(loss=_Squared(), optimizer="adam")
    cell.fit(net, x, targets)
    losses_are_keras(net, x, targets)


@works(
    "Losses summed over the batch",
    '`reduction="sum"`; `constant="variance"` refuses it, whose steps would shrink with the batch',
    kind="sum",
)
def summed_loss(cell):
    x, y = data(48)
    targets = np.eye(CLASSES, dtype="float32")[y]
    # A step by the sum is one by the mean at 16 times the rate, whatever the weights are.
    steps = [
        lambda rate=rate, how=how: mlp(
            loss=_Squared(reduction=how), optimizer=keras.optimizers.SGD(rate)
        )
        for rate, how in ((0.01, "sum"), (0.16, "sum_over_batch_size"))
    ]
    case = ((x, targets), {})
    cell.fit_alike(steps[0], case, (*case, steps[1]))


@refused("Losses that reduce to a scalar", "depends on the other samples", "no scores per sample")
def scalar_loss(cell):
    def mean_of_all(y_true, y_pred):
        return ops.mean(ops.square(y_pred - ops.cast(y_true, y_pred.dtype)))

    x, y = data(48)
    cell.fit(mlp(loss=mean_of_all), x, np.eye(CLASSES, dtype="float32")[y])


@refused("`Dice` and `Tversky` with `axis=None`", "depends on the other samples", "likewise")
def dice(cell):
    x, y = data(48)
    cell.fit(mlp(loss=keras.losses.Dice()), x, np.eye(CLASSES, dtype="float32")[y])


@refused(
    '`reduction="mean_with_sample_weight"`',
    "every importance-weighted step biased",
    "it divides the weights out again",
)
def mean_with_weights(cell):
    x, y = data(48)
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")
    cell.fit(mlp(loss=loss), x, y)


@refused('`reduction="none"`', "leaves a vector", "no scalar to train on")
def no_reduction(cell):
    x, y = data(48)
    cell.fit(mlp(loss=keras.losses.SparseCategoricalCrossentropy(reduction="none")), x, y)


@refused("`loss=None`, only `add_loss`", "compiled without a loss", "no loss of a sample")
def only_add_loss(cell):
    class Penalty(layers.Layer):
        def call(self, inputs):
            self.add_loss(ops.mean(ops.square(inputs)))
            return inputs

    x, y = data(48)
    net = keras.Sequential([layers.Input((6,)), layers.Dense(4), Penalty()])
    net.compile("sgd")
    cell.fit(net, x, y)


@works("`add_loss` beside a loss", "belongs to no sample, like a regularizer: never scored")
def add_loss(cell):
    class Penalty(layers.Layer):
        def call(self, inputs):
            self.add_loss(100.0 * ops.mean(ops.square(inputs)))
            return inputs

    x, y = data(64)
    net = keras.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8),
            Penalty(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    net.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    hidden = keras.Model(net.inputs, net.layers[0].output)
    before = np.square(hidden.predict(x, verbose=0)).mean()
    cell.fit(net, x, y, epochs=6)
    assert np.square(hidden.predict(x, verbose=0)).mean() < 0.5 * before
    assert oracle(net, "loss").score(x, y).max() < 20


@works("Activity regularizers", "likewise")
def activity_regularizer(cell):
    x, y = data(64)
    regular = layers.Dense(8, activity_regularizer=keras.regularizers.L2(10.0))
    net = keras.Sequential([layers.Input((6,)), regular, layers.Dense(CLASSES, "softmax")])
    net.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    before = np.abs(regular.get_weights()[0]).mean()
    cell.fit(net, x, y, epochs=6)
    assert np.abs(regular.get_weights()[0]).mean() < before


def alike(cell, net):
    """Whatever way a model is compiled in, scores and steps are those of another way."""
    x, y = data(48)
    other = mlp()
    trainings = [cell.wrap(net), cell.wrap(other)]
    cell.fit(net, x, y, training=trainings[0])
    other.set_weights(net.get_weights())
    scores = []
    for training in trainings:
        scores.append(training.model.score(x, y, batch_size=48))
        if cell.training in BY_SNAPSHOT:
            # At the snapshot of the batch itself there is nothing to correct.
            training.model.take_snapshot([(x[:16], y[:16])])
        training.model.train(Proposal(np.arange(16), (x[:16], y[:16]), np.ones((16, 1))))
    np.testing.assert_allclose(*scores, rtol=1e-3)
    for a, b in zip(net.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@works("`run_eagerly=True`", everywhere=True)
def eager(cell):
    calls = []

    def loss(y_true, y_pred):
        calls.append(1)
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    alike(cell, mlp(run_eagerly=True, loss=loss))
    # In every step, and not only when something is traced.
    assert len(calls) >= 6


@works(
    "`jit_compile=True`",
    "XLA on TensorFlow and JAX, `torch.compile` on PyTorch",
    # Half a minute of it.
    once=("torch",),
    everywhere=True,
)
def jit(cell):
    alike(cell, mlp(jit_compile=True))


@works("`jit_compile=False`", everywhere=True)
def no_jit(cell):
    alike(cell, mlp(jit_compile=False))


@works(
    "`steps_per_execution` above 1",
    "callbacks are called once for so many steps, as in Keras; pools are drawn one by one, but for "
    "those that are reused",
    backends=("tensorflow", "jax"),
)
def steps_per_execution(cell):
    x, y = data(64)
    net = mlp(steps_per_execution=4, optimizer=keras.optimizers.Adam(0.05))
    history = cell.fit(net, x, y, epochs=5)
    assert history["loss"][-1] < history["loss"][0]


def under_policy(name, cell):
    x, y = data(64)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        net = mlp(optimizer=keras.optimizers.Adam(0.05), metrics=["accuracy"])
        history = cell.fit(net, x, y, epochs=5)
    finally:
        keras.config.set_dtype_policy(before)
    assert history["loss"][-1] < history["loss"][0]
    return net


@works("`mixed_float16`", "with Keras' own loss scaling", everywhere=True)
def float16(cell):
    assert "LossScale" in type(under_policy("mixed_float16", cell).optimizer).__name__


@works("`mixed_bfloat16`")
def bfloat16(cell):
    under_policy("mixed_bfloat16", cell)


@works("Gradient accumulation", everywhere=True)
def accumulation(cell):
    x, y = data(64)
    net = mlp(optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    changed, before = [], [net.get_weights()[0]]

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            now = self.model.get_weights()[0]
            changed.append(bool((now != before[0]).any()))
            before[0] = now

    cell.fit(net, x, y, callbacks=[Watch()])
    assert changed == [False, True] * 4


@works(
    "EMA of the weights", "the averages are in the model at the end, as in Keras", everywhere=True
)
def ema(cell):
    x, y = data(64)
    net = mlp(optimizer=keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5))
    last = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            last.append(self.model.get_weights()[0])

    cell.fit(net, x, y, callbacks=[Watch()])
    assert np.abs(last[-1] - net.get_weights()[0]).max() > 1e-6


@works("Clipping", "`clipnorm`, `clipvalue`, `global_clipnorm`")
def clipping(cell):
    x, y = data(48)
    for arguments in ({"clipnorm": 1e-4}, {"clipvalue": 1e-5}, {"global_clipnorm": 1e-4}):
        net = mlp(optimizer=keras.optimizers.SGD(1.0, **arguments))
        before = net.get_weights()
        cell.fit(net, x, y)
        for a, b in zip(before, net.get_weights(), strict=True):
            # six steps of rate 1, none longer than 1e-4
            assert np.abs(a - b).max() < 7e-4


@works("Weight decay and learning rate schedules")
def schedules(cell):
    x, y = data(48)
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.01)
    net = mlp(optimizer=keras.optimizers.AdamW(rate, weight_decay=0.1))
    cell.fit(net, x, y)
    assert float(ops.convert_to_numpy(net.optimizer.learning_rate)) < 0.1
