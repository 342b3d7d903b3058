"""Whatever else gives batches each time it is gone through."""

import warnings

import numpy as np
import pytest
from helpers import adam_mlp, data

from importance_sampling import ImportanceTraining

pytestmark = [pytest.mark.end_to_end, pytest.mark.any_backend]


class Batches:
    """Batches of 16 rows; knows how many."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return (len(self.x) + 15) // 16

    def __iter__(self):
        return ((self.x[i : i + 16], self.y[i : i + 16]) for i in range(0, len(self.x), 16))


def test_trains_and_validates_without_a_warning():
    x, y = data(88)
    model = adam_mlp()
    training = ImportanceTraining(model, tau_th=0.0, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = training.fit(
            Batches(x, y), epochs=3, verbose=0, validation_data=Batches(x, y)
        ).history
    assert len(history["val_loss"]) == 3 and sum(training.report().steps.values()) == 3 * 6
    expected = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(
        [history["val_loss"][-1], history["val_accuracy"][-1]], expected, 1e-4
    )
