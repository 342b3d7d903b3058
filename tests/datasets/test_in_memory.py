"""Data sets made of arrays."""

import numpy as np
import pytest

from importance_sampling.datasets import InMemoryDataset, InMemoryImageDataset

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


def test_in_memory_shapes_and_one_hot_targets():
    x = np.zeros((5, 3))
    dataset = InMemoryDataset(x, np.array([0, 2, 1, 2, 0]), x[:2], np.array([[3], [1]]))
    assert dataset.shape == (3,) and dataset.output_size == 4 and dataset.output_shape == (4,)
    np.testing.assert_array_equal(dataset.train_data[:][1].argmax(1), [0, 2, 1, 2, 0])
    np.testing.assert_array_equal(dataset.test_data[:][1].argmax(1), [3, 1])
    sparse = InMemoryDataset(x, np.array([0, 2, 1, 2, 0]), x[:0], np.empty(0, int), False)
    assert sparse.output_size == 3 and len(sparse.test_data) == 0
    real = InMemoryDataset(x, x[:, :2], x, x[:, :2], categorical=False)
    assert real.output_size == 2


def test_lengths_that_differ_are_refused():
    x = np.zeros((5, 3))
    with pytest.raises(ValueError, match="training arrays differ"):
        InMemoryDataset(x, x[:4], x, x, categorical=False)


def test_images_are_scaled_and_have_channels():
    x = np.array([[[0, 255], [51, 102]]] * 3, np.uint8)
    dataset = InMemoryImageDataset(x, np.array([0, 1, 2]), x, np.array([0, 1, 2]))
    assert dataset.shape == (2, 2, 1)
    images = dataset.train_data[:][0]
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[0, ..., 0], [[0, 1], [0.2, 0.4]], rtol=1e-6)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        InMemoryImageDataset(x * 1.0, np.arange(3), x, np.arange(3))
    with pytest.raises(ValueError, match="height, width"):
        InMemoryImageDataset(x[0], np.arange(2), x[0], np.arange(2))


def test_from_loadable():
    class Loadable:
        @staticmethod
        def load_data():
            x = np.zeros((4, 2, 2), np.uint8)
            return (x, np.arange(4)), (x[:1], np.arange(1))

    dataset = InMemoryImageDataset.from_loadable(Loadable)
    assert isinstance(dataset, InMemoryImageDataset) and dataset.output_size == 4
