"""Values drawn in proportion, and sums that stay exact."""

import numpy as np
import pytest

from importance_sampling.samplers.sum_tree import SumTree

pytestmark = pytest.mark.any_backend


@pytest.mark.statistical
@pytest.mark.parametrize("n", [1, 5, 256, 257, 70_000])
def test_tree_draws_in_proportion(n):
    """Counts of groups of examples against their share: within five standard deviations."""
    rng = np.random.default_rng(n)
    values = rng.random(n) ** 3
    values[rng.random(n) < 0.3] = 0
    values[0] = 1
    tree = SumTree(n)
    tree.fill(values)
    size = 100_000
    drawn = tree.draw(rng.random(size))
    assert (tree.get(drawn) > 0).all()
    share = values / values.sum()
    for group in range(min(n, 16)):
        mass = share[group::16].sum()
        count = np.isin(drawn % 16, [group]).sum()
        assert abs(count - size * mass) <= 5 * np.sqrt(size * mass * (1 - mass)) + 1e-9


@pytest.mark.exact
@pytest.mark.parametrize("n", [1, 5, 256, 257, 70_000])
def test_tree_draws_with_a_number_added_to_every_value(n):
    """The same index as inverting the cumulative sum of all values and the number."""
    rng = np.random.default_rng(n)
    values = (rng.random(n) * (rng.random(n) > 0.5)).astype(np.float32)
    tree = SumTree(n)
    tree.fill(values)
    uniforms = rng.random(5000)
    sums = np.cumsum(values.astype(np.float64) + 0.37)
    expected = np.minimum(np.searchsorted(sums, uniforms * sums[-1], side="right"), n - 1)
    drawn = tree.draw(uniforms, 0.37)
    # A position within rounding of a border may fall on either side.
    assert (drawn != expected).mean() < 1e-3
    assert np.abs(drawn - expected).max() <= 1


@pytest.mark.exact
def test_tree_stays_exact():
    rng = np.random.default_rng(0)
    n = 70_000
    tree, values = SumTree(n, 0.5), np.full(n, 0.5, np.float32)
    for _ in range(300):
        idxs = rng.integers(0, n, 64)
        new = rng.random(64).astype(np.float32)
        tree.set(idxs, new)
        values[idxs] = new
    np.testing.assert_array_equal(tree.values, values)
    np.testing.assert_allclose(tree.total, values.sum(dtype=np.float64), rtol=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        tree.values[0] = 1
