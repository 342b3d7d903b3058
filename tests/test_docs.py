"""What the documents say, runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))

pytestmark = pytest.mark.end_to_end


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_pages_hold_code():
    assert sum(len(blocks(page)) for page in PAGES) >= 10


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.stem)
def test_snippets_run_in_order(page):
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
