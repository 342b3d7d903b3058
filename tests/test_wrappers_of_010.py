"""What scripts of 0.10 lean on: what the wrapped model says, and to whom."""

import contextlib

import keras
import numpy as np
import pytest
from blinker import signal
from helpers import CLASSES, FEATURES, adam_mlp, data, mlp, one_hot, oracle
from keras import layers

from importance_sampling.model_wrappers import ModelWrapper, OracleWrapper
from importance_sampling.reweighting import UNBIASED, BiasedReweightingPolicy
from importance_sampling.training import ImportanceTraining

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact
end_to_end = pytest.mark.end_to_end

SIGNALS = ("is.score", "is.training", "is.evaluation", "is.evaluate_batch")


@contextlib.contextmanager
def heard(*names):
    """Everything that the signals carry, by their names."""
    messages = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(signal(name).connected_to(messages[name].append))
        yield messages


def masked_tagger():
    """A network whose targets are sequences of different length."""
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True)(inputs)
    x = layers.LSTM(4, return_sequences=True)(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 7, (24, 5)) * (np.arange(5) < rng.integers(1, 6, (24, 1)))
    return model, tokens.astype("int32"), rng.integers(0, 3, (24, 5))


def two_outputs(**compile_arguments):
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(5, activation="tanh")(inputs)
    outputs = [
        layers.Dense(CLASSES, activation="softmax", name="kind")(hidden),
        layers.Dense(2, name="size")(hidden),
    ]
    model = keras.Model(inputs, outputs)
    arguments = {
        "loss": ["sparse_categorical_crossentropy", "mse"],
        "metrics": [["accuracy"], ["mae", keras.metrics.MeanSquaredError(name="square")]],
        "loss_weights": [1.0, 0.5],
    }
    model.compile("sgd", **compile_arguments or arguments)
    x, y = data(24)
    return model, x, [y, x[:, :2]]


def regularized():
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(4, activation="tanh", kernel_regularizer="l2", activity_regularizer="l1")
    model = keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(hidden(inputs)))
    model.compile("sgd", "categorical_crossentropy", metrics=["categorical_accuracy", "mse"])
    x, y = data(24)
    return model, x, one_hot(y).astype("float32")


def curve():
    model = mlp("sigmoid", 1, loss="binary_crossentropy", metrics=["AUC", "acc"])
    x, y = data(24)
    return model, x, (y % 2)[:, None].astype("float32")


MODELS = {
    "classes": lambda: (adam_mlp(), *data(24)),
    "no metrics": lambda: (mlp(), *data(24)),
    "masked": masked_tagger,
    "two outputs": two_outputs,
    "regularized": regularized,
    "a metric that is no mean": curve,
}


@exact
@pytest.mark.parametrize("name", list(MODELS))
def test_evaluate_batch_is_by_example_and_averages_to_what_keras_says(name):
    model, x, y = MODELS[name]()
    wrapper = OracleWrapper(model, UNBIASED, score="gnorm")
    before = model.get_weights()
    rows = wrapper.evaluate_batch(x, y)
    expected = model.evaluate(x, y, batch_size=24, verbose=0, return_dict=True)
    names = wrapper.metrics_names[:-1]
    assert rows.shape == (24, len(names)) and set(names) == set(expected)
    for column, metric in zip(rows.T, names, strict=True):
        np.testing.assert_allclose(column.mean(), expected[metric], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(wrapper.evaluate(x, y, 24), rows.mean(axis=0), rtol=1e-4, atol=1e-6)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@exact
def test_rows_are_the_examples_own():
    x, y = data(24)
    model = adam_mlp()
    rows = OracleWrapper(model, UNBIASED).evaluate_batch(x, y)
    p = model.predict(x, verbose=0)
    np.testing.assert_allclose(rows[:, 0], -np.log(p[np.arange(24), y]), rtol=1e-4)
    np.testing.assert_array_equal(rows[:, 1], p.argmax(1) == y)


@exact
def test_train_batch_returns_columns_and_takes_a_vector_of_weights():
    x, y = data(16)
    model = adam_mlp()
    wrapper = oracle(model, "loss")
    correct = model.predict(x, verbose=0).argmax(1) == y
    losses, metrics, scores = wrapper.train_batch(x, y, np.full(16, 0.5))
    assert losses.shape == scores.shape == metrics.shape == (16, 1)
    np.testing.assert_allclose(2 * losses, scores, rtol=1e-6)
    np.testing.assert_array_equal(metrics[:, 0], correct)
    bare = oracle(mlp()).train_batch(x, y, np.ones((16, 1)))
    assert [part.shape for part in bare] == [(16, 1), (16, 0), (16, 1)]


@exact
def test_signals_carry_what_they_carried():
    x, y = data(16)
    wrapper = oracle(adam_mlp(), "loss")
    with heard(*SIGNALS) as got:
        scores = wrapper.score(x, y)
        rows = wrapper.evaluate_batch(x, y)
        losses, metrics, _ = wrapper.train_batch(x, y, np.ones((16, 1)))
        evaluated = wrapper.evaluate(x, y, batch_size=8)
    np.testing.assert_array_equal(got["is.score"][0], scores)
    message = got["is.evaluate_batch"][0]
    assert list(range(5)) == [
        wrapper.AVG_LOSS,
        wrapper.LOSS,
        wrapper.WEIGHTED_LOSS,
        wrapper.SCORE,
        wrapper.METRIC0,
    ]
    np.testing.assert_allclose(message[wrapper.AVG_LOSS], rows[:, 0].mean())
    np.testing.assert_array_equal(message[wrapper.LOSS], rows[:, :1])
    np.testing.assert_array_equal(message[wrapper.WEIGHTED_LOSS], rows[:, :1])
    np.testing.assert_allclose(message[wrapper.SCORE][:, 0], scores, rtol=1e-5)
    np.testing.assert_array_equal(message[wrapper.METRIC0], rows[:, 1:])
    trained = got["is.training"][0]
    np.testing.assert_array_equal(trained[0], losses)
    assert [column.shape for column in trained[1]] == [(16, 1)]
    np.testing.assert_array_equal(trained[1][0], metrics)
    assert trained[2].shape == (16, 1)
    assert len(got["is.evaluate_batch"]) == 3  # one by hand, two of `evaluate`
    np.testing.assert_array_equal(got["is.evaluation"][0], evaluated)


def generator(x, y):
    while True:
        yield x[:20], y[:20]


VALIDATION = {
    "arrays": lambda x, y: {"validation_data": (x[:20], y[:20])},
    "generator": lambda x, y: {"validation_data": generator(x, y), "validation_steps": 1},
    "split": lambda x, y: {"validation_split": 0.25},
}


@end_to_end
@pytest.mark.parametrize("kind", list(VALIDATION))
def test_signals_of_validation_during_fit(kind):
    x, y = data(64)
    training = ImportanceTraining(adam_mlp(), tau_th=0.0, seed=0)
    with heard(*SIGNALS) as got:
        history = training.fit(
            x, y, batch_size=16, epochs=2, verbose=0, **VALIDATION[kind](x, y)
        ).history
    expected = np.array([history["val_loss"], history["val_accuracy"]]).T
    np.testing.assert_allclose(got["is.evaluation"], expected, rtol=1e-5)
    batches = got["is.evaluate_batch"]
    rows = 16 if kind == "split" else 20
    assert sum(len(message[1]) for message in batches) == 2 * rows
    half = batches[: len(batches) // 2]
    means = [np.concatenate([m[i] for m in half]).mean() for i in (1, 4)]
    np.testing.assert_allclose(means, expected[0], rtol=1e-4)
    assert len(got["is.training"]) == 2 * (3 if kind == "split" else 4)


@end_to_end
def test_a_users_subclass_decides_what_is_evaluated_trained_and_scored():
    calls = []

    class Own(OracleWrapper):
        def evaluate_batch(self, x, y):
            calls.append("evaluate")
            return np.stack([y + 0.5, y % 2], axis=1)

        def train_batch(self, x, y, w):
            calls.append("train")
            return super().train_batch(x, y, w)

        def score_batch(self, x, y):
            calls.append("score")
            return np.abs(x[:, 0]) + 0.1

    x, y = data(64)
    training = ImportanceTraining(adam_mlp(), tau_th=0.0, seed=0)
    training.model = Own(training.original_model, training.reweighting, "gnorm")
    np.testing.assert_allclose(
        training.model.evaluate(x[:20], y[:20], batch_size=7),
        [(y[:20] + 0.5).mean(), (y[:20] % 2).mean()],
    )
    history = training.fit(
        x, y, batch_size=16, epochs=1, verbose=0, validation_data=(x[:20], y[:20])
    ).history
    assert history["val_loss"][0] == pytest.approx((y[:20] + 0.5).mean())
    assert history["val_accuracy"][0] == pytest.approx((y[:20] % 2).mean())
    assert calls.count("train") == 4 and "score" in calls


@exact
def test_a_users_wrapper_may_return_rows_or_means():
    class Rows(ModelWrapper):
        def evaluate_batch(self, x, y):
            return np.stack([x[:, 0], y.astype(float)], axis=1)

    class Means(Rows):
        def evaluate_batch(self, x, y):
            return super().evaluate_batch(x, y).mean(axis=0)

    x, y = data(23)
    for wrapper in (Rows(), Means()):
        np.testing.assert_allclose(wrapper.evaluate(x, y, 7), [x[:, 0].mean(), y.mean()], rtol=1e-5)
    with pytest.raises(NotImplementedError, match="must implement set_lr"):
        Rows().set_lr(0.1)


COMPILED = {
    "strings": {
        "metrics": ["accuracy", "SparseCategoricalAccuracy"],
        "weighted_metrics": ["acc"],
    },
    "objects": {"metrics": [keras.metrics.SparseCategoricalAccuracy(name="right"), "accuracy"]},
    "functions": {"metrics": [keras.metrics.sparse_categorical_accuracy]},
    "own function": {"metrics": [lambda y, p: p[:, 0]]},
    "twice": {"metrics": ["accuracy", "accuracy"], "weighted_metrics": ["accuracy"]},
    "none": {},
}


@exact
@pytest.mark.parametrize("name", list(COMPILED))
def test_names_of_metrics_are_complete_before_fit(name):
    x, y = data(32)
    model = mlp(**COMPILED[name])
    training = ImportanceTraining(model)
    before = training.metrics_names
    assert isinstance(before, list) and before[0] == "loss" and before[-1] == "score"
    assert (before + ["more"])[-1] == "more"  # noqa: RUF005
    history = training.fit(x, y, batch_size=16, verbose=0).history
    assert training.metrics_names == before
    assert set(before) <= set(history)


@exact
@pytest.mark.parametrize("metrics", ["lists", "dict", "none"])
def test_names_of_metrics_of_several_outputs(metrics):
    loss = {"kind": "sparse_categorical_crossentropy", "size": "mse"}
    given = {
        "lists": [["accuracy"], ["mae", "mse"]],
        "dict": {"size": "mae", "kind": ["accuracy"]},
        "none": None,
    }[metrics]
    model, x, y = two_outputs(
        loss=loss if metrics == "dict" else list(loss.values()), metrics=given
    )
    training = ImportanceTraining(model)
    before = training.metrics_names
    history = training.fit(x, y, batch_size=12, verbose=0).history
    assert training.metrics_names == before
    assert set(before) <= set(history)


@exact
def test_optimizer_and_layer():
    fused, separate = mlp(), mlp(separate=True)
    assert oracle(fused).optimizer is fused.optimizer
    assert oracle(fused).layer is fused.layers[-1]
    assert oracle(separate).layer is separate.layers[-2]
    assert oracle(separate, layer=0).layer is separate.layers[0]
    wrapper = OracleWrapper(fused, BiasedReweightingPolicy(), "loss", fused.layers[0])
    assert wrapper.layer is fused.layers[0]
    wrapper.set_lr(0.25)
    assert float(fused.optimizer.learning_rate.numpy()) == 0.25
