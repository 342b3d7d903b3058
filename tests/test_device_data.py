"""Arrays that stay on the device, where steps gather their rows: nothing else changes."""

import keras
import numpy as np
import pytest
from helpers import data, mlp
from keras import layers

from importance_sampling import SVRG, HistoryImportanceTraining, ImportanceTraining
from importance_sampling._arrays import RowsAt, flatten, join_arrays, take_rows
from importance_sampling.backend import get

exact = pytest.mark.exact
any_backend = pytest.mark.any_backend

ROWS, BATCH = 133, 8
"""Of which the last batch of a pass is smaller."""


def plain():
    model = mlp(optimizer=keras.optimizers.Adam(0.01), metrics=["accuracy"])
    return model, *data(ROWS)


def several():
    """Two inputs, of floats to be cast and of bytes, and two outputs."""
    inputs = {"a": keras.Input((6,), name="a"), "b": keras.Input((2,), dtype="uint8", name="b")}
    floats = layers.Rescaling(0.1)(inputs["b"])
    x = layers.Dense(8, activation="relu")(layers.Concatenate()([inputs["a"], floats]))
    outputs = {
        "c": layers.Dense(4, activation="softmax", name="c")(x),
        "d": layers.Dense(1, name="d")(x),
    }
    model = keras.Model(inputs, outputs)
    model.compile("adam", {"c": "sparse_categorical_crossentropy", "d": "mse"})
    x, y = data(ROWS)
    b = np.random.default_rng(0).integers(0, 9, (ROWS, 2)).astype("uint8")
    return model, {"b": b, "a": x.astype("float64")}, {"d": x[:, :1], "c": y}


def backwards():
    """Views that run backwards, as those of flipped pictures."""
    model, x, y = plain()
    return model, x[:, ::-1], y[::-1]


def masked():
    inputs = keras.Input((3, 6))
    model = keras.Sequential([inputs, layers.Masking(), layers.Dense(4, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ROWS, 3, 6)).astype("float32"), rng.integers(0, 4, (ROWS, 3))
    x[::2, 2] = 0
    return model, x, y


def train(case, device_data, make=HistoryImportanceTraining, together=4, **options):
    keras.utils.set_random_seed(1)
    model, x, y = case()
    fit_arguments = {"epochs": 2, **options.pop("fit", {})}
    training = make(model, seed=5, **options)
    history = training.fit(
        x,
        y,
        batch_size=BATCH,
        verbose=0,
        steps_per_execution=together,
        device_data=device_data,
        **fit_arguments,
    )
    return training, history.history


WEIGHTS = {"sample_weight": np.random.default_rng(0).random(ROWS)}

CASES = [
    (plain, {}),
    (plain, {"together": 1, "fit": WEIGHTS}),
    (plain, {"constant": "variance", "fit": {"epochs": 3}}),
    (plain, {"make": ImportanceTraining, "tau_th": 1e9}),
    (plain, {"make": ImportanceTraining, "tau_th": 1.01, "presample": 6.0, "reuse": 3}),
    (several, {}),
    (masked, {}),
]


@exact
@pytest.mark.one_backend
@pytest.mark.parametrize(("case", "options"), CASES)
def test_results_are_the_same(case, options):
    (one, there), (other, here) = train(case, True, **options), train(case, False, **options)
    assert (one.report().rows_read, other.report().rows_read) == ("device", "host")
    assert "on the device" in str(one.report()) and "on the device" not in str(other.report())
    for a, b in zip(
        one.original_model.get_weights(), other.original_model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert there.keys() == here.keys()
    for name in there:
        np.testing.assert_allclose(there[name], here[name], rtol=1e-5)
    np.testing.assert_array_equal(one.report().draws, other.report().draws)


@exact
@pytest.mark.one_backend("torch")
def test_views_that_run_backwards():
    (one, _), (other, _) = train(backwards, True), train(backwards, False)
    for a, b in zip(
        one.original_model.get_weights(), other.original_model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@exact
@pytest.mark.parametrize("together", [1, 4])
def test_no_row_is_read_on_the_host(together, monkeypatch):
    read = []
    whole = RowsAt.read
    monkeypatch.setattr(RowsAt, "read", lambda self: read.append(1) or whole(self))
    training, _ = train(plain, True, together=together, fit=WEIGHTS)
    # Once, of a few rows, by which a saved training knows its data.
    assert len(read) == 1 and training.report().rows_read == "device"
    # Nor does the data stay there.
    assert training.model.compiled.device_data.rows_of(RowsAt((), np.arange(1))) is None


@exact
@pytest.mark.one_backend
def test_what_a_callback_changes_counts_from_the_next_epoch_on():
    class Change(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.data[:] = self.data[::-1].copy()

    found = []
    for device_data in (True, False):
        callback = Change()

        def case(callback=callback):
            model, x, y = plain()
            callback.data = x
            return model, x, y

        options = {"epochs": 3, "callbacks": [callback]}
        found.append(train(case, device_data, fit=options)[1]["loss"])
    np.testing.assert_allclose(*found, rtol=1e-5)


@exact
@pytest.mark.one_backend
def test_a_training_is_gone_on_with_wherever_rows_are_read(tmp_path):
    whole, _ = train(plain, True, fit={"epochs": 3})
    first, _ = train(plain, True, fit={"epochs": 1})
    first.save_state(tmp_path / "state")
    model, x, y = plain()
    again = HistoryImportanceTraining(model, seed=0)
    again.load_state(tmp_path / "state")
    again.fit(x, y, batch_size=BATCH, epochs=3, verbose=0, steps_per_execution=4)
    for a, b in zip(whole.original_model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, item):
        return data(8)


@exact
@any_backend
def test_what_cannot_stay_on_the_device_is_refused(tmp_path):
    model, x, y = plain()
    mapped = np.memmap(tmp_path / "x", "float32", "w+", shape=x.shape)
    training = HistoryImportanceTraining(model)
    for given in ((mapped, y), (Batches(),), (iter([(x, y)]),)):
        make = training if len(given) == 2 else ImportanceTraining(model)
        with pytest.raises(ValueError, match="`device_data=True` needs arrays"):
            make.fit(*given, verbose=0, device_data=True)
    with pytest.raises(ValueError, match='must be "auto", True or False, got 1'):
        training.fit(x, y, device_data=1)
    with pytest.raises(ValueError, match="SVRG"):
        SVRG(model).fit(x, y, device_data=True)
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 0


@exact
@any_backend
def test_data_that_does_not_fit(monkeypatch):
    runtime = get().Runtime
    size = ROWS * 6 * 4 + data(ROWS)[1].nbytes
    monkeypatch.setattr(runtime, "free_memory", lambda self: size - 1)
    with pytest.raises(MemoryError, match=f"needs {size:,} bytes .* and {size - 1:,} are"):
        train(plain, True)
    # A CPU reads its own memory, without a copy; others take data that leaves most of it free.
    monkeypatch.setattr(runtime, "free_memory", lambda self: 4 * size)
    assert train(plain, "auto")[0].report().rows_read == "host"
    monkeypatch.setattr(runtime, "on_cpu", False)
    assert train(plain, "auto", fit={"epochs": 1})[0].report().rows_read == "device"
    monkeypatch.setattr(runtime, "free_memory", lambda self: 4 * size - 4)
    assert train(plain, "auto", fit={"epochs": 1})[0].report().rows_read == "host"


@exact
@any_backend
def test_rows_that_are_not_read_yet():
    x, y = np.arange(12).reshape(6, 2), {"a": np.arange(6)}
    rows = RowsAt((x, y), np.asarray([3, 1, 5]))
    some = take_rows(rows, slice(1, 3))
    assert isinstance(some, RowsAt) and some.idxs.tolist() == [1, 5]
    inputs, targets = some
    assert inputs.tolist() == [[2, 3], [10, 11]] and targets["a"].tolist() == [1, 5]
    assert [a.shape for a in flatten(rows)] == [(3, 2), (3,)] and len(rows) == 2
    joined = join_arrays(np.concatenate, [rows, some])
    assert joined[1]["a"].tolist() == [3, 1, 5, 1, 5]
