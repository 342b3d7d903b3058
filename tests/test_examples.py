"""The examples that show one way to train each, on a few images, in this process."""

import contextlib
import io
import json
import os
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.end_to_end
# On the backend whose data it shows, the others mostly on the fastest.
anywhere = pytest.mark.any_backend
ROWS = {
    "mnist_history": ("steps drawn by history", anywhere),
    "long_tailed_mnist": ("9:      1 images", anywhere),
    "friedman_regression": ("Test mean absolute error: ", anywhere),
    "mnist_fine_tuning": ("steps drawn uniformly", anywhere),
    "mnist_jax": ("steps drawn by history", anywhere),
    "mnist_tf_data": (
        "Uniform all the time: the estimated variance",
        pytest.mark.one_backend("tensorflow"),
    ),
    "mnist_dataloader": ("steps drawn", pytest.mark.one_backend("torch")),
}


def run(name, *arguments):
    """What an example prints."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.syspath_prepend(str(EXAMPLES))
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    return out.getvalue()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=mark) for name, (_, mark) in ROWS.items()]
)
def test_an_example_trains_and_reports(name, few_images, tmp_path):
    target = tmp_path / "found.json"
    arguments = ("--epochs", "2", "--examples", "512", "--json", target)
    if name != "friedman_regression":
        # Whose data are made up.
        arguments += ("--data", few_images)
    out = run(name, *arguments)
    assert ROWS[name][0] in out, out
    assert "seconds of training with compiling" in out and "variance_reduction" in out
    found = json.loads(target.read_text())
    assert found["epochs"] == 2 and found["seconds"] > 0
    assert {"accuracy", "mean_absolute_error"} & set(found)
    assert sum(found["report"]["steps"].values()) >= 4
    if name == "mnist_history":
        out = run(name, *arguments, "--uniform")
        assert "variance_reduction" not in out and "Test accuracy: " in out


@pytest.mark.exact
@pytest.mark.any_backend
def test_examples_are_programs_and_all_are_listed():
    sys.path.insert(0, str(EXAMPLES))
    try:
        measure = runpy.run_path(str(EXAMPLES / "measure.py"))
    finally:
        sys.path.remove(str(EXAMPLES))
    programs = {path.stem: path for path in EXAMPLES.glob("*.py") if path.stem != "example_utils"}
    # Of the introduction there is one way only.
    assert set(programs) == {*measure["NAMES"], "measure", "intro"}
    readme = (EXAMPLES / "README.md").read_text()
    for name, path in programs.items():
        assert path.read_text().startswith("#!/usr/bin/env python3\n"), name
        assert os.access(path, os.X_OK), name
        assert f"`{name}`" in readme, name


@pytest.mark.exact
@pytest.mark.any_backend
def test_the_table_of_examples_is_made_of_their_figures():
    table = runpy.run_path(str(EXAMPLES / "measure.py"))["table"]
    runs = {
        "mnist_mlp": {
            "by score": {
                **{"epochs": 8, "accuracy": 0.98, "seconds": 12.34},
                "report": {"steps": {"uniform": 1, "history": 3}, "variance_reduction": 1.5},
            },
            "uniform": {"epochs": 8, "accuracy": 0.97, "seconds": 10.0},
        },
        # One that was not run in both ways.
        "mnist_cnn": {"uniform": {"epochs": 8, "accuracy": 0.97, "seconds": 10.0}},
    }
    line = "| `mnist_mlp` | 8 | 75 % | 1.50 | 0.9800, 12.3 s | 0.9700, 10.0 s |"
    assert table(runs).splitlines()[2:] == [line]
