"""Programs as users write them, with one line changed."""

import keras
import programs
import pytest

pytestmark = pytest.mark.end_to_end

PROGRAMS = programs.load()
BACKEND = keras.backend.backend()
HERE = [name for name, one in PROGRAMS.items() if BACKEND in one.backends]


@pytest.mark.parametrize("name", HERE)
def test_model_fit(name):
    programs.check_reference(PROGRAMS[name])


@pytest.mark.parametrize(("name", "way"), programs.cells(BACKEND))
def test_one_line_changed(name, way):
    programs.check(PROGRAMS[name], way)
