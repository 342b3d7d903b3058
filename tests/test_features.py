"""The table of features: every row, with every training, on the backend that is set."""

from pathlib import Path

import features
import keras
import pytest
from spread import COMPILING

pytestmark = pytest.mark.end_to_end

ROWS = features.load()


def _marks(name, training):
    # A short run, as on an older Keras, may leave out what only repeats a feature.
    if training != features.MAIN:
        yield pytest.mark.repeats_feature
    if training in features.ON_TORCH or keras.backend.backend() in ROWS[name].once:
        yield pytest.mark.slow


CELLS = [
    pytest.param(name, training, marks=[*_marks(name, training)], id=f"{name}-{training}")
    for name, training in features.cells(keras.backend.backend())
]


@pytest.mark.parametrize(("name", "training"), CELLS)
def test_feature(name, training, tmp_path, request):
    if training in features.ON_TORCH and ROWS[name].section != "again":
        # A network of the sampler's own; there two trainings may be at work at once.
        request.getfixturevalue("one_predictor")
    features.run(ROWS[name], features.Cell(training, tmp_path))


@pytest.mark.any_backend
def test_every_cell_runs_somewhere(monkeypatch):
    monkeypatch.delenv("CI_FULL", raising=False)
    cells = {backend: set(features.cells(backend)) for backend in features.BACKENDS}
    monkeypatch.setenv("CI_FULL", "1")
    full = {backend: set(features.cells(backend)) for backend in features.BACKENDS}
    assert set().union(*cells.values()) == set().union(*full.values())
    for backend, found in cells.items():
        assert found <= full[backend]
        # Some of each column, on each backend.
        elsewhere = features.ON_TORCH if backend != "torch" else ()
        assert {t for _, t in found} == set(features.TRAININGS) - set(elsewhere)
    for name, row in ROWS.items():
        main = (name, features.MAIN)
        possible = {backend for backend, found in full.items() if main in found}
        on = {backend for backend, found in cells.items() if main in found}
        # On PyTorch and on one that compiles, wherever there are both.
        assert len(on & set(COMPILING)) >= 1
        assert "torch" in on or "torch" not in possible
        assert on == possible or not row.everywhere
    # In parts of about the same size: an expected half, four deviations below it.
    spread = [n for n, row in ROWS.items() if not row.everywhere]
    for backend in COMPILING:
        here = sum((n, features.MAIN) in cells[backend] for n in spread)
        assert here >= len(spread) / 2 - 2 * len(spread) ** 0.5


@pytest.mark.any_backend
def test_what_cannot_be_drawn_by_score_is_little_and_has_a_reason():
    rows = [row for row in ROWS.values() if row.uniform]
    assert len(rows) <= 2
    assert all(reason for row in rows for reason in row.uniform.values())
    # Whatever stays uniform under the main training says nothing of importance sampling.
    assert not any(row.stays_uniform(features.MAIN) for row in rows)


@pytest.mark.any_backend
@pytest.mark.parametrize("training", features.TRAININGS)
def test_a_column_that_stays_uniform_is_found_out(training, tmp_path, monkeypatch):
    from helpers import adam_mlp, data

    from importance_sampling.samplers import UniformSampler

    def uniform(self, dataset, *sizes):
        return UniformSampler(dataset, self.reweighting)

    for kind in type(features.TRAININGS[training](adam_mlp())).__mro__:
        if "make_sampler" in vars(kind):
            monkeypatch.setattr(kind, "make_sampler", uniform)
    row = features.Feature("data", "any", "", lambda cell: cell.fit(adam_mlp(), *data(48)))
    # One that has no snapshot to correct by says so itself.
    with pytest.raises((AssertionError, RuntimeError)):
        features.run(row, features.Cell(training, tmp_path))


def test_the_table_in_the_documents_is_this_one():
    page = Path(__file__).parents[1] / "docs" / "features.md"
    assert features.markdown() in page.read_text()


def test_every_training_has_a_column():
    import importance_sampling.training as rooms

    trainings = {
        n for n in rooms.__all__ if n not in ("BackupState", "BaseTraining", "TrainingReport")
    }
    model = __import__("helpers").mlp()
    made = [type(make(model)).__mro__ for make in features.TRAININGS.values()]
    # A column of a subclass stands for the class that users have.
    covered = {next(c.__name__ for c in mro if not c.__name__.startswith("_")) for mro in made}
    assert covered == trainings
