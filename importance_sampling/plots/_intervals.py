"""Means with their confidence intervals, one for each name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ._style import COLOURS


def means_with_intervals(
    axes: Axes,
    names: Sequence[str],
    intervals: Sequence[tuple[float, float, float]],
    xlabel: str,
    title: str = "",
) -> None:
    """Draws a point and a line for each name, the first one at the top with a line down from it.

    Args:
        axes: matplotlib axes.
        names: of the rows.
        intervals: `(mean, low, high)` of each.
        xlabel: str.
        title: str.
    """
    places = np.arange(len(names))[::-1]
    means, low, high = np.asarray(intervals, np.float64).T
    axes.errorbar(
        means,
        places,
        xerr=[means - low, high - means],
        fmt="o",
        linestyle="none",
        color=COLOURS[0],
        capsize=3,
        markersize=6,
    )
    if len(means):
        # What the others are compared with.
        axes.axvline(means[0], color="black", linestyle=":", linewidth=1)
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set(xlabel=xlabel, title=title)
