"""Losses that are not finite: skipped where Keras skips the step, ended where Keras ends."""

import keras
import numpy as np
import pytest
from helpers import CLASSES, FEATURES, data
from keras import layers

from importance_sampling import HistoryImportanceTraining, ImportanceTraining

pytestmark = pytest.mark.two_backends

WAYS = {
    "off": lambda model: ImportanceTraining(model, tau_th=1e9, seed=0),
    "pool": lambda model: ImportanceTraining(model, tau_th=0.0, seed=0),
    "auto": lambda model: ImportanceTraining(model, presample="auto", seed=0),
    "history": lambda model: HistoryImportanceTraining(model, seed=0),
}


@pytest.fixture
def half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def network(optimizer):
    model = keras.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Dense(8, activation="relu"),
            layers.Dense(CLASSES, dtype="float32"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    return model


@pytest.mark.one_backend
@pytest.mark.usefixtures("half_precision")
@pytest.mark.parametrize("way", WAYS)
def test_steps_that_overflow_are_skipped_as_keras_skips_them(way):
    x, y = data(50)
    # Beyond the largest number of 16 bits: the losses of this row are NaN.
    x[20] = 7e4
    models = [network("sgd") for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    arguments = {"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0}
    models[0].fit(x, y, **arguments)
    scores = []
    WAYS[way](models[1]).fit(x, y, **arguments, on_scores=lambda sampler, s: scores.extend(s))
    taken = [int(model.optimizer.inner_optimizer.iterations.value) for model in models]
    # One batch in four holds the row.
    assert taken[0] == 9
    assert 0 < taken[1] <= 12
    assert np.isfinite(scores).all()
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        assert np.isfinite(b).all()
        if way in ("off", "auto"):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.one_backend
@pytest.mark.parametrize("way", WAYS)
def test_terminate_on_nan_ends_every_way_to_train(way, capsys):
    x, y = data(64)
    model = network(keras.optimizers.SGD(1e25))
    steps = []
    callbacks = [
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch)),
    ]
    history = WAYS[way](model).fit(x, y, batch_size=16, epochs=6, verbose=0, callbacks=callbacks)
    assert len(steps) < 24
    assert len(history.history["loss"]) < 6
    assert "nvalid loss" in capsys.readouterr().out


def test_without_a_callback_a_pool_of_nan_scores_is_told_with_its_step():
    x, y = data(64)
    model = network(keras.optimizers.SGD(1e25))
    with pytest.raises(ValueError, match=r"At step \d+ .* scores are NaN"):
        ImportanceTraining(model, tau_th=0.0, seed=0).fit(x, y, 16, epochs=6, verbose=0)
