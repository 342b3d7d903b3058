"""What the help of commands says of the names in the registry."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from . import registry
from .registry import HYPERPARAMETERS, Row

_WIDTH = 78


def either(names: Iterable[str]) -> str:
    """Names as a sentence has them: "a, b or c".

    Args:
        names: one at least.
    """
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def times(low: int, high: int) -> str:
    """How often something was done: "once", "3 times", "2 to 5 times".

    Args:
        low: int, the smallest number.
        high: int, the largest.
    """
    if low == high:
        return {0: "never", 1: "once"}.get(low, f"{low} times")
    return f"{low} to {high} times"


def command_line(text: str) -> str:
    """A command on as many lines as it takes, to be copied as it is.

    Args:
        text: str, words divided by blanks.
    """
    lines: list[str] = []
    for word in text.split():
        # As wide as the rest, with the indentation and the backslash.
        if lines and len(lines[-1]) + 1 + len(word) <= _WIDTH - 4:
            lines[-1] += f" {word}"
        else:
            lines.append(word if not lines else f"    {word}")
    return " \\\n  ".join(lines)


def names_of(rows: Iterable[Row]) -> str:
    """The names of rows, as a sentence has them.

    Args:
        rows: one at least.
    """
    return either(row.name for row in rows)


def before() -> str:
    """What may stand before which samplers, in words."""
    samplers = registry.SAMPLERS.values()
    smoothed = names_of(row for row in samplers if row.smoothed)
    conditional = names_of(row for row in samplers if row.conditional)
    smoothings = names_of(registry.SMOOTHINGS.values())
    conditions = names_of(registry.CONDITIONS.values())
    return (
        f"{smoothings} before {smoothed}; {conditions} before {conditional} and what stands before "
        "these"
    )


def described(title: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and what they are, as text of 78 columns.

    Args:
        title: str.
        pairs: name and line of help of each.
    """
    indent = " " * 31
    lines = [f"{title}:"]
    for name, summary in pairs:
        begin = f"  {name:<28} "
        lines.append(textwrap.fill(begin + summary, _WIDTH, subsequent_indent=indent))
    return "\n".join(lines)


def listed(title: str, table: registry.Table) -> str:
    """The rows of a table with their lines of help.

    Args:
        title: str.
        table: of the registry.
    """
    return described(title, ((row.name, row.summary) for row in table.values()))


def models_and_data() -> str:
    """What the commands that load weights take."""
    tables = (("networks", registry.NETWORKS), ("data sets", registry.DATASETS))
    return "\n\n".join(listed(title, table) for title, table in tables)


def all_names() -> str:
    """Every name that `run` knows, with its line of help."""
    tables = (
        ("networks", registry.NETWORKS),
        ("scores", registry.WRAPPERS),
        ("samplers", registry.SAMPLERS),
        ("before a sampler", registry.SMOOTHINGS),
        ("before a sampler and its smoothing", registry.CONDITIONS),
        ("reweightings", registry.REWEIGHTINGS),
        ("data sets", registry.DATASETS),
    )
    parts = [listed(title, table) for title, table in tables]
    used = (
        (f"{name}={next(iter(users.values())).letter}...", _meaning(name))
        for name, users in HYPERPARAMETERS.items()
    )
    return "\n\n".join([*parts, described("hyper-parameters, with their defaults", used)])


def _meaning(name: str) -> str:
    """What a hyper-parameter is for each row that has it, with its default, in words."""
    by_summary: dict[str, list[str]] = {}
    for summary, default, users in registry.meanings_of(name):
        of = ", ".join(users) if default is None else f"{default} for {', '.join(users)}"
        by_summary.setdefault(summary, []).append(of)
    return "; ".join(f"{summary} ({'; '.join(of)})" for summary, of in by_summary.items())
