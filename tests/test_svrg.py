"""Steps corrected by a snapshot: against Keras' own full-batch step, and against numpy."""

import keras
import numpy as np
import pytest
from helpers import data, mlp
from keras import layers, ops, regularizers

from importance_sampling import SVRG
from importance_sampling.model_wrappers import KatyushaWrapper, SVRGWrapper
from importance_sampling.proposal import Proposal
from importance_sampling.reweighting import AdjustedBiasedReweightingPolicy

pytestmark = pytest.mark.two_backends

RATE = 0.1
any_backend = pytest.mark.any_backend


def weights_of(model):
    return [np.array(ops.convert_to_numpy(v.value)) for v in model.trainable_variables]


def set_weights(model, values):
    for variable, value in zip(model.trainable_variables, values, strict=True):
        variable.assign(value)


def close(found, expected, tolerance=2e-5):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def take(data, rows):
    return keras.tree.map_structure(lambda a: a[rows], data)


def sgd():
    return keras.optimizers.SGD(RATE)


# -- models, each with data: what may make the two gradients differ ------------------------------


def plain():
    return mlp(optimizer=sgd()), data(24)


def regularized():
    x, y = data(24)
    model = keras.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8, "tanh", kernel_regularizer="l2", activity_regularizer="l2"),
            layers.Dense(4, "softmax", bias_regularizer=regularizers.L1(0.1)),
        ]
    )
    model.compile(sgd(), "sparse_categorical_crossentropy")
    return model, (x, y)


def masked():
    rng = np.random.default_rng(0)
    x = rng.integers(1, 9, (24, 5))
    for i, length in enumerate(rng.integers(1, 6, 24)):
        x[i, length:] = 0
    model = keras.Sequential(
        [
            layers.Input((5,), dtype="int32"),
            layers.Embedding(9, 4, mask_zero=True),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile(sgd(), "sparse_categorical_crossentropy")
    return model, (x, rng.integers(0, 3, (24, 5)))


def several():
    x, y = data(24)
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two")
    joined = layers.Dense(5, "tanh")(layers.Concatenate()([one, two]))
    outputs = {"label": layers.Dense(4, "softmax", name="label")(joined)}
    outputs["value"] = layers.Dense(1, name="value")(joined)
    model = keras.Model({"one": one, "two": two}, outputs)
    losses = {"label": "sparse_categorical_crossentropy", "value": "mse"}
    model.compile(sgd(), losses, loss_weights={"label": 0.3, "value": 2.0})
    return model, ({"one": x, "two": x[::-1]}, {"label": y, "value": x[:, :1]})


def weighted():
    return mlp(optimizer=sgd()), (*data(24), np.linspace(0.1, 3, 24).astype("float32"))


def with_own_step():
    class Own(keras.Model):
        def train_step(self, *arguments):
            return super().train_step(*arguments)

    inputs = keras.Input((6,))
    model = Own(inputs, layers.Dense(4, "softmax")(inputs))
    model.compile(sgd(), "sparse_categorical_crossentropy")
    return model, data(24)


def unused_weights():
    class Idle(layers.Layer):
        def build(self, shape):
            self.idle = self.add_weight(shape=(3,), name="idle")

        def call(self, x):
            return x

    model = keras.Sequential([layers.Input((6,)), Idle(), layers.Dense(4, "softmax")])
    model.compile(sgd(), "sparse_categorical_crossentropy")
    return model, data(24)


def bfloat():
    x, y = data(24)
    model = keras.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8, "tanh", dtype="mixed_bfloat16"),
            layers.Dense(4, "softmax", dtype="float32"),
        ]
    )
    model.compile(sgd(), "sparse_categorical_crossentropy")
    return model, (x, y)


MODELS = [
    plain,
    regularized,
    masked,
    *[
        pytest.param(make, marks=any_backend)
        for make in (several, weighted, with_own_step, unused_weights, bfloat)
    ],
]


def pieces(rows, size=9):
    """Parts of the data of unequal size."""
    n = len(keras.tree.flatten(rows)[0])
    return [take(rows, slice(start, start + size)) for start in range(0, n, size)]


def step(wrapper, rows, w=None):
    n = len(keras.tree.flatten(rows)[0])
    w = np.ones((n, 1)) if w is None else w
    return wrapper.train(Proposal(np.arange(n), rows, w))


def full_step(model, rows):
    """Where Keras' own step on all of the data leads, from where the model is; it goes back."""
    before = weights_of(model)
    x, y, *weight = rows
    model.train_on_batch(x, y, sample_weight=weight[0] if weight else None)
    after = weights_of(model)
    set_weights(model, before)
    return before, after


@pytest.mark.parametrize("make", MODELS)
def test_a_step_is_that_of_the_full_gradient_at_the_snapshot_and_on_average_elsewhere(make):
    model, rows = make()
    tolerance = 2e-2 if make is bfloat else 2e-5
    wrapper = SVRGWrapper(model)
    wrapper.build(*rows)
    start, expected = full_step(model, rows)
    wrapper.take_snapshot(pieces(rows))
    step(wrapper, take(rows, slice(0, 5)))
    close(weights_of(model), expected, tolerance)
    # Elsewhere a step is not the full gradient's, but the mean over all batches is.
    rng = np.random.default_rng(1)
    moved = [(w + 0.3 * rng.normal(size=w.shape)).astype("float32") for w in start]
    set_weights(model, moved)
    _, expected = full_step(model, rows)
    led = []
    for part in pieces(rows, 6):
        set_weights(model, moved)
        step(wrapper, part)
        led.append(weights_of(model))
    assert max(np.abs(one - other).max() for one, other in zip(*led[:2], strict=True)) > 1e-3
    close([np.mean(parts, axis=0) for parts in zip(*led, strict=True)], expected, tolerance)


def normalizing():
    layer = layers.BatchNormalization(momentum=0.5)
    model = keras.Sequential([layers.Input((6,)), layer, layers.Dense(4, "softmax")])
    model.compile(sgd(), "sparse_categorical_crossentropy")
    return model, data(24)


def test_batches_are_normalized_as_in_a_plain_step_and_statistics_move_once():
    model, rows = normalizing()
    wrapper = SVRGWrapper(model)
    wrapper.build(*rows)
    assert wrapper.snapshot_batch_size(8) == 8
    batches = pieces(rows, 8)
    statistics = [v for v in model.non_trainable_variables if "moving" in v.path]
    initial = [np.array(ops.convert_to_numpy(v.value)) for v in statistics]

    def after(train):
        for variable, value in zip(statistics, initial, strict=True):
            variable.assign(value)
        set_weights(model, moved)
        train()
        values = [np.array(ops.convert_to_numpy(v.value)) for v in statistics]
        return weights_of(model), values

    wrapper.take_snapshot(batches)
    close([np.array(ops.convert_to_numpy(v.value)) for v in statistics], initial, 0)
    moved = [w + np.float32(0.2) for w in weights_of(model)]
    plain = [after(lambda b=b: model.train_on_batch(*b)) for b in batches]
    corrected = [after(lambda b=b: step(wrapper, b)) for b in batches]
    for (_, one), (_, other) in zip(plain, corrected, strict=True):
        close(one, other)
        assert np.abs(one[0] - initial[0]).max() > 1e-3
    means = [
        [np.mean(parts, axis=0) for parts in zip(*[w for w, _ in found], strict=True)]
        for found in (plain, corrected)
    ]
    close(*means)


@pytest.mark.parametrize("seed", [None, 3])
def test_both_gradients_have_the_same_dropout(seed):
    model = keras.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(16, "tanh"),
            layers.Dropout(0.5, seed=seed),
            layers.GaussianNoise(0.3, seed=1),
            layers.Dense(4, "softmax"),
        ]
    )
    model.compile(sgd(), "sparse_categorical_crossentropy")
    x, y = data(24)
    wrapper = SVRGWrapper(model)
    wrapper.build(x, y)
    wrapper.take_snapshot([(x, y), (x, y)])
    start = weights_of(model)
    mean = wrapper.state_dict()["snapshot"]["gradient"]
    for rows in (slice(0, 7), slice(7, 14)):
        set_weights(model, start)
        step(wrapper, (x[rows], y[rows]))
        close(weights_of(model), [w - RATE * g for w, g in zip(start, mean, strict=True)], 1e-5)
    # Every part of the data has masks of its own: twice the same rows are not twice the same.
    wrapper.take_snapshot([(x, y)])
    once = wrapper.state_dict()["snapshot"]["gradient"]
    wrapper.take_snapshot([(x, y), (x, y)])
    twice = wrapper.state_dict()["snapshot"]["gradient"]
    assert np.abs(once[0] - twice[0]).max() > 1e-4


@any_backend
def test_the_optimizer_is_the_models_own_and_the_coefficient_weakens_the_correction():
    rows = data(24)
    batch = take(rows, slice(0, 6))
    # With so large an epsilon the step is smooth where a gradient is near zero.
    model = mlp(optimizer=keras.optimizers.Adam(0.5, epsilon=1.0))
    wrapper = SVRGWrapper(model, coefficient=0.25)
    wrapper.build(*rows)
    there, mean = wrapper.gradient(*batch), wrapper.gradient(*rows)
    wrapper.take_snapshot([rows])
    moved = [w + np.float32(0.1) for w in weights_of(model)]
    set_weights(model, moved)
    here = wrapper.gradient(*batch)
    step(wrapper, batch)
    for w, g, s, mu, after in zip(moved, here, there, mean, weights_of(model), strict=True):
        corrected = g - 0.25 * (s - mu)
        close([after], [w - 0.5 * corrected / (np.abs(corrected) + 1 / np.sqrt(0.001))])


def test_losses_that_are_scaled_and_overflow():
    model = mlp(optimizer=keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=2.0**10))
    rows = data(24)
    wrapper = SVRGWrapper(model)
    wrapper.build(*rows)
    expected = [
        w - RATE * g for w, g in zip(weights_of(model), wrapper.gradient(*rows), strict=True)
    ]
    wrapper.take_snapshot(pieces(rows))
    step(wrapper, take(rows, slice(0, 5)))
    close(weights_of(model), expected)


@any_backend
def test_mixed_float16_trains():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, "tanh", dtype="mixed_float16")(inputs)
    model = keras.Model(inputs, layers.Dense(4, "softmax", dtype="float32")(hidden))
    # So large that the first gradients overflow in float16.
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=2.0**26)
    model.compile(scaled, "sparse_categorical_crossentropy")
    history = SVRG(model, B=0, B_over_b=8, seed=0).fit(*data(96), 16, epochs=6, verbose=0).history
    assert np.isfinite(history["loss"]).all() and history["loss"][-1] < history["loss"][0] - 0.05


@any_backend
def test_importance_weights_enter_both_gradients():
    model, rows = plain()
    wrapper = SVRGWrapper(model)
    wrapper.build(*rows)
    start, expected = full_step(model, rows)
    wrapper.take_snapshot([rows])
    step(wrapper, take(rows, slice(0, 5)), np.array([[0.1], [3.0], [2.0], [0.4], [1.0]]))
    close(weights_of(model), expected)
    moved = [w + np.float32(0.1) for w in start]
    p = np.linspace(1, 4, 24)
    p /= p.sum()
    set_weights(model, moved)
    _, expected = full_step(model, rows)
    total = [np.zeros_like(w) for w in moved]
    for i in range(24):
        set_weights(model, moved)
        step(wrapper, take(rows, slice(i, i + 1)), np.array([[1 / (24 * p[i])]]))
        total = [t + p[i] * w for t, w in zip(total, weights_of(model), strict=True)]
    close(total, expected)
    with pytest.raises(ValueError, match="AdjustedBiasedReweightingPolicy depend on the scores"):
        SVRGWrapper(model, reweighting=AdjustedBiasedReweightingPolicy())


# -- Katyusha ------------------------------------------------------------------------------------


def ridge(n=20, d=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype("float32")
    return x, (x @ rng.normal(size=(d, 1)) + 0.1).astype("float32")


def ridge_model(optimizer):
    inputs = keras.Input((3,))
    outputs = layers.Dense(1, use_bias=False, kernel_regularizer=regularizers.L2(0.05))(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer, "mse")
    return model


@pytest.mark.parametrize(("t1", "t2", "sigma"), [(0.5, 0.5, 0.0), (0.3, 0.4, 0.7)])
def test_katyusha_is_the_published_rule(t1, t2, sigma):
    """Algorithm 1 of 1603.05953 line by line, with option II, in numpy."""
    x, y = ridge()
    eta = 0.05
    alpha = eta / t1

    def gradient(w, rows):
        residual = x[rows] @ w - y[rows]
        return 2 * x[rows].T @ residual / len(x[rows]) + 0.1 * w

    model = ridge_model(keras.optimizers.SGD(eta))
    wrapper = KatyushaWrapper(model, t1, t2, strong_convexity=sigma)
    wrapper.build(x, y)
    w = weights_of(model)[0].astype("float64")
    rng = np.random.default_rng(1)
    momentum, gradient_point, snapshot = w, w, w
    for _ in range(3):
        wrapper.take_snapshot(pieces((x, y), 7))
        mean = gradient(snapshot, slice(None))
        points, factors = [], []
        for j in range(4):
            rows = rng.choice(20, 5, replace=False)
            at = t1 * momentum + t2 * snapshot + (1 - t1 - t2) * gradient_point
            close(weights_of(model), [at], 1e-5)
            estimate = mean + gradient(at, rows) - gradient(snapshot, rows)
            before, momentum = momentum, momentum - alpha * estimate
            gradient_point = at + t1 * (momentum - before)
            points.append(gradient_point)
            factors.append((1 + alpha * sigma) ** j)
            step(wrapper, (x[rows], y[rows]))
        snapshot = np.average(points, axis=0, weights=factors)
    wrapper.take_snapshot([(x, y)])
    close(wrapper.state_dict()["snapshot"]["weights"], [snapshot], 1e-5)


@any_backend
def test_katyusha_wants_plain_sgd():
    momentum = keras.optimizers.SGD(0.1, momentum=0.9)
    for optimizer, why in (
        ("adam", "is Adam"),
        (momentum, r"has momentum=0\.9"),
        (keras.optimizers.SGD(0.1, use_ema=True), "use_ema"),
        (keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), "gradient_accumulation_steps=2"),
        (keras.optimizers.LossScaleOptimizer(sgd()), "is LossScaleOptimizer"),
    ):
        with pytest.raises(ValueError, match=why):
            KatyushaWrapper(ridge_model(optimizer))
    for t1, t2 in ((0.0, 0.5), (0.7, 0.5), (-0.1, 0.5)):
        with pytest.raises(ValueError, match="t1"):
            KatyushaWrapper(ridge_model(sgd()), t1, t2)
    inputs = keras.Input((3,))
    layer = layers.Dense(1, kernel_constraint="non_neg")
    model = keras.Model(inputs, layer(inputs))
    model.compile(sgd(), "mse")
    with pytest.raises(ValueError, match=r"kernel.* have a constraint"):
        KatyushaWrapper(model)


# -- what cannot work says so before anything is trained -----------------------------------------


@any_backend
def test_refusals():
    rows = data(24)
    with pytest.raises(ValueError, match="coefficient` must be in"):
        SVRGWrapper(mlp(), coefficient=1.5)
    wrapper = SVRGWrapper(mlp())
    wrapper.build(*rows)
    with pytest.raises(RuntimeError, match="no snapshot to correct the gradient by"):
        step(wrapper, rows)
    with pytest.raises(ValueError, match="at least one batch"):
        wrapper.take_snapshot([])
    summed = mlp(loss=keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    with pytest.raises(ValueError, match="reduction='sum'"):
        SVRG(summed).fit(*rows, verbose=0)
    for arguments, name in (
        ({"B": -1}, "B"),
        ({"B_rate": 0}, "B_rate"),
        ({"B_over_b": 0}, "B_over_b"),
        ({"coefficient": "x"}, "coefficient"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            SVRG(mlp(), **arguments)
    state = wrapper.state_dict() | {"snapshot": {"weights": [np.ones(2)]}}
    with pytest.raises(ValueError, match=r"shapes \[\(2,\)\]"):
        wrapper.load_state_dict(state)


def test_draws_that_cannot_be_repeated_are_refused():
    rng = np.random.default_rng(0)

    class Draws(layers.Layer):
        def call(self, x):
            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                return x + tf.random.normal(())
            return x + np.float32(rng.normal())

    model = keras.Sequential([layers.Input((6,)), Draws(), layers.Dense(4, "softmax")])
    model.compile(sgd(), "sparse_categorical_crossentropy")
    if keras.backend.backend() == "jax":
        # What numpy draws while a step is traced is a constant of it.
        model.run_eagerly = True
    start = weights_of(model)
    with pytest.raises(ValueError, match="draws at random in a way that cannot be repeated"):
        SVRG(model, B=0).fit(*data(24), verbose=0)
    close(weights_of(model), start, 0)


@any_backend
def test_a_step_of_the_users_own_that_differentiates_something_else_is_refused():
    class Perturbed(keras.Model):
        def train_step(self, *arguments):
            (x, y), *rest = arguments[::-1]
            data = (x + 0.5, y)
            return super().train_step(*rest, data)

    inputs = keras.Input((6,))
    model = Perturbed(inputs, layers.Dense(4, "softmax")(inputs))
    model.compile(sgd(), "sparse_categorical_crossentropy")
    start = weights_of(model)
    with pytest.raises(ValueError, match="differentiates something else than `compute_loss`"):
        SVRG(model, B=0, B_over_b=2).fit(*data(24), verbose=0)
    close(weights_of(model), start, 0)
