"""Makes `examples/tour.ipynb` of `docs/tour.md`: the same words and code, with what it prints.

python docs/notebook.py
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tour.md"
NOTEBOOK = ROOT / "examples" / "tour.ipynb"


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def cells(page: str) -> list[dict[str, Any]]:
    """A page as the cells of a notebook, nothing of them run.

    Args:
        page: str, Markdown.

    Returns:
        A list of dicts, as notebooks have them.
    """
    found = []
    for i, part in enumerate(re.split(r"^```python\n(.*?)^```\n", page, flags=re.M | re.S)):
        if not (text := part.strip()):
            continue
        cell: dict[str, Any] = {"id": f"cell-{len(found)}", "metadata": {}}
        if i % 2:
            cell |= {"cell_type": "code", "execution_count": None, "outputs": []}
        else:
            # The notebook lies beside docs/, the page in it.
            text = re.sub(r"\]\(([\w/-]+\.md)", r"](../docs/\1", text)
            text = re.sub(r"\]\(\.\./examples/[^)]*\)", "](../docs/tour.md)", text)
            text = text.replace(
                "It runs as it stands here, and as a [notebook](../docs/tour.md).",
                "Made of [its page](../docs/tour.md).",
            )
            cell["cell_type"] = "markdown"
        found.append(cell | {"source": _lines(text)})
    return found


def run(found: list[dict[str, Any]]) -> None:
    """Runs the code of cells, one after the other, and keeps what it prints."""
    names: dict[str, Any] = {"__name__": "tour"}
    codes = [cell for cell in found if cell["cell_type"] == "code"]
    for number, cell in enumerate(codes, 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec("".join(cell["source"]), names)
        cell["execution_count"] = number
        if text := printed.getvalue():
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": _lines(text)}]


def main() -> None:
    found = cells(PAGE.read_text())
    run(found)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": found,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    NOTEBOOK.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
