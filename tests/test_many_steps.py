"""Several steps in one call of the device: everything as with one step after the other."""

import contextlib
import functools
import os
import signal

import keras
import numpy as np
import pytest
from helpers import data, mlp
from keras import layers, ops

from importance_sampling import HistoryImportanceTraining, ImportanceTraining
from importance_sampling.model_wrappers import OracleWrapper
from importance_sampling.model_wrappers._many_steps import ManyResults
from importance_sampling.samplers import UniformSampler
from importance_sampling.samplers.ahead import batches_ahead
from importance_sampling.training import BaseTraining
from importance_sampling.training._steps_per_call import StepsPerCall

pytestmark = pytest.mark.two_backends

end_to_end = pytest.mark.end_to_end
exact = pytest.mark.exact

ROWS, BATCH = 520, 8
"""Of which the last batch of a pass is whole, and eight batches are drawn at once."""


class Seen(keras.callbacks.Callback):
    """Is told of batches, so that steps go one by one, unless the user wants them together."""

    def __init__(self):
        super().__init__()
        self.begun, self.ended = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.begun.append(batch)

    def on_train_batch_end(self, batch, logs=None):
        self.ended.append((batch, {name: float(value) for name, value in logs.items()}))


def functional(*body, **compile_arguments):
    inputs = x = keras.Input((6,))
    for layer in body:
        x = layer(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax")(x))
    model.compile(**{"loss": "sparse_categorical_crossentropy"} | compile_arguments)
    return model


def adam(**kwargs):
    return keras.optimizers.Adam(0.01, **kwargs)


def plain(**kwargs):
    return mlp(optimizer=adam(), metrics=["accuracy"], **kwargs)


def dropout(**kwargs):
    return functional(
        layers.Dense(16, activation="relu"), layers.Dropout(0.5, seed=3), optimizer=adam(), **kwargs
    )


def batch_normalization(**kwargs):
    return functional(
        layers.Dense(16, activation="relu"), layers.BatchNormalization(), optimizer=adam(), **kwargs
    )


def regularized(**kwargs):
    dense = layers.Dense(
        16, activation="relu", kernel_regularizer="l2", activity_regularizer=keras.regularizers.L2()
    )
    return functional(dense, optimizer=adam(), metrics=["accuracy"], **kwargs)


def accumulating(**kwargs):
    return functional(
        layers.Dense(16, activation="relu"),
        optimizer=adam(gradient_accumulation_steps=3),
        **kwargs,
    )


def averaging(**kwargs):
    return functional(
        layers.Dense(16, activation="relu"),
        optimizer=adam(use_ema=True, ema_momentum=0.9),
        **kwargs,
    )


def scaled(**kwargs):
    return functional(
        layers.Dense(16, activation="relu"),
        optimizer=keras.optimizers.LossScaleOptimizer(adam()),
        **kwargs,
    )


def overflowing(**kwargs):
    """The first steps of a call are skipped, until the scale is low enough."""
    return functional(
        layers.Dense(16, activation="relu"),
        optimizer=keras.optimizers.LossScaleOptimizer(adam(), initial_scale=2.0**127),
        loss_weights=64.0,
        **kwargs,
    )


def scheduled(**kwargs):
    rate = keras.optimizers.schedules.ExponentialDecay(0.02, 10, 0.9)
    return functional(
        layers.Dense(16, activation="relu"), optimizer=keras.optimizers.Adam(rate), **kwargs
    )


class OwnStep(keras.Model):
    """Counts its steps around Keras' own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.norm = keras.metrics.Mean(name="own")

    def train_step(self, *args):
        result = super().train_step(*args)
        return result


def own_step(**kwargs):
    inputs = keras.Input((6,))
    x = layers.Dense(16, activation="relu")(inputs)
    model = OwnStep(inputs, layers.Dense(4, activation="softmax")(x))
    model.compile(adam(), "sparse_categorical_crossentropy", metrics=["accuracy"], **kwargs)
    return model


def two_outputs(**kwargs):
    inputs = keras.Input((6,))
    x = layers.Dense(16, activation="relu")(inputs)
    outputs = {
        "a": layers.Dense(4, activation="softmax", name="a")(x),
        "b": layers.Dense(1, name="b")(x),
    }
    model = keras.Model(inputs, outputs)
    losses = {"a": "sparse_categorical_crossentropy", "b": "mse"}
    model.compile(adam(), losses, metrics={"a": ["accuracy"]}, **kwargs)
    return model


NETWORKS = [
    plain,
    dropout,
    batch_normalization,
    regularized,
    accumulating,
    averaging,
    scaled,
    overflowing,
    scheduled,
    own_step,
    two_outputs,
]


def train(network, make=HistoryImportanceTraining, together=1, epochs=2, rows=ROWS, **options):
    """Trains from the same weights with the same seed; what was drawn and what became of it."""
    keras.utils.set_random_seed(1)
    model = network(steps_per_execution=together)
    x, y = data(rows)
    if network is two_outputs:
        y = {"a": y, "b": x[:, :1] * 2}
    drawn, scores = [], []
    seen = Seen()
    fit_arguments = options.pop("fit", {})
    training = make(model, seed=5, **options)
    history = training.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        verbose=0,
        callbacks=[seen],
        on_sample=lambda sampler, idxs, w, s: drawn.append((idxs.copy(), w.copy())),
        on_scores=lambda sampler, s: scores.append(s.copy()),
        **fit_arguments,
    )
    return model, history.history, seen, drawn, scores, training


def same(one, other):
    """Everything but when callbacks were told is the same."""
    for a, b in zip(one[0].get_weights(), other[0].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(one[0].optimizer.variables, other[0].optimizer.variables, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert one[1].keys() == other[1].keys()
    for name in one[1]:
        np.testing.assert_allclose(one[1][name], other[1][name], rtol=1e-4, err_msg=name)
    assert len(one[3]) == len(other[3]) and len(one[4]) == len(other[4])
    for (idxs, w), (other_idxs, other_w) in zip(one[3], other[3], strict=True):
        np.testing.assert_array_equal(idxs, other_idxs)
        np.testing.assert_allclose(w, other_w, rtol=1e-4)
    for a, b in zip(one[4], other[4], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.one_backend("tensorflow", "jax")
@exact
@pytest.mark.parametrize("network", NETWORKS, ids=lambda f: f.__name__)
def test_training_is_the_same(network):
    one, many = train(network), train(network, together=8)
    same(one, many)
    if network is overflowing:
        # Halved at each of the steps that were left out, the first ones among them.
        assert 2 <= 127 - np.log2(float(many[0].optimizer.dynamic_scale)) <= 30
    assert len(one[2].ended) == 2 * 65
    # The last call of an epoch makes what is left.
    assert [batch for batch, _ in many[2].ended] == 2 * [*range(7, 64, 8), 64]
    assert many[2].begun == 2 * [*range(0, 65, 8)]
    told = dict(one[2].ended[65:])
    for batch, logs in many[2].ended[9:]:
        np.testing.assert_allclose(logs["loss"], told[batch]["loss"], rtol=1e-4)


@pytest.mark.one_backend("tensorflow", "jax")
@exact
@pytest.mark.parametrize("k", [0.5, 0.0])
def test_biased_weights_and_the_metrics_own(k):
    same(train(plain, k=k), train(plain, k=k, together=4))


@exact
def test_sample_weights():
    weights = {"sample_weight": np.random.default_rng(0).random(ROWS)}
    same(train(plain, fit=weights), train(plain, fit=weights, together=8))


@pytest.mark.one_backend("tensorflow", "jax")
@exact
@pytest.mark.parametrize("options", [{"constant": "variance"}, {"refresh": 0.5}], ids=str)
def test_options_of_the_history(options):
    same(
        train(plain, epochs=3, **options),
        train(plain, epochs=3, together=8, **options),
    )


@exact
def test_short_last_batch_and_a_number_that_does_not_divide():
    same(train(plain, rows=517), train(plain, rows=517, together=5))
    steps = {"steps_per_epoch": 11}
    same(train(plain, epochs=9, fit=steps), train(plain, epochs=9, together=8, fit=steps))


@exact
def test_pools_are_trained_on_one_by_one():
    pools = {"make": ImportanceTraining, "tau_th": 1.01}
    one, many = train(plain, **pools), train(plain, together=4, **pools)
    same(one, many)
    assert one[1]["importance_sampling"][-1] > 0
    assert [batch for batch, _ in many[2].ended] == 2 * [*range(3, 64, 4), 64]


@pytest.mark.one_backend("tensorflow", "jax")
@exact
def test_batches_of_one_pool_go_together(monkeypatch):
    if keras.backend.backend() == "torch":
        pytest.skip("steps are made one by one")
    pools = {"make": ImportanceTraining, "presample": 8.0, "reuse": 5, "epochs": 1}
    one = train(plain, tau_th=1.01, **pools)
    calls = []
    whole = OracleWrapper.train_many

    def counted(self, proposals, room=0):
        if proposals[0].by_score:
            calls.append(len(proposals))
        return whole(self, proposals, room)

    monkeypatch.setattr(OracleWrapper, "train_many", counted)
    many = train(plain, tau_th=1.01, together=65, **pools)
    same(one, many)
    assert 0 < one[1]["importance_sampling"][-1] < 1
    # Two blocks of eight are uniform, for the second is decided by what was known before the first.
    # The last of a pool goes alone, for the next pool may be scored before it; the epoch ends
    # before that of the tenth.
    assert calls == 10 * [4]


class Uniform(BaseTraining):
    def __init__(self, model, seed):
        from importance_sampling.reweighting import BiasedReweightingPolicy

        super().__init__(model, BiasedReweightingPolicy(1.0), seed=seed)

    def make_sampler(self, dataset, batch_size, steps_per_epoch, epochs):
        return UniformSampler(dataset, self.reweighting, **self.sampler_options)


@pytest.mark.one_backend("tensorflow", "jax")
@exact
@pytest.mark.parametrize("rows", [520, 517])
def test_uniform_draws(rows):
    same(train(plain, Uniform, rows=rows), train(plain, Uniform, rows=rows, together=8))


@exact
def test_steps_go_together_in_one_call_of_the_device(monkeypatch):
    calls = []
    whole = OracleWrapper.train_many

    def counted(self, proposals, room=0):
        calls.append(len(proposals))
        return whole(self, proposals, room)

    monkeypatch.setattr(OracleWrapper, "train_many", counted)
    for way in ({}, {"make": ImportanceTraining, "tau_th": 1e9}):
        training = train(plain, together=8, **way)[-1]
        if training.model.trains_many:
            assert calls == 2 * 8 * [8]
        calls.clear()


@exact
@pytest.mark.one_backend("tensorflow", "jax")
def test_convolutions_are_not_put_into_loops_that_slow_them():
    body = [layers.Reshape((6, 1)), layers.Conv1D(2, 3), layers.Flatten()]
    training = HistoryImportanceTraining(functional(*body, optimizer="sgd"))
    training.model.build(*data(5))
    assert training.model.trains_many == (keras.backend.backend() == "tensorflow")


@exact
@pytest.mark.parametrize("steps", [None, 7])
def test_streams_of_unknown_length_end_where_they_end(steps):
    x, y = data(80)

    def batches():
        for start in range(0, 80, 8):
            yield x[start : start + 8], y[start : start + 8]

    seen = Seen()
    options = {"tau_th": 1e9, "seed": 0}
    training = ImportanceTraining(plain(steps_per_execution=4), **options)
    with pytest.warns(UserWarning, match="ended after") if steps else contextlib.nullcontext():
        training.fit(batches(), epochs=3, verbose=0, callbacks=[seen], steps_per_epoch=steps)
    ended = [batch for batch, _ in seen.ended]
    # Of a generator, which comes to an end, there is one pass.
    assert ended == ([3, 6, 2] if steps else [3, 7, 9])


@exact
def test_stop_training_between_calls():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch >= 20

    model = plain(steps_per_execution=8)
    x, y = data(ROWS)
    HistoryImportanceTraining(model, seed=5).fit(
        x, y, batch_size=BATCH, epochs=2, verbose=0, callbacks=[Stop()]
    )
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 24


@exact
@pytest.mark.one_backend("tensorflow", "jax")
def test_an_interrupt_within_a_call_leaves_a_whole_model(monkeypatch):
    whole = OracleWrapper.train_many

    def interrupted(self, proposals, room=0):
        os.kill(os.getpid(), signal.SIGINT)
        return whole(self, proposals, room)

    model = plain(steps_per_execution=8)
    training = HistoryImportanceTraining(model, seed=5)
    x, y = data(ROWS)
    training.model.build(x[:5], y[:5])
    if not training.model.trains_many:
        pytest.skip("steps are made one by one")
    monkeypatch.setattr(OracleWrapper, "train_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.fit(x, y, batch_size=BATCH, verbose=0)
    # The call was made to its end, and nothing of it is lost.
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 8
    assert np.isfinite(model.predict(x[:8], verbose=0)).all()


@exact
@pytest.mark.one_backend("tensorflow", "jax")
def test_masked_steps_are_counted_from_step_to_step():
    inputs = keras.Input((3, 6))
    hidden = layers.Masking()(inputs)
    outputs = layers.Dense(4, activation="softmax")(hidden)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy", steps_per_execution=4)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 3, 6)).astype("float32"), rng.integers(0, 4, (64, 3))
    x[::2, 2] = 0
    seen = Seen()
    training = HistoryImportanceTraining(model, seed=0)
    training.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[seen])
    assert not training.model.trains_many and training.steps_per_call == 1
    assert [batch for batch, _ in seen.ended] == [3, 7]


@exact
def test_scores_that_are_not_finite_name_the_step_and_the_rows():
    x, y = data(ROWS)
    x[123] = np.nan
    told = []
    for together in (1, 8):
        training = HistoryImportanceTraining(plain(steps_per_execution=together), seed=5)
        with pytest.raises(ValueError, match="index") as error:
            training.fit(x, y, batch_size=BATCH, epochs=2, verbose=0)
        told.append(str(error.value))
    assert told[0].split("(")[0] == told[1].split("(")[0] and "123" in told[1]


@exact
def test_a_subclass_that_draws_in_its_own_way_is_asked_step_by_step():
    class Own(UniformSampler):
        def propose(self, batch_size):
            return super().propose(batch_size)

    class Learns(UniformSampler):
        def update(self, idxs, results):
            pass

    from importance_sampling.datasets import InMemoryDataset
    from importance_sampling.reweighting import UNBIASED

    x, y = data(ROWS)
    dataset = InMemoryDataset(x, y, x, y, False)
    assert batches_ahead(UniformSampler(dataset, UNBIASED), BATCH) == 65
    for kind in (Own, Learns):
        assert batches_ahead(kind(dataset, UNBIASED), BATCH) == 1


@exact
def test_how_many_steps_a_call_makes():
    calls = StepsPerCall(plain(steps_per_execution=64))
    assert (calls.told, calls.most) == (64, 1)
    calls.allow(True)
    assert calls.most == 64 and [calls.room(n) for n in (2, 8, 9, 33)] == [8, 8, 32, 64]
    calls.allow(False)
    assert (calls.told, calls.most, calls.room(1)) == (64, 1, 1)
    # One step after the other, unless it is asked for or chosen.
    calls = StepsPerCall(plain())
    calls.allow(True)
    assert (calls.told, calls.most) == (1, 1)


@pytest.mark.one_backend("tensorflow")
def test_more_sizes_of_batches_than_programs_of_their_own():
    """TensorFlow traces one for all shapes then, which does not know how many steps there are."""
    weights = []
    for together in (1, 5):
        keras.utils.set_random_seed(0)
        training = HistoryImportanceTraining(functional(layers.Dense(8), optimizer=adam()), seed=0)
        for size in range(2, 13):
            x, y = data(5 * size)
            options = {"batch_size": size, "epochs": 1, "verbose": 0}
            # Calls of five steps and of four have programs of their own, too.
            training.fit(x, y, steps_per_execution=min(together, 4 + size % 2), **options)
        weights.append(training.model.model.get_weights())
    for one_by_one, at_once in zip(*weights, strict=True):
        np.testing.assert_allclose(at_once, one_by_one, atol=1e-6)


WAYS = {
    "history": (HistoryImportanceTraining, {}),
    "same noise": (HistoryImportanceTraining, {"constant": "variance"}),
    "uniform": (ImportanceTraining, {"tau_th": 1e9}),
    "pools, from some step on": (ImportanceTraining, {"tau_th": 1.3}),
}


def unseen(way, together, rows=1040, epochs=3):
    """Trains with nobody who looks at single steps."""
    keras.utils.set_random_seed(1)
    model = plain(steps_per_execution=together)
    make, options = WAYS[way]
    training = make(model, seed=5, **options)
    x, y = data(rows)
    history = training.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    return model, history.history, training.report()


@pytest.mark.one_backend("tensorflow", "jax")
@exact
@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_the_next_call_begins_before_scores_of_the_last_are_read(way, asynchronous, monkeypatch):
    """Where the device works asynchronously; draws are those of single steps in either case."""
    events = []
    train_many, scores = OracleWrapper.train_many, ManyResults.scores.func

    def begin(self, proposals, room=0):
        events.append(1)
        return train_many(self, proposals, room)

    def read(self):
        events.append(-1)
        return scores(self)

    once = functools.cached_property(read)
    once.__set_name__(ManyResults, "scores")
    monkeypatch.setattr(OracleWrapper, "train_many", begin)
    monkeypatch.setattr(ManyResults, "scores", once)
    monkeypatch.setattr(OracleWrapper, "asynchronous", asynchronous)
    many = unseen(way, 16)
    under_way = np.cumsum(events)
    if keras.backend.backend() != "torch":
        assert len(under_way) > 20 and under_way[-1] == 0
        assert under_way.max() == (2 if asynchronous else 1)
        # But where an epoch begins or ends, and where draws are from pools.
        assert not asynchronous or (under_way == 2).mean() > 0.2
    one = unseen(way, 1)
    for a, b in zip(one[0].get_weights(), many[0].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(one[2].draws, many[2].draws)
    assert one[2].steps == many[2].steps
    for name, values in one[1].items():
        np.testing.assert_allclose(values, many[1][name], rtol=1e-3, err_msg=name)


@pytest.mark.one_backend("tensorflow", "jax")
@exact
@pytest.mark.parametrize("together", [8, 64])
def test_whoever_ends_at_a_nan_loss_is_told_in_time(together, monkeypatch):
    """The scores of a call are read before the next one is drawn, if somebody may want to stop."""
    monkeypatch.setattr(OracleWrapper, "asynchronous", True)
    x, y = data(2000)
    x[405] = np.nan
    model = plain(steps_per_execution=together)
    seen = Seen()
    callbacks = [keras.callbacks.TerminateOnNaN(), seen]
    HistoryImportanceTraining(model, seed=1).fit(
        x, y, batch_size=16, epochs=3, verbose=0, shuffle=False, callbacks=callbacks
    )
    # Step 26 is of the second run of 15 batches, the scores of which are read at its end.
    assert model.stop_training and seen.ended[-1][0] == 29
    assert np.isnan(seen.ended[-1][1]["loss"])
