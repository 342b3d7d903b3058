"""Curves over steps or time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ._style import COLOURS, LINES, plain_log_axis

_LINEAR_UP_TO = 3.0


class Curve(NamedTuple):
    """A named curve: values `y` at `x`."""

    label: str
    x: np.ndarray
    y: np.ndarray


def moving_average(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values, of as many as there are.

    Args:
        values: `(n,)`.
        window: int, at least 1.

    Returns:
        `(n,)` float64.
    """
    values = np.asarray(values, dtype=np.float64)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - window, 0)
    return (sums[last] - sums[first]) / (last - first)


def training_curves(
    axes: Axes,
    curves: Sequence[Curve],
    xlabel: str = "steps",
    ylabel: str = "training loss",
    window: int = 1,
    log: bool = True,
) -> None:
    """Draws curves of several runs.

    Args:
        axes: matplotlib axes.
        curves: the curves.
        xlabel: str, "steps" or "training time (s)" for example.
        ylabel: str, what the values are, with its unit.
        window: int, values that are averaged into one. Defaults to `1`.
        log: bool, whether the value axis is logarithmic where the values differ by more than a
            factor of three; those that are 0 are then left out. Defaults to `True`.
    """
    every = np.concatenate([np.asarray(curve.y, dtype=np.float64) for curve in curves])
    positive = every[every > 0]
    log = log and len(positive) > 0 and positive.max() > _LINEAR_UP_TO * positive.min()
    for i, curve in enumerate(curves):
        values = moving_average(curve.y, window)
        if log:
            # An error that vanished has no place on the axis.
            values = np.where(values > 0, values, np.nan)
        marker = "o" if len(values) <= 30 else None
        axes.plot(
            curve.x,
            values,
            color=COLOURS[i % len(COLOURS)],
            linestyle=LINES[i % len(LINES)],
            marker=marker,
            markersize=4,
            linewidth=1.6,
            label=curve.label,
        )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_xlim(left=0)
    if log:
        axes.set_yscale("log")
        plain_log_axis(axes.yaxis)
        axes.grid(visible=True, which="minor", axis="y", alpha=0.4)
    if len(curves) > 1:
        axes.legend()


def variance_reduction(
    axes: Axes, steps: ArrayLike, reduction: ArrayLike, by_score: ArrayLike, label: str = ""
) -> None:
    """Draws the estimated variance reduction, shaded where examples were drawn by score.

    Args:
        axes: matplotlib axes.
        steps: `(n,)`.
        reduction: `(n,)`, in units of a batch-size increment.
        by_score: `(n,)` bool, whether the step was drawn by score.
        label: str, name of the run.
    """
    steps, by_score = np.asarray(steps), np.asarray(by_score, dtype=bool)
    axes.plot(steps, reduction, color=COLOURS[0], linewidth=1.4, label="estimate")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], by_score, [False]]).astype(int)))
    for i, (start, end) in enumerate(edges.reshape(-1, 2)):
        axes.axvspan(
            steps[start],
            steps[end - 1],
            color=COLOURS[4],
            alpha=0.25,
            linewidth=0,
            label="drawn by score" if i == 0 else None,
        )
    share = 100 * by_score.mean() if len(by_score) else 0.0
    title = f"{label}: " if label else ""
    axes.set_title(f"{title}{share:.0f} % of the steps drawn by score")
    axes.set(xlabel="steps", ylabel="variance reduction (batch-size increment)")
    axes.legend()
