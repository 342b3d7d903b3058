"""Two processes of JAX that train together, compared with one; the first writes what it found.

Its arguments are the process' number, a port and a folder to write in; `CI_FULL=1` tries every way
to train.
"""

import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np
from keras import distribution, layers
from spread import full

from importance_sampling import training as trainings

rng = np.random.default_rng(0)
# The last batch of a pass cannot be shared evenly.
N, BATCH = 33, 16
x, y = rng.normal(size=(N, 8)).astype("float32"), rng.integers(0, 4, N)
kept = rng.random(N).astype("float32")
words = rng.integers(1, 9, (N, 5)) * (np.arange(5) < rng.integers(1, 6, (N, 1)))


class Watched(np.memmap):
    """Counts the rows that are read by index."""

    read = 0

    def __getitem__(self, index):
        if isinstance(index, np.ndarray):
            Watched.read += len(index)
        return super().__getitem__(index)


x = x.view(Watched)


def network(**arguments):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    hidden = layers.Dense(8, activation="relu", kernel_regularizer="l2")(inputs)
    hidden = layers.BatchNormalization()(hidden)
    label = layers.Dense(4, activation="softmax", name="label")(hidden)
    net = keras.Model(inputs, {"label": label, "value": layers.Dense(2, name="value")(hidden)})
    losses = {"label": "sparse_categorical_crossentropy", "value": "mse"}
    net.compile(keras.optimizers.SGD(0.1), losses, metrics={"label": ["accuracy"]}, **arguments)
    return net, (x, {"label": y, "value": x[:, :2]}, {"label": kept, "value": kept})


def small(**arguments):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((8,)), layers.Dense(4, kernel_regularizer="l2")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.1), loss, **arguments)
    return net, (x, y, kept)


def masked():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.Embedding(9, 4, mask_zero=True)(inputs)
    net = keras.Model(inputs, layers.Dense(3, activation="softmax")(hidden))
    net.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return net, (words, words % 3, None)


def of(kind, **options):
    return lambda net, seed: getattr(trainings, kind)(net, seed=seed, **options)


pool = {"presample": 2.0, "tau_th": 0.0}
history = of("HistoryImportanceTraining")
WAYS = {
    "history": (small, history),
    "gnorm": (small, of("ImportanceTraining", **pool)),
    "outputs": (network, of("ImportanceTraining", score="loss", **pool)),
    "full_gnorm": (network, of("ImportanceTraining", score="full_gnorm", **pool)),
    "acc": (network, of("ImportanceTraining", score="acc", **pool)),
    "biased": (network, of("BiasedImportanceTraining", presample=32)),
    "auto": (network, of("ImportanceTraining", presample="auto")),
    "variance": (
        network,
        of("HistoryImportanceTraining", constant="variance", min_batch_size=4),
    ),
    "infobatch": (network, of("InfoBatchTraining")),
    "selective": (network, of("SelectiveBackpropTraining")),
    "svrg": (network, of("SVRG", B=0)),
    "masked": (masked, of("ImportanceTraining", **pool)),
}


class Stop(keras.callbacks.Callback):
    """Ends the training in one process."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = distribution.distribution() is not None and rank == 1


def fit(training, rows, epochs=2, callbacks=(), **arguments):
    data = {"x": rows[0], "y": rows[1], "sample_weight": rows[2], "batch_size": BATCH} | arguments
    drawn = []
    logs = training.fit(
        **data,
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
        validation_data=(data["x"][:8], keras.tree.map_structure(lambda a: a[:8], data["y"])),
        on_sample=lambda sampler, idxs, w, scores: drawn.append(idxs.tolist()),
    ).history
    return drawn, logs, training.original_model.get_weights()


def apart(one, other):
    """How far two trainings are from each other; infinite where their draws differ."""
    if one[0] != other[0] or one[1].keys() != other[1].keys():
        return float("inf")
    pairs = [*zip(one[2], other[2], strict=True), *((one[1][k], other[1][k]) for k in one[1])]
    return max(float(np.abs(np.subtract(a, b)).max()) for a, b in pairs)


def refused(function):
    try:
        function()
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


rank, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
distribution.initialize(f"127.0.0.1:{port}", 2, rank)
# "auto" decides by measured times, by which the processes must not differ.
ways = [name for name in WAYS if name != "auto"] if full() else ["gnorm"]
found = {"ways": {}, "weights": {}, "rows read": {}}
alone = {}
if rank == 0:
    # Before a distribution is set, a process is alone.
    for name in {*ways, "history"}:
        make, way = WAYS[name]
        net, rows = make()
        alone[name] = fit(way(net, 1), rows)
    net, rows = small()
    training = history(net, 1)
    begun = fit(training, rows, epochs=1)
    training.save_state(folder / "alone.npz")

distribution.set_distribution(distribution.DataParallel(devices=distribution.list_devices()))
for name in ways:
    make, way = WAYS[name]
    net, rows = make()
    # The seed of the other process does not count.
    training = way(net, 1 + rank)
    before = Watched.read
    together = fit(training, rows)
    found["rows read"][name] = Watched.read - before
    found["weights"][name] = [w.tolist() for w in together[2]]
    if rank == 0:
        found["ways"][name] = apart(alone[name], together)
    if name == "gnorm":
        found["stopped after"] = len(fit(training, rows, callbacks=[Stop()])[0])
        found["other data"] = refused(lambda: fit(training, rows, x=x + rank))  # noqa: B023
found["eager"] = refused(lambda: fit(history(small(run_eagerly=True)[0], 1), small()[1]))

# An epoch by two processes, the next by one.
net, rows = small()
training = history(net, 1)
drawn, logs, _ = fit(training, rows, epochs=1)
training.save_state(folder / f"state{rank}.npz")
if full():
    net, rows = small()
    of("ImportanceTraining", presample="auto")(net, None).fit(*rows[:2], epochs=4, verbose=0)
    found["weights"]["auto"] = net.get_weights()[0].tolist()

# An epoch by one process, the next by two.
net, rows = small()
training = history(net, 5)
training.load_state(folder / "alone.npz")
later, later_logs, weights = fit(training, rows)
if rank == 0:
    whole = {key: [*begun[1][key], *later_logs[key]] for key in later_logs}
    found["resumed by two"] = apart(alone["history"], (begun[0] + later, whole, weights))
(folder / f"found{rank}.json").write_text(json.dumps(found))

if rank == 1:
    # Gone in the middle of an epoch.
    class Die(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                os._exit(0)

    fit(training, rows, epochs=9, callbacks=[Die()])
found["a death"] = refused(lambda: fit(training, rows, epochs=9))

distribution.set_distribution(None)
if rank == 0:
    net, rows = small()
    training = history(net, 7)
    training.load_state(folder / "state0.npz")
    later, later_logs, weights = fit(training, rows)
    whole = {key: [*logs[key], *later_logs[key]] for key in logs}
    found["resumed"] = apart(alone["history"], (drawn + later, whole, weights))
    (folder / "found0.json").write_text(json.dumps(found))
    # JAX would wait for the other process to leave, and end this one for its absence.
    os._exit(0)
