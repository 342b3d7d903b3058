"""How many rows there are, and of which shape."""

import math
from collections import OrderedDict

import keras
import numpy as np
from helpers import CLASSES, FEATURES, adam_mlp, data
from keras import layers

from importance_sampling import ImportanceTraining

from . import works
from .columns import SURELY_ON
from .data import Batches, tf_data


def sizes_of(cell, net, *args, **kwargs):
    """How many rows each step trained on."""
    sizes = []
    cell.fit(net, *args, on_sample=lambda sampler, idxs, w, s: sizes.append(len(idxs)), **kwargs)
    return sizes


@works("Rows that no batch size divides", "ceil(n / b) steps, the last, smaller batch included")
def partial_batches(cell):
    x, y = data(50)
    net = adam_mlp()
    sizes = sizes_of(cell, net, x, y, batch_size=16, epochs=2)
    assert len(sizes) == int(net.optimizer.iterations.value)
    cell.check_steps(sizes, 2, math.ceil(50 / 16))
    if cell.training in ("history", "robust", "infobatch"):
        # Every example once.
        assert sum(sizes[:4]) == 50


@works("Fewer rows than a batch", "the batch is cut to them")
def small_data(cell):
    x, y = data(10)
    sizes = sizes_of(cell, adam_mlp(), x, y, batch_size=32, epochs=3)
    assert len(sizes) == 3
    cell.check_sizes(sizes, 10)


@works(
    "One row",
    uniform=dict.fromkeys(
        ("constant-variance", "auto", "infobatch"), "there is no second row to differ from"
    ),
)
def one_row(cell):
    x, y = data(4)
    row = int(np.argmax(y == CLASSES - 1))
    # One label says nothing of how many there are; one-hot does.
    target = np.eye(CLASSES, dtype="float32")[y[row : row + 1]]
    net = adam_mlp(loss="categorical_crossentropy")
    sizes = sizes_of(cell, net, x[row : row + 1], target, batch_size=32, epochs=3)
    assert sizes == [1, 1, 1]


@works("A last axis of one left out", "`(n, 8, 8)` into `Input((8, 8, 1))`, as in Keras")
def missing_axis(cell):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 8, 8)).astype("float32"), rng.integers(0, CLASSES, 50)

    def make():
        net = keras.Sequential(
            [
                layers.Input((8, 8, 1)),
                layers.Conv2D(2, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(CLASSES, activation="softmax"),
            ]
        )
        net.compile("adam", "sparse_categorical_crossentropy")
        return net

    cell.fit_alike(make, ((x, y), {}), ((x[..., None], y), {}))


@works("Scalars in batches", "`(b,)` of a `tf.data.Dataset` into `Input((1,))`", kind="stream")
def scalars(cell):
    x = np.linspace(-1, 1, 50).astype("float32")
    inputs = keras.Input((1,))
    net = keras.Model(inputs, layers.Dense(1)(inputs))
    net.compile(keras.optimizers.SGD(0.1), "mse")
    sizes = sizes_of(cell, net, tf_data(x, 2 * x).batch(16), epochs=20)
    cell.check_steps(sizes, 20, 4)
    assert net.evaluate(x, 2 * x, verbose=0) < 0.5


@works("`batch_size` beside data in batches", "the data's own stay, as in Keras", kind="stream")
def own_batches(cell):
    x, y = data(50)
    sizes = sizes_of(cell, adam_mlp(), Batches(x, y, 12), batch_size=7, shuffle=False)
    cell.check_steps(sizes, 2, 5)
    if cell.main:
        # Uniform steps take them as they come.
        uniform = []
        ImportanceTraining(adam_mlp(), tau_th=1e9).fit(
            Batches(x, y, 12),
            batch_size=7,
            epochs=2,
            verbose=0,
            shuffle=False,
            on_sample=lambda sampler, idxs, w, s: uniform.append(len(idxs)),
        )
        assert uniform == 2 * [12, 12, 12, 12, 2]


@works(
    "Batches of different length",
    "joined for pools, padded with zeros",
    kind="stream",
    everywhere=True,
)
def lengths(cell):
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 9, (8, length)) for length in (3, 7, 5, 6)]

    class Sentences(keras.utils.PyDataset):
        def __len__(self):
            return len(rows)

        def __getitem__(self, index):
            return rows[index], (rows[index].sum(1) % 2).astype("float32")

    net = keras.Sequential(
        [
            layers.Input((None,)),
            layers.Embedding(9, 4, mask_zero=True),
            layers.GRU(4),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    net.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    history = cell.fit(net, Sentences(), epochs=3)
    assert history["importance_sampling"][-1] == 1 or cell.training not in SURELY_ON


@works("`OrderedDict` inputs", "in their own order, as in Keras")
def ordered(cell):
    x, y = data(50)
    parts = OrderedDict([("b", x[:, :4]), ("a", x[:, 4:])])

    def compiled(inputs):
        whole = layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
        outputs = layers.Dense(CLASSES, activation="softmax")(whole)
        net = keras.Model(inputs[0] if len(inputs) == 1 else named(inputs), outputs)
        net.compile("adam", "sparse_categorical_crossentropy")
        return net

    def named(inputs):
        return OrderedDict(zip(parts, inputs, strict=True))

    cell.fit_alike(
        lambda: compiled([keras.Input((p.shape[1],), name=name) for name, p in parts.items()]),
        ((parts, y), {}),
        ((x, y), {}, lambda: compiled([keras.Input((FEATURES,))])),
        class_weight={0: 2.0},
    )
