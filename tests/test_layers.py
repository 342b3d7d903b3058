"""The score layers against numpy."""

import keras
import numpy as np
import pytest
from helpers import CLASSES, data, forward64, full_norm64, mlp, one_hot, predict, softmax64
from keras import layers, ops

from importance_sampling.layers import GradientNormLayer, LossLayer, MetricLayer

pytestmark = [pytest.mark.exact, pytest.mark.two_backends]


def call(layer, *inputs):
    return ops.convert_to_numpy(layer([ops.convert_to_tensor(i) for i in inputs]))


@pytest.mark.parametrize("shape", [(6, 4), (6, 5, 4), (6, 2, 5, 4), (6,)])
def test_losses_average_the_other_axes(shape):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, *shape)).astype("float32")
    expected = ((a - b) ** 2).reshape(6, -1).mean(1, keepdims=True)
    for loss in ("mse", keras.losses.MeanSquaredError(), lambda t, p: ops.square(t - p)):
        if shape == (6,) and not callable(loss):
            continue
        if shape == (6,) and isinstance(loss, keras.losses.Loss):
            continue
        np.testing.assert_allclose(call(LossLayer(loss), a, b), expected, rtol=1e-5)


def test_masked_steps_do_not_count():
    rng = np.random.default_rng(0)
    steps = np.array([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
    inputs = keras.Input((3,), dtype="int32")
    target = keras.Input((3, 2))
    embedded = layers.Embedding(7, 2, mask_zero=True)(inputs)
    model = keras.Model([inputs, target], [embedded, LossLayer("mse")([target, embedded])])
    t = rng.normal(size=(3, 3, 2)).astype("float32")
    p, got = (ops.convert_to_numpy(o) for o in model([steps, t]))
    values = ((p - t) ** 2).mean(-1)
    expected = [values[i][steps[i] > 0].mean() for i in range(3)]
    np.testing.assert_allclose(got[:, 0], expected, rtol=1e-5)


def test_metrics_per_sample():
    y, p = np.array([0, 1, 2]), np.eye(3, dtype="float32")[[0, 2, 2]]
    for metric in ("sparse_categorical_accuracy", keras.metrics.SparseCategoricalAccuracy()):
        got = call(MetricLayer(metric), y[:, None].astype("float32"), p)
        np.testing.assert_array_equal(got, [[1], [0], [1]])
    with pytest.raises(ValueError, match="must be a function"):
        MetricLayer(keras.metrics.AUC())


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "mse"])
def test_gradient_norms_at_the_outputs_and_exact(loss):
    x, y = data()
    t = one_hot(y).astype("float32")
    model = mlp(loss=loss)
    _, z = forward64(model.get_weights(), x)
    p = softmax64(z)
    if loss == "mse":
        g = 2 * (p - t) / CLASSES
        delta = p * (g - (g * p).sum(1, keepdims=True))
    else:
        delta = p - t
    fast = GradientNormLayer(model.layers[-1], loss, fast=True)
    got = call(fast, t, predict(model, x).astype("float32"))
    np.testing.assert_allclose(got[:, 0], np.linalg.norm(delta, axis=1), rtol=1e-4)
    exact = call(GradientNormLayer(model, loss), t, x)
    np.testing.assert_allclose(exact[:, 0], full_norm64(model.get_weights(), x, delta), rtol=1e-4)


def test_bad_arguments():
    with pytest.raises(ValueError, match="must be the model"):
        GradientNormLayer(None, "mse")
    with pytest.raises(TypeError, match="must be a layer or a model"):
        GradientNormLayer([1], "mse")


@pytest.mark.parametrize(
    "layer",
    [
        LossLayer("mse"),
        LossLayer(keras.losses.Huber()),
        MetricLayer("categorical_accuracy"),
        GradientNormLayer(layers.Dense(4, activation="softmax"), "mse", fast=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_are_serializable(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 5, 4)).astype("float32")
    got = call(layer, a, b)
    assert got.shape == (5, 1)
    np.testing.assert_allclose(call(copy, a, b), got)


def test_a_model_with_a_loss_layer_saves_and_loads(tmp_path):
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], LossLayer("mae")([a, layers.Dense(4)(b)]))
    path = tmp_path / "model.keras"
    model.save(path)
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(
        keras.models.load_model(path).predict([x, x], verbose=0), model.predict([x, x], verbose=0)
    )
