"""Programs as users write them, with one line changed."""

from collections import Counter

import keras
import programs
import pytest

BACKEND = keras.backend.backend()
PROGRAMS = programs.load()
# The variants of a training step that the guides to each backend show.
STEPS = (
    "plain_step",
    "step_with_own_metrics",
    "step_without_compute_loss",
    "step_that_leaves_out_its_compiled_loss",
    "step_with_sample_weight",
    "step_that_could_take_sample_weight",
    "step_around_keras_own",
    "step_around_keras_own_for_pairs",
    "gan",
)


@pytest.mark.end_to_end
@pytest.mark.parametrize(("name", "way"), programs.cells(BACKEND))
def test_one_line_changed(name, way):
    programs.check(PROGRAMS[name], way)


@pytest.mark.end_to_end
@pytest.mark.parametrize("name", programs.alone(BACKEND))
def test_program_that_is_refused_is_right_by_itself(name):
    programs.check_reference(PROGRAMS[name])


@pytest.mark.exact
@pytest.mark.parametrize("backend", programs.BACKENDS)
def test_enough_programs_are_trained_on_each_backend(backend):
    trained = [p for p in PROGRAMS.values() if backend in p.backends and not p.refused]
    assert len(trained) >= 36
    assert {p.module for p in trained} >= {m for m in programs.MODULES if "steps" not in m}


@pytest.mark.exact
@pytest.mark.parametrize("backend", programs.BACKENDS)
def test_each_backend_has_all_variants_of_a_step(backend):
    short = {"tensorflow": "tf"}.get(backend, backend)
    missing = {f"{short}_{step}" for step in STEPS} - set(PROGRAMS)
    assert not missing
    assert all(PROGRAMS[f"{short}_{step}"].backends == (backend,) for step in STEPS)


@pytest.mark.exact
def test_few_programs_are_refused_or_not_exact():
    refused = [p for p in PROGRAMS.values() if p.refused]
    assert len(refused) < len(PROGRAMS) / 5
    for backend in programs.BACKENDS:
        inexact = [p for p in PROGRAMS.values() if backend in {**p.not_exact, **p.miscounted}]
        assert len(inexact) < len(PROGRAMS) / 6


@pytest.mark.exact
def test_every_pair_runs_on_one_backend(monkeypatch):
    monkeypatch.delenv("CI_FULL", raising=False)
    cells = {backend: programs.cells(backend) for backend in programs.BACKENDS}
    times = Counter(cell for found in cells.values() for cell in found)
    for name, one in PROGRAMS.items():
        names = {variant.name for variant in programs.variants(one).values()}
        assert name in names and all(PROGRAMS[n].refused == one.refused for n in names)
        for way in programs.WAYS:
            expected = len(names) if way == "off" else 1
            assert sum(times[other, way] for other in names) == expected, (name, way)
        assert times[name, "off"] == 1
    # Each way and each refusal on each backend.
    assert all({way for _, way in found} == set(programs.WAYS) for found in cells.values())
    assert all(any(PROGRAMS[name].refused for name, _ in found) for found in cells.values())
    monkeypatch.setenv("CI_FULL", "1")
    for backend in programs.BACKENDS:
        here = [p for p in PROGRAMS.values() if backend in p.backends]
        assert len(programs.cells(backend)) == len(programs.WAYS) * len(here)


@pytest.mark.exact
def test_a_warning_that_is_not_listed_fails():
    one = PROGRAMS["own_last_layer"]
    known = "score='gnorm': what activation the layer 'own_head' ends in is not known"
    programs.check_warnings(one, {known})
    with pytest.raises(AssertionError):
        programs.check_warnings(one, {known, "something else"})
