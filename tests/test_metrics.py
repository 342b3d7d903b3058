"""Metrics of all kinds under importance sampling: values of Keras while it is off."""

import warnings

import keras
import numpy as np
import pytest
from blinker import signal
from helpers import data, mlp
from keras import layers, ops

from importance_sampling import HistoryImportanceTraining, ImportanceTraining

pytestmark = pytest.mark.two_backends


def r2(y_true, y_pred):
    """One value per batch."""
    rest = ops.sum(ops.square(y_true - y_pred))
    return 1 - rest / (ops.sum(ops.square(y_true - ops.mean(y_true))) + 1e-7)


def per_image(y_true, y_pred):
    """One value per image."""
    return ops.mean(ops.abs(y_true - y_pred), axis=(1, 2, 3))


def regression():
    model = keras.Sequential([layers.Input((6,)), layers.Dense(1)])
    x, _ = data(50)
    return model, x, x[:, :1], {"loss": "mse", "metrics": [r2, "mae"]}


def images():
    model = keras.Sequential([layers.Input((4, 4, 1)), layers.Conv2D(1, 3, padding="same")])
    x = np.random.default_rng(0).normal(size=(50, 4, 4, 1)).astype("float32")
    return model, x, 2 * x, {"loss": "mse", "metrics": [per_image, "mae"]}


def several_labels():
    model = keras.Sequential([layers.Input((6,)), layers.Dense(3, activation="sigmoid")])
    x, _ = data(50)
    metrics = [keras.metrics.F1Score(average="macro", threshold=0.5), keras.metrics.AUC(name="auc")]
    metrics += [keras.metrics.Precision(name="precision"), keras.metrics.BinaryAccuracy()]
    return (
        model,
        x,
        (x[:, :3] > 0).astype("float32"),
        {"loss": "binary_crossentropy", "metrics": metrics},
    )


def pixels():
    model = keras.Sequential(
        [layers.Input((4, 4, 1)), layers.Conv2D(3, 3, padding="same", activation="softmax")]
    )
    x = np.random.default_rng(0).normal(size=(50, 4, 4, 1)).astype("float32")
    y = (x[..., 0] > 0).astype("int32")
    metrics = [keras.metrics.MeanIoU(3, sparse_y_pred=False, name="iou"), "accuracy"]
    return model, x, y, {"loss": "sparse_categorical_crossentropy", "metrics": metrics}


@pytest.mark.filterwarnings("ignore:The metric")
@pytest.mark.parametrize("make", [regression, images, several_labels, pixels])
def test_values_while_off_are_those_of_model_fit(make):
    if make is pixels and keras.backend.backend() == "torch":
        pytest.skip("Keras on PyTorch refuses integer labels of pixels")
    logs, weights = [], None
    for train in (lambda m: m.fit, lambda m: ImportanceTraining(m, tau_th=1e9, seed=0).fit):
        keras.utils.set_random_seed(1)
        model, x, y, arguments = make()
        model.compile("sgd", **arguments)
        weights = model.get_weights() if weights is None else weights
        model.set_weights(weights)
        run = train(model)(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        logs.append(run.history)
    for name, values in logs[0].items():
        np.testing.assert_allclose(values, logs[1][name], rtol=1e-4, atol=1e-6, err_msg=name)
    ImportanceTraining(model, tau_th=0.0, seed=0).fit(x, y, batch_size=16, epochs=2, verbose=0)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras on PyTorch refuses integer labels of pixels"
)
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_a_metric_that_counts_in_integers_says_how_it_could_be_weighed(dtype):
    model, x, y, arguments = pixels()
    metric = keras.metrics.MeanIoU(3, sparse_y_pred=False, name="iou", dtype=dtype)
    model.compile("sgd", **arguments | {"metrics": [metric]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ImportanceTraining(model, tau_th=0.0).fit(x, y, batch_size=16, verbose=0)
    told = [str(w.message) for w in caught if "['iou']" in str(w.message)]
    assert len(told) == (dtype is None)
    assert all('dtype="float32"' in message for message in told)


def test_weights_count_once_in_f1():
    """Weights of a batch in which one row has all of it give that row's own value."""
    from importance_sampling.model_wrappers._metric_weights import shape_weights

    rng = np.random.default_rng(0)
    y, p = (rng.random((6, 3)) > 0.5).astype("float32"), rng.random((6, 3)).astype("float32")
    metric = keras.metrics.F1Score(average="macro", threshold=0.5)
    alone = keras.metrics.F1Score(average="macro", threshold=0.5)
    alone.update_state(y[2:3], p[2:3])
    weights = ops.convert_to_tensor(np.eye(6, dtype="float32")[2][:, None])
    tensors = ops.convert_to_tensor(y), ops.convert_to_tensor(p)
    metric.update_state(*tensors, sample_weight=shape_weights(metric, weights, *tensors))
    np.testing.assert_allclose(float(metric.result()), float(alone.result()), rtol=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras on PyTorch cannot train stateful layers"
)
def test_a_model_of_one_batch_size_is_scored_in_such_batches():
    model = keras.Sequential(
        [layers.Input((5, 2), batch_size=4), layers.LSTM(3, stateful=True), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(24, 5, 2)).astype("float32")
    training = ImportanceTraining(model, tau_th=0.0, seed=0)
    history = training.fit(x, x[:, 0, :1], batch_size=4, epochs=3, verbose=0).history
    assert history["importance_sampling"][-1] == 1


@pytest.mark.exact
@pytest.mark.one_backend("torch")
def test_a_hook_that_evaluates_the_model_does_not_change_what_the_epoch_logs():
    x, y = data(24)

    def train(*callbacks):
        keras.utils.set_random_seed(1)
        model, calls = mlp(), []

        def hook(sampler, scores):
            calls.append(1)
            if len(calls) == 3:
                # After the last step, before the epoch's logs.
                model.evaluate(x[:4], y[:4], verbose=0)

        training = HistoryImportanceTraining(model, seed=2)
        options = {"callbacks": [*callbacks], "on_scores": hook, "verbose": 0}
        return training.fit(x, y, batch_size=8, **options).history["loss"]

    reads_logs = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    np.testing.assert_allclose(train(), train(reads_logs), rtol=1e-6)


@pytest.mark.exact
@pytest.mark.one_backend("torch")
def test_a_listener_that_evaluates_the_model_does_not_change_what_the_epoch_logs():
    x, y = data(24)

    def train(listen):
        keras.utils.set_random_seed(1)
        model, heard = mlp(), []

        def listener(values):
            heard.append(1)
            if listen and len(heard) == 3:
                model.evaluate(x[:4], y[:4], verbose=0)

        training = HistoryImportanceTraining(model, seed=2)
        with signal("is.training").connected_to(listener):
            found = training.fit(x, y, batch_size=8, verbose=0).history["loss"]
        assert len(heard) == 3
        return found

    np.testing.assert_allclose(train(True), train(False), rtol=1e-6)
