"""`importance-sampling plot-distribution`: the distribution of each line's values, animated."""

from __future__ import annotations

import argparse
import itertools
import sys

import numpy as np

from ... import plots
from .animation import write_or_show


def main(options: argparse.Namespace) -> int:
    """Reads lines of numbers from standard input; each becomes a frame."""
    import matplotlib.pyplot as plt

    if options.frames < 1:
        raise ValueError(f"--frames must be at least 1, got {options.frames}.")
    for name in ("xlim", "ylim"):
        limits = getattr(options, name)
        if limits is not None and len(limits) != 2:
            raise ValueError(f"--{name} takes two numbers, got {len(limits)}.")
    values = []
    lines = (line for line in sys.stdin if line.strip())
    for number, line in enumerate(itertools.islice(lines, options.frames)):
        try:
            parts = [part for part in line.strip().split(options.delimiter) if part]
            values.append(np.array([float(part) for part in parts]))
        except ValueError as error:
            raise ValueError(f"Line {number + 1} of the input: {error}.") from error
    if not values:
        raise ValueError("The input has no lines.")
    with plots.style():
        figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
        titles = [f"line {i + 1} of {len(values)}" for i in range(len(values))]
        animation = plots.animate_distribution(
            figure, axes, values, titles, "value", options.xlim, options.ylim, options.vline
        )
        write_or_show(animation, options.to_file)
    return 0
