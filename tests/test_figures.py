"""Tables of figures in the documents are those of the files they were measured in."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "README.md"]
MARK = re.compile(r"<!-- figures: (.*?) -->")

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


@pytest.fixture(scope="module")
def figures():
    path = ROOT / "benchmarks" / "figures.py"
    spec = importlib.util.spec_from_file_location("figures", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


@pytest.mark.parametrize(
    "page", [p for p in PAGES if MARK.search(p.read_text())], ids=lambda p: p.stem
)
def test_tables_are_those_of_their_files(page, figures):
    text = page.read_text()
    assert text.count("<!-- figures:") == text.count("<!-- end of figures -->")
    assert figures.updated(text) == text, "run `python benchmarks/figures.py --write docs`"


def test_a_changed_figure_is_found(figures):
    mark = "benchmarks/results/svrg_convergence.json"
    page = f"before\n<!-- figures: {mark} -->\n<!-- end of figures -->\nafter\n"
    made = figures.updated(page)
    assert made.startswith("before\n") and made.endswith("after\n") and "| SVRG | " in made
    assert figures.updated(made) == made
    assert figures.updated(made.replace("| SVRG | 6", "| SVRG | 7")) == made
    with pytest.raises(ValueError, match="no file 'benchmarks/results/nothing"):
        figures.make("benchmarks/results/nothing.json")


def test_every_file_of_results_is_shown():
    shown = " ".join(mark for page in PAGES for mark in MARK.findall(page.read_text()))
    assert "benchmarks/results/*.json; made" in shown


def test_files_say_how_they_were_made():
    for path in RESULTS.glob("*.json"):
        content = json.loads(path.read_text())
        head = content[0] if isinstance(content, list) else content
        for found in head.get("made", [head]):
            assert {"date", "machine", "versions", "command"} <= set(found), path.name
    examples = json.loads((ROOT / "examples" / "results.json").read_text())["runs"]
    for name, ways in examples.items():
        for run in ways.values():
            assert {"date", "commit", "machine", "versions", "command"} <= set(run["made"]), name


def test_stalls_of_keras_own_fit_are_no_part_of_its_time(figures):
    """Nor of what others' times are compared with; the library's epochs differ and are added up."""
    common = {"backend": "tensorflow", "task": "friedman", "epochs": 4, "error": "error"}
    common |= {"steps": 40, "batch_size": 1, "examples": 40, "epoch_examples": 10}
    common |= {"compile_seconds": 0.0, "train_loss": 0.0, "test_loss": 0.0, "test_error": 0.0}
    epochs = {
        "model.fit": [1.0, 9.0, 1.2, 1.0],
        "same noise": [1.0, 0.5, 3.0, 0.3],
        "uniform, smaller batch": [0.6, 0.5, 0.5, 7.0],
        "added later": [2.0, 2.0, 2.0, 2.0],
    }
    # The control and what was added ran in turns with other runs of `model.fit`.
    uniform = {"uniform, smaller batch": 20.0, "added later": 16.0}
    runs = [
        {**common, "arm": arm, "seed": 1, "epoch_seconds": times, "seconds": sum(times)}
        | {"uniform_seconds": uniform.get(arm, 12.2)}
        for arm, times in epochs.items()
    ]
    # Two and a half epochs of the control, on smaller batches, have as many steps.
    control = next(run for run in runs if run["arm"] == "uniform, smaller batch")
    control |= {"epoch_examples": 16, "epoch_seconds": [0.6, 0.5, 7.0]}
    rows = {row["arm"]: row for row in figures.summary(runs)}
    assert rows["model.fit"]["seconds"] == pytest.approx(4 * 1.1)
    assert rows["model.fit"]["time"] == 1
    assert rows["same noise"]["time"] == pytest.approx(4.8 / 4.4)
    assert rows["uniform, smaller batch"]["time"] == pytest.approx(2.5 * 0.55 / 4.4)
    assert rows["added later"]["time"] == pytest.approx(8 / 16)
