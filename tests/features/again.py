"""More than one training, fit or thread."""

import copy
import pickle  # noqa: TID251
import threading

import keras
import numpy as np
from helpers import CLASSES, adam_mlp, data
from keras import ops

from . import refused, works


def moved(before, net):
    return any((a != b).any() for a, b in zip(before, net.get_weights(), strict=True))


@works("Two trainings in one process", "of two models, in turn")
def two_models(cell):
    x, y = data(48)
    nets = [adam_mlp(), adam_mlp()]
    trainings = [cell.wrap(net) for net in nets]
    for _ in range(2):
        for net, training in zip(nets, trainings, strict=True):
            other = nets[1] if net is nets[0] else nets[0]
            before = other.get_weights()
            cell.fit(net, x, y, training=training)
            assert not moved(before, other)


@works("Two trainings of one model")
def one_model(cell):
    x, y = data(48)
    net = adam_mlp()
    first, second = cell.wrap(net), cell.wrap(net, seed=1)
    for training in (first, second, first):
        cell.fit(net, x, y, training=training)
    assert int(ops.convert_to_numpy(net.optimizer.iterations)) == 3 * 6


@works("`fit` again", "continues with the model and the optimizer as they are")
def again(cell):
    x, y = data(48)
    net = adam_mlp()
    training = cell.wrap(net)
    for count in (1, 2, 3):
        cell.fit(net, x, y, training=training)
        assert int(ops.convert_to_numpy(net.optimizer.iterations)) == 6 * count
    x, y = data(60, seed=1)
    cell.fit(net, x, y, training=training, batch_size=20)


@works("`model.fit` before, between and after")
def between(cell):
    x, y = data(48)
    net = adam_mlp()
    training = cell.wrap(net)
    arguments = {"batch_size": 16, "verbose": 0}
    for _ in range(2):
        before = net.get_weights()
        net.fit(x, y, **arguments)
        assert moved(before, net)
        cell.fit(net, x, y, training=training)
    before = net.get_weights()
    net.fit(x, y, **arguments)
    assert moved(before, net)
    assert int(ops.convert_to_numpy(net.optimizer.iterations)) == 3 * 3 + 2 * 6
    left = {"train_step", "compute_loss", "compute_metrics", "jax_state_sync"} & set(vars(net))
    assert not left


@works(
    "`compile` again between fits", "with another loss, optimizer or frozen layers", everywhere=True
)
def compile_again(cell):
    x, y = data(48)
    net = adam_mlp()
    training = cell.wrap(net)
    cell.fit(net, x, y, training=training)
    frozen = net.layers[0].get_weights()[0]
    net.layers[0].trainable = False
    net.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    cell.fit(net, x, np.eye(CLASSES, dtype="float32")[y], training=training)
    np.testing.assert_array_equal(frozen, net.layers[0].get_weights()[0])


@works("`set_weights` and `learning_rate` between fits")
def set_between(cell):
    x, y = data(48)
    net = adam_mlp()
    training = cell.wrap(net)
    cell.fit(net, x, y, training=training)
    held = [np.full_like(w, 0.1) for w in net.get_weights()]
    net.set_weights(held)
    net.optimizer.learning_rate = 0.0
    training.fit(x, y, batch_size=16, verbose=0)
    assert not moved(held, net)


@works("The model saved, loaded and trained on")
def save_and_load(cell):
    x, y = data(48)
    net = adam_mlp()
    cell.fit(net, x, y)
    net.save(cell.tmp_path / "model.keras")
    loaded = keras.models.load_model(cell.tmp_path / "model.keras")
    assert not moved(net.get_weights(), loaded)
    assert int(ops.convert_to_numpy(loaded.optimizer.iterations)) == 6
    cell.fit(loaded, x, y)


@works("The model copied", "`keras.models.clone_model`; the copy trains by itself")
def clone(cell):
    x, y = data(48)
    net = adam_mlp()
    cell.fit(net, x, y)
    twin = keras.models.clone_model(net)
    twin.compile("adam", "sparse_categorical_crossentropy")
    before = net.get_weights()
    cell.fit(twin, x, y)
    assert not moved(before, net)


@refused("A training deep-copied", "cannot be copied", "save the model and wrap it again")
def deep_copy(cell):
    copy.deepcopy(cell.wrap(adam_mlp()))


@refused("A training pickled", "cannot be pickled", "likewise")
def pickled(cell):
    pickle.dumps(cell.wrap(adam_mlp()))


@works(
    "Training in a thread",
    "and two trainings in two threads; one model in two of them, or in a callback of its own "
    "`fit`, is refused",
    everywhere=True,
)
def in_threads(cell):
    x, y = data(48)
    nets = [adam_mlp(), adam_mlp()]
    errors = []

    def train(net):
        try:
            cell.fit(net, x, y)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=train, args=(net,)) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors and not any(thread.is_alive() for thread in threads)


@works(
    "An interrupted `fit`",
    "Ctrl-C leaves the model up to date and usable, in the middle of a step, too: it waits until "
    "the results are assigned",
    everywhere=True,
)
def interrupted(cell):
    x, y = data(64)
    net = adam_mlp()
    training = cell.wrap(net)
    last = []

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            last.append(self.model.get_weights())
            if batch == 2:
                raise KeyboardInterrupt

    try:
        training.fit(x, y, batch_size=16, verbose=0, callbacks=[Interrupt()])
    except KeyboardInterrupt:
        assert not moved(last[-1], net)
    assert len(last) == 3 and "jax_state_sync" not in vars(net)
    net.predict(x[:4], verbose=0)
    cell.fit(net, x, y, training=training)
