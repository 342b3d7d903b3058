"""The table of features: every row, with every training, on the backend that is set."""

from pathlib import Path

import features
import pytest

pytestmark = pytest.mark.end_to_end

ROWS = features.load()


# Marked so that a short run, as on an older Keras, may leave out what only repeats a feature.
CELLS = [
    pytest.param(
        name,
        training,
        marks=[pytest.mark.repeats_feature] if column else [],
        id=f"{name}-{training}",
    )
    for name, row in ROWS.items()
    for column, training in enumerate(features.TRAININGS)
    if row.section in features.SECTIONS.get(training, features.MODULES)
]


@pytest.mark.parametrize(("name", "training"), CELLS)
def test_feature(name, training, tmp_path):
    features.run(ROWS[name], features.Cell(training, tmp_path))


def test_the_table_in_the_documents_is_this_one():
    page = Path(__file__).parents[1] / "docs" / "features.md"
    assert features.markdown() in page.read_text()


def test_every_training_has_a_column():
    import importance_sampling.training as rooms

    trainings = {n for n in rooms.__all__ if n not in ("BaseTraining", "TrainingReport")}
    model = __import__("helpers").mlp()
    covered = {type(make(model)).__name__ for make in features.TRAININGS.values()}
    assert covered == trainings
