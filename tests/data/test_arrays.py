"""Arrays as training data."""

import tracemalloc

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data

from importance_sampling import HistoryImportanceTraining, ImportanceTraining
from importance_sampling._arrays import take_rows
from importance_sampling.datasets import InMemoryDataset

pytestmark = pytest.mark.two_backends

exact = pytest.mark.exact


@exact
@pytest.mark.any_backend
@pytest.mark.parametrize("view", ["columns", "reversed", "transposed", "strided", "read-only"])
def test_rows_of_a_view_are_taken_without_copying_the_rest(view):
    whole = np.arange(400_000.0).reshape(20_000, 20)
    data = {
        "columns": whole[:, 3:9],
        "reversed": whole[::-1],
        "transposed": np.asfortranarray(whole),
        "strided": whole[::2, 0],
        "read-only": whole.view(),
    }[view]
    data.flags.writeable = view != "read-only"
    idxs = np.array([0, 7, -1, 7])
    expected = [data[i].tolist() for i in idxs]
    tracemalloc.start()
    rows = take_rows((data, data), idxs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows[0].tolist() == rows[1].tolist() == expected
    assert peak < 50_000 < data.nbytes


@exact
@pytest.mark.parametrize("mapped", [False, True])
def test_byte_order_of_other_machines_makes_no_difference(mapped, tmp_path):
    """Frameworks read numbers of this machine's order alone; files may have another."""
    x, y = data(64)
    turned = x.astype(x.dtype.newbyteorder()), y.astype(y.dtype.newbyteorder())
    assert not any(array.dtype.isnative for array in turned)
    if mapped:
        for name, array in zip("xy", turned, strict=True):
            np.save(tmp_path / f"{name}.npy", array)
        turned = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
    models = [adam_mlp() for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    losses = []
    for model, rows in zip(models, ((x, y), turned), strict=True):
        training = HistoryImportanceTraining(model, seed=1)
        found = training.fit(*rows, 16, epochs=2, verbose=0, validation_data=rows).history
        held = {} if mapped else {"device_data": True}
        training.fit(*rows, 16, epochs=1, verbose=0, validation_split=0.25, **held)
        training.fit_dataset(InMemoryDataset(*rows, *rows, categorical=False), epochs=1, verbose=0)
        batches = ((rows[0][i : i + 16], rows[1][i : i + 16]) for i in range(0, 64, 16))
        ImportanceTraining(model, seed=1).fit(batches, epochs=1, verbose=0)
        losses.append(found["val_loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)


@exact
@pytest.mark.any_backend
def test_what_a_callback_changes_counts_in_any_byte_order():
    x, y = data(64)
    turned = x.astype(x.dtype.newbyteorder())

    class Empty(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            turned[...] = 0.0

    model = adam_mlp()
    before = model.get_weights()[0]
    training = HistoryImportanceTraining(model, seed=1)
    training.fit(turned, y, 16, epochs=1, verbose=0, callbacks=[Empty()])
    # Of inputs that are zero the weights behind them get no gradient.
    np.testing.assert_array_equal(model.get_weights()[0], before)


@exact
def test_rows_set_aside_for_validation_are_not_weighted_by_class():
    x, y = data(64)
    models = [adam_mlp() for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    arguments = {
        "class_weight": {0: 5.0, 1: 0.2},
        "validation_split": 0.25,
        "batch_size": 16,
        "shuffle": False,
        "verbose": 0,
    }
    a = models[0].fit(x, y, **arguments).history
    b = ImportanceTraining(models[1], tau_th=1e9).fit(x, y, **arguments).history
    for name in ("loss", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4)


@exact
@pytest.mark.skipif(not hasattr(keras.config, "set_max_epochs"), reason="Keras has no such limit")
def test_the_limits_that_keras_sets_for_trial_runs_are_told():
    x, y = data(64)
    keras.config.set_max_epochs(2)
    keras.config.set_max_steps_per_epoch(3)
    try:
        with pytest.warns(UserWarning) as said:
            model = adam_mlp()
            history = ImportanceTraining(model).fit(x, y, batch_size=8, epochs=5, verbose=0)
    finally:
        keras.config.set_max_epochs(None)
        keras.config.set_max_steps_per_epoch(None)
    assert history.epoch == [0, 1] and int(model.optimizer.iterations.value) == 6
    texts = [str(w.message) for w in said if "trial runs" in str(w.message)]
    assert len(texts) == 2
    assert "max_epochs()` is set, for trial runs: 2 are trained instead of 5 epochs" in texts[0]
    assert "3 are trained instead of 8 steps of an epoch" in texts[1]
    assert said[0].filename == __file__
