"""Helpers of the original library."""

import numpy as np
import pytest
from helpers import adam_mlp, data

from importance_sampling.datasets import InMemoryDataset
from importance_sampling.utils import functional as f
from importance_sampling.utils.keras_utils import DatasetSequence

pytestmark = pytest.mark.exact


def test_partial_fills_the_gaps_in_order():
    def together(*args, **kwargs):
        return args, kwargs

    assert f.partial(divmod, f.___, 2)(7) == (3, 1)
    assert f.partial(together, 1, f._, 3, f.___, a=1)(2, 4, 5, a=2, b=3) == (
        (1, 2, 3, 4, 5),
        {"a": 2, "b": 3},
    )
    with pytest.raises(TypeError, match="2 arguments were left open, but the call gives 1"):
        f.partial(together, f.___, f.___)(1)


def test_compose_calls_the_last_one_first():
    assert f.compose(str, abs)(-3) == "3"
    assert f.compose(lambda x: x**2, lambda a, b: a + b)(1, 1) == 4
    # a tuple becomes arguments, a dict named ones
    assert f.compose(lambda a, b: a - b, lambda a: (a, 1))(5) == 4
    assert f.compose(lambda a, b: a - b, lambda a: {"b": a, "a": 1})(5) == -4
    assert f.compose()(7) == 7


def test_small_ones():
    assert f.call(max, 1, 2) == 2
    assert f.attr("real")(3) == 3
    assert f.identity("a") == "a"


def test_dataset_sequence():
    x, y = data(50)
    dataset = InMemoryDataset(x, y, x[:7], y[:7], categorical=False)
    batches = DatasetSequence(dataset, batch_size=16)
    assert [len(batches[i][0]) for i in range(len(batches))] == [16, 16, 16, 2]
    part = DatasetSequence(dataset, part=slice(10, 30, 2), batch_size=4)
    np.testing.assert_array_equal(np.concatenate([part[i][0] for i in range(3)]), x[10:30:2])
    test = DatasetSequence(dataset, train=False)
    np.testing.assert_array_equal(test[0][1], y[:7])
    model = adam_mlp()
    np.testing.assert_allclose(
        model.evaluate(batches, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-4
    )
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1, got 0"):
        DatasetSequence(dataset, batch_size=0)
