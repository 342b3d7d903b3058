"""Which tests run where."""

from collections import Counter

import pytest
from spread import BACKENDS, PARTS, in_part, one_backend, two_backends

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


def test_each_test_belongs_to_one_part(monkeypatch):
    found = Counter()
    for part in range(1, PARTS + 1):
        monkeypatch.setenv("CI_PART", str(part))
        monkeypatch.delenv("CI_FULL", raising=False)
        assert all(in_part(name, lasting=False) for name in NAMES)
        here = [name for name in NAMES if in_part(name, lasting=True)]
        # As many as binomial draws give, within five standard deviations.
        assert abs(len(here) - 200 / PARTS) < 5 * (200 / PARTS * (1 - 1 / PARTS)) ** 0.5
        # Of each part some on each backend: the two choices have nothing to do with each other.
        assert {one_backend(name) for name in here} == set(BACKENDS)
        found.update(here)
        monkeypatch.setenv("CI_FULL", "1")
        assert all(in_part(name, lasting=True) for name in NAMES)
    assert found == Counter(NAMES)


def test_everything_runs_where_no_part_is_named(monkeypatch):
    monkeypatch.delenv("CI_FULL", raising=False)
    monkeypatch.setenv("CI_PART", "")
    assert all(in_part(name, lasting=True) for name in NAMES)
    monkeypatch.delenv("CI_PART")
    assert all(in_part(name, lasting=True) for name in NAMES)


@pytest.mark.parametrize("part", ["0", str(PARTS + 1), "two", "1.5"])
def test_a_part_that_does_not_exist_is_refused(part, monkeypatch):
    monkeypatch.delenv("CI_FULL", raising=False)
    monkeypatch.setenv("CI_PART", part)
    with pytest.raises(ValueError, match=f"from 1 to {PARTS}"):
        in_part("test_1", lasting=True)
