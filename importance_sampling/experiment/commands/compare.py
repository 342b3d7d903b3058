"""`importance-sampling compare`: a table over runs."""

from __future__ import annotations

import argparse

import numpy as np

from ..._text_tables import print_paragraph, print_table
from ..results import Result


def row(result: Result, errors: list[float]) -> list[str]:
    """One run's cells: steps, seconds, final figures, and what given errors took.

    Args:
        result: the run.
        errors: test errors in percent.

    Returns:
        list of str, a cell for each column.
    """
    cells = [result.label, str(result.steps)]
    cells.append(f"{result.clock[-1]:.1f}" if len(result.clock) else "-")
    window = result.train[-min(100, result.steps) :] if result.steps else np.empty((0, 2))
    cells.append(f"{window[:, 0].mean():.4f}" if len(window) else "-")
    validation = result.validation
    cells.append(f"{validation[-1, 0]:.4f}" if len(validation) else "-")
    measured = 100 * (1 - validation[:, 1]) if result.measures_accuracy else np.empty(0)
    cells.append(f"{measured[-1]:.2f} %" if len(measured) else "-")
    cells.append(f"{measured.min():.2f} %" if len(measured) else "-")
    for error in errors:
        reached = np.flatnonzero(measured <= error)
        if not len(reached):
            cells.append("-")
            continue
        step = result.validated_at[reached[:1]]
        cells.append(f"{step[0]} steps, {result.seconds_at(step)[0]:.1f} s")
    return cells


def main(options: argparse.Namespace) -> int:
    """Prints the table."""
    results = [Result(path) for path in options.runs]
    head = ["run", "steps", "seconds", "training loss", "test loss", "test error", "best"]
    head += [f"to {error:g} %" for error in options.errors]
    print_table(head, (row(result, options.errors) for result in results))
    print()
    print_paragraph(
        "Training loss: mean of the last 100 steps. Steps and seconds to an error: at the first "
        "evaluation that saw it; evaluations themselves are not counted as time."
    )
    return 0
