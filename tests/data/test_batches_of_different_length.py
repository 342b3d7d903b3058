"""Batches that differ in length: padded with zeros where they are joined."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

from importance_sampling import ImportanceTraining
from importance_sampling.data import StreamDataset

pytestmark = pytest.mark.one_backend

exact = pytest.mark.exact

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
        StreamDataset([odd()], "test data", keeps_batches=True) as rows,
        pytest.raises(ValueError, match="differ in their number of axes"),
    ):
        rows.read_pool(8)


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
