"""Trainings through the public interface: truthful when on."""

import keras
import numpy as np
import pytest
from helpers import (
    CLASSES,
    FEATURES,
    adam_mlp,
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
from test_scores import sequence_model, sequences

from importance_sampling import (
    BiasedImportanceTraining,
    ConstantTimeImportanceTraining,
    ConstantVarianceImportanceTraining,
    ImportanceTraining,
)
from importance_sampling.datasets import CanevetICML2016

pytestmark = pytest.mark.two_backends

end_to_end = pytest.mark.end_to_end
exact = pytest.mark.exact

TRAININGS = {
    "importance": lambda m, **k: ImportanceTraining(m, tau_th=1.05, **k),
    "biased-by-k": lambda m, **k: ImportanceTraining(m, tau_th=1.05, k=0.5, smooth=0.1, **k),
    "adaptive": lambda m, **k: ImportanceTraining(
        m, tau_th=1.05, smooth=0.1, adaptive_smoothing=True, score="loss", **k
    ),
    "biased": lambda m, **k: BiasedImportanceTraining(m, presample=48, **k),
    "constant-variance": lambda m, **k: ConstantVarianceImportanceTraining(
        m, backward_time=20.0, extra_samples=0.0, **k
    ),
    "constant-time": ConstantTimeImportanceTraining,
}
every_training = pytest.mark.parametrize("name", TRAININGS)


@pytest.mark.one_backend
@end_to_end
@every_training
def test_learns_and_reports(name):
    x, y = data(400, noise=0.0)
    model = adam_mlp(0.05)
    training = TRAININGS[name](model, seed=0)
    history = training.fit(x, y, batch_size=32, epochs=15, verbose=0, validation_split=0.25)
    assert history is training.history is model.history
    assert training.metrics_names == ["loss", "accuracy", "score"]
    logs = history.history
    assert {
        "loss",
        "accuracy",
        "score",
        "variance_reduction",
        "importance_sampling",
        "val_loss",
        "val_accuracy",
    } == set(logs)
    assert all(len(v) == 15 for v in logs.values())
    assert logs["loss"][-1] < 0.7 * logs["loss"][0]
    assert logs["importance_sampling"][-1] > 0
    loss, accuracy = model.evaluate(x[300:], y[300:], verbose=0)
    np.testing.assert_allclose(
        [logs["val_loss"][-1], logs["val_accuracy"][-1]], [loss, accuracy], rtol=1e-5
    )


@pytest.mark.one_backend
@end_to_end
@pytest.mark.parametrize("name", ["importance", "biased", "biased-by-k"])
def test_reported_loss_and_accuracy_are_the_training_sets(name, mnist):
    """With the weights frozen, the reports estimate what `evaluate` computes.

    Each step's metric is a weighted mean over 64 draws; its spread over steps gives the
    standard error of the epoch's mean, and 4.9 of those are p < 1e-6.
    """
    x, y = mnist[0][:4000], mnist[1][:4000]
    model = keras.Sequential(
        [
            layers.Input((784,)),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=128, epochs=2, verbose=0)
    model.compile(
        keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    loss, accuracy = model.evaluate(x, y, verbose=0)
    training = {
        "importance": ImportanceTraining(model, tau_th=0.0, seed=0),
        "biased": BiasedImportanceTraining(model, seed=0),
        "biased-by-k": ImportanceTraining(model, tau_th=0.0, k=0.0, score="loss", seed=0),
    }[name]
    means = {"loss": [], "accuracy": []}
    drawn = []
    right = ops.convert_to_numpy(model(ops.convert_to_tensor(x))).argmax(1) == y
    for _ in range(30):
        history = training.fit(
            x,
            y,
            batch_size=64,
            steps_per_epoch=10,
            verbose=0,
            on_sample=lambda sampler, idxs, w, scores: drawn.append(right[idxs].mean()),
        )
        for key, values in means.items():
            values.append(history.history[key][0])
    for key, expected in (("loss", loss), ("accuracy", accuracy)):
        values = np.array(means[key])
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - expected) < 4.9 * error + 1e-3
    # the draw itself is much harder than the set, or this test would show nothing
    assert np.mean(drawn) < accuracy - 0.1


@pytest.mark.one_backend
@end_to_end
def test_importance_sampling_switches_on_by_itself(mnist):
    x, y, x_test, y_test = (a[:3000] for a in mnist)
    model = keras.Sequential(
        [
            layers.Input((784,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    history = ImportanceTraining(model, seed=0).fit(
        x, y, batch_size=64, epochs=8, verbose=0, validation_data=(x_test, y_test)
    )
    share = history.history["importance_sampling"]
    assert share[0] < 1 and share[-1] == 1
    assert history.history["variance_reduction"][-1] > 2
    assert history.history["val_accuracy"][-1] > 0.88


@pytest.mark.one_backend
@exact
@every_training
def test_seed_decides_everything_and_global_state_is_untouched(name):
    x, y = data(128)
    before = np.random.get_state()[1].copy()
    weights = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(0)
        model = adam_mlp()
        before = np.random.get_state()[1].copy()
        TRAININGS[name](model, seed=seed).fit(x, y, batch_size=16, epochs=2, verbose=0)
        np.testing.assert_array_equal(before, np.random.get_state()[1])
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-5, atol=1e-6)
    assert np.abs(weights[0] - weights[2]).max() > 1e-4


@pytest.mark.one_backend
@end_to_end
def test_data_set_with_test_data():
    dataset = CanevetICML2016(N=48)
    model = keras.Sequential(
        [
            layers.Input((2,)),
            layers.Dense(20, activation="tanh"),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    history = ImportanceTraining(model, tau_th=1.1, seed=0).fit_dataset(
        dataset, batch_size=32, epochs=6, verbose=0
    )
    x, y = dataset.test_data[:]
    expected = model.evaluate(x, y, verbose=0)
    logs = history.history
    np.testing.assert_allclose([logs["val_loss"][-1], logs["val_accuracy"][-1]], expected, 1e-5)
    assert logs["loss"][-1] < logs["loss"][0]


@end_to_end
def test_masked_sequences_train():
    x, y, _ = sequences(64)
    model = sequence_model()
    history = ImportanceTraining(model, tau_th=0.0, seed=0).fit(
        x, y, batch_size=16, epochs=3, verbose=0
    )
    assert history.history["importance_sampling"][-1] == 1
    assert np.isfinite(history.history["loss"]).all()
    loss = model.evaluate(x, y, verbose=0)[0]
    assert abs(history.history["loss"][-1] - loss) < 0.1


@exact
def test_a_summed_loss_keeps_its_scale():
    x, y = data(64)
    model = mlp(loss=keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    mean = mlp()
    mean.set_weights(model.get_weights())
    np.testing.assert_allclose(
        ImportanceTraining(model).model.score(x, y),
        ImportanceTraining(mean).model.score(x, y),
        rtol=1e-4,
    )


def test_helpers_agree():
    """The reference formulas in float64 are those of the small network they stand for."""
    x, y = data(16)
    assert x.shape == (16, FEATURES) and set(y) <= set(range(CLASSES))
    model = mlp()
    weights = model.get_weights()
    probabilities = softmax64(forward64(weights, x)[1])
    np.testing.assert_allclose(predict(model, x), probabilities, rtol=1e-4, atol=1e-6)
    losses = -np.log((probabilities * one_hot(y)).sum(axis=1))
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), losses.mean(), rtol=1e-4)
    norms = full_norm64(weights, x, probabilities - one_hot(y))
    np.testing.assert_allclose(oracle(model, "full_gnorm").score(x, y), norms, rtol=1e-3)
