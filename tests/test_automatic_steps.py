"""How many steps go to the device in one call where the user does not say."""

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data
from keras import layers
from test_resume import WAYS, equal, values

from importance_sampling import HistoryImportanceTraining, ImportanceTraining
from importance_sampling.model_wrappers.work import multiply_adds
from importance_sampling.training import BackupState, _steps_per_call
from importance_sampling.training._callbacks import callback_list, watches_batches
from importance_sampling.training._steps_per_call import StepsPerCall, steps_together

end_to_end = pytest.mark.end_to_end
exact = pytest.mark.exact
several = pytest.mark.one_backend("tensorflow", "jax")

ROWS, BATCH = 520, 8
# The most steps of a call where four are asked for; others need the step before. With "condition"
# they are uniform ones, with "refresh" those of the first pass.
TOGETHER = {"history": 4, "variance": 4, "robust": 4, "condition": 4, "refresh": 4, "reuse": 2}


@pytest.fixture
def _short_trainings(monkeypatch):
    """So that a training of some steps counts as one that a program is worth compiling for."""
    monkeypatch.setattr(_steps_per_call, "_WORTH_IT", 1)


def train(way="history", epochs=2, rows=ROWS, callbacks=(), **options):
    keras.utils.set_random_seed(1)
    model = adam_mlp()
    training = WAYS[way](model, 5)
    x, y = data(rows)
    history = training.fit(
        x, y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[*callbacks], **options
    )
    return model, training, history.history


def chosen(training):
    """Steps in a call: an eighth of 65, where the backend gains by it."""
    return 8 if training.model.trains_many else 1


def near(one, other):
    for a, b in zip(values(one), values(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@exact
@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("work", "size", "epoch", "steps", "sizes", "found"),
    [
        (2_000_000, 5_000, 469, 4690, 1, 32),
        # As many as a call's work allows, in powers of two.
        (2**31 // 9, 5_000, 469, 4690, 1, 8),
        (2**31 + 1, 5_000, 469, 4690, 1, 1),
        # An eighth of an epoch.
        (2_000_000, 5_000, 80, 4000, 1, 8),
        (2_000_000, 5_000, 7, 4000, 1, 1),
        # Data that is copied for a call.
        (2_000_000, 2**24, 469, 4690, 1, 4),
        # Steps enough to be worth another program, or two where sizes of batches take turns.
        (2_000_000, 5_000, 469, 2047, 1, 1),
        (2_000_000, 5_000, 469, 4095, 6, 1),
        (2_000_000, 5_000, 469, 4096, 6, 32),
        # Of a stream nobody knows.
        (2_000_000, 5_000, None, 0, 1, 1),
    ],
)
def test_number_of_steps(work, size, epoch, steps, sizes, found):
    assert steps_together(work, size, epoch, steps, sizes) == found


@exact
@pytest.mark.any_backend
def test_work_is_counted_by_shapes():
    def work(*body, shape=(6,), batch=10):
        model = keras.Sequential([layers.Input(shape), *body])
        rows = np.zeros((5, *(size or 3 for size in shape)), "float32")
        return multiply_adds(model, rows, batch)

    # The forward pass and twice that for the backward pass; eight operations for each update.
    assert work(layers.Dense(4)) == 10 * 3 * 28 + 8 * 28
    assert work(layers.Dense(4, trainable=False)) == 10 * 28
    # A kernel at each of its inputs or outputs, whichever are more.
    assert work(layers.Conv2D(2, 3), shape=(8, 8, 1)) == 10 * 3 * 64 * 20 + 8 * 20
    assert work(layers.Dense(4), shape=(7, 6)) == 10 * 3 * 7 * 28 + 8 * 28
    # What is not known counts as the values of the rows: 3 steps of 6.
    assert work(layers.Dense(4), shape=(None, 6)) == 10 * 3 * 18 * 28 + 8 * 28
    # A table is looked up.
    assert work(layers.Embedding(100, 4), shape=(7,)) == 8 * 400
    # What two layers share counts where it is met first; a model within a model is gone through.
    inner = keras.Sequential([layers.Input((6,)), layers.Dense(4)])
    assert work(inner) == work(layers.Dense(4))


class OwnModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, x):
        return self.dense(x)


@exact
@pytest.mark.any_backend
def test_work_of_a_model_that_is_a_class_is_not_underestimated():
    model = OwnModel()
    model(np.zeros((2, 6), "float32"))
    assert multiply_adds(model, np.zeros((5, 6), "float32"), 10) == 10 * 3 * 6 * 28 + 8 * 28


class Quiet(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        pass


class Watching(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        pass


class OwnCheckpoint(keras.callbacks.ModelCheckpoint):
    def on_train_batch_end(self, batch, logs=None):
        pass


def watching_itself():
    callback = Quiet()
    callback.on_batch_end = lambda batch, logs=None: None
    return callback


@exact
@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("make", "watched"),
    [
        (lambda: None, False),
        (Quiet, False),
        (Watching, True),
        (watching_itself, True),
        (lambda: keras.callbacks.LambdaCallback(on_epoch_end=print), False),
        (lambda: keras.callbacks.LambdaCallback(on_train_batch_end=print), True),
        (lambda: keras.callbacks.ModelCheckpoint("a.keras"), False),
        (lambda: keras.callbacks.ModelCheckpoint("a.keras", save_freq=5), True),
        (lambda: OwnCheckpoint("a.keras"), True),
        (keras.callbacks.EarlyStopping, False),
        (lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.1), False),
        (keras.callbacks.TerminateOnNaN, True),
        (lambda: BackupState("a.npz"), False),
        (lambda: BackupState("a.npz", save_freq=5), True),
        (type("Own", (keras.callbacks.CallbackList,), {}), True),
    ],
)
def test_who_looks_at_single_batches(make, watched):
    made = make()
    given = made if isinstance(made, keras.callbacks.CallbackList) else [made] if made else None
    assert watches_batches(callback_list(adam_mlp(), given, 1, 2, 10)) == watched


@exact
@pytest.mark.any_backend
def test_what_is_asked_for_goes_before_what_is_chosen():
    def calls(compiled=1, given=None, chosen=16, many=True, unseen=True, before=None):
        found = StepsPerCall(adam_mlp(steps_per_execution=compiled), given, chosen)
        found.allow(many, unseen)
        if before is not None:
            found.load_state_dict({"most": before, "singles": 0})
        return found.told, found.most

    assert calls() == (1, 16)
    assert calls(unseen=False) == calls(many=False) == (1, 1)
    assert calls(compiled=4) == calls(compiled=4, unseen=False) == (4, 4)
    assert calls(compiled=4, many=False) == (4, 1)
    assert calls(compiled=4, given=1) == calls(given=1) == (1, 1)
    assert calls(given=2) == calls(given=2, unseen=False) == (2, 2)
    # A training that is gone on from.
    assert calls(before=4) == calls(chosen=1, before=4) == (1, 4)
    assert calls(before=1) == calls(unseen=False, before=4) == (1, 1)
    assert calls(given=2, before=4) == (2, 2)


@exact
@pytest.mark.any_backend
def test_few_single_steps_need_no_program_of_their_own():
    def calls(given=None, chosen=16):
        found = StepsPerCall(adam_mlp(), given, chosen)
        found.allow(True)
        return found

    chosen = calls()
    # One program for any number of steps.
    assert {chosen.room(n) for n in (1, 3, 16)} == {16}
    assert not chosen.alone(16, 0)
    assert [chosen.alone(1, 0) for _ in range(10)] == 8 * [False] + 2 * [True]
    assert chosen.alone(1, 10_000)  # now that there is one
    again = calls()
    again.load_state_dict(chosen.state_dict())
    assert again.alone(1, 0)
    # One step in eight, all the time.
    seldom = calls()
    assert not any(seldom.alone(1, made) for made in range(0, 8000, 8))
    # Who asks for several gets Keras' way for one.
    assert calls(given=4).alone(1, 0) and calls(chosen=1).alone(1, 0)


@end_to_end
@several
@pytest.mark.usefixtures("_short_trainings")
def test_chosen_steps_change_nothing():
    single, training, history = train(steps_per_execution=1)
    assert training.steps_per_call == 1
    many, training, found = train()
    assert training.steps_per_call == chosen(training)
    near(single, many)
    for name in history:
        np.testing.assert_allclose(history[name], found[name], rtol=1e-4, err_msg=name)
    again, _, repeated = train()
    assert equal(values(many), values(again)) and found == repeated


@end_to_end
@pytest.mark.any_backend
def test_a_list_of_callbacks_without_a_history_gets_one():
    x, y = data()
    seen = Watching()
    given = keras.callbacks.CallbackList([seen])
    history = ImportanceTraining(adam_mlp()).fit(x, y, epochs=2, verbose=0, callbacks=given)
    assert len(history.history["loss"]) == 2 and seen in given.callbacks


@end_to_end
@several
@pytest.mark.usefixtures("_short_trainings")
def test_whoever_looks_at_batches_sees_each():
    told = []
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: told.append(batch))
    train(epochs=1, callbacks=[look])
    assert told == [*range(65)]
    for hook in ("on_sample", "on_scores"):
        _, training, _ = train(epochs=1, **{hook: lambda *_: None})
        assert training.steps_per_call == 1


@end_to_end
@several
@pytest.mark.usefixtures("_short_trainings")
def test_a_training_goes_on_with_as_many_steps_in_a_call(tmp_path, monkeypatch):
    whole, training, history = train(epochs=3)
    _, first, _ = train(epochs=1)
    first.save_state(tmp_path / "state.npz")

    def go_on(**options):
        keras.utils.set_random_seed(2)
        model = adam_mlp()
        later = HistoryImportanceTraining(model, seed=6)
        later.load_state(tmp_path / "state.npz")
        x, y = data(ROWS)
        found = later.fit(x, y, batch_size=BATCH, epochs=3, verbose=0, **options)
        return model, later, found.history

    # What would be chosen now does not matter.
    monkeypatch.setattr(_steps_per_call, "_WORTH_IT", 10**9)
    model, later, found = go_on()
    assert later.steps_per_call == training.steps_per_call == chosen(training)
    assert equal(values(model), values(whole))
    assert found["loss"] == history["loss"][1:]
    assert go_on(steps_per_execution=1)[1].steps_per_call == 1


@end_to_end
@several
@pytest.mark.usefixtures("one_predictor")
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_train_is_the_same(way, steps_of_calls):
    # Of 33 batches an eighth is drawn at once.
    single, _, history = train(way, rows=264, steps_per_execution=1)
    assert set(steps_of_calls) <= {1}
    many, training, found = train(way, rows=264, steps_per_execution=4)
    if training.model.trains_many:
        assert max(steps_of_calls, default=1) == TOGETHER.get(way, 1)
    near(single, many)
    for name in history:
        np.testing.assert_allclose(history[name], found[name], rtol=1e-4, err_msg=name)


@exact
@pytest.mark.any_backend
@pytest.mark.parametrize("wrong", [0, 2.5, True, "auto"])
def test_a_wrong_number_of_steps_is_refused(wrong):
    x, y = data()
    with pytest.raises(ValueError, match="steps_per_execution"):
        ImportanceTraining(adam_mlp()).fit(x, y, steps_per_execution=wrong, verbose=0)
