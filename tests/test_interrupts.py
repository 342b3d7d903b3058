"""Interrupts: what Ctrl-C may do in the middle of a step, and what may not run twice."""

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import weakref

import keras
import numpy as np
import processes
import pytest
from helpers import adam_mlp, data, mlp
from spread import full

from importance_sampling import ImportanceTraining, _interrupts
from importance_sampling.training import HistoryImportanceTraining

pytestmark = [pytest.mark.exact, pytest.mark.timeout(120)]

X, Y = data(256)


def values(model):
    return [keras.ops.convert_to_numpy(v.value).copy() for v in all_variables(model)]


def all_variables(model):
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


class Ended(Exception):
    """Raised by a handler of the user's."""


@pytest.fixture
def restored():
    """Whatever a test does to the handlers, the next finds those that it began with."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


# -- sections -----------------------------------------------------------------------------------


@pytest.mark.any_backend
def test_a_signal_waits_until_the_section_is_over(restored):
    reached = []
    with _interrupts.listening():
        with pytest.raises(KeyboardInterrupt), _interrupts.section():
            with _interrupts.section():
                os.kill(os.getpid(), signal.SIGINT)
                reached.append("inner")
            reached.append("outer")
        assert reached == ["inner", "outer"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("outside of sections nothing waits")
        assert len(reached) == 2
    assert signal.getsignal(signal.SIGINT) is restored[signal.SIGINT]


class Deleted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        # Here the handler is called.
        self.done = True


def collected(phase, info):
    os.kill(os.getpid(), signal.SIGINT)
    # Here the handler is called.
    return phase


@pytest.mark.any_backend
@pytest.mark.parametrize("place", ["destructor", "collector", "weak reference"])
def test_a_signal_is_not_lost_where_nothing_can_be_raised(restored, place):
    reached, hook = [], sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), _interrupts.listening():
        if place == "destructor":
            Deleted()
        elif place == "collector":
            gc.callbacks.append(collected)
            try:
                gc.collect()
            finally:
                gc.callbacks.remove(collected)
        else:
            holder = Ended()
            reference = weakref.ref(holder, lambda _: collected("", {}))
            del holder
            assert reference() is None
        reached.append("after it")
        with _interrupts.section():
            reached.append("in the next section")
        pytest.fail("the interrupt was lost")
    assert reached == ["after it", "in the next section"]
    assert sys.unraisablehook is hook


@pytest.mark.any_backend
def test_handlers_of_the_users_own_are_called_and_put_back(restored):
    calls = []

    def first(number, frame):
        calls.append(("first", number, frame is not None))

    def later(number, frame):
        calls.append(("later", number))
        raise Ended

    signal.signal(signal.SIGINT, first)
    signal.signal(signal.SIGTERM, later)
    with pytest.raises(Ended), _interrupts.section():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert not calls
    # All are told, though one of them raises.
    assert sorted(calls) == [("first", signal.SIGINT, True), ("later", signal.SIGTERM)]
    assert signal.getsignal(signal.SIGINT) is first
    assert signal.getsignal(signal.SIGTERM) is later
    with _interrupts.listening():
        # One that is placed meanwhile is waited with, and stays.
        signal.signal(signal.SIGINT, later)
        _interrupts.renew()
        with pytest.raises(Ended), _interrupts.section():
            os.kill(os.getpid(), signal.SIGINT)
            calls.append("waited")
    assert calls[-2:] == ["waited", ("later", signal.SIGINT)]
    assert signal.getsignal(signal.SIGINT) is later
    # One that puts back what it found leaves nothing of ours behind.
    signal.signal(signal.SIGINT, first)
    with _interrupts.listening():
        found = signal.signal(signal.SIGINT, later)
        _interrupts.renew()
        signal.signal(signal.SIGINT, found)
    assert signal.getsignal(signal.SIGINT) is first


@pytest.mark.any_backend
@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_is_ignored_or_fatal_stays_so(restored, handler):
    signal.signal(signal.SIGTERM, handler)
    with _interrupts.listening(), _interrupts.section():
        assert signal.getsignal(signal.SIGTERM) is handler
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.any_backend
def test_another_thread_places_no_handlers(restored):
    found = []

    def work():
        with _interrupts.listening(), _interrupts.section():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [restored[signal.SIGINT]]
    # Nor does it keep the main thread's interrupts waiting.
    begun, over = threading.Event(), threading.Event()

    def hold():
        with _interrupts.section():
            begun.set()
            over.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(10)
    with pytest.raises(KeyboardInterrupt), _interrupts.listening():
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the interrupt waited for another thread")
    over.set()
    thread.join()


class Prints:
    """A value of the logs whose conversion is interrupted."""

    def __array__(self, *_, **__):
        os.kill(os.getpid(), signal.SIGINT)
        return np.zeros(())

    def __float__(self):
        os.kill(os.getpid(), signal.SIGINT)
        return 0.0


def test_a_signal_is_not_lost_where_keras_catches_everything(restored):
    class Logs(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            batches.append(batch)
            if batch == 2:
                keras.callbacks.CallbackList([]).on_epoch_end(0, {"loss": Prints()})

    batches = []
    with pytest.raises(KeyboardInterrupt):
        ImportanceTraining(mlp()).fit(X, Y, batch_size=16, verbose=0, callbacks=[Logs()])
    assert batches[-1] in (2, 3)


def test_an_interrupt_that_a_callback_catches_is_its_own(restored):
    class Catches(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                with contextlib.suppress(KeyboardInterrupt):
                    os.kill(os.getpid(), signal.SIGINT)
                caught.append(batch)

    caught = []
    training = ImportanceTraining(mlp())
    history = training.fit(X, Y, batch_size=64, verbose=0, callbacks=[Catches()])
    assert caught == [2] and len(history.history["loss"]) == 1


# -- trainings ----------------------------------------------------------------------------------


def interrupt_after(seconds, number=signal.SIGINT):
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()
    return timer


TRIES = 60 if full() else 5


@pytest.mark.parametrize("kind", [ImportanceTraining, HistoryImportanceTraining])
def test_ctrl_c_at_any_time_leaves_a_whole_model(kind, restored):
    """The model is that of a whole number of steps, validation or not, and trains on."""
    rng = np.random.default_rng(0)
    model = adam_mlp()
    training = kind(model, seed=0)
    options = {"batch_size": 32, "verbose": 0}
    # Compiled beforehand: interrupts are to come while it runs.
    training.fit(X, Y, epochs=2, validation_data=(X, Y), **options)
    for _ in range(TRIES):
        with pytest.raises(KeyboardInterrupt):
            # In here, for on a busy machine it may fire before this returns.
            interrupt_after(rng.uniform(0.002, 0.25))
            training.fit(X, Y, epochs=10_000, validation_data=(X, Y), **options)
        found = values(model)
        assert all(np.isfinite(value).all() for value in found)
        assert signal.getsignal(signal.SIGINT) is restored[signal.SIGINT]
        # Adam's moments and the weights have seen the same steps; the model still learns.
        steps = int(model.optimizer.iterations.value)
        training.fit(X, Y, epochs=1, **options)
        assert int(model.optimizer.iterations.value) == steps + len(X) // 32
    logs = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert logs["loss"] < 1.0 and logs["accuracy"] > 0.6


class InterruptsItself(keras.layers.Layer):
    """Sends a signal from the middle of a forward pass, when asked to."""

    def __init__(self):
        super().__init__()
        self.calls = self.at = 0

    def call(self, x):
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        return x

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize("call", [1, 2, 3, 5, 8])
def test_an_interrupt_inside_a_step_waits_for_its_end(call, restored):
    layer = InterruptsItself()
    model = keras.Sequential([keras.layers.Input((6,)), layer, keras.layers.Dense(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, run_eagerly=True)
    training = ImportanceTraining(model, seed=0)
    began = []

    class Begins(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if not batch:
                layer.at = layer.calls + call
            began.append(batch)

    with pytest.raises(KeyboardInterrupt):
        training.fit(X, Y, batch_size=32, epochs=5, verbose=0, callbacks=[Begins()])
    # Steps were made whole: Adam has counted each that began, up to the interrupted one.
    assert int(model.optimizer.iterations.value) == len(began) - (began[-1] < 0)
    assert all(np.isfinite(value).all() for value in values(model))


def test_a_step_by_hand_is_never_cut_short(restored):
    model = mlp()
    wrapper = ImportanceTraining(model).model
    wrapper.build(X[:8], Y[:8])
    weights = np.ones((32, 1))
    wrapper.train_batch(X[:32], Y[:32], weights)
    rng = np.random.default_rng(0)
    for _ in range(TRIES // 2):
        with pytest.raises(KeyboardInterrupt):
            # In here, for on a busy machine it may fire before this returns.
            interrupt_after(rng.uniform(0.002, 0.02))
            while True:
                wrapper.train_batch(X[:32], Y[:32], weights)
        assert all(np.isfinite(value).all() for value in values(model))
        assert signal.getsignal(signal.SIGINT) is restored[signal.SIGINT]


@pytest.mark.parametrize("at", [1, 3])
def test_an_interrupted_validation_changes_no_weight(at):
    model = adam_mlp()
    training = ImportanceTraining(model, seed=0)
    weights = []

    def values_of_weights():
        return [keras.ops.convert_to_numpy(w.value).copy() for w in model.weights]

    class Notes(keras.callbacks.Callback):
        at = -1

        def on_test_begin(self, logs=None):
            weights[:] = values_of_weights()

        def on_test_batch_end(self, batch, logs=None):
            if batch == self.at:
                raise KeyboardInterrupt

    options = {"batch_size": 32, "verbose": 0, "callbacks": [notes := Notes()]}
    training.fit(X, Y, validation_data=(X, Y), **options)
    notes.at = at
    with pytest.raises(KeyboardInterrupt):
        training.fit(X, Y, validation_data=(X, Y), **options)
    for expected, found in zip(weights, values_of_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    # Nor later, when Keras would put back what it still holds.
    model.evaluate(X, Y, verbose=0)
    for expected, found in zip(weights, values_of_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    notes.at = -1
    training.fit(X, Y, validation_data=(X, Y), **options)


class InterruptsOnce(keras.layers.Layer):
    """Ctrl-C at its first call after it was armed."""

    armed = False

    def call(self, inputs):
        if self.armed:
            self.armed = False
            os.kill(os.getpid(), signal.SIGINT)
            # Python calls the handler between two of its instructions.
            time.sleep(0)
        return inputs


@pytest.mark.any_backend
def test_ctrl_c_is_not_lost_before_the_first_step():
    """Where shapes are worked out, Keras takes whatever is raised for a call that cannot do it."""
    interrupts = InterruptsOnce()
    model = keras.Sequential(
        [keras.Input(X.shape[1:]), interrupts, keras.layers.Dense(int(Y.max()) + 1)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    steps = []
    counts = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(1))
    interrupts.armed = True
    with pytest.raises(KeyboardInterrupt):
        ImportanceTraining(model).fit(X, Y, callbacks=[counts], verbose=0)
    assert not interrupts.armed and not steps


@pytest.mark.any_backend
def test_a_generator_that_blocks_lets_ctrl_c_through():
    model = mlp()
    entered, release = threading.Event(), threading.Event()

    def batches():
        for _ in range(3):
            yield X[:32], Y[:32]
        entered.set()
        release.wait(60)

    def interrupt():
        entered.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    training = ImportanceTraining(model)
    before = {thread.ident for thread in threading.enumerate()}
    sender = threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        training.fit(batches(), steps_per_epoch=100, verbose=0)
    sender.join()
    began = time.perf_counter()
    reading = [t for t in threading.enumerate() if t.ident not in before]
    assert all(thread.daemon for thread in reading)
    # It ends when its source lets it.
    release.set()
    for thread in reading:
        thread.join(10)
    assert not any(thread.is_alive() for thread in reading)
    assert time.perf_counter() - began < 10


BLOCKING = """
import os, signal, sys, threading, time
import keras, numpy as np
from importance_sampling import ImportanceTraining
from importance_sampling.datasets import InMemoryDataset

class Blocks(keras.utils.PyDataset):
    def __len__(self):
        return 100
    def __getitem__(self, i):
        reads.append(i)
        if len(reads) > 6:
            entered.set()
            time.sleep(1000)
        return np.zeros((8, 2), "float32"), np.zeros(8, "int64")

class Rows:
    reads_ahead = True
    def __init__(self):
        self.train_data = self
        self.test_data = []
        self.shape, self.output_size = (2,), 2
    def __len__(self):
        return 64
    def __getitem__(self, idxs):
        reads.append(idxs)
        if len(reads) > 6:
            entered.set()
            time.sleep(1000)
        n = len(np.atleast_1d(idxs))
        return np.zeros((n, 2), "float32"), np.zeros(n, "int64")

def interrupt():
    entered.wait()
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)

model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2, activation="softmax")])
model.compile("sgd", "sparse_categorical_crossentropy")
training = ImportanceTraining(model, tau_th=1e9)
for fit in (
    lambda: training.fit(Blocks(workers=2), verbose=0),
    lambda: training.fit_dataset(Rows(), batch_size=8, verbose=0),
):
    reads, entered = [], threading.Event()
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        fit()
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.any_backend
def test_a_read_that_never_ends_holds_up_no_exit():
    """A program is interrupted while threads of the library's wait for the user's data."""
    found = processes.run("-c", BLOCKING, timeout=100)
    assert found.returncode == 0 and found.stdout.split() == 2 * ["interrupted"], found.stderr


# -- one at a time ------------------------------------------------------------------------------


def test_fit_inside_fit_is_refused_before_anything_is_replaced():
    model = adam_mlp()
    training = ImportanceTraining(model, seed=0)
    other = HistoryImportanceTraining(model)
    errors = []

    class Nested(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            for again in (training, other):
                hooks = dict(vars(model))
                with pytest.raises(RuntimeError, match="by the `fit` that this call comes from"):
                    again.fit(X, Y, verbose=0)
                errors.append({**vars(model)} == hooks)
            assert training.history is None and other._compiled_nothing

    other._compiled_nothing = other.model._compiled is None
    history = training.fit(X, Y, batch_size=64, verbose=0, callbacks=[Nested()])
    assert errors == 8 * [True] and len(history.history["loss"]) == 1
    assert training.history is history
    # Once it is over, both may train it.
    training.fit(X, Y, verbose=0)
    other.fit(X, Y, verbose=0)


@pytest.mark.any_backend
def test_one_model_in_two_threads_is_refused():
    model, begun, over = mlp(), threading.Event(), threading.Event()
    failed = []

    class Holds(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            begun.set()
            over.wait(30)

    def train():
        try:
            ImportanceTraining(model).fit(X, Y, verbose=0, callbacks=[Holds()])
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    thread = threading.Thread(target=train, name="first")
    thread.start()
    begun.wait(30)
    training = ImportanceTraining(model)
    for call in (
        lambda: training.fit(X, Y, verbose=0),
        lambda: training.fit_generator(iter([(X, Y)]), 1, verbose=0),
    ):
        with pytest.raises(RuntimeError, match="is being trained already, in the thread 'first'"):
            call()
    # Another model is no matter.
    ImportanceTraining(mlp()).fit(X, Y, verbose=0)
    over.set()
    thread.join()
    assert not failed
    training.fit(X, Y, verbose=0)
