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

# Measured before machine, versions, date and command were kept. No file may join them.
WITHOUT_ORIGIN = re.compile(r"gradient_quality|time_to_accuracy_\w+")

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
        if WITHOUT_ORIGIN.fullmatch(path.stem):
            continue
        content = json.loads(path.read_text())
        head = content[0] if isinstance(content, list) else content
        for found in head.get("made", [head]):
            assert {"date", "machine", "versions", "command"} <= set(found), path.name
    examples = json.loads((ROOT / "examples" / "results.json").read_text())["runs"]
    for name, ways in examples.items():
        for run in ways.values():
            assert {"date", "commit", "machine", "versions", "command"} <= set(run["made"]), name


def test_who_is_ahead_before_the_end(figures):
    """Who leads at 40 % of the time, and who does not: as the paragraph has it."""
    files = {
        str(path.relative_to(ROOT)): json.loads(path.read_text())
        for path in sorted(RESULTS.glob("time_to_accuracy_*.json"))
    }
    _, *rows = figures.before_the_end(files, 0.4)
    # Task, budget, backend, both errors, in how many runs auto is ahead.
    ahead = {(row[0], row[1]): row[5].split(" of ") for row in rows if row[1] != "2 epochs"}
    everywhere = {key for key, (few, all_) in ahead.items() if few == all_}
    assert everywhere == {
        ("MNIST, `small_cnn`", "5 epochs"),
        ("MNIST, 512-512", "6 epochs"),
        ("Friedman's function", "6 epochs"),
        ("Friedman's function", "20 epochs"),
    }
    assert ahead["the next character", "6 epochs"] == ["0", "3"]
    assert ahead["points in the plane", "6 epochs"] == ["1", "3"]
    # For it and against it.
    early = [row[5] for row in rows if row[1] == "2 epochs"]
    assert "3 of 3" in early and "0 of 3" in early
