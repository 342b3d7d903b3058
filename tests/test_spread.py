"""Which tests run where."""

from collections import Counter

import pytest
from spread import BACKENDS, one_backend, two_backends

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]

NAMES = [f"test_{i}" for i in range(200)]


def test_two_backends_are_pytorch_and_one_that_compiles():
    counts = Counter(tuple(two_backends(name)) for name in NAMES)
    assert set(counts) == {("tensorflow", "torch"), ("jax", "torch")}
    # As fair coins fall, within five standard deviations.
    assert min(counts.values()) > 100 - 5 * 50**0.5
    for among in (("tensorflow",), ("torch",), ("jax", "torch")):
        assert all(two_backends(name, among) == list(among) for name in NAMES)


def test_shares_are_kept():
    counts = Counter(one_backend(name, shares=("jax", *3 * ("torch",))) for name in NAMES)
    assert set(counts) == {"jax", "torch"}
    assert abs(counts["jax"] - 50) < 5 * (200 * 3 / 16) ** 0.5
    assert {one_backend(name, ("jax",)) for name in NAMES} == {"jax"}
    assert {one_backend(name) for name in NAMES} == set(BACKENDS)
