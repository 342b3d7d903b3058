"""What the documents say, runs."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import importance_sampling

ROOT = Path(__file__).parents[1]
EXTENDING = ROOT / "docs" / "extending.md"
METHODS = ROOT / "docs" / "methods"
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
NOTEBOOK = ROOT / "examples" / "tour.ipynb"
REPOSITORY = "keras-importance-sampling/keras-importance-sampling"

pytestmark = [pytest.mark.end_to_end, pytest.mark.any_backend]


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_pages_hold_code():
    assert sum(len(blocks(page)) for page in PAGES) >= 10
    # One example for each thing that can be added.
    assert len(blocks(EXTENDING)) == EXTENDING.read_text().count("\n## Add a")


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


def names_for(page):
    """What the snippets of a page may take for given, as the page says."""
    names = {"__name__": "docs"}
    if page.parent == METHODS and page.stem != "index":
        # "The snippets of the cards go on from these lines".
        exec(blocks(METHODS / "index.md")[0], names)
    elif page.stem == "index" or page.suffix == ".rst":
        from helpers import data, mlp

        x, y = data(256)
        names |= {"model": mlp(), "x_train": x, "y_train": y}
    return names


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.stem)
def test_snippets_run_in_order(page, tmp_path, monkeypatch):
    if any("import tensorflow" in block for block in blocks(page)):
        pytest.importorskip("tensorflow")
    # What they write is nobody's.
    monkeypatch.chdir(tmp_path)
    names = names_for(page)
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), names)


def test_every_figure_of_the_report_is_explained():
    from helpers import data, mlp

    from importance_sampling import HistoryImportanceTraining

    text = (ROOT / "docs" / "logs.md").read_text()
    table = text[text.index("| line | what it tells |") :].split("\n\n")[0]
    lines = [row.split(" | ")[0].strip("| .") for row in table.splitlines()[2:]]
    training = HistoryImportanceTraining(mlp(), constant="variance", seed=0)
    training.fit(*data(128), batch_size=16, epochs=3, verbose=0)
    told = re.findall(r"^ *[-\d.%]+ (.*)$", str(training.report()), re.MULTILINE)
    assert len(told) > 5
    assert not [line for line in told if not any(name in line for name in lines)]


def test_the_readmes_example_runs():
    text = (ROOT / "README.rst").read_text()
    block = re.search(r"\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", text).group(1)
    code = "\n".join(line[4:] for line in block.splitlines())
    assert 'presample="auto"' in code
    names = names_for(ROOT / "README.rst")
    exec(code.replace("epochs=10", "epochs=1"), names)
    assert names["model"].history.history["loss"]


def test_the_home_page_and_the_readme_recommend_the_same():
    readme, home = ((ROOT / name).read_text() for name in ("README.rst", "docs/index.md"))
    line = 'training = ImportanceTraining(model, presample="auto")\n'
    assert line in readme and line in home


def test_links_of_the_readme_are_absolute_and_lead_to_files():
    """A package index shows the same text, without the repository around it."""
    text = (ROOT / "README.rst").read_text()
    links = re.findall(r"`[^`]+? <(\S+)>`__?", text) + re.findall(r"\.\. image:: (\S+)", text)
    assert len(links) > 10 and all(link.startswith("https://") for link in links)
    pages = f"https://github.com/{REPOSITORY}/blob/main/"
    pictures = f"https://raw.githubusercontent.com/{REPOSITORY}/main/"
    own = [link.removeprefix(p) for link in links for p in (pages, pictures) if link.startswith(p)]
    assert len(own) == sum(REPOSITORY in link for link in links) > 10
    assert not [name for name in own if not (ROOT / name).exists()]


def test_the_notebook_is_the_tour():
    """Its cells are the page's, which runs above, and it shows what they print."""
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "docs" / "notebook.py")
    notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebook)
    stored = json.loads(NOTEBOOK.read_text())["cells"]
    made = notebook.cells(notebook.PAGE.read_text())
    assert [cell["source"] for cell in stored] == [cell["source"] for cell in made], (
        "run `python docs/notebook.py`"
    )
    codes = [cell for cell in stored if cell["cell_type"] == "code"]
    assert "".join(codes[0]["source"]) == blocks(ROOT / "docs" / "tour.md")[0].strip()
    printing = [cell for cell in codes if "print(" in "".join(cell["source"])]
    assert len(printing) > 2 and all(cell["outputs"] for cell in printing)
    links = re.findall(r"\]\(([^)#:]+)", "".join(line for c in stored for line in c["source"]))
    assert links and all((NOTEBOOK.parent / link).exists() for link in links)


# -- the site ------------------------------------------------------------------------------------


def check_docs():
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / ".ci" / "check_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_every_public_module():
    """What stands in `__all__` is in a page of the reference, under this module or another."""
    pages = "".join(p.read_text() for p in (ROOT / "docs" / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    in_pages = {n.rsplit(".", 1)[-1] for n in check_docs().public_names() if in_shown(n, shown)}
    names = set(check_docs().public_names())
    assert len(names) > 150
    missing = [n for n in names if n.rsplit(".", 1)[-1] not in in_pages | {"__version__"}]
    assert not missing


def in_shown(name, shown):
    return name in shown or name.rsplit(".", 1)[0] in shown


def test_the_site_has_every_page():
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"([\w/-]+\.md)$", text, re.MULTILINE))
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in PAGES if "docs" in p.parts}
    assert pages <= named
    assert named - pages == {"contributing.md", "security.md", "changelog.md"}


def test_broken_links_of_a_site_are_found(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "index.html").write_text('<h1 id="top">T</h1><a href="../#at">b</a>')
    links = '<a href="there/#top">a</a><a href="there/#no">b</a><a href="gone/">c</a><img src="p">'
    (tmp_path / "index.html").write_text(f'<h1 id="at">H</h1>{links}<a href="https://x.y">d</a>')
    found = [link for _, link in check_docs().broken_links(tmp_path)]
    assert found == ["there/#no", "gone/", "p", "(a picture without a description)"]


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
