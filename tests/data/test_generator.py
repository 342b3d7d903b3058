"""Generators as training data: those that go on for ever, and those that end."""

import warnings

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data
from like_keras import BATCH, SHAPES, N, check_weights_after_two_epochs

from importance_sampling import ImportanceTraining, SelectiveBackpropTraining

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact


def endless(*arrays):
    while True:
        yield from once(*arrays)


def once(*arrays):
    for i in range(0, N, BATCH):
        yield tuple(a[i : i + BATCH] for a in arrays)


@exact
@pytest.mark.parametrize("rank", SHAPES)
def test_weights_after_two_epochs_are_those_of_model_fit(rank):
    check_weights_after_two_epochs(endless, rank, steps_per_epoch=4)


class Steps(keras.callbacks.Callback):
    """Counts the steps, epoch by epoch."""

    def on_train_begin(self, logs=None):
        self.taken, self.epochs = 0, []

    def on_train_batch_end(self, batch, logs=None):
        self.taken += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(self.taken)


@exact
def test_one_that_ends_is_trained_on_once_as_by_model_fit():
    x, y = data(N)
    models = [adam_mlp() for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    counted = Steps(), Steps()
    a = models[0].fit(once(x, y), verbose=0, callbacks=[counted[0]]).history
    with warnings.catch_warnings():
        # It was to be gone through once, and it was.
        warnings.filterwarnings("error", message=".*training data ended")
        training = ImportanceTraining(models[1], tau_th=1e9)
        b = training.fit(once(x, y), verbose=0, callbacks=[counted[1]]).history
    assert counted[0].epochs == counted[1].epochs == [4]
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


@exact
def test_one_that_ends_ends_the_training_where_more_epochs_were_asked_for():
    x, y = data(N)
    counted = Steps()
    with pytest.warns(UserWarning, match="training data ended after 0 steps of this epoch"):
        history = ImportanceTraining(adam_mlp(), tau_th=1e9).fit(
            once(x, y), epochs=3, verbose=0, callbacks=[counted], validation_data=(x, y)
        )
    assert counted.epochs == [4] and history.epoch == [0]
    assert {len(values) for values in history.history.values()} == {1}


@exact
def test_pools_use_up_all_of_one_that_ends():
    x, y = data(N)
    seen = []
    training = ImportanceTraining(adam_mlp(), presample=2.0, tau_th=0.0, seed=0)
    with pytest.warns(UserWarning, match="training data ended after 3 steps"):
        history = training.fit(
            once(x, y), verbose=0, on_scores=lambda sampler, scores: seen.append(len(scores))
        ).history
    # The first step is uniform.
    assert seen == [16, 32, 2] and history["importance_sampling"] == [2 / 3]


@exact
def test_a_pool_larger_than_all_of_one_that_ends():
    x, y = data(N)
    with pytest.warns(UserWarning, match="training data ended after 2 steps"):
        ImportanceTraining(adam_mlp(), presample=50.0, tau_th=0.0).fit(once(x, y), verbose=0)


@exact
def test_fit_generator_takes_steps_of_its_own_size_of_one_that_ends():
    x, y = data(N)
    sizes = []
    ImportanceTraining(adam_mlp(), tau_th=1e9).fit_generator(
        once(x, y),
        batch_size=20,
        verbose=0,
        on_sample=lambda sampler, idxs, w, scores: sizes.append(len(idxs)),
    )
    assert sizes == [20, 20, 10]


@exact
def test_a_sampler_that_keeps_examples_for_later_ends_with_one_that_ends():
    x, y = data(N)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = SelectiveBackpropTraining(adam_mlp(), seed=0).fit(once(x, y), verbose=0)
    assert history.epoch == [0]
