"""`keras.utils.PyDataset` as training data."""

import keras
import numpy as np
import pytest
from features.data import Batches
from helpers import adam_mlp, data
from like_keras import BATCH, SHAPES, check_weights_after_two_epochs
from rows_for_workers import Rows

from importance_sampling import ImportanceTraining
from importance_sampling.data import adapt

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact


@exact
@pytest.mark.parametrize("rank", SHAPES)
def test_weights_after_two_epochs_are_those_of_model_fit(rank):
    check_weights_after_two_epochs(lambda x, y: Batches(x, y, BATCH), rank)


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


@pytest.mark.slow
@exact
@pytest.mark.any_backend
@pytest.mark.parametrize("processes", [False, True])
def test_workers_keep_the_order(processes, monkeypatch):
    # They load Keras on this backend, which is the least to load.
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    x = np.arange(40, dtype="float32")[:, None]
    batches = Rows(x, workers=2, use_multiprocessing=processes, max_queue_size=3)
    source = adapt(batches)
    assert source.batches_per_pass == 10 and source.ahead == 3
    for _ in range(2):
        rows = np.concatenate([batch[0] for batch in source.open()])
        np.testing.assert_array_equal(rows, x)
