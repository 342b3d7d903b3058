"""The two-dimensional data set whose labels are coins along a curve."""

import numpy as np
import pytest

from importance_sampling.datasets import CanevetICML2016

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


def test_canevet():
    dataset = CanevetICML2016(N=128, seed=1)
    (x, y), (x_test, y_test) = dataset.train_data[:], dataset.test_data[:]
    assert len(x) + len(x_test) == 128**2 and len(x_test) == int(128**2 * 0.33)
    assert dataset.shape == (2,) and dataset.output_size == 2
    every = np.concatenate([x, x_test])
    assert len(np.unique(every, axis=0)) == 128**2
    assert every.min() == 0 and every.max() == 1
    labels = np.concatenate([y, y_test]).argmax(1)
    curve = np.sin(4 * (every[:, 0] + 0.5) ** 5) / 3 + 0.5
    p = 1 / (1 + np.exp(40 * (every[:, 1] - curve)))
    # Sum of independent coins: 5 standard deviations are p < 6e-7.
    for part in (every[:, 0] < 0.5, every[:, 0] >= 0.5, np.abs(p - 0.5) < 0.3):
        spread = np.sqrt((p * (1 - p))[part].sum())
        assert abs(labels[part].sum() - p[part].sum()) < 5 * spread + 1
    again = CanevetICML2016(N=128, seed=1)
    np.testing.assert_array_equal(again.train_data[:][1], y)
    assert (CanevetICML2016(N=128, seed=2).train_data[:][0] != x).any()
    with pytest.raises(ValueError, match="N >= 2"):
        CanevetICML2016(N=1)
