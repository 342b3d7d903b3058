"""`BaseDataset`: what an index into one of its parts selects."""

import numpy as np
import pytest

from importance_sampling.datasets import BaseDataset, InMemoryDataset

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


class Counting(BaseDataset):
    """Written as a user would write one."""

    def _train_data(self, idxs):
        idxs = np.asarray(idxs)
        assert idxs.dtype.kind in "iu" and (idxs >= 0).all()
        return np.arange(10.0)[idxs][:, None], np.arange(10)[idxs]

    def _train_size(self):
        return 10

    _test_data, _test_size = _train_data, _train_size
    shape = output_shape = (1,)
    output_size = 1


def in_memory():
    x = np.arange(10.0)[:, None]
    return InMemoryDataset(x, np.arange(10), x, np.arange(10), categorical=False)


@pytest.mark.parametrize("make", [Counting, in_memory])
@pytest.mark.parametrize(
    "idx",
    [
        3,
        -1,
        np.int32(2),
        slice(2, 5),
        slice(None),
        slice(8, 2, -2),
        slice(-3, None),
        [1, 4, 4],
        [-1, 0],
        np.array([5, 2]),
        np.arange(10) % 3 == 0,
        np.zeros(10, bool),
        [],
    ],
    ids=str,
)
def test_indices_behave_like_numpys(make, idx):
    dataset = make()
    for view in (dataset.train_data, dataset.test_data):
        x, y = view[idx]
        empty = isinstance(idx, list) and not idx
        expected = np.arange(10)[np.asarray(idx, int) if empty else idx]
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(np.asarray(x)[..., 0], expected)
        assert len(view) == 10


@pytest.mark.parametrize(
    "idx", [10, -11, [0, 10], [0.5], np.zeros(3, bool), np.zeros((2, 2), int)], ids=str
)
def test_bad_indices_are_refused(idx):
    with pytest.raises(IndexError):
        Counting().train_data[idx]
