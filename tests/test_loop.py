"""The loop: callbacks, events, streams, and parts of the user's own."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
from blinker import signal
from helpers import adam_mlp, data, mlp
from keras import ops

from importance_sampling import ConstantVarianceImportanceTraining, ImportanceTraining
from importance_sampling.datasets import BaseDataset, InMemoryDataset
from importance_sampling.model_wrappers import ModelWrapper, ModelWrapperDecorator
from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers import BaseSampler, ModelSampler, UniformSampler
from importance_sampling.training._validation import Validation
from importance_sampling.training.loop import Loop

pytestmark = pytest.mark.two_backends

end_to_end = pytest.mark.end_to_end
exact = pytest.mark.exact


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
def test_data_set_of_the_users_own_is_read_batch_by_batch():
    x, y = data(90)
    asked = []

    class Own(BaseDataset):
        def _test_data(self, idxs):
            asked.append(len(idxs))
            return x[idxs], y[idxs]

        def _test_size(self):
            return 50

    dataset = Own()
    model = adam_mlp()
    model.fit(x, y, verbose=0)
    logs = Validation(dataset, 16).run(model, keras.callbacks.CallbackList(model=model))
    np.testing.assert_allclose(
        [logs["val_loss"], logs["val_accuracy"]], model.evaluate(x[:50], y[:50], verbose=0), 1e-4
    )
    assert set(asked) == {16, 2}


@exact
@pytest.mark.any_backend
def test_batches_are_told_to_whoever_listens_and_to_nobody_else(monkeypatch):
    class Listens(keras.callbacks.Callback):
        def on_batch_begin(self, batch, logs=None):
            heard.append(batch)

    class EpochsOnly(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            # From the next epoch on.
            self.on_train_batch_end = lambda batch, logs: heard.append(batch)

    class Told(keras.callbacks.CallbackList):
        def on_train_batch_end(self, batch, logs=None):
            heard.append(batch)

    told = []
    original = keras.callbacks.CallbackList.on_train_batch_end

    def on_train_batch_end(callbacks, batch, logs=None):
        told.append(batch)
        original(callbacks, batch, logs)

    monkeypatch.setattr(keras.callbacks.CallbackList, "on_train_batch_end", on_train_batch_end)
    x, y = data(32)
    training = ImportanceTraining(adam_mlp(), seed=0)
    for callbacks, expected in (
        ([], []),
        ([keras.callbacks.EarlyStopping(monitor="loss")], []),
        ([Listens()], [0, 1, 0, 1]),
        ([keras.callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: None)], None),
        ([EpochsOnly()], [0, 1]),
        (Told(add_history=True, model=training.original_model), [0, 1, 0, 1]),
    ):
        heard, before = [], len(told)
        history = training.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=callbacks)
        assert len(history.history["loss"]) == 2
        if expected is not None:
            assert heard == expected
        if not isinstance(callbacks, Told):
            # Both batches of an epoch, of as many epochs as somebody listened in.
            epochs = 2 if expected is None else len(expected) // 2
            assert told[before:] == epochs * [0, 1]


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
    # Of the steps so far, in an epoch as at its end.
    shares = [logs["importance_sampling"] for *_, logs in seen]
    told = training.history.history["importance_sampling"]
    assert [shares[3], shares[7]] == told
    for i, share in enumerate(shares):
        assert share * (i % 4 + 1) in range(5)
    changes = [np.abs(a[0] - b[0]).max() for a, b in itertools.pairwise(seen)]
    assert min(changes) > 0
    np.testing.assert_array_equal(seen[-1][0], model.get_weights()[0])
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    for name in ("jax_state_sync", "compute_loss", "compute_metrics", "train_step"):
        assert name not in vars(model)


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
    losses, columns, scores = got["is.training"]
    assert losses.shape == scores.shape == columns[0].shape == (16, 1) and len(columns) == 1
    np.testing.assert_allclose(got["is.evaluation"], metrics)
    assert len(got["is.evaluate_batch"]) == 5


@end_to_end
def test_progress_is_shown(capsys):
    x, y = data(64)
    ImportanceTraining(adam_mlp(), seed=0).fit(x, y, batch_size=16, epochs=2, verbose=2)
    out = capsys.readouterr().out
    for word in ("Epoch 2/2", "4/4", "loss", "accuracy", "score", "variance_reduction"):
        assert word in out


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
    np.testing.assert_allclose(weighted, losses[:, None] * w, rtol=1e-4)
    np.testing.assert_allclose(after_scores[:, 0], scores, rtol=1e-4)
    assert metrics.shape == (32, 1)
    for a, b, g in zip(before, model.get_weights(), gradient, strict=True):
        np.testing.assert_allclose(a - b, g, rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="Expected weights of shape"):
        wrapper.train_batch(x, y, np.tile(w, 2))


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
    assert doubled.model is wrapper.model and doubled.optimizer is wrapper.optimizer

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
            return np.full(len(x), loss), None, self.score_batch(x, y)

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
    training = ImportanceTraining(model)
    training.model = minimal
    assert training.metrics_names == ["loss", "score"]
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
    compiled = training.model.compiled

    def counted(run, *tensors):
        traces.append(tensors[0].shape[0])
        return compiled.step(run, *tensors)

    train_function = compiled.runtime.compile_train(counted)
    training.model._compiled = dataclasses.replace(compiled, train_function=train_function)
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
    if compiled.runtime.traces:
        assert len(traces) <= len(set(sizes)) <= 16


@end_to_end
def test_averaged_weights_go_on_in_a_second_fit():
    x, y = data(64)
    model = mlp(optimizer=keras.optimizers.Adam(0.01, use_ema=True))
    training = ImportanceTraining(model, tau_th=0.0, seed=0)
    losses = [training.fit(x, y, batch_size=16, verbose=0).history["loss"][0] for _ in range(3)]
    # The average of few steps lags behind, so that the loss need not fall from fit to fit.
    assert (
        np.isfinite(losses).all() and keras.ops.convert_to_numpy(model.optimizer.iterations) == 12
    )


class OwnScorer:
    """Asks the model itself, as a user would."""

    def __init__(self, model):
        self.model = model

    def score(self, x, y, batch_size):
        p = ops.convert_to_numpy(self.model(x))
        return 1.01 - p[np.arange(len(x)), np.ravel(y)]


class OwnObserver(ModelSampler):
    def observe(self, step):
        self.model.model.predict_on_batch(step.proposal.rows[0])
        super().observe(step)


class OwnParts(ImportanceTraining):
    kind = ModelSampler

    def make_sampler(self, dataset, batch_size, steps_per_epoch, epochs):
        scorer = OwnScorer(self.original_model)
        return self.kind(dataset, self.reweighting, scorer, 3 * batch_size, 3 * batch_size)


class OwnSampler(OwnParts):
    kind = OwnObserver


@end_to_end
@pytest.mark.one_backend("jax")
@pytest.mark.parametrize("kind", [OwnParts, OwnSampler])
def test_own_scorers_and_samplers_may_ask_the_model(kind):
    x, y = data(64)
    training = kind(mlp(), seed=0)
    training.fit(x, y, batch_size=16, verbose=0)
    assert training.report().steps == {"pool": 4}


@exact
@pytest.mark.any_backend
def test_a_sampler_that_was_not_returned_is_named():
    class Forgetful(ImportanceTraining):
        def make_sampler(self, dataset, batch_size, steps_per_epoch, epochs):
            UniformSampler(dataset, self.reweighting)

    with pytest.raises(TypeError, match=r"Forgetful\.make_sampler\(\) returned None"):
        Forgetful(mlp()).fit(*data(64), batch_size=16, verbose=0)


@end_to_end
@pytest.mark.one_backend("jax")
def test_hooks_may_ask_the_model():
    x, y = data(64)
    model = mlp()
    seen = []

    def hook(*_):
        seen.append(ops.convert_to_numpy(model(x[:4])))

    training = ImportanceTraining(model, tau_th=0.5, seed=0)
    training.fit(x, y, batch_size=16, verbose=0, on_sample=hook, on_scores=hook)
    assert len(seen) == 8
    assert not np.array_equal(seen[0], seen[-1]), "the model is that after the steps"


class CountedAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Counts how often somebody reads it outside of a trace."""

    reads = 0

    def result(self):
        self.reads += 1
        return super().result()


class Hears(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.heard = []

    def on_train_batch_end(self, batch, logs=None):
        self.heard.append(float(logs["loss"]))


@exact
@pytest.mark.parametrize("options", [{"presample": 3.0, "tau_th": 0.0}, {"presample": "auto"}])
def test_results_of_metrics_are_computed_where_somebody_reads_them(options):
    x, y = data(70)

    def trained(**arguments):
        keras.utils.set_random_seed(0)
        accuracy = CountedAccuracy(name="accuracy")
        eager = keras.backend.backend() != "jax"
        model = mlp(optimizer="adam", metrics=[accuracy], run_eagerly=eager)
        training = ImportanceTraining(model, seed=0, **options)
        accuracy.reads = 0
        logs = training.fit(x, y, batch_size=16, epochs=2, verbose=0, **arguments).history
        return training, logs, accuracy.reads

    hears = Hears()
    _, heard, each_step = trained(callbacks=[hears])
    training, unheard, each_epoch = trained()
    assert heard == unheard
    assert len(hears.heard) == 10
    if keras.backend.backend() != "jax":
        # Building reads them, too.
        assert each_step - each_epoch == 10 - 2 and each_epoch <= 3
    # Validation and whoever makes steps by hand find them where they were.
    _, validated, _ = trained(validation_data=(x, y))
    assert [validated[name] for name in unheard] == [*unheard.values()]
    proposal = UniformSampler(
        InMemoryDataset(x, y, x, y, categorical=False), training.reweighting
    ).propose(16)
    result = training.model.train(proposal)
    for name, value in training.original_model.get_metrics_result().items():
        assert float(result.logs[name]) == float(value)


@exact
def test_own_results_of_metrics_are_asked_for_each_step():
    x, y = data(64)
    calls = []

    class Own(keras.Model):
        def get_metrics_result(self):
            calls.append(1)
            return super().get_metrics_result() | {"twice": 2 * self.metrics[0].result()}

    inputs = keras.Input((6,))
    outputs = keras.layers.Dense(4, activation="softmax")(inputs)
    model = Own(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    logs = ImportanceTraining(model, seed=0).fit(x, y, batch_size=16, verbose=0).history
    assert len(calls) >= 4
    np.testing.assert_allclose(logs["twice"], 2 * np.array(logs["loss"]), rtol=1e-6)


@exact
def test_batches_of_validation_are_known_and_can_be_shared():
    x, y = data(101)

    class Evaluated:
        def evaluate(self, batch_size, **arguments):
            self.batch_size = batch_size
            return {"loss": 0.0}

    for size, rows, shared in (
        (20, {20, 1}, 20),
        (15, {15, 11}, 14),
        (1, {1}, 2),
        (200, {101}, 100),
    ):
        validation, model = Validation((x, y), size), Evaluated()
        assert set(validation.rows_of_batches) == rows
        validation.run(model, None, replicas=2)
        assert model.batch_size == shared
    # What is read by index goes another way; of a stream nobody knows.
    kept = Validation(InMemoryDataset(x, y, x, y, categorical=False), 20)
    assert set(kept.rows_of_batches) == {20, 1}
    assert Validation(endless(x, y, 20), 20, steps=2).rows_of_batches == ()
