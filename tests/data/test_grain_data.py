"""Grain data sets as training data."""

import keras
import pytest
from like_keras import BATCH, SHAPES, check_weights_after_two_epochs

pytestmark = pytest.mark.any_backend


def grain(*arrays):
    import grain

    rows = list(zip(*arrays, strict=True))
    return grain.MapDataset.source(rows).batch(BATCH)


@pytest.mark.exact
@pytest.mark.parametrize("rank", SHAPES)
def test_weights_after_two_epochs_are_those_of_model_fit(rank):
    # Keras on TensorFlow counts a step more at each end of a Grain data set.
    check_weights_after_two_epochs(grain, rank, miscounted=keras.backend.backend() == "tensorflow")
