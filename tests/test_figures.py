"""Figures in the README and the documents are those of the files they were measured in."""

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
WITHOUT_ORIGIN = re.compile(
    r"gradient_quality|memory_\w+|stored_scores|step_cost_\w+|time_to_accuracy_\w+"
)

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


# -- figures within sentences ----------------------------------------------------------------------


def _row(name, arm, **options):
    rows = json.loads((RESULTS / f"{name}.json").read_text())["summary"]
    (row,) = (r for r in rows if r["arm"] == arm and all(r[k] == v for k, v in options.items()))
    return row


def _same(task, arm):
    name = {
        "mnist_conv16": "same_epochs_conv16",
        "canevet": "same_epochs_tasks",
        "friedman": "same_epochs_tasks",
    }.get(task, "same_epochs_rare")
    return _row(name, arm, task=task)


def _equal(task, arm, name="time_to_accuracy_tasks", **options):
    return _row(name, arm, task=task, **options)


_WORDS = {1: "one", 2: "two", 3: "three", 5: "five"}


def _readme():
    conv = _same("mnist_conv16", "auto")
    yield f"took **{conv['time']:.2f}** of the time of ``model.fit``"
    yield f"({conv['epochs']:.0f} epochs, {_WORDS[conv['seeds']]} seeds)"
    # "the same test error within the intervals"
    assert abs(conv["minus_uniform"]) < conv["minus_uniform_ci"]
    cnn = {
        a: _equal("mnist_small_cnn", a, "time_to_accuracy_small_cnn") for a in ("auto", "uniform")
    }
    ratio = cnn["auto"]["train_loss"] / cnn["uniform"]["train_loss"]
    yield f"ended at **{ratio:.2f}** of uniform training's"
    assert cnn["auto"]["test_error"] >= cnn["uniform"]["test_error"]
    plane = _same("canevet", "auto")
    yield f"took **{plane['time']:.2f}** of the time ({_WORDS[plane['seeds']]} seeds)"


def _results():
    conv = {a: _same("mnist_conv16", a) for a in ("same noise", "uniform, smaller batch")}
    noise, control = conv.values()
    share = noise["examples_relative"]
    yield f"takes {noise['time']:.2f} of the time, on {share:.2f} of the examples"
    share = control["examples_relative"]
    yield f"with {share:.2f} of them uniform steps take {control['time']:.2f}"
    tasks = ("mnist_conv16", "long_tailed_mnist", "rare_positives", "image_field", "canevet")
    rows = {task: _same(task, "same noise") for task in (*tasks, "friedman")}
    shares = [row["examples_relative"] for row in rows.values()]
    yield f"({min(shares):.2f} to {max(shares):.2f} of uniform training's)"
    times = {task: row["time"] for task, row in rows.items()}
    yield f"{times['mnist_conv16']:.2f} and {times['long_tailed_mnist']:.2f} with convolutions"
    middle = [times[task] for task in ("image_field", "friedman", "rare_positives")]
    yield f"{min(middle):.2f} to {max(middle):.2f} where the step is a millisecond"
    yield f"{times['canevet']:.2f} where it is half a millisecond"
    yield f"has lost {100 * _same('canevet', 'auto')['time'] - 100:.0f} % by trying"
    cnn = _equal("mnist_small_cnn", "auto", "time_to_accuracy_small_cnn")
    yield f"where a step takes 50 ms ({cnn['cost']:.2f})"
    cost = {t: 100 * _equal(t, "auto")["cost"] - 100 for t in ("next_character", "mnist_mlp")}
    text, images = cost.values()
    yield f"{text:.0f} % at 3 ms with small rows, {images:.0f} % at 3 ms with rows of 784"
    small = [100 * _equal(t, "auto")["cost"] - 100 for t in ("friedman", "canevet")]
    yield f"{min(small):.0f} to {max(small):.0f} % where a step takes a millisecond"
    long = _equal("friedman", "auto", "time_to_accuracy_budgets", epochs=20.0)
    uniform = _equal("friedman", "uniform", "time_to_accuracy_budgets", epochs=20.0)
    half = long["against_uniform_ci"]
    yield f"by {-long['against_uniform']:.3f} ± {half:.3f} of {uniform['test_error']:.3f}"
    hard = _equal("canevet", "history k=0.5")
    yield f"{-hard['against_uniform']:.2f} ± {hard['against_uniform_ci']:.2f} less"


def _choosing():
    files = ("same_epochs_conv16", "same_epochs_rare", "same_epochs_tasks")
    rows = [r for f in files for r in json.loads((RESULTS / f"{f}.json").read_text())["summary"]]
    most = max(row["time"] for row in rows if row["arm"] == "auto")
    yield f"trying has cost up to {100 * most - 100:.0f} % of the time"


def _gradients():
    size = {
        backend: json.loads((RESULTS / f"exact_norms_{backend}.json").read_text())["gibibytes"]
        for backend in ("torch", "jax", "tensorflow")
    }
    assert f"{size['jax']:.1f}" == f"{size['torch']:.1f}"
    yield f"take {size['torch']:.1f} (PyTorch, JAX) to {size['tensorflow']:.1f} GiB (TensorFlow)"


SENTENCES = {
    "README.rst": _readme,
    "docs/choosing.md": _choosing,
    "docs/results.md": _results,
    "docs/gradients.md": _gradients,
}


@pytest.mark.parametrize("page", SENTENCES)
def test_figures_in_sentences(page):
    text = " ".join((ROOT / page).read_text().split())
    told = list(SENTENCES[page]())
    assert told and not [sentence for sentence in told if sentence not in text]
