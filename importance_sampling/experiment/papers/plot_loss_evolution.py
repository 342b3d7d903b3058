"""`importance-sampling plot-loss-evolution`: predicted against actual losses, animated."""

from __future__ import annotations

import argparse
import sys

import numpy as np

from ... import plots
from .animation import write_or_show


def main(options: argparse.Namespace) -> int:
    """Reads rows of actual loss, predicted loss and (if there is one) class."""
    import matplotlib.pyplot as plt

    if options.step < 1 or options.n_points < 1:
        raise ValueError("--step and --n_points must be at least 1.")
    if options.lim is not None and len(options.lim) != 2:
        raise ValueError(f"--lim takes two numbers, got {len(options.lim)}.")
    source = sys.stdin if options.metrics == "-" else options.metrics
    try:
        rows = np.loadtxt(source, ndmin=2)
    except (OSError, ValueError) as error:
        raise ValueError(f"{options.metrics} cannot be read: {error}") from error
    if not len(rows) or rows.shape[1] not in (2, 3):
        raise ValueError(
            f"{options.metrics} must have rows of 2 or 3 numbers, got {rows.shape[1]} in "
            f"{len(rows)} rows."
        )
    starts = range(0, max(1, len(rows) - options.n_points + 1), options.step)
    windows = [(start, min(start + options.n_points, len(rows))) for start in starts]
    windows = windows[options.frames]
    if not windows:
        raise ValueError("--frames leaves no frame.")
    classes = rows[:, 2].astype(int) if rows.shape[1] == 3 else None
    with plots.style():
        figure, axes = plt.subplots(figsize=(6.5, 5.5), layout="constrained")
        animation = plots.animate_predictions(
            figure, axes, rows[:, 0], rows[:, 1], classes, windows, options.lim
        )
        write_or_show(animation, options.to_file)
    return 0
