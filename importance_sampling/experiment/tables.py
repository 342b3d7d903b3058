"""The tables in the documents that are made from the registry.

`python -m importance_sampling.experiment.tables --write docs` brings them up to date. A table
stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .._files import write_whole
from .._names import unknown
from . import registry
from .registry import HYPERPARAMETERS, Row

_MARKED = re.compile(r"(<!-- table: (.*?) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""

    def line(cells: Sequence[str]) -> str:
        # A bar within a cell would end it.
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"

    return line(head) + "|---" * len(head) + "|\n" + "".join(map(line, rows))


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _hyperparameters(row: Row) -> str:
    return ", ".join(
        f"`{one.name}`" if one.default is None else f"`{one.name}` ({_value(one.default)})"
        for one in row.hyperparameters
    )


def _rows(*tables: registry.Table, what: str = "name") -> str:
    rows = [row for table in tables for row in table.values()]
    return _markdown(
        (what, "", "hyper-parameters (defaults)"),
        ((f"`{row.name}`", row.summary, _hyperparameters(row)) for row in rows),
    )


def _before_samplers() -> str:
    samplers = registry.SAMPLERS.values()
    parts = [
        (registry.SMOOTHINGS, [row.name for row in samplers if row.smoothed], ""),
        (registry.CONDITIONS, [row.name for row in samplers if row.conditional], ", smoothed too"),
    ]
    return _markdown(
        ("before a sampler", "", "hyper-parameters (defaults)", "before"),
        (
            (f"`{row.name}`", row.summary, _hyperparameters(row), _code(names) + also)
            for table, names, also in parts
            for row in table.values()
        ),
    )


def _all_hyperparameters() -> str:
    rows = []
    for name, users in HYPERPARAMETERS.items():
        for summary, default, of in registry.meanings_of(name):
            value = "" if default is None else f"`{_value(default)}`"
            rows.append((f"`{name}`", f"`{users[of[0]].letter}`", summary, value, ", ".join(of)))
    return _markdown(("key", "type", "", "default", "of"), rows)


def _pictures() -> str:
    return _markdown(
        ("`plot`", "draws"),
        (
            (
                f"`{row.name}`",
                row.summary + (" (also as `.gif` or `.mp4`)" if row.animated else ""),
            )
            for row in registry.PICTURES.values()
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    "scores": lambda: _rows(registry.WRAPPERS),
    "samplers": lambda: _rows(registry.SAMPLERS),
    "before samplers": _before_samplers,
    "reweightings": lambda: _rows(registry.REWEIGHTINGS),
    "data sets": lambda: _rows(registry.DATASETS),
    "optimizers": lambda: _rows(registry.OPTIMIZERS),
    "hyper-parameters": _all_hyperparameters,
    "pictures": _pictures,
}
"""Every table by its name."""


def updated(text: str) -> str:
    """A page with its tables made anew.

    Args:
        text: str, the page.

    Returns:
        The page; the same if it was up to date.

    Raises:
        ValueError: if the page names a table that there is not.
    """

    def fill(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in TABLES:
            raise unknown("table", name, TABLES)
        return begin + TABLES[name]() + end

    return _MARKED.sub(fill, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints all tables, or writes them into the pages of a directory.

    Args:
        arguments: those of the process if left out.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        description="Prints all tables, or writes them into the pages of a directory."
    )
    parser.add_argument("--write", type=Path, metavar="DIRECTORY", help="of `.md` pages")
    options = parser.parse_args(arguments)
    if options.write is None:
        print("\n".join(f"{name}\n\n{make()}" for name, make in TABLES.items()))
        return 0
    for path in sorted(options.write.glob("*.md")):
        before = path.read_text()
        after = updated(before)
        if after != before:
            write_whole(path, partial(Path.write_text, data=after))
            print(f"{path} is up to date now")
    return 0


if __name__ == "__main__":
    sys.exit(main())
