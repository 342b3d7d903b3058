"""`importance-sampling compare`: a table over runs."""

from __future__ import annotations

import argparse

import numpy as np

from ..results import Result


def row(result: Result, errors: list[float]) -> list[str]:
    """One run's cells: steps, seconds, final figures, and what given errors took."""
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


def table(results: list[Result], errors: list[float]) -> str:
    """The runs as aligned text."""
    head = ["run", "steps", "seconds", "training loss", "test loss", "test error", "best"]
    head += [f"to {error:g} %" for error in errors]
    rows = [head, *(row(result, errors) for result in results)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    )


def main(options: argparse.Namespace) -> int:
    """Prints the table."""
    results = [Result(path) for path in options.runs]
    print(table(results, options.errors))
    print(
        "\nTraining loss: mean of the last 100 steps. Steps and seconds to an error: at the first "
        "evaluation that saw it; evaluations themselves are not counted as time."
    )
    return 0
