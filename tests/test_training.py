"""Trainings through the public interface: equal to Keras when off, truthful when on."""

import itertools

import keras
import numpy as np
import pytest
from blinker import signal
from helpers import CLASSES, FEATURES, data, mlp, one_hot
from keras import layers, ops
from test_scores import sequence_model, sequences

from importance_sampling import (
    BiasedImportanceTraining,
    ConstantTimeImportanceTraining,
    ConstantVarianceImportanceTraining,
    ImportanceTraining,
)
from importance_sampling.datasets import CanevetICML2016, GeneratorDataset, InMemoryDataset
from importance_sampling.model_wrappers import ModelWrapper, ModelWrapperDecorator
from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers import BaseSampler, ModelSampler
from importance_sampling.training._loop import Loop

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


def adam_mlp(rate=0.01, **kwargs):
    return mlp(optimizer=keras.optimizers.Adam(rate), metrics=["accuracy"], **kwargs)


# -- off: Keras' own steps -----------------------------------------------------------------------


def batchnorm_model():
    return keras.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Dense(8, kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


class OwnStep(keras.Model):
    """Overrides compute_loss, as Keras documents it."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(CLASSES, activation="softmax")

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)


MODELS = {
    "adam": (lambda: keras.Sequential(mlp().layers), {"optimizer": "adam"}),
    "batchnorm-regularized": (batchnorm_model, {"optimizer": keras.optimizers.SGD}),
    "own-compute-loss": (OwnStep, {"optimizer": "rmsprop"}),
    "accumulation": (
        batchnorm_model,
        {"optimizer": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=3)},
    ),
    "ema-and-clipping": (
        batchnorm_model,
        {"optimizer": lambda: keras.optimizers.SGD(0.1, clipnorm=0.1, use_ema=True)},
    ),
    "xla": (batchnorm_model, {"optimizer": "sgd", "jit_compile": True}),
    "eager": (batchnorm_model, {"optimizer": "sgd", "run_eagerly": True}),
    "loss-scaling": (
        batchnorm_model,
        {"optimizer": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))},
    ),
}


@exact
@pytest.mark.parametrize("name", MODELS)
def test_off_equals_model_fit(name):
    x, y = data(96)
    build, arguments = MODELS[name]
    results = []
    for train in (lambda m: m.fit, lambda m: ImportanceTraining(m, tau_th=1e9).fit):
        keras.utils.set_random_seed(3)
        model = build()
        optimizer = arguments["optimizer"]
        model.compile(
            **arguments | {"optimizer": optimizer if isinstance(optimizer, str) else optimizer()},
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        history = train(model)(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        results.append((model.get_weights(), history.history))
    (weights, logs), (other, other_logs) = results
    for a, b in zip(weights, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for key, values in logs.items():
        np.testing.assert_allclose(values, other_logs[key], rtol=1e-4, atol=1e-6)
    assert other_logs["importance_sampling"] == [0, 0]


@exact
def test_off_with_sample_and_class_weights_equals_model_fit():
    x, y = data(96)
    w = np.linspace(0, 2, 96).astype("float32")
    for extra in ({"sample_weight": w}, {"class_weight": {0: 3.0, 2: 0.5}}):
        models = [adam_mlp(weighted_metrics=["accuracy"]) for _ in range(2)]
        models[1].set_weights(models[0].get_weights())
        arguments = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0} | extra
        a = models[0].fit(x, y, **arguments)
        b = ImportanceTraining(models[1], tau_th=1e9).fit(x, y, **arguments)
        for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
            np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6)
        for key, values in a.history.items():
            np.testing.assert_allclose(values, b.history[key], rtol=1e-4, atol=1e-6)


# -- on: truthful reports ------------------------------------------------------------------------


@end_to_end
@every_training
def test_learns_and_reports(name):
    x, y = data(400, noise=0.0)
    model = adam_mlp(0.05)
    training = TRAININGS[name](model, seed=0)
    history = training.fit(x, y, batch_size=32, epochs=15, verbose=0, validation_split=0.25)
    assert history is training.history is model.history
    assert training.metrics_names == ("loss", "accuracy", "score")
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


# -- data ----------------------------------------------------------------------------------------


@end_to_end
@pytest.mark.parametrize("kind", ["tensor", "list", "dict", "ints"])
def test_kinds_of_arrays(kind):
    x, y = data(64)
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    out = layers.Dense(CLASSES, activation="softmax")(layers.Concatenate()([a, b]))
    if kind in ("list", "dict"):
        model = keras.Model([a, b] if kind == "list" else {"a": a, "b": b}, out)
        inputs = [x[:, :3], x[:, 3:]]
        inputs = inputs if kind == "list" else dict(zip("ab", inputs, strict=True))
    else:
        model = keras.Sequential(mlp().layers)
        inputs = ops.convert_to_tensor(x) if kind == "tensor" else x.round().astype("int16")
    targets = ops.convert_to_tensor(y) if kind == "tensor" else y
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    before = model.get_weights()
    history = ImportanceTraining(model, tau_th=0.0, seed=0).fit(
        inputs, targets, batch_size=16, epochs=2, verbose=0, validation_data=(inputs, targets)
    )
    assert (
        history.history["importance_sampling"] == [0.75, 1]
        or history.history["importance_sampling"][-1] == 1
    )
    assert any((u != v).any() for u, v in zip(before, model.get_weights(), strict=True))
    assert "val_accuracy" in history.history


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
def test_data_set_of_the_users_own_is_read_batch_by_batch():
    class Own(InMemoryDataset):
        asked = []

        def _test_data(self, idxs):
            self.asked.append(len(idxs))
            return super()._test_data(idxs)

        _reads_slices = False

    x, y = data(90)
    from importance_sampling.training._validation import Validation, _ViewBatches

    dataset = Own(x, y, x[:50], y[:50], categorical=False)
    batches = _ViewBatches(dataset.test_data, 16)
    assert [len(batches[i][0]) for i in range(len(batches))] == [16, 16, 16, 2]
    assert max(dataset.asked) == 16
    model = adam_mlp()
    model.fit(x, y, verbose=0)
    logs = Validation(dataset, 16).run(model, keras.callbacks.CallbackList(model=model))
    np.testing.assert_allclose(
        [logs["val_loss"], logs["val_accuracy"]], model.evaluate(x[:50], y[:50], verbose=0), 1e-4
    )


def endless(x, y, size):
    while True:
        for i in range(0, len(x), size):
            yield x[i : i + size], y[i : i + size]


@end_to_end
def test_generator_with_validation():
    x, y = data(200)
    model = adam_mlp(0.05)
    history = ImportanceTraining(model, tau_th=1.05, seed=0).fit_generator(
        endless(x, y, 24),
        steps_per_epoch=20,
        batch_size=16,
        epochs=3,
        verbose=0,
        validation_data=endless(x, y, 50),
        validation_steps=4,
    )
    logs = history.history
    np.testing.assert_allclose(
        [logs["val_loss"][-1], logs["val_accuracy"][-1]], model.evaluate(x, y, verbose=0), 1e-4
    )
    assert logs["importance_sampling"][-1] > 0 and logs["loss"][-1] < logs["loss"][0]


@end_to_end
def test_a_generator_that_ends_ends_the_training():
    x, y = data(100)
    model = adam_mlp()
    with pytest.warns(UserWarning, match="ended after 6 of 50 steps"):
        history = ImportanceTraining(model, tau_th=1e9).fit_generator(
            iter([(x, y)]), steps_per_epoch=50, batch_size=16, epochs=3, verbose=0
        )
    assert len(history.history["loss"]) == 1


@end_to_end
def test_a_generator_that_raises_stops_the_training_with_its_own_error():
    x, y = data(64)

    def broken():
        yield x, y
        raise KeyError("from the generator")

    with pytest.raises(KeyError, match="from the generator") as error:
        ImportanceTraining(adam_mlp()).fit_generator(
            broken(), steps_per_epoch=50, batch_size=16, verbose=0
        )
    assert any(frame.name == "broken" for frame in error.traceback)


@end_to_end
def test_a_generator_that_hangs_does_not_hang_the_training():
    import threading

    release = threading.Event()

    def hanging():
        release.wait(60)
        yield None

    with (
        GeneratorDataset(hanging(), timeout=0.5) as dataset,
        pytest.raises(TimeoutError, match=r"no batch for 0\.5 seconds"),
    ):
        ImportanceTraining(adam_mlp()).fit_dataset(dataset, steps_per_epoch=2, verbose=0)
    release.set()


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


# -- callbacks and events ------------------------------------------------------------------------


@end_to_end
def test_callbacks_see_the_model_as_it_is(tmp_path):
    x, y = data(64)
    model = adam_mlp()
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((self.model.get_weights()[0], ops.convert_to_numpy(model.weights[0]), logs))

        def on_epoch_end(self, epoch, logs=None):
            self.model.predict(x, verbose=0)
            assert "score" in logs

    path = tmp_path / "model.keras"
    training = ImportanceTraining(model, tau_th=1.05, seed=0)
    training.fit(
        x,
        y,
        batch_size=16,
        epochs=2,
        verbose=0,
        callbacks=[Watch(), keras.callbacks.ModelCheckpoint(path)],
    )
    assert len(seen) == 8
    for through_callback, directly, logs in seen:
        np.testing.assert_array_equal(through_callback, directly)
        assert {"loss", "accuracy", "score", "variance_reduction", "importance_sampling"} <= set(
            logs
        )
    assert {logs["importance_sampling"] for *_, logs in seen} <= {0.0, 1.0}
    changes = [np.abs(a[0] - b[0]).max() for a, b in itertools.pairwise(seen)]
    assert min(changes) > 0
    np.testing.assert_array_equal(seen[-1][0], model.get_weights()[0])
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    for name in ("jax_state_sync", "compute_loss", "compute_metrics", "train_step"):
        assert name not in vars(model)


@end_to_end
def test_a_callback_may_change_weights_and_learning_rate():
    x, y = data(64)
    model = adam_mlp()
    held = [np.full_like(w, 0.25) for w in model.get_weights()]

    class Hold(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.set_weights(held)
                self.model.optimizer.learning_rate = 0.0

    training = ImportanceTraining(model, tau_th=0.0, seed=0)
    training.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=[Hold()])
    for a, b in zip(held, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    training.model.set_lr(0.5)
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) == 0.5


@end_to_end
def test_stopping_interrupting_and_going_on():
    x, y = data(64)
    model = adam_mlp()

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.model.stop_training = True

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    training = ImportanceTraining(model, tau_th=1.05, seed=0)
    history = training.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Stop()])
    assert len(history.history["loss"]) == 1
    with pytest.raises(KeyboardInterrupt):
        training.fit(x, y, batch_size=16, verbose=0, callbacks=[Interrupt()])
    before = model.get_weights()
    assert "jax_state_sync" not in vars(model)
    model.fit(x, y, batch_size=16, verbose=0)
    training.fit(x, y, batch_size=16, epochs=4, initial_epoch=2, verbose=0)
    assert len(training.history.history["loss"]) == 2
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


@end_to_end
def test_compiling_again_between_fits():
    x, y = data(64)
    model = adam_mlp()
    training = ImportanceTraining(model, tau_th=1.05, seed=0)
    training.fit(x, y, batch_size=16, verbose=0)
    frozen = model.layers[0].get_weights()[0]
    model.layers[0].trainable = False
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    training.fit(x, one_hot(y).astype("float32"), batch_size=16, verbose=0)
    np.testing.assert_array_equal(frozen, model.layers[0].get_weights()[0])


@end_to_end
def test_hooks_and_signals_stay_with_their_training():
    x, y = data(64)
    first, second = (ImportanceTraining(adam_mlp(), tau_th=1.05, seed=s) for s in (0, 1))
    draws, scores, everything = [], [], []

    def listen(event):
        everything.append(event)

    def on_sample(sampler, idxs, w, predicted_scores):
        draws.append((sampler, idxs, w, predicted_scores))

    with signal("is.sample").connected_to(listen):
        first.fit(
            x,
            y,
            batch_size=16,
            epochs=2,
            verbose=0,
            on_sample=on_sample,
            on_scores=lambda sampler, s: scores.append((sampler, s)),
        )
        second.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert len(draws) == len(scores) == 8
    assert len(everything) == 16
    samplers = {id(d[0]) for d in draws} | {id(s[0]) for s in scores}
    assert len(samplers) == 1
    for _, idxs, w, predicted in draws:
        assert idxs.shape == predicted.shape == (16,) and w.shape == (16, 1)
    assert {len(s) for _, s in scores} <= {16, 48}
    for event in everything:
        assert set(event) == {"idxs", "xy", "w", "predicted_scores"}
        np.testing.assert_array_equal(event["xy"][0], x[event["idxs"]])


@end_to_end
def test_signals_of_the_wrapper():
    x, y = data(64)
    got = {}
    training = ImportanceTraining(adam_mlp(), tau_th=0.0, seed=0)
    receivers = {}
    for name in ("is.score", "is.training", "is.evaluation", "is.evaluate_batch"):
        receivers[name] = lambda message, name=name: got.setdefault(name, message)
        signal(name).connect(receivers[name])
    training.fit(x, y, batch_size=16, verbose=0)
    wrapper = training.model
    metrics = wrapper.evaluate(x, y)
    wrapper.evaluate_batch(x[:16], y[:16])
    assert got["is.score"].shape == (48,)
    losses, logs, scores = got["is.training"]
    assert losses.shape == scores.shape == (16,) and "accuracy" in logs
    np.testing.assert_allclose(got["is.evaluation"], metrics)
    assert got["is.evaluate_batch"].shape == (2,)


@end_to_end
def test_progress_is_shown(capsys):
    x, y = data(64)
    ImportanceTraining(adam_mlp(), seed=0).fit(x, y, batch_size=16, epochs=2, verbose=2)
    out = capsys.readouterr().out
    for word in ("Epoch 2/2", "4/4", "loss", "accuracy", "score", "variance_reduction"):
        assert word in out


# -- the wrapper by hand -------------------------------------------------------------------------


@exact
def test_train_batch_weighs_and_steps():
    x, y = data(32)
    model = mlp(optimizer=keras.optimizers.SGD(1.0), metrics=["accuracy"])
    wrapper = ImportanceTraining(model).model
    w = np.linspace(0.1, 2, 32).astype("float32")[:, None]
    losses = ImportanceTraining(model, score="loss").model.score(x, y)
    gradient = wrapper.gradient(x, y, w)
    scores = wrapper.score(x, y)
    before = model.get_weights()
    weighted, metrics, after_scores = wrapper.train_batch(x, y, w)
    np.testing.assert_allclose(weighted, losses * w[:, 0], rtol=1e-4)
    np.testing.assert_allclose(after_scores, scores, rtol=1e-4)
    assert len(metrics) == 1
    for a, b, g in zip(before, model.get_weights(), gradient, strict=True):
        np.testing.assert_allclose(a - b, g, rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="Expected weights of shape"):
        wrapper.train_batch(x, y, w[:, 0])


@exact
def test_wrappers_of_the_users_own():
    class Doubled(ModelWrapperDecorator):
        """Scores twice as high; everything else is the decorated wrapper's."""

        def __init__(self, wrapper):
            super().__init__(wrapper, {"score"})

        def score(self, x, y, batch_size=128):
            return 2 * self.model_wrapper.score(x, y, batch_size)

    x, y = data(32)
    wrapper = ImportanceTraining(adam_mlp()).model
    doubled = Doubled(wrapper)
    np.testing.assert_allclose(doubled.score(x, y), 2 * wrapper.score(x, y), rtol=1e-6)
    assert doubled.model is wrapper.model and doubled.engine is wrapper.engine

    class Minimal(ModelWrapper):
        """Only what the interface asks for."""

        def __init__(self, model):
            self.model = model

        def score_batch(self, x, y):
            return np.abs(x[:, 0]) + 0.1

        def evaluate_batch(self, x, y):
            return np.array([x.mean()])

        def train_batch(self, x, y, w):
            loss = self.model.train_on_batch(x, y, sample_weight=w[:, 0])
            return np.full(len(x), loss), [], self.score_batch(x, y)

    model = mlp()
    minimal = Minimal(model)
    np.testing.assert_allclose(minimal.score(x, y, batch_size=10), np.abs(x[:, 0]) + 0.1)
    np.testing.assert_allclose(minimal.evaluate(x, y, batch_size=10)[0], x.mean(), rtol=1e-5)
    before = model.get_weights()
    policy = BiasedReweightingPolicy(1.0)
    sampler = ModelSampler(InMemoryDataset(x, y, x, y, False), policy, minimal, 24, rng=0)
    history = Loop(minimal, sampler, model, 8).run(
        epochs=1, steps_per_epoch=3, callbacks=None, verbose=0, validation=None
    )
    assert set(history.history) >= {"loss", "score"}
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    with pytest.raises(NotImplementedError, match="must implement train_batch"):
        ModelWrapper().train_batch(x, y, None)


@end_to_end
def test_a_sampler_of_the_users_own_may_return_a_bare_triple():
    class Own(BaseSampler):
        def sample(self, batch_size):
            idxs = self.rng.integers(0, 32, batch_size)
            return idxs, self.dataset.train_data[idxs], np.full((batch_size, 1), 0.5, "float32")

    class OwnTraining(ImportanceTraining):
        def sampler(self, dataset, batch_size, steps_per_epoch, epochs):
            return Own(dataset, self.reweighting, rng=0)

    x, y = data(64)
    model = adam_mlp()
    history = OwnTraining(model).fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert history.history["importance_sampling"] == [1, 1]
    # half the weight is half the loss
    expected = model.evaluate(x[:32], y[:32], verbose=0)[0] / 2
    np.testing.assert_allclose(history.history["loss"][-1], expected, rtol=0.3)


@exact
def test_pool_samplers_score_in_one_call():
    x, y = data(96)
    training = ImportanceTraining(adam_mlp(), presample=4, seed=0)
    training.model.build(x, y)
    sampler = training.sampler(InMemoryDataset(x, y, x, y, False), 16, 6, 1)
    assert isinstance(sampler.sampler, ModelSampler)
    assert sampler.sampler.large_batch == sampler.sampler.forward_batch_size == 64
    assert sampler.condition.threshold == (64 + 48) / 48


ERRORS = {
    "no model": (lambda m, x, y: ImportanceTraining("model"), TypeError, "compiled keras.Model"),
    "uncompiled": (
        lambda m, x, y: ImportanceTraining(keras.Sequential([layers.Dense(1)])),
        ValueError,
        "not compiled",
    ),
    "presample as samples": (
        lambda m, x, y: ImportanceTraining(m, presample=1024),
        ValueError,
        "counts samples",
    ),
    "presample 1": (lambda m, x, y: ImportanceTraining(m, presample=1), ValueError, "above 1"),
    "k": (lambda m, x, y: ImportanceTraining(m, k=2), ValueError, "at most 1"),
    "smooth": (lambda m, x, y: ImportanceTraining(m, smooth=-1), ValueError, "`smooth`"),
    "score": (lambda m, x, y: ImportanceTraining(m, score="los"), ValueError, "must be one of"),
    "layer index": (lambda m, x, y: ImportanceTraining(m, layer=7), ValueError, "out of range"),
    "foreign layer": (
        lambda m, x, y: ImportanceTraining(m, layer=layers.Dense(2)),
        ValueError,
        "not a layer of",
    ),
    "lengths": (lambda m, x, y: ImportanceTraining(m).fit(x, y[:-1]), ValueError, "same number"),
    "no targets": (lambda m, x, y: ImportanceTraining(m).fit(x), ValueError, "`y` is None"),
    "empty": (lambda m, x, y: ImportanceTraining(m).fit(x[:0], y[:0]), ValueError, "no rows"),
    "batch": (lambda m, x, y: ImportanceTraining(m).fit(x, y, 0), ValueError, "`batch_size`"),
    "large batch": (
        lambda m, x, y: ImportanceTraining(m).fit(x, y, 65),
        ValueError,
        "larger than the training",
    ),
    "small pool": (
        lambda m, x, y: BiasedImportanceTraining(m, presample=8).fit(x, y),
        ValueError,
        "fewer than",
    ),
    "split": (
        lambda m, x, y: ImportanceTraining(m).fit(x, y, validation_split=1.2),
        ValueError,
        "validation_split",
    ),
    "both weights": (
        lambda m, x, y: ImportanceTraining(m).fit(x, y, class_weight={0: 1.0}, sample_weight=y),
        ValueError,
        "not both",
    ),
    "generator steps": (
        lambda m, x, y: ImportanceTraining(m).fit_generator(endless(x, y, 8)),
        ValueError,
        "needs `steps_per_epoch`",
    ),
    "objects": (
        lambda m, x, y: ImportanceTraining(m).fit(np.array([[1], [1, 2]], object), y[:2], 1),
        ValueError,
        "Python objects",
    ),
    "wrong loop": (
        lambda m, x, y: ImportanceTraining(m).fit_dataset((x, y)),
        TypeError,
        "takes a BaseDataset",
    ),
}


@exact
@pytest.mark.parametrize("name", ERRORS)
def test_errors_come_before_the_first_step(name):
    call, kind, message = ERRORS[name]
    x, y = data(64)
    model = adam_mlp()
    before = model.get_weights()
    with pytest.raises(kind, match=message):
        call(model, x, y)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@exact
@pytest.mark.parametrize(
    ("reduction", "message"),
    [("mean_with_sample_weight", "step biased"), ("none", "leaves a vector")],
)
def test_unsuited_reductions_are_refused(reduction, message):
    x, y = data(64)
    model = mlp(loss=keras.losses.SparseCategoricalCrossentropy(reduction=reduction))
    with pytest.raises(ValueError, match=message):
        ImportanceTraining(model).fit(x, y)


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


@exact
def test_nan_in_training_stops_with_a_word():
    x, y = data(64)
    x[5] = np.nan
    with pytest.raises(ValueError, match="scores are NaN, infinite or negative"):
        ImportanceTraining(adam_mlp(), tau_th=0.0, seed=0).fit(x, y, batch_size=16, verbose=0)


@exact
def test_steps_per_execution_is_refused():
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch models have steps_per_execution=1 only")
    with pytest.raises(ValueError, match="steps_per_execution=4"):
        ImportanceTraining(mlp(steps_per_execution=4))


@exact
def test_variable_batch_sizes_compile_few_functions():
    """A compiled step is traced once per shape, so shapes must be few."""
    x, y = data(256, noise=0.0)
    model = adam_mlp(0.05)
    traces = []
    training = ConstantVarianceImportanceTraining(
        model, backward_time=20.0, extra_samples=0.0, seed=0
    )
    training.model.build(x, y)
    inner = training.model.engine.step

    def counted(run, *tensors):
        traces.append(tensors[0].shape[0])
        return inner(run, *tensors)

    engine = training.model.engine
    engine._train = engine.runtime.compile_train(counted)
    sizes = []
    training.fit(
        x,
        y,
        batch_size=64,
        epochs=10,
        verbose=0,
        on_sample=lambda s, idxs, w, p: sizes.append(len(idxs)),
    )
    assert len(set(sizes)) > 1
    if engine.runtime.traces:
        assert len(traces) <= len(set(sizes)) <= 16


@exact
def test_own_train_step_is_used():
    x, y = data(64)
    calls = []

    class Counting(keras.Sequential):
        def train_step(self, *args):
            calls.append(1)
            return super().train_step(*args)

    model = Counting(mlp().layers)
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    ImportanceTraining(model).fit(x, y, batch_size=16, verbose=0)
    assert len(calls) == 4


def test_helpers_agree():
    x, y = data(16)
    assert x.shape == (16, FEATURES) and one_hot(y).shape == (16, CLASSES)
