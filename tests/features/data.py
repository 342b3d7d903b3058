"""Kinds of data."""

import importlib
import itertools
import math
import threading

import keras
import numpy as np
from helpers import CLASSES, adam_mlp, data

from . import refused, works
from .columns import FEWER_STEPS, FIRST_PASS, SMALLER_STEPS, SURELY_ON


class Batches(keras.utils.PyDataset):
    """Rows in batches; notes which were asked for, and by which threads."""

    def __init__(self, x, y, size, log=None, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.size = x, y, size
        self.log = log

    def __len__(self):
        return math.ceil(len(self.x) / self.size)

    def __getitem__(self, index):
        if self.log is not None:
            self.log.append((index, threading.current_thread().name))
        rows = slice(index * self.size, (index + 1) * self.size)
        return self.x[rows], self.y[rows]


def two_inputs(as_dict):
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    out = keras.layers.Dense(CLASSES, activation="softmax")(keras.layers.Concatenate()([a, b]))
    net = keras.Model({"a": a, "b": b} if as_dict else [a, b], out)
    net.compile("adam", "sparse_categorical_crossentropy")
    return net


def framework(name, convert):
    own = name != "numpy"

    @works(f"{name} arrays", "on every backend" if own else "", everywhere=own)
    def check(cell):
        importlib.import_module(name.lower().replace("pytorch", "torch"))
        x, y = data(48)
        net = adam_mlp()
        history = cell.fit(net, convert(x), convert(y), validation_data=(convert(x), convert(y)))
        expected = net.evaluate(x, y, verbose=0)
        np.testing.assert_allclose(
            [history["val_loss"][-1], history["val_accuracy"][-1]], expected, rtol=1e-4
        )


framework("numpy", np.asarray)
framework("TensorFlow", lambda a: importlib.import_module("tensorflow").constant(a))
framework("JAX", lambda a: importlib.import_module("jax").device_put(a))
framework("PyTorch", lambda a: importlib.import_module("torch").as_tensor(a))


@works("Lists of Python numbers", "also where Keras refuses them")
def python_lists(cell):
    x, y = data(48)
    cell.fit_alike(adam_mlp, ((x.tolist(), y.tolist()), {}), ((x, y), {}))


@works("Lists and dicts of arrays", "for models with several inputs")
def nested(cell):
    x, y = data(48)
    cell.fit_alike(
        lambda: two_inputs(False),
        (([x[:, :3], x[:, 3:]], y), {}),
        (({"b": x[:, 3:], "a": x[:, :3]}, y), {}, lambda: two_inputs(True)),
    )


@works("pandas DataFrames and Series")
def pandas_frames(cell):
    import pandas

    x, y = data(48)
    frame = pandas.DataFrame(x, columns=list("abcdef"))
    frame["a"] = (frame["a"] * 10).astype("int64")
    plain = frame.to_numpy("float32")
    assert (plain[:, 0] != x[:, 0]).any()
    cell.fit_alike(adam_mlp, ((frame, pandas.Series(y)), {}), ((plain, y), {}))


@works("scipy sparse matrices", "only the rows drawn are made dense, also in validation")
def scipy_sparse(cell):
    import scipy.sparse

    x, y = data(48)
    x[x < 0] = 0
    net = adam_mlp()
    matrix = scipy.sparse.csr_matrix(x)
    history = cell.fit(net, matrix, y, validation_data=(scipy.sparse.coo_array(x), y))
    np.testing.assert_allclose(history["val_loss"][-1], net.evaluate(x, y, verbose=0)[0], rtol=1e-4)
    cell.fit(net, matrix, y, validation_split=0.25)


@works("numpy memory maps", "only the rows drawn are read, and ahead in a thread")
def memory_maps(cell):
    x, y = data(480)
    np.save(cell.tmp_path / "x.npy", x)
    mapped = np.load(cell.tmp_path / "x.npy", mmap_mode="r")
    read, threads = [], set()

    class Watched(np.memmap):
        def __getitem__(self, index):
            if isinstance(index, np.ndarray):
                read.extend(index.tolist())
                threads.add(threading.current_thread().name.split("_")[0])
            return super().__getitem__(index)

    begin = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: read.clear())
    if cell.training in FIRST_PASS:
        # Two passes of eight batches, and a batch or two read ahead.
        size, steps, least, most = 64, 8, 480, 2 * 480 + 3 * 64
    else:
        # Four pools of at most 32 rows, two more scored ahead or read ahead: far from all 480.
        size, steps, least, most = 8, 2, 16, 6 * 32
        if cell.training in SMALLER_STEPS:
            # Fewer than the batch size, and some of them more than once.
            least = 2
    view = mapped.view(Watched)
    cell.fit(adam_mlp(), view, y, batch_size=size, steps_per_epoch=steps, callbacks=[begin])
    assert least <= len(set(read)) and len(read) <= most
    assert "importance-sampling-rows" in threads


@works(
    "HuggingFace `datasets`",
    "columns by name, `fit(dataset, y='label')`, or `fit(dataset['image'], dataset['label'])`; "
    "mapped from files, only the rows drawn are read",
)
def hugging_face(cell):
    import datasets

    x, y = data(48)
    rows = datasets.Dataset.from_dict({"image": x, "label": y})
    cell.fit_alike(
        adam_mlp,
        ((rows, "label"), {"validation_data": (rows["image"], "label")}),
        ((x, y), {"validation_data": (x, y)}),
    )


@works(
    "Examples by index: PyTorch's map-style `Dataset`, `IndexedExamples`",
    "Grain data sets of single examples, records of files; only those drawn are read",
)
def examples_by_index(cell):
    import grain
    import torch

    from importance_sampling.datasets import IndexedExamples

    x, y = data(48)
    rows = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    cell.fit_alike(adam_mlp, ((rows,), {}), ((x, y), {}), batch_size=16)
    mapped = grain.MapDataset.source(list(zip(x, y, strict=True)))
    cell.fit(adam_mlp(), IndexedExamples(mapped), batch_size=16, validation_split=0.25)


@works("Integer and boolean arrays")
def integers(cell):
    x, y = data(48)
    for given, targets in ((x > 0, "uint8"), ((10 * x).astype("int16"), "float32")):
        plain = given.astype("float32")
        cell.fit_alike(adam_mlp, ((given, y.astype(targets)), {}), ((plain, y), {}))


@works("float64 and float16 arrays", "cast to Keras' float type, as Keras does")
def other_floats(cell):
    x, y = data(48)
    half = x.astype("float16")
    cell.fit_alike(adam_mlp, ((x.astype("float64"), y), {}), ((x, y), {}))
    cell.fit_alike(adam_mlp, ((half, y), {}), ((half.astype("float32"), y), {}))


def tf_data(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y))


def pools(seen):
    return lambda sampler, idxs, w, scores: seen.append(len(idxs))


@works(
    "`tf.data.Dataset`, batched",
    "an epoch is as many steps as the data set has batches",
    kind="stream",
)
def tf_batched(cell):
    x, y = data(48)
    sizes = []
    cell.fit(adam_mlp(), tf_data(x, y).batch(12), on_sample=pools(sizes))
    cell.check_steps(sizes, 2, 4)
    cell.check_sizes(sizes, 12)


@works(
    "`tf.data.Dataset` of single examples",
    "batched here; `batch_size` defaults to 32",
    kind="stream",
)
def tf_single(cell):
    x, y = data(48)
    sizes = []
    cell.fit(adam_mlp(), tf_data(x, y), batch_size=16, on_sample=pools(sizes))
    cell.check_sizes(sizes, 16)


@works("`tf.data.Dataset`, infinite", "with `steps_per_epoch`", kind="stream")
def tf_infinite(cell):
    x, y = data(48)
    rows, sizes = tf_data(x, y).repeat().batch(16), []
    cell.fit(adam_mlp(), rows, steps_per_epoch=5, on_sample=pools(sizes))
    cell.check_steps(sizes, 2, 5)


@refused("`tf.data.Dataset`, infinite, without `steps_per_epoch`", "needs `steps_per_epoch`")
def tf_infinite_alone(cell):
    x, y = data(48)
    cell.fit(adam_mlp(), tf_data(x, y).repeat().batch(16))


@works(
    "`tf.data.Dataset` of unknown length",
    "the first pass tells how many steps an epoch has",
    kind="stream",
)
def tf_unknown(cell):
    x, y = data(60)
    rows = tf_data(x, y).filter(lambda a, b: True).batch(12)
    sizes, steps = [], []
    history = cell.fit(
        adam_mlp(),
        rows,
        epochs=3,
        on_sample=pools(sizes),
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: steps.append(len(sizes)))
        ],
    )
    if cell.training in FEWER_STEPS:
        assert len(steps) == 3 and 3 <= steps[-1] < 15
    else:
        assert np.diff([0, *steps]).tolist() == [5, 5, 5]
    assert len(history["loss"]) == 3


def loader(x, y, **kwargs):
    import torch

    rows = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    return torch.utils.data.DataLoader(rows, **kwargs)


@works("PyTorch `DataLoader`", "an epoch is as many steps as the loader has batches", kind="stream")
def torch_loader(cell):
    x, y = data(48)
    sizes = []
    cell.fit(adam_mlp(), loader(x, y, batch_size=12, shuffle=True), on_sample=pools(sizes))
    cell.check_steps(sizes, 2, 4)
    cell.check_sizes(sizes, 12)


@works("PyTorch `DataLoader` of single examples", "`batch_size=None`", kind="stream")
def torch_singles(cell):
    x, y = data(48)
    sizes = []
    cell.fit(adam_mlp(), loader(x, y, batch_size=None), batch_size=16, on_sample=pools(sizes))
    cell.check_sizes(sizes, 16)


@works(
    "PyTorch `DataLoader` over an `IterableDataset`",
    "unknown length: an epoch is one pass",
    kind="stream",
)
def torch_iterable(cell):
    import torch

    x, y = data(48)

    class Rows(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(x, y, strict=True))

    sizes = []
    rows = torch.utils.data.DataLoader(Rows(), batch_size=12)
    cell.fit(adam_mlp(), rows, on_sample=pools(sizes))
    cell.check_steps(sizes, 2, 4)


@works(
    "`PyDataset`", "batches in a new random order each pass, unless `shuffle=False`", kind="stream"
)
def py_dataset(cell):
    x, y = data(48)
    log = []
    batches = Batches(x, y, 12, log)
    cell.fit(adam_mlp(), batches, shuffle=False)
    order = [index for index, _ in log][-8:]
    assert all((b - a) % 4 == 1 for a, b in itertools.pairwise(order))
    log.clear()
    cell.fit(adam_mlp(), batches, epochs=4)
    passes = [index for index, _ in log]
    assert set(passes) == {0, 1, 2, 3}


@works(
    "`PyDataset` with `workers`",
    "threads, or processes with `use_multiprocessing`; in order",
    kind="stream",
)
def py_dataset_workers(cell):
    x, y = data(48)
    log = []
    batches = Batches(x, y, 12, log, workers=3, max_queue_size=4)
    cell.fit(adam_mlp(), batches)
    assert any("importance-sampling-worker" in thread for _, thread in log)


@works("`PyDataset` without an end", "with `steps_per_epoch`", kind="stream")
def py_dataset_infinite(cell):
    x, y = data(48)

    class Endless(Batches):
        @property
        def num_batches(self):
            return None

        def __getitem__(self, index):
            return super().__getitem__(index % 4)

    sizes = []
    cell.fit(adam_mlp(), Endless(x, y, 12), steps_per_epoch=6, on_sample=pools(sizes))
    cell.check_steps(sizes, 2, 6)
    cell.check_sizes(sizes, 12)


@works("Grain `MapDataset` and `IterDataset`", "batched or not", kind="stream")
def grain(cell):
    import grain

    x, y = data(48)

    class Rows:
        def __len__(self):
            return len(x)

        def __getitem__(self, index):
            return x[index], y[index]

    source = grain.MapDataset.source(Rows())
    sizes = []
    cell.fit(adam_mlp(), source.shuffle(seed=1).batch(12), on_sample=pools(sizes))
    cell.check_steps(sizes, 2, 4)
    cell.check_sizes(sizes, 12)
    cell.fit(adam_mlp(), source.to_iter_dataset(), batch_size=16)


@works("Generators", "with `steps_per_epoch`; in `fit` and `fit_generator`", kind="stream")
def generators(cell):
    x, y = data(48)

    def endless():
        while True:
            for i in range(0, 48, 12):
                yield x[i : i + 12], y[i : i + 12]

    sizes = []
    cell.fit(adam_mlp(), endless(), steps_per_epoch=5, on_sample=pools(sizes))
    cell.check_steps(sizes, 2, 5)
    cell.check_sizes(sizes, 12)
    net = adam_mlp()
    cell.wrap(net).fit_generator(endless(), steps_per_epoch=4, batch_size=16, verbose=0)


@works("Generators without `steps_per_epoch`", "one epoch, until they end", kind="stream")
def generator_alone(cell):
    x, y = data(48)
    sizes = []
    # So many that "auto" has some left after it has seen enough to choose.
    batches = ((x[i : i + 12], y[i : i + 12]) for _ in range(30) for i in range(0, 48, 12))
    history = cell.fit(adam_mlp(), batches, epochs=1, on_sample=pools(sizes))
    assert len(history["loss"]) == 1 and 1 <= len(sizes) <= 120


@works("Streams with sample weights", "batches of `(x, y, sample_weight)`", kind="stream")
def weighted_stream(cell):
    x, y = data(48)
    w = (y < 2).astype("float32")

    class Weighted(Batches):
        def __getitem__(self, index):
            rows = slice(index * 12, (index + 1) * 12)
            return x[rows], y[rows], w[rows]

    drawn = []

    def on_sample(sampler, idxs, weights, scores):
        if len(np.unique(scores)) > 1:
            drawn.append(scores.min())

    cell.fit(adam_mlp(), Weighted(x, y, 12), on_sample=on_sample)
    assert all(score > 0 for score in drawn)
    assert drawn or cell.training not in SURELY_ON


@works("`class_weight` with streams", kind="stream")
def weighted_classes(cell):
    x, y = data(48)
    scores = []
    cell.fit(
        adam_mlp(),
        Batches(x, y, 12),
        class_weight={0: 0.0},
        on_scores=lambda sampler, s: scores.extend(s),
    )
    assert min(scores) == 0 and max(scores) > 0


@refused("Targets beside a stream", "`y` cannot be given with a Batches")
def targets_beside(cell):
    x, y = data(48)
    cell.fit(adam_mlp(), Batches(x, y, 12), y)


@works(
    "Strings",
    "TensorFlow only: no other backend has tensors of strings",
    backends=("tensorflow",),
    instead={"jax": "array of strings", "torch": "array of strings"},
)
def strings(cell):
    words = np.array(["a", "b", "c", "d"])
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 64)
    x = words[y][:, None]
    if keras.backend.backend() != "tensorflow":
        cell.fit(adam_mlp(), x, y)
        return
    inputs = keras.Input((1,), dtype="string")
    lookup = keras.layers.StringLookup(vocabulary=list(words), output_mode="one_hot")
    net = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(lookup(inputs)))
    net.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    history = cell.fit(net, x, y, epochs=6)
    assert history["loss"][-1] < history["loss"][0]
    cell.fit(net, x.astype(object), y)


@refused("Ragged tensors", "ragged tensor", "pad them and mask the padding")
def ragged(cell):
    import tensorflow as tf

    cell.fit(adam_mlp(), tf.ragged.constant([[1.0, 2.0], [3.0]]), np.zeros(2))


@works("Many features, few rows", "the pool is never larger than the data")
def small_data(cell):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 50)).astype("float32"), rng.integers(0, CLASSES, 20)
    net = keras.Sequential([keras.Input((50,)), keras.layers.Dense(CLASSES, "softmax")])
    net.compile("adam", "sparse_categorical_crossentropy")
    scored = []
    cell.fit(net, x, y, epochs=3, on_scores=lambda sampler, s: scored.append(len(s)))
    # Selective backprop tells of all it scored until it had a batch.
    assert max(scored) <= 20 or cell.training == "selective-backprop"
    if cell.main:
        assert max(scored) == 20
