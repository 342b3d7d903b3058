"""The table of features: every row, with every training, on the backend that is set."""

from pathlib import Path

import features
import keras
import pytest

pytestmark = pytest.mark.end_to_end

ROWS = features.load()


# Marked so that a short run, as on an older Keras, may leave out what only repeats a feature.
CELLS = [
    pytest.param(
        name,
        training,
        marks=[] if training == next(iter(features.TRAININGS)) else [pytest.mark.repeats_feature],
        id=f"{name}-{training}",
    )
    for name, training in features.cells(keras.backend.backend())
]


@pytest.mark.parametrize(("name", "training"), CELLS)
def test_feature(name, training, tmp_path):
    features.run(ROWS[name], features.Cell(training, tmp_path))


@pytest.mark.any_backend
def test_every_cell_runs_somewhere(monkeypatch):
    monkeypatch.delenv("CI_FULL", raising=False)
    cells = {backend: set(features.cells(backend)) for backend in features.BACKENDS}
    monkeypatch.setenv("CI_FULL", "1")
    full = {backend: set(features.cells(backend)) for backend in features.BACKENDS}
    assert set().union(*cells.values()) == set().union(*full.values())
    first = next(iter(features.TRAININGS))
    for backend, found in cells.items():
        assert found <= full[backend]
        assert {n for n, t in found if t == first} == {n for n, t in full[backend] if t == first}
        # A third of the rest, give or take what some backends have no say in.
        rest = [t for _, t in full[backend] if t != first]
        assert 0.2 < sum(t != first for _, t in found) / len(rest) < 0.5


def test_the_table_in_the_documents_is_this_one():
    page = Path(__file__).parents[1] / "docs" / "features.md"
    assert features.markdown() in page.read_text()


def test_every_training_has_a_column():
    import importance_sampling.training as rooms

    trainings = {n for n in rooms.__all__ if n not in ("BaseTraining", "TrainingReport")}
    model = __import__("helpers").mlp()
    covered = {type(make(model)).__name__ for make in features.TRAININGS.values()}
    assert covered == trainings
