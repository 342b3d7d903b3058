"""Distributions of scores, and how well they were predicted."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from ._labels import Label, name_at_right
from ._style import COLOURS, note, plain_log_axis

_QUANTILES = ((0.01, 0.99), (0.05, 0.95), (0.25, 0.75))


def score_distribution(
    axes: Axes, steps: np.ndarray, scores: np.ndarray, ylabel: str = "score"
) -> None:
    """Draws the median and the quantiles of the scores over training.

    Args:
        axes: matplotlib axes.
        steps: `(evaluations,)`.
        scores: `(evaluations, examples)`, at least 0.
        ylabel: str, name of the score.
    """
    axes.set(xlabel="steps", ylabel=ylabel)
    if not scores.size:
        note(axes, "no data")
        return
    positive = scores[scores > 0]
    floor = positive.min() if positive.size else 1e-12
    steps, shown = np.asarray(steps, dtype=np.float64), np.maximum(scores, floor)
    if len(steps) == 1:
        # A band needs some width.
        steps, shown = steps[0] + np.array([-0.5, 0.5]), np.repeat(shown, 2, axis=0)
    names = []
    for (low, high), alpha in zip(_QUANTILES, (0.15, 0.25, 0.4), strict=True):
        edges = np.quantile(shown, [low, high], axis=1)
        axes.fill_between(steps, *edges, color=COLOURS[0], alpha=alpha, linewidth=0)
        for edge, share in zip(edges, (low, high), strict=True):
            below = "lower than this" if low == _QUANTILES[0][0] and share == low else ""
            text = f"{100 * share:.0f} % {below}".strip()
            names.append(Label(float(steps[-1]), float(edge[-1]), text, COLOURS[0]))
    median, mean = np.median(shown, axis=1), shown.mean(axis=1)
    for values, text, look in (
        (median, "median", {"color": "black", "marker": "o"}),
        (mean, "mean", {"color": COLOURS[1], "marker": "s", "linestyle": "--"}),
    ):
        axes.plot(steps, values, markersize=3, linewidth=1.4, label=text, **look)
        names.append(Label(float(steps[-1]), float(values[-1]), text, str(look["color"])))
    axes.set_xlim(left=0)
    axes.set_yscale("log")
    plain_log_axis(axes.yaxis)
    name_at_right(axes, names)


def colour_map(classes: np.ndarray) -> tuple[Any, int]:
    """A colour map that stays readable in grey.

    Args:
        classes: `(n,)` int.

    Returns:
        The map and the number of classes.
    """
    count = int(np.max(classes)) + 1 if len(classes) else 1
    return mpl.colormaps["viridis"].resampled(max(count, 2)), count


def limits(actual: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Common limits that leave out the rarest outliers.

    Args:
        actual: `(n,)` scores that came out.
        predicted: `(n,)` scores drawn by.

    Returns:
        The lowest and the highest value to show.
    """
    both = np.concatenate([actual, predicted])
    top = float(np.quantile(both, 0.995)) if len(both) else 1.0
    return 0.0, top * 1.05 or 1.0


def predictions(
    axes: Axes, actual: np.ndarray, predicted: np.ndarray, classes: np.ndarray | None = None
) -> None:
    """Draws predicted against actual scores, with the line on which both are equal.

    Args:
        axes: matplotlib axes.
        actual: `(n,)` scores that came out.
        predicted: `(n,)` scores drawn by.
        classes: `(n,)` int, colours; all alike if left out.
    """
    low, high = limits(actual, predicted)
    options: dict[str, Any] = {"color": COLOURS[0]}
    if classes is not None:
        cmap, count = colour_map(classes)
        options = {"c": classes, "cmap": cmap, "vmin": -0.5, "vmax": max(count, 2) - 0.5}
    points = axes.scatter(actual, predicted, s=6, alpha=0.5, linewidths=0, **options)
    axes.plot([low, high], [low, high], "--", color="black", linewidth=1, label="equal", zorder=0.9)
    # Along the line, which is at 45 degrees.
    place = {"ha": "right", "va": "top", "rotation": 45, "fontsize": 9}
    axes.annotate("equal", (high, high), (-10, -2), textcoords="offset points", **place)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="actual score", ylabel="predicted score")
    axes.set_aspect("equal")
    if classes is not None:
        bar = axes.figure.colorbar(points, ax=axes, label="class")
        bar.set_ticks(np.arange(0, max(count, 2), max(1, count // 10)))
    else:
        note(axes, "classes not known")
