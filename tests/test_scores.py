"""Per-sample losses and scores against formulas in float64, for every kind of output."""

import dataclasses

import keras
import numpy as np
import pytest
from helpers import (
    CLASSES,
    FEATURES,
    data,
    forward64,
    full_norm64,
    mlp,
    one_hot,
    oracle,
    predict,
    softmax64,
)
from keras import layers, ops

pytestmark = pytest.mark.exact


def softplus(z):
    return np.logaddexp(0, z)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _targets(kind, y):
    rng = np.random.default_rng(5)
    return {
        "sparse": y,
        "column": y[:, None],
        "dense": one_hot(y).astype("float32"),
        "binary": (y > 1).astype("int64"),
        "multilabel": rng.integers(0, 2, (len(y), CLASSES)).astype("float32"),
        "real": rng.normal(size=(len(y), CLASSES)).astype("float32"),
    }[kind]


def _ce(z, t):
    return -(t * np.log(softmax64(z))).sum(-1), softmax64(z) * t.sum(-1, keepdims=True) - t


def _bce(z, t):
    return (softplus(z) - t * z).mean(-1), (sigmoid(z) - t) / z.shape[-1]


def _mse(out, slope):
    def reference(z, t):
        difference = out(z) - t
        return (difference**2).mean(-1), 2 * difference * slope(z) / z.shape[-1]

    return reference


def _smooth(z, t):
    return _ce(z, t * 0.8 + 0.2 / CLASSES)


L = keras.losses
CASES = {
    # name: (activation, units, loss, targets, reference of (loss, d loss / d z))
    "softmax-sparse": ("softmax", 4, "sparse_categorical_crossentropy", "sparse", _ce),
    "softmax-column": ("softmax", 4, "sparse_categorical_crossentropy", "column", _ce),
    "softmax-dense": ("softmax", 4, "categorical_crossentropy", "dense", _ce),
    "softmax-smoothed": (
        "softmax",
        4,
        L.CategoricalCrossentropy(label_smoothing=0.2),
        "dense",
        _smooth,
    ),
    "logits-sparse": (
        "linear",
        4,
        L.SparseCategoricalCrossentropy(from_logits=True),
        "sparse",
        _ce,
    ),
    "logits-dense": ("linear", 4, L.CategoricalCrossentropy(from_logits=True), "dense", _ce),
    "sigmoid-one": ("sigmoid", 1, "binary_crossentropy", "binary", _bce),
    "sigmoid-many": ("sigmoid", 4, "binary_crossentropy", "multilabel", _bce),
    "sigmoid-logits": ("linear", 1, L.BinaryCrossentropy(from_logits=True), "binary", _bce),
    "linear-mae": (
        "linear",
        4,
        L.MeanAbsoluteError(),
        "real",
        lambda z, t: (np.abs(z - t).mean(-1), np.sign(z - t) / z.shape[-1]),
    ),
    "linear-mse": ("linear", 4, "mse", "real", _mse(lambda z: z, lambda z: 1)),
    "tanh-mse": ("tanh", 4, "mse", "real", _mse(np.tanh, lambda z: 1 - np.tanh(z) ** 2)),
    "relu-mse": ("relu", 4, "mse", "real", _mse(lambda z: np.maximum(z, 0), lambda z: z > 0)),
    "sigmoid-mse": (
        "sigmoid",
        4,
        "mse",
        "real",
        _mse(sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
    ),
    "softplus-mse": ("softplus", 4, "mse", "real", _mse(softplus, sigmoid)),
}


def _dense_target(t, units):
    if t.ndim == 2 and t.shape[1] == units and t.dtype.kind == "f":
        return t.astype("float64")
    if units == 1:
        return t.reshape(-1, 1).astype("float64")
    return one_hot(t.reshape(-1))


@pytest.mark.parametrize("separate", [False, True], ids=["fused", "separate"])
@pytest.mark.parametrize("name", CASES)
def test_losses_and_scores_equal_float64(name, separate):
    activation, units, loss, kind, reference = CASES[name]
    x, y = data(40)
    t = _targets(kind, y)
    model = mlp(activation, units, separate, loss=loss)
    _, z = forward64(model.get_weights(), x)
    losses, delta = reference(z, _dense_target(t, units))
    expected = {
        "loss": losses,
        "gnorm": np.linalg.norm(delta, axis=-1),
        "full_gnorm": full_norm64(model.get_weights(), x, delta),
    }
    for score, values in expected.items():
        wrapper = oracle(model, score)
        np.testing.assert_allclose(wrapper.score(x, t), values, rtol=1e-4, atol=1e-6)


def test_eager_steps_score_the_common_losses_in_closed_form():
    x, y = data(40)
    general = {"softmax-smoothed", "tanh-mse", "relu-mse", "sigmoid-mse", "softplus-mse"}
    for name, (activation, units, loss, kind, _) in CASES.items():
        model = mlp(activation, units, loss=loss, run_eagerly=True)
        wrapper = oracle(model)
        wrapper.score(x, _targets(kind, y))
        found = wrapper.compiled.objective.closed_form
        eager = not wrapper.compiled.runtime.traces
        assert (found is not None) == (eager and name not in general), name


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_worst_examples_are_not_clipped_away(loss):
    x, y = data(30)
    model = mlp(loss=loss)
    weights = model.get_weights()
    weights[2] *= 60  # probabilities far below the 1e-7 at which Keras clips
    model.set_weights(weights)
    _, z = forward64(weights, x)
    p = softmax64(z)
    wrong = p[np.arange(len(y)), y] < 1e-9
    assert wrong.sum() >= 3
    t = y if loss.startswith("sparse") else one_hot(y).astype("float32")
    wrapper = oracle(model)
    expected = np.linalg.norm(p - one_hot(y), axis=-1)
    np.testing.assert_allclose(wrapper.score(x, t)[wrong], expected[wrong], rtol=1e-4)
    # and by the general rule, which the closed form stands in for
    compiled = wrapper.compiled
    objective = dataclasses.replace(compiled.objective, closed_form=None)

    def general(x, t):
        with objective.runtime.scope():
            outputs = objective.loss.forward(x)
        return objective.scores(x, t, outputs, None, [None])

    scores = compiled.runtime.compile_pure(general)(*compiled.to_device(x, t))
    np.testing.assert_allclose(ops.convert_to_numpy(scores)[wrong], expected[wrong], rtol=1e-4)


def test_acc_is_one_where_the_prediction_is_wrong():
    x, y = data(40)
    model = mlp()
    wrong = predict(model, x).argmax(1) != y
    assert 0 < wrong.sum() < 40
    np.testing.assert_array_equal(oracle(model, "acc").score(x, y), wrong)


def test_regularizers_belong_to_no_sample():
    x, y = data()
    plain, regularized = mlp(), mlp()
    regularized = keras.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Dense(
                8,
                activation="tanh",
                kernel_regularizer="l2",
                activity_regularizer=keras.regularizers.L2(0.1),
            ),
            layers.Dense(CLASSES, activation="softmax", bias_regularizer="l1"),
        ]
    )
    regularized.compile("sgd", "sparse_categorical_crossentropy")
    regularized.set_weights(plain.get_weights())
    for score in ("loss", "gnorm", "full_gnorm"):
        np.testing.assert_allclose(
            oracle(regularized, score).score(x, y), oracle(plain, score).score(x, y), rtol=1e-4
        )


def test_sample_weights_multiply_the_score():
    x, y = data()
    model = mlp()
    w = np.linspace(0.5, 3, len(x)).astype("float32")
    for score in ("loss", "gnorm", "full_gnorm"):
        wrapper = oracle(model, score)
        np.testing.assert_allclose(
            wrapper.score(x, y, sample_weight=w), wrapper.score(x, y) * w, rtol=1e-4
        )


def test_custom_loss_of_any_rank():
    x, y = data()
    t = _targets("real", y)
    # One value per element instead of one per sample; Keras averages over both alike.
    model = mlp("linear", loss=lambda a, b: ops.square(a - b))
    _, z = forward64(model.get_weights(), x)
    losses, delta = CASES["linear-mse"][4](z, t.astype("float64"))
    np.testing.assert_allclose(oracle(model, "loss").score(x, t), losses, rtol=1e-4)
    np.testing.assert_allclose(oracle(model).score(x, t), np.linalg.norm(delta, axis=1), rtol=1e-4)


@pytest.mark.parametrize("structure", ["list", "dict"])
def test_several_outputs_with_loss_weights(structure):
    x, y = data()
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(8, activation="tanh")(inputs)
    a = layers.Dense(CLASSES, activation="softmax", name="a")(hidden)
    b = layers.Dense(1, name="b")(hidden)
    target = x[:, :1] ** 2
    outputs, losses, weights = [a, b], ["sparse_categorical_crossentropy", "mse"], [0.3, 2.0]
    targets = [y, target]
    if structure == "dict":
        outputs, losses, weights, targets = (
            dict(zip("ab", part, strict=True)) for part in (outputs, losses, weights, targets)
        )
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss=losses, loss_weights=weights)
    predictions = model(ops.convert_to_tensor(x))
    pa, pb = (
        ops.convert_to_numpy(predictions[key]).astype("float64")
        for key in (("a", "b") if structure == "dict" else (0, 1))
    )
    loss = -0.3 * np.log(pa[np.arange(len(y)), y]) + 2 * ((pb - target) ** 2)[:, 0]
    squares = (0.3**2) * ((pa - one_hot(y)) ** 2).sum(1) + (4 * (pb - target)[:, 0]) ** 2
    np.testing.assert_allclose(oracle(model, "loss").score(x, targets), loss, rtol=1e-4)
    np.testing.assert_allclose(oracle(model).score(x, targets), np.sqrt(squares), rtol=1e-4)


def sequence_model():
    model = keras.Sequential(
        [
            layers.Input((7,), dtype="int32"),
            layers.Embedding(11, 5, mask_zero=True),
            layers.LSTM(6, return_sequences=True),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    return model


def sequences(n=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 11, (n, 7))
    lengths = rng.integers(1, 8, n)
    x[np.arange(7) >= lengths[:, None]] = 0
    return x.astype("int32"), rng.integers(0, 3, (n, 7)), lengths


def test_masked_steps_do_not_count():
    x, y, lengths = sequences()
    model = sequence_model()
    p = predict(model, x)
    mask = np.arange(7) < lengths[:, None]
    scale = len(x) / lengths.sum()
    ce = -np.log(np.take_along_axis(p, y[..., None], -1)[..., 0])
    np.testing.assert_allclose(
        oracle(model, "loss").score(x, y), scale * (ce * mask).sum(1), rtol=1e-4
    )
    squares = (((p - np.eye(3)[y]) ** 2).sum(-1) * mask).sum(1)
    np.testing.assert_allclose(oracle(model).score(x, y), scale * np.sqrt(squares), rtol=1e-4)


def test_ignored_class_does_not_count():
    rng = np.random.default_rng(0)
    model = keras.Sequential([layers.Input((5, FEATURES)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", L.SparseCategoricalCrossentropy(ignore_class=0))
    x = rng.normal(size=(10, 5, FEATURES)).astype("float32")
    y = rng.integers(0, 3, (10, 5))
    p = predict(model, x)
    valid = y != 0
    ce = -np.log(np.take_along_axis(p, y[..., None], -1)[..., 0]) * valid
    wrapper = oracle(model, "loss")
    np.testing.assert_allclose(wrapper.score(x, y), 10 / valid.sum() * ce.sum(1), rtol=1e-4)
    np.testing.assert_allclose(wrapper.state_dict()["tokens"], [valid.sum() / 10], rtol=1e-6)


class Subclassed(keras.Model):
    """No declared outputs; the head is not the last layer that was made."""

    def __init__(self):
        super().__init__()
        self.head = layers.Dense(CLASSES, activation="softmax")
        self.body = layers.Dense(8, activation="tanh")

    def call(self, x):
        return self.head(self.body(x))


def test_subclassed_model_gets_the_closed_form():
    x, y = data()
    model = Subclassed()
    model.compile("sgd", "sparse_categorical_crossentropy")
    scores = oracle(model).score(x, y)
    np.testing.assert_allclose(
        scores, np.linalg.norm(predict(model, x) - one_hot(y), axis=1), rtol=1e-4
    )


def test_explicit_layer_by_index_and_object():
    x, y = data()
    model = mlp(separate=True)
    weights = model.get_weights()
    hidden, z = forward64(weights, x)
    delta = softmax64(z) - one_hot(y)
    at_hidden = (delta @ weights[2].T.astype("float64")) * (1 - hidden**2)
    for layer in (0, -3, model.layers[0]):
        np.testing.assert_allclose(
            oracle(model, layer=layer).score(x, y), np.linalg.norm(at_hidden, axis=1), rtol=1e-4
        )
    for layer in (1, -2, model.layers[1]):
        np.testing.assert_allclose(
            oracle(model, layer=layer).score(x, y), np.linalg.norm(delta, axis=1), rtol=1e-4
        )


def test_unknown_activation_falls_back_and_says_so_once():
    x, y = data()
    model = mlp(ops.sin, loss="mse")
    t = _targets("real", y)
    wrapper = oracle(model)
    with pytest.warns(UserWarning, match="is not known, so the score") as caught:
        scores = wrapper.score(x, t)
        wrapper.score(x, t)
    assert len([w for w in caught if "is not known, so the score" in str(w.message)]) == 1
    expected = np.linalg.norm(2 * (predict(model, x) - t) / CLASSES, axis=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_full_gnorm_of_convolutions_and_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            layers.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = rng.normal(size=(9, 6, 6, 2)).astype("float32")
    y = rng.integers(0, 3, 9)
    wrapper = oracle(model, "full_gnorm")
    wrapper.build(x, y)
    one_by_one = [
        np.sqrt(sum((g.astype("float64") ** 2).sum() for g in wrapper.gradient(x[[i]], y[[i]])))
        for i in range(9)
    ]
    np.testing.assert_allclose(wrapper.score(x, y), one_by_one, rtol=1e-4)
    assert wrapper.compiled.objective.chunk_size == 1024
    monkeypatch.setattr(type(wrapper.compiled.objective), "chunk_size", 4)
    np.testing.assert_allclose(wrapper.score(x, y), one_by_one, rtol=1e-4)


def test_gnorm_bounds_full_gnorm_up_to_a_constant():
    x, y = data(60)
    model = mlp()
    bound, exact = (oracle(model, s).score(x, y) for s in ("gnorm", "full_gnorm"))
    weights = model.get_weights()
    hidden, _ = forward64(weights, x)
    # ||grad|| <= ||delta|| * sqrt(|h|^2 + 1 + ||W2||^2 (|x|^2 + 1)), tanh' <= 1
    spectral = np.linalg.norm(weights[2], 2) ** 2
    constant = np.sqrt((hidden**2).sum(1) + 1 + spectral * ((x**2).sum(1) + 1))
    assert (exact <= bound * constant * 1.0001).all()


def test_scoring_changes_nothing():
    x, y = data(32)
    model = keras.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Dense(8),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    before = [ops.convert_to_numpy(v.value).copy() for v in variables]
    np_state = np.random.get_state()[1].copy()
    for score in ("loss", "gnorm", "full_gnorm", "acc"):
        wrapper = oracle(model, score)
        first = wrapper.score(x, y)
        np.testing.assert_array_equal(first, wrapper.score(x, y))
    for value, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(value, ops.convert_to_numpy(variable.value))
    np.testing.assert_array_equal(np_state, np.random.get_state()[1])


def test_mixed_precision_scores():
    x, y = data()
    reference = mlp()
    with_policy = keras.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Dense(8, activation="tanh", dtype="mixed_bfloat16"),
            layers.Dense(CLASSES, activation="softmax", dtype="mixed_bfloat16"),
        ]
    )
    with_policy.compile("sgd", "sparse_categorical_crossentropy")
    with_policy.set_weights(reference.get_weights())
    scores = oracle(with_policy).score(x, y)
    assert scores.dtype == np.float32
    # bfloat16 keeps 8 bits: outputs agree to about 2^-7.
    np.testing.assert_allclose(scores, oracle(reference).score(x, y), rtol=0.05, atol=0.02)


def test_chunked_scoring_gives_the_same():
    x, y = data(50)
    wrapper = oracle(mlp())
    np.testing.assert_allclose(
        wrapper.score(x, y, batch_size=50), wrapper.score(x, y, batch_size=16), rtol=1e-5
    )
