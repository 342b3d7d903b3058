"""Distributions of scores, and how well they were predicted."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from ._style import COLOURS, plain_log_axis

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
    positive = scores[scores > 0]
    floor = positive.min() if positive.size else 1e-12
    shown = np.maximum(scores, floor)
    for (low, high), alpha in zip(_QUANTILES, (0.15, 0.25, 0.4), strict=True):
        axes.fill_between(
            steps,
            np.quantile(shown, low, axis=1),
            np.quantile(shown, high, axis=1),
            color=COLOURS[0],
            alpha=alpha,
            linewidth=0,
            label=f"{100 * low:.0f} % to {100 * high:.0f} %",
        )
    median = np.median(shown, axis=1)
    axes.plot(steps, median, color="black", marker="o", markersize=3, linewidth=1.2, label="median")
    axes.plot(
        steps,
        scores.mean(axis=1),
        color=COLOURS[1],
        linestyle="--",
        marker="s",
        markersize=3,
        linewidth=1.2,
        label="mean",
    )
    axes.set_yscale("log")
    plain_log_axis(axes.yaxis)
    axes.set(xlabel="steps", ylabel=ylabel)
    axes.legend(loc="lower left")


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
    axes.plot([low, high], [low, high], color="black", linestyle="--", linewidth=1, label="equal")
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="actual score", ylabel="predicted score")
    axes.set_aspect("equal")
    if classes is not None:
        bar = axes.figure.colorbar(points, ax=axes, label="class")
        bar.set_ticks(np.arange(0, max(count, 2), max(1, count // 10)))
    axes.legend(loc="upper left")
