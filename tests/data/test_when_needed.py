"""Rows that are read when they are needed, in parts."""

import numpy as np
import pytest

from importance_sampling._arrays import take_rows
from importance_sampling._pending_rows import PendingRows, read_rows
from importance_sampling.data import RowsByIndex
from importance_sampling.data.when_needed import RowsWhenNeeded, whole_of

pytestmark = [pytest.mark.any_backend, pytest.mark.exact]

N = 50
X, Y = np.random.default_rng(0).normal(size=(N, 3)), np.arange(N)


def make():
    read = []

    def rows(idxs):
        read.append(idxs.tolist())
        return {"a": X[idxs], "b": [Y[idxs]]}, Y[idxs]

    whole = RowsByIndex(rows, range(N - 10), range(N - 10, N))
    return whole, RowsWhenNeeded(whole), read


def test_nothing_is_read_before_a_part_is_taken_and_that_once():
    whole, data, read = make()
    assert whole_of(data) is whole_of(whole) is whole
    assert read == [[0]] and len(data.train_data) == N - 10 and len(data.test_data) == 10
    idxs = np.array([7, 3, 3, 39])
    rows = data.train_data[idxs]
    (image, label), shapes = (rows[0]["a"], rows[1]), (rows[0]["a"].shape, rows[1].shape)
    assert shapes == ((4, 3), (4,)) and image.dtype == X.dtype and label.dtype == Y.dtype
    assert len(image) == 4 and image.ndim == 2
    part = take_rows(take_rows(rows, slice(1, 4)), np.array([2, 0]))
    assert isinstance(part[1], PendingRows) and read == [[0]]
    inputs, labels = read_rows(part)
    # All arrays of the part at one time.
    assert read == [[0], [39, 3]]
    np.testing.assert_array_equal(inputs["a"], X[[39, 3]])
    np.testing.assert_array_equal(inputs["b"][0], [39, 3])
    np.testing.assert_array_equal(labels, [39, 3])
    # Another part of the same, and the whole.
    np.testing.assert_array_equal(np.asarray(image[:1]), X[[7]])
    np.testing.assert_array_equal(image[1], X[3])
    half = image.astype("float16")
    assert half.dtype == half[:2].dtype == np.asarray(half).dtype == np.float16
    np.testing.assert_array_equal(np.asarray(half), X[idxs].astype("float16"))
    # Asked for once more, it is read once more.
    np.testing.assert_array_equal(np.asarray(labels), np.asarray(part[1]))
    np.testing.assert_array_equal(data.test_data[[0]][1], [N - 10])


def test_it_says_of_itself_what_the_whole_says():
    whole, data, _ = make()
    assert data.output_size == whole.output_size == N - 10
    assert data.output_shape == whole.output_shape == ()
    assert data.shape == whole.shape == {"a": (3,), "b": [()]}
