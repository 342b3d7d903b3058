"""What the documents say, runs."""

import re
from pathlib import Path

import pytest

import importance_sampling

ROOT = Path(__file__).parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [*sorted((ROOT / "docs").glob("*.md")), CONTRIBUTING, ROOT / "SECURITY.md"]

pytestmark = [pytest.mark.end_to_end, pytest.mark.any_backend]


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_pages_hold_code():
    assert sum(len(blocks(page)) for page in PAGES) >= 10
    # One example for each thing that can be added.
    assert len(blocks(CONTRIBUTING)) == CONTRIBUTING.read_text().count("\n## Add a")


@pytest.mark.any_backend
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_files_that_pages_name_are_there(page):
    text = page.read_text()
    named = re.findall(r"`((?:importance_sampling|tests|benchmarks|docs|\.ci)/[\w./-]*)`", text)
    named += [page.parent / link for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text)]
    missing = [str(name) for name in named if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.any_backend
def test_the_changelog_begins_with_the_newest_release():
    text = (ROOT / "CHANGELOG.md").read_text()
    first, released, *_ = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    version, date = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", released).groups()
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {version}\n" in citation and f'date-released: "{date}"' in citation
    assert re.search(rf"^\[{re.escape(version)}\]: https://", text, re.MULTILINE)
    # The package is that release, or what comes after it.
    numbers, _, development = importance_sampling.__version__.partition(".dev")
    newest, present = ([int(n) for n in v.split(".")] for v in (version, numbers))
    assert present > newest if development else present == newest


@pytest.mark.any_backend
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.stem)
def test_snippets_run_in_order(page, tmp_path, monkeypatch):
    # What they write is nobody's.
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "docs"}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), names)


def test_the_readmes_example_runs():
    from helpers import data, mlp

    text = (ROOT / "README.rst").read_text()
    block = re.search(r"\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", text).group(1)
    code = "\n".join(line[4:] for line in block.splitlines())
    x, y = data(256)
    model = mlp()
    exec(code.replace("epochs=10", "epochs=1"), {"model": model, "x_train": x, "y_train": y})
    assert model.history.history["loss"]


def test_every_public_name_has_a_docstring():
    import importlib
    import inspect

    for room in ("training", "samplers", "reweighting", "model_wrappers", "layers", "datasets"):
        module = importlib.import_module(f"importance_sampling.{room}")
        assert module.__doc__
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                assert (thing.__doc__ or "").strip(), f"{room}.{name}"


def test_readme_has_two_set_up_commands():
    text = (ROOT / "README.rst").read_text()
    commands = re.findall(r"\.\. code-block:: bash\n\n {4}(.*)\n", text)
    assert len(commands) == 2
    assert "importance-sampling demo" in commands[0] and "pytest" in commands[1]
