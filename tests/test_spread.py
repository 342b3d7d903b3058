"""Which tests run where."""

from collections import Counter

import pytest
from conftest import COLLECTED
from spread import BACKENDS, COMPILING, PARTS, in_part, one_backend, runs_on, two_backends

pytestmark = pytest.mark.exact

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
    for lasting in (True, False):
        with pytest.raises(ValueError, match=f"from 1 to {PARTS}"):
            in_part("test_1", lasting)


def test_what_was_collected_runs_somewhere_and_once_if_it_takes_time(request, monkeypatch):
    monkeypatch.delenv("CI_FULL", raising=False)
    collected = request.config.stash[COLLECTED]
    for backend in BACKENDS:
        parts = Counter()
        for part in range(1, PARTS + 1):
            monkeypatch.setenv("CI_PART", str(part))
            parts.update(nodeid for nodeid, marks in collected if runs_on(backend, nodeid, marks))
        monkeypatch.delenv("CI_PART")
        for nodeid, marks in collected:
            lasts = backend in COMPILING or "slow" in dict(marks)
            here = runs_on(backend, nodeid, marks)
            assert parts[nodeid] == here * (1 if lasts else PARTS), (backend, nodeid)
    for nodeid, marks in collected:
        assert any(runs_on(backend, nodeid, marks) for backend in BACKENDS), nodeid


def test_marks_say_where_a_test_runs(monkeypatch):
    monkeypatch.delenv("CI_PART", raising=False)
    monkeypatch.delenv("CI_FULL", raising=False)

    def where(name, *marks):
        return [b for b in BACKENDS if runs_on(b, f"tests/data/test_a.py::{name}", marks)]

    assert where("test_1") == list(BACKENDS)
    assert all(len(where(name, ("any_backend", ()))) == 1 for name in NAMES)
    assert {tuple(where(name, ("one_backend", ("jax",)))) for name in NAMES} == {("jax",)}
    assert {len(where(name, ("two_backends", ()))) for name in NAMES} == {2}
    # The first one counts, which is the closest to the test.
    both = ("one_backend", ("jax",)), ("any_backend", ())
    assert {tuple(where(name, *both)) for name in NAMES} == {("jax",)}
    monkeypatch.setenv("CI_FULL", "1")
    assert where("test_1", ("any_backend", ())) == list(BACKENDS)


def test_the_place_of_a_test_does_not_depend_on_where_tests_start(monkeypatch):
    monkeypatch.delenv("CI_FULL", raising=False)
    marks = [("slow", ()), ("any_backend", ())]
    for part in range(1, PARTS + 1):
        monkeypatch.setenv("CI_PART", str(part))
        for backend in BACKENDS:
            names = [f"test_a.py::test_b[{i}/x.png]" for i in range(40)]
            alone = [runs_on(backend, name, marks) for name in names]
            assert alone == [runs_on(backend, f"tests/data/{name}", marks) for name in names]
            # What stands behind a slash within a name counts, too.
            assert 0 < sum(alone) < 40 or backend in COMPILING
