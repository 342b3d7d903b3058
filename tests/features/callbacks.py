"""Keras' callbacks, each by its effect, and callbacks of the user's own."""

import itertools

import keras
import numpy as np
import processes
from helpers import adam_mlp, data, mlp
from keras import ops

from . import works

callbacks = keras.callbacks


def rate_of(net):
    return float(ops.convert_to_numpy(net.optimizer.learning_rate))


def same(weights, others):
    return all(np.array_equal(a, b) for a, b in zip(weights, others, strict=True))


LOAD_ALONE = """
import sys
import keras, numpy
model = keras.models.load_model(sys.argv[1])
numpy.save(sys.argv[2], model.get_weights()[0])
assert not [name for name in sys.modules if name.startswith("importance_sampling")]
"""


@works("`ModelCheckpoint`", "writes the user's model, which loads without this library")
def checkpoint(cell):
    x, y = data(48)
    net = adam_mlp()
    path = cell.tmp_path / "best.keras"
    saver = callbacks.ModelCheckpoint(path, monitor="val_loss", save_best_only=True)
    history = cell.fit(net, x, y, epochs=3, validation_data=(x, y), callbacks=[saver])
    loaded = keras.models.load_model(path)
    loss = loaded.evaluate(x, y, verbose=0)[0]
    np.testing.assert_allclose(loss, min(history["val_loss"]), rtol=1e-4)
    assert type(loaded) is keras.Sequential
    if cell.training == "importance":
        # in a process that has never heard of this library
        out = cell.tmp_path / "first.npy"
        done = processes.run("-c", LOAD_ALONE, path, out)
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(np.load(out), loaded.get_weights()[0])


@works("`ModelCheckpoint(save_freq=n)`", "in the middle of an epoch")
def checkpoint_batches(cell):
    x, y = data(48)
    saver = callbacks.ModelCheckpoint(
        cell.tmp_path / "{epoch}-{batch}.weights.h5", save_freq=2, save_weights_only=True
    )
    cell.fit(adam_mlp(), x, y, callbacks=[saver])
    assert len(list(cell.tmp_path.glob("*.weights.h5"))) == 3


@works("`EarlyStopping(restore_best_weights=True)`")
def early_stopping(cell):
    x, y = data(48)
    net = adam_mlp()
    kept = []

    class Spoil(callbacks.Callback):
        """Makes every epoch after the second one worse."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch >= 2:
                *weights, bias = self.model.get_weights()
                self.model.set_weights([*weights, bias + np.float32([20, 0, 0, 0])])

        def on_epoch_end(self, epoch, logs=None):
            kept.append(self.model.get_weights())

    stopper = callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    history = (
        cell.wrap(net)
        .fit(
            x,
            y,
            batch_size=16,
            epochs=20,
            verbose=0,
            validation_data=(x, y),
            callbacks=[Spoil(), stopper],
        )
        .history
    )
    best = int(np.argmin(history["val_loss"]))
    assert len(history["loss"]) == best + 3 < 20
    assert same(kept[best], net.get_weights())


@works("`ReduceLROnPlateau`")
def plateau(cell):
    x, y = data(48)
    net = adam_mlp(0.1)
    reducer = callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=100.0)
    history = cell.fit(net, x, y, epochs=3, callbacks=[reducer])
    assert rate_of(net) < 0.011
    assert history["learning_rate"][0] > history["learning_rate"][-1]


@works("`LearningRateScheduler`")
def scheduler(cell):
    x, y = data(48)
    net = adam_mlp()
    before = net.get_weights()
    rates = callbacks.LearningRateScheduler(lambda epoch, rate: 0.0)
    training = cell.wrap(net)
    training.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[rates])
    assert same(before, net.get_weights()) and rate_of(net) == 0.0


@works("`CSVLogger`", "with `score`, `variance_reduction` and `importance_sampling`")
def csv(cell):
    x, y = data(48)
    path = cell.tmp_path / "log.csv"
    history = cell.fit(adam_mlp(), x, y, callbacks=[callbacks.CSVLogger(path)])
    table = np.genfromtxt(path, delimiter=",", names=True)
    for name in ("loss", "accuracy", "score", "variance_reduction", "importance_sampling"):
        np.testing.assert_allclose(table[name], history[name], rtol=1e-5)


@works("`TensorBoard`", "needs `tensorboard` and TensorFlow, as with Keras")
def tensorboard(cell):
    x, y = data(48)
    folder = cell.tmp_path / "board"
    board = callbacks.TensorBoard(folder, histogram_freq=1, update_freq="batch")
    cell.fit(adam_mlp(), x, y, validation_data=(x, y), callbacks=[board])
    events = list((folder / "train").glob("events*"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "train"), {"tensors": 0})
    found.Reload()
    tags = set(found.Tags()["tensors"])
    assert events and {"epoch_loss", "epoch_score", "epoch_importance_sampling"} <= tags


@works("`TerminateOnNaN`", "sees a loss of NaN before scores of NaN can be drawn by")
def terminate_on_nan(cell):
    x, y = data(48)
    net = adam_mlp()

    class Spoil(callbacks.Callback):
        """In the second step of the second epoch."""

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_begin(self, batch, logs=None):
            if self.epoch == batch == 1:
                self.model.set_weights([w * np.nan for w in self.model.get_weights()])

    training = cell.wrap(net)
    seen = []

    class Watch(callbacks.TerminateOnNaN):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            seen.append(self.model.stop_training)

    training.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[Spoil(), Watch()])
    assert seen == 4 * [False] + [True]


@works("`BackupAndRestore`", "an interrupted run goes on exactly, from the step that was saved")
def backup(cell):
    x, y = data(48)
    net = adam_mlp()
    epochs = []

    class Interrupt(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)
            if len(epochs) == 3:
                raise KeyboardInterrupt

    arguments = {"batch_size": 16, "epochs": 4, "verbose": 0}
    keep = callbacks.BackupAndRestore(cell.tmp_path / "backup")
    try:
        cell.wrap(net).fit(x, y, callbacks=[keep, Interrupt()], **arguments)
    except KeyboardInterrupt:
        saved = net.get_weights()
    fresh = adam_mlp()
    started = []

    class Watch(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)
            started.append(self.model.get_weights())

    again = callbacks.BackupAndRestore(cell.tmp_path / "backup")
    cell.wrap(fresh).fit(x, y, callbacks=[again, Watch()], **arguments)
    assert epochs == [0, 1, 2, 2, 3]
    assert same(saved, started[0])
    assert int(ops.convert_to_numpy(fresh.optimizer.iterations)) == 4 * 3


@works("`SwapEMAWeights`")
def swap_ema(cell):
    x, y = data(48)
    net = mlp(optimizer=keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5))
    swaps = []

    class Watch(callbacks.Callback):
        """Runs before and after the swap, which is undone before the next epoch."""

        def on_epoch_end(self, epoch, logs=None):
            swaps.append(self.model.get_weights())

        def on_epoch_begin(self, epoch, logs=None):
            if epoch:
                swaps.append(self.model.get_weights())

    swap = callbacks.SwapEMAWeights(swap_on_epoch=True)
    cell.fit(net, x, y, callbacks=[Watch(), swap, Watch()])
    plain, averaged, _, back = (w[0] for w in swaps[:4])
    assert np.abs(plain - averaged).max() > 1e-3
    # On TensorFlow Keras swaps by adding and subtracting, which rounds.
    np.testing.assert_allclose(plain, back, rtol=1e-5, atol=1e-6)


@works("`LambdaCallback`", everywhere=True)
def lambdas(cell):
    x, y = data(48)
    net = adam_mlp()
    seen = []

    def note(batch, logs):
        # past `Callback.model`: the model the user holds is up to date all the same
        seen.append(ops.convert_to_numpy(net.trainable_variables[0]).copy())

    cell.fit(net, x, y, callbacks=[callbacks.LambdaCallback(on_train_batch_end=note)])
    assert len(seen) == 6 and all((a != b).any() for a, b in itertools.pairwise(seen))
    np.testing.assert_array_equal(seen[-1], net.get_weights()[0])


@works(
    "Weights changed in the middle of an epoch", "by `set_weights` in a batch hook", everywhere=True
)
def set_weights(cell):
    x, y = data(48)
    net = adam_mlp()
    held = [np.full_like(w, 0.25) for w in net.get_weights()]

    class Hold(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.model.set_weights(held)
                self.model.optimizer.learning_rate = 0.0

    cell.fit(net, x, y, callbacks=[Hold()])
    assert same(held, net.get_weights())


@works("Learning rate changed in the middle of an epoch")
def set_rate(cell):
    x, y = data(48)
    net = adam_mlp()
    seen = []

    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.get_weights()[0])
            self.model.optimizer.learning_rate = 0.0

    cell.fit(net, x, y, callbacks=[Stop()])
    assert len(seen) == 6
    np.testing.assert_array_equal(seen[0], seen[5])


@works(
    "Predictions in the middle of an epoch",
    "`predict` and `evaluate` from a batch hook",
    everywhere=True,
)
def predict_inside(cell):
    x, y = data(48)
    net = adam_mlp()
    found = []

    class Predict(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found.append(self.model.predict(x[:4], verbose=0))

        def on_epoch_end(self, epoch, logs=None):
            found.append(self.model.predict(x[:4], verbose=0))

    cell.fit(net, x, y, callbacks=[Predict()])
    assert len(found) == 8
    np.testing.assert_array_equal(found[-2], found[-1])
    np.testing.assert_array_equal(found[-1], net.predict(x[:4], verbose=0))


@works("`stop_training` from a batch hook", "the epoch ends with its logs and validation")
def stop(cell):
    x, y = data(64)

    class Stop(callbacks.Callback):
        """In the second step of the second epoch."""

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = self.epoch == batch == 1

    steps = []
    history = cell.wrap(adam_mlp()).fit(
        x,
        y,
        batch_size=16,
        epochs=5,
        verbose=0,
        validation_data=(x, y),
        callbacks=[Stop()],
        on_sample=lambda *a: steps.append(1),
    )
    assert len(history.history["val_loss"]) == 2 and len(steps) == 4 + 2


@works("Hooks of a step and their logs", "every hook, in Keras' order")
def order(cell):
    x, y = data(32)
    calls = []

    class Every(callbacks.Callback):
        pass

    def hook(name):
        def called(self, *args, **kwargs):
            calls.append(name)

        return called

    names = ("train_begin", "train_end", "epoch_begin", "epoch_end", "train_batch_begin")
    names += ("train_batch_end", "test_begin", "test_end", "test_batch_begin", "test_batch_end")
    for name in names:
        setattr(Every, f"on_{name}", hook(name))
    arguments = {"batch_size": 16, "epochs": 2, "verbose": 0, "validation_data": (x, y)}
    net = adam_mlp()
    net.fit(x, y, callbacks=[Every()], **arguments)
    expected, calls[:] = list(calls), []
    cell.fit(net, x, y, callbacks=[Every()], **arguments)
    assert calls == expected
