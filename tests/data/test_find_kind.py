"""Which adapter some data gets, as training data and as validation data."""

import keras
import numpy as np
import pytest
from features.data import Batches
from helpers import adam_mlp, data
from like_keras import BATCH
from test_generator import endless, once
from test_grain_data import grain
from test_tf_data import tf_data
from test_torch_loader import loader

from importance_sampling import ImportanceTraining
from importance_sampling.data import (
    ArrayAdapter,
    DatasetAdapter,
    adapt,
    adapt_validation,
    find_kind,
)
from importance_sampling.data.generator import GeneratorAdapter, IterableAdapter
from importance_sampling.data.grain_data import GrainAdapter
from importance_sampling.data.py_dataset import PyDatasetAdapter
from importance_sampling.data.tf_data import TFDatasetAdapter
from importance_sampling.data.torch_loader import TorchLoaderAdapter
from importance_sampling.datasets import InMemoryDataset
from importance_sampling.model_wrappers import OracleWrapper

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact


class Loader:
    """Gives batches each time it is gone through."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        return once(self.x, self.y)


KINDS = {
    "dataset": (lambda x, y: InMemoryDataset(x, y, x, y, False), DatasetAdapter),
    "tf.data": (lambda x, y: tf_data(x, y).batch(BATCH), TFDatasetAdapter),
    "tf.data of single examples": (tf_data, TFDatasetAdapter),
    "DataLoader": (loader, TorchLoaderAdapter),
    "PyDataset": (lambda x, y: Batches(x, y, BATCH), PyDatasetAdapter),
    "Grain": (grain, GrainAdapter),
    "generator": (endless, GeneratorAdapter),
    "iterator": (lambda x, y: iter(list(once(x, y))), GeneratorAdapter),
    "loader of the user's own": (Loader, IterableAdapter),
    "arrays": (lambda x, y: (x, y), ArrayAdapter),
}
X, Y = data(50)


@exact
@pytest.mark.parametrize("name", KINDS)
def test_the_kind_is_the_same_in_both_roles(name):
    make, kind = KINDS[name]
    assert find_kind(make(X, Y)) is kind
    if kind is not ArrayAdapter:
        assert type(adapt(make(X, Y))) is kind
    inputs = {"x": (None, X.shape[1])}
    adapter = adapt_validation(make(X, Y), batch_size=BATCH, inputs=inputs)
    assert type(adapter) is kind
    # Nothing is taken out: the first batch comes after the first rows were looked at.
    rows = adapter.first_rows()
    np.testing.assert_array_equal(rows[0], X[: len(rows[0])])
    batches = list(adapter.batches(3))
    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches]), X[: 3 * BATCH][:50])
    again = next(adapter.batches(1))
    after = X[48:] if name in ("generator", "iterator") else X[: len(again[0])]
    np.testing.assert_array_equal(again[0], after)


@exact
@pytest.mark.parametrize("name", [name for name in KINDS if name != "iterator"])
def test_validation_data_of_every_kind_says_what_evaluate_says(name):
    make, kind = KINDS[name]
    model = adam_mlp()
    arguments = {"validation_steps": 4} if kind is GeneratorAdapter else {}
    seen = []
    hook = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs))
    tests = []
    hook.on_test_batch_end = lambda batch, logs=None: tests.append(batch)
    history = ImportanceTraining(model).fit(
        X,
        Y,
        batch_size=BATCH,
        epochs=2,
        verbose=0,
        callbacks=[hook],
        validation_data=make(X, Y),
        **arguments,
    )
    for key, value in model.evaluate(X, Y, verbose=0, return_dict=True).items():
        np.testing.assert_allclose(history.history[f"val_{key}"][-1], value, rtol=1e-4)
    assert tests == 2 * [0, 1, 2, 3]


@exact
def test_no_more_of_a_validation_generator_is_read_than_is_evaluated():
    read = []

    def counted():
        for batch in endless(X, Y):
            read.append(len(read))
            yield batch

    ImportanceTraining(adam_mlp()).fit(
        X, Y, epochs=2, verbose=0, validation_data=counted(), validation_steps=3
    )
    assert len(read) == 6


@exact
def test_a_wrapper_that_evaluates_by_itself_hears_the_batches_of_a_generator():
    class Own(OracleWrapper):
        def evaluate_batch(self, x, y):
            return np.stack([y + 0.5, y % 2], axis=1)

    training = ImportanceTraining(adam_mlp())
    training.model = Own(training.original_model, training.reweighting)
    history = training.fit(
        X, Y, verbose=0, validation_data=endless(X, Y), validation_steps=4
    ).history
    np.testing.assert_allclose(history["val_loss"], [(Y + 0.5).mean()])
