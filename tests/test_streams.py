"""Data in batches: what is a batch, what a step takes, what a pool is made of."""

import warnings

import keras
import numpy as np
import pytest
from features.data import Batches
from helpers import CLASSES, FEATURES, adam_mlp, data
from keras import layers

from importance_sampling import ImportanceTraining
from importance_sampling.datasets._elements import holds_single_examples, shapes_only
from importance_sampling.datasets._generator import StreamDataset
from importance_sampling.datasets._sources import Source

exact = pytest.mark.exact
N, BATCH = 50, 16


class Spec:
    """Stands for what says no more than its shape."""

    def __init__(self, *shape):
        self.shape = shape


ELEMENTS = {
    # name: element, inputs, whether it is one example
    "scalars in batches": ((Spec(None), Spec(None)), {"x": (None, 1)}, False),
    "scalars in batches of a known size": ((Spec(16), Spec(16)), {"x": (None, 1)}, False),
    "one row, scalar target": ((Spec(6), Spec()), {"x": (None, 6)}, True),
    "one row, one-hot target": ((Spec(6), Spec(4)), {"x": (None, 6)}, True),
    "one row, as many targets as features": ((Spec(6), Spec(6)), {"x": (None, 6)}, True),
    "rows": ((Spec(None, 6), Spec(None, 4)), {"x": (None, 6)}, False),
    "images without the last axis": ((Spec(None, 8, 8), Spec(None)), {"x": (None, 8, 8, 1)}, False),
    "one image without the last axis": ((Spec(8, 8), Spec()), {"x": (None, 8, 8, 1)}, True),
    "one image": ((Spec(8, 8, 1), Spec()), {"x": (None, 8, 8, 1)}, True),
    "images": ((Spec(None, 8, 8, 1), Spec(None)), {"x": (None, 8, 8, 1)}, False),
    "one sequence, one label each": ((Spec(None), Spec(None)), {"x": (None, None)}, True),
    "sequences": ((Spec(None, None), Spec(None, None)), {"x": (None, None)}, False),
    "one pair of scalars": (({"a": Spec(), "b": Spec()}, Spec()), {"a": (None, 1)}, True),
    "a dict of scalars in batches": (
        ({"b": Spec(None), "a": Spec(None)}, Spec(None)),
        {"a": (None, 1), "b": (None, 1)},
        False,
    ),
    "a dict of one row each": (
        ({"b": Spec(3), "a": Spec(2)}, Spec(1)),
        {"a": (None, 2), "b": (None, 3)},
        True,
    ),
    "too many features in batches": ((Spec(None), Spec(None)), {"x": (None, 6)}, False),
    "rows, inputs not known": ((Spec(16, 6), Spec(16)), None, False),
    "one row, inputs not known": ((Spec(6), Spec(4)), None, True),
    "bare rows": (Spec(None, 6), {"x": (None, 6)}, False),
    "one bare row": (Spec(6), {"x": (None, 6)}, True),
    "scalars": ((1.0, 2), {"x": (None, 1)}, True),
}


@exact
@pytest.mark.parametrize("name", ELEMENTS)
def test_batches_and_single_examples_are_told_apart(name):
    element, inputs, single = ELEMENTS[name]
    assert holds_single_examples(shapes_only(element), inputs) is single


def tf_data(*arrays):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays)


def loader(*arrays):
    import torch

    rows = torch.utils.data.TensorDataset(*[torch.as_tensor(a) for a in arrays])
    return torch.utils.data.DataLoader(rows, batch_size=BATCH)


def grain(*arrays):
    import grain

    rows = list(zip(*arrays, strict=True))
    return grain.MapDataset.source(rows).batch(BATCH)


def generator(*arrays):
    while True:
        for i in range(0, N, BATCH):
            yield tuple(a[i : i + BATCH] for a in arrays)


def of_unknown_shape(*arrays):
    import tensorflow as tf

    kinds = tuple(tf.float32 for _ in arrays)
    return tf.data.Dataset.from_generator(
        lambda: (tuple(a[i : i + BATCH] for a in arrays) for i in range(0, N, BATCH)),
        output_types=kinds,
    )


KINDS = {
    "tf.data": lambda *a: tf_data(*a).batch(BATCH),
    "tf.data, the last batch dropped": lambda *a: tf_data(*a).batch(BATCH, drop_remainder=True),
    "tf.data of unknown shape": of_unknown_shape,
    "DataLoader": loader,
    "Grain": grain,
    "PyDataset": lambda x, y: Batches(x, y, BATCH),
    "generator": generator,
}
SHAPES = {1: (), 2: (3,), 3: (3, 2), 4: (3, 2, 2)}


def regression(shape, values):
    inputs = keras.Input(shape or (1,))
    outputs = layers.Dense(values)(layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01), "mse", metrics=["mae"])
    return model


@exact
@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_after_two_epochs_are_those_of_model_fit(kind, rank):
    unknown_to_keras = kind == "tf.data of unknown shape" and keras.backend.backend() != "torch"
    if unknown_to_keras and keras.backend.backend() == "tensorflow":
        pytest.skip("Keras on TensorFlow cannot read data of unknown shape")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, *SHAPES[rank])).astype("float32")
    y = x.reshape(N, -1)[:, 0] if rank % 2 else x.reshape(N, -1)[:, :1]
    models = [regression(SHAPES[rank], 1) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    arguments = {"epochs": 2, "shuffle": False, "verbose": 0}
    if kind == "generator":
        arguments["steps_per_epoch"] = 4
    # What is given beside data in batches is not for them.
    arguments["batch_size"] = 7
    a = models[0].fit(KINDS[kind](x, y), **arguments | {"batch_size": None}).history
    b = ImportanceTraining(models[1], tau_th=1e9).fit(KINDS[kind](x, y), **arguments).history
    steps = [int(model.optimizer.iterations.value) for model in models]
    # Keras on TensorFlow counts a step more at each end of a Grain data set.
    miscounted = kind == "Grain" and keras.backend.backend() == "tensorflow"
    assert steps[1] == 8 if miscounted else steps[0] == steps[1]
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has strings")
def test_a_dict_of_strings_and_numbers_is_read_as_keras_reads_it():
    words = np.array(["u", "v", "w", "u", "v"] * 10)
    numbers = np.linspace(-1, 1, N).astype("float32")
    y = numbers + (words == "u")

    def make():
        word, number = keras.Input((1,), name="word", dtype="string"), keras.Input((1,), name="n")
        code = layers.StringLookup(vocabulary=["u", "v", "w"], output_mode="one_hot")(word)
        outputs = layers.Dense(1)(layers.Concatenate()([code, number]))
        model = keras.Model({"word": word, "n": number}, outputs)
        model.compile("sgd", "mse")
        return model

    models = [make(), make()]
    models[1].set_weights(models[0].get_weights())
    rows = tf_data({"word": words, "n": numbers}, y).batch(BATCH)
    models[0].fit(rows, epochs=2, verbose=0)
    ImportanceTraining(models[1], tau_th=1e9).fit(rows, epochs=2, verbose=0)
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tau_th", [0.0, 1e9])
def test_data_of_unknown_length_has_as_many_steps_as_batches(tau_th):
    x, y = data(N)
    rows = tf_data(x, y).filter(lambda a, b: True).batch(BATCH)
    model = adam_mlp()
    history = ImportanceTraining(model, tau_th=tau_th, seed=0).fit(rows, epochs=3, verbose=0)
    assert int(model.optimizer.iterations.value) == 12
    assert history.history["importance_sampling"][-1] == (tau_th == 0)


# -- what steps take ----------------------------------------------------------------------------


def batches(*lengths):
    """Rows that count up, in batches of these lengths."""
    start = 0
    for length in lengths:
        rows = np.arange(start, start + length, dtype="float32")[:, None]
        yield rows, rows
        start += length


def stream(*lengths, **kwargs):
    return StreamDataset(Source(lambda: batches(*lengths), "test data"), **kwargs)


@exact
def test_steps_and_pools_are_made_of_whole_batches():
    with stream(4, 4, 2, keeps_batches=True) as rows:
        taken = [rows.read_batch(4), rows.read_pool(8), rows.read_pool(6), rows.read_batch(4)]
    assert [len(x) for x, _ in taken] == [4, 10, 8, 2] or [len(x) for x, _ in taken][:2] == [4, 10]
    flat = np.concatenate([x[:, 0] for x, _ in taken])
    # Nothing is left out and nothing comes twice within a pass.
    np.testing.assert_array_equal(flat[:20], [*range(10), *range(10)])


@exact
def test_steps_take_as_many_examples_as_asked_for_where_batches_are_not_kept():
    with stream(4, 4, 2) as rows:
        taken = [rows.read_batch(3), rows.read_pool(5), rows.read_batch(6)]
    assert [len(x) for x, _ in taken] == [3, 5, 6]
    flat = np.concatenate([x[:, 0] for x, _ in taken])
    np.testing.assert_array_equal(flat, [*range(10), *range(4)])


# -- batches of different length ----------------------------------------------------------------

LENGTHS = (3, 7, 5, 7)


def sequences(seed=0):
    """Sequences of tokens, a label and a tag per token, in four batches of different length."""
    rng = np.random.default_rng(seed)
    found = []
    for length in LENGTHS:
        x = rng.integers(1, 9, (8, length))
        found.append((x, (x.sum(1) % 2).astype("float32"), np.minimum(x, 3)))
    return found


class Sequences(keras.utils.PyDataset):
    def __init__(self, tags=False):
        super().__init__()
        self.batches = [(x, t if tags else y) for x, y, t in sequences()]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def reader(mask, tags=False):
    model = keras.Sequential(
        [
            layers.Input((None,)),
            layers.Embedding(10, 4, mask_zero=mask),
            layers.GRU(4, return_sequences=tags),
            layers.Dense(4, activation="softmax") if tags else layers.Dense(1, "sigmoid"),
        ]
    )
    loss = "sparse_categorical_crossentropy" if tags else "binary_crossentropy"
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


@pytest.mark.parametrize("tags", [False, True])
def test_uniform_steps_on_batches_of_different_length_are_those_of_model_fit(tags):
    models = [reader(True, tags) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    arguments = {"epochs": 2, "shuffle": False, "verbose": 0}
    models[0].fit(Sequences(tags), **arguments)
    ImportanceTraining(models[1], tau_th=1e9).fit(Sequences(tags), **arguments)
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("score", ["gnorm", "loss"])
@pytest.mark.parametrize("tags", [False, True])
def test_padded_rows_score_as_unpadded_ones_where_the_model_masks(tags, score):
    model = reader(True, tags)
    training = ImportanceTraining(model, presample=4.0, tau_th=0.0, score=score, seed=0)
    scores, drawn = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        training.fit(
            Sequences(tags),
            shuffle=False,
            steps_per_epoch=2,
            verbose=0,
            on_scores=lambda sampler, s: scores.append(s),
            on_sample=lambda sampler, idxs, w, s: drawn.append(len(idxs)),
        )
    assert drawn == [8, 8] and [len(s) for s in scores] == [8, 32]
    # The pool holds the second batch to the first of the next pass, padded to the longest.
    order = [1, 2, 3, 0]
    found = [(x, t if tags else y) for x, y, t in sequences()]
    padded = [np.pad(a, [(0, 0), *[(0, 7 - a.shape[1])] * (a.ndim - 1)]) for a, _ in found]
    wrapper = training.model
    alone = [wrapper.score(*found[k]) for k in order]
    if tags:
        # Keras divides by the tokens of the batch; scores in one pool are per token of the pool.
        tokens = np.array([found[k][0].shape[1] for k in order])
        alone = [s * t / tokens.mean() for s, t in zip(alone, tokens, strict=True)]
        targets = [np.pad(t, [(0, 0), (0, 7 - t.shape[1])]) for _, t in found]
    else:
        targets = [y for _, y in found]
    together = wrapper.score(
        np.concatenate([padded[k] for k in order]),
        np.concatenate([targets[k] for k in order]),
        batch_size=32,
    )
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4)


def test_one_warning_where_padding_is_not_masked():
    def run(mask):
        training = ImportanceTraining(reader(mask), presample=4.0, tau_th=0.0, seed=0)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            history = training.fit(Sequences(), epochs=3, verbose=0)
        assert history.history["importance_sampling"][-1] == 1
        return [str(w.message) for w in found if "padded with zeros" in str(w.message)]

    assert run(True) == []
    said = run(False)
    assert len(said) == 1
    assert "mask_zero=True" in said[0] and "pad all batches to one length" in said[0]


@exact
def test_batches_that_differ_in_rank_are_refused():
    def odd():
        yield np.zeros((4, 3)), np.zeros(4)
        yield np.zeros((4, 3, 1)), np.zeros(4)

    with (
        StreamDataset(Source(odd, "test data"), keeps_batches=True) as rows,
        pytest.raises(ValueError, match="differ in their number of axes"),
    ):
        rows.read_pool(8)


# -- inputs without targets ---------------------------------------------------------------------


class Autoencoder(keras.Model):
    """Needs no targets: its loss compares the outputs with the inputs."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = layers.Dense(2), layers.Dense(FEATURES)

    def call(self, x):
        return self.outer(self.inner(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        losses = keras.ops.mean(keras.ops.square(x - y_pred), axis=-1)
        if sample_weight is not None:
            losses = losses * sample_weight
        return keras.ops.mean(losses)


def test_bare_inputs_train_a_model_whose_loss_needs_no_targets():
    x, _ = data(N)
    models = [Autoencoder(), Autoencoder()]
    for model in models:
        model.compile(keras.optimizers.Adam(0.01))
        model(x[:1])
    models[1].set_weights(models[0].get_weights())
    models[0].fit(x, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    ImportanceTraining(models[1], tau_th=1e9).fit(tf_data(x).batch(BATCH), epochs=2, verbose=0)
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6)


def test_bare_inputs_are_refused_for_other_models():
    x, _ = data(N)
    model = adam_mlp()
    with pytest.raises(ValueError, match="got inputs without targets"):
        ImportanceTraining(model).fit(tf_data(x).batch(BATCH), verbose=0)
    assert model.output_shape == (None, CLASSES)


def test_batches_larger_than_the_first_are_taken_whole():
    x, y = data(22)
    starts = np.cumsum([0, 3, 1, 5, 2, 11])

    class Uneven(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            rows = slice(starts[index], starts[index + 1])
            return x[rows], y[rows]

    models = [adam_mlp() for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    arguments = {"epochs": 2, "shuffle": False, "verbose": 0}
    models[0].fit(Uneven(), **arguments)
    sizes = []
    training = ImportanceTraining(models[1], tau_th=1e9)
    training.fit(Uneven(), **arguments, on_sample=lambda s, idxs, w, p: sizes.append(len(idxs)))
    assert sizes == 2 * [3, 1, 5, 2, 11]
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-6)


@pytest.mark.any_backend
def test_weights_per_step_of_sequences_of_many_lengths():
    """More lengths than are traced for one by one, with masks and weights of the user's own."""
    rng = np.random.default_rng(0)

    class Weighted(keras.utils.PyDataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            rng = np.random.default_rng(index)
            words = rng.integers(1, 9, (4, 3 + index))
            words[0, 2:] = 0
            return words, np.minimum(words, 3), rng.random(words.shape).astype("float32")

    def make():
        model = keras.Sequential(
            [
                layers.Input((None,)),
                layers.Embedding(9, 3, mask_zero=True),
                layers.Dense(4, activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
        return model

    models = [make(), make()]
    models[1].set_weights([rng.normal(size=w.shape) for w in models[0].get_weights()])
    models[0].set_weights(models[1].get_weights())
    arguments = {"epochs": 2, "shuffle": False, "verbose": 0}
    a = models[0].fit(Weighted(), **arguments).history
    b = ImportanceTraining(models[1], tau_th=1e9).fit(Weighted(), **arguments).history
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6)
    ImportanceTraining(make(), tau_th=0.0).fit(Weighted(), **arguments)
