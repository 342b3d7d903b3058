"""Curves over steps or time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ._labels import Label, name_at_right
from ._style import COLOURS, LIGHT, look, note, plain_log_axis

_LINEAR_UP_TO = 3.0


class Curve(NamedTuple):
    """A named curve: values `y` at `x`, and the limits of their interval where it is known."""

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


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
    *,
    title: str = "",
    named: bool = True,
    first: int = 0,
) -> None:
    """Draws curves of several runs, named at their ends; six of them are told apart.

    Args:
        axes: matplotlib axes.
        curves: the curves; intervals are drawn as bands.
        xlabel: str, "steps" or "training time (s)" for example.
        ylabel: str, what the values are, with its unit.
        window: int, values that are averaged into one. Defaults to `1`.
        log: bool, whether the value axis is logarithmic where the values differ by more than a
            factor of three; those that are 0 are then left out. Defaults to `True`.
        title: keyword-only; str.
        named: keyword-only; bool, whether the names stand beside more than one curve; without
            them where axes beside these have the same curves. Defaults to `True`.
        first: keyword-only; int, the look of the first curve. Defaults to `0`.
    """
    values_of_all = [np.asarray(curve.y, dtype=np.float64) for curve in curves]
    every = np.concatenate([np.empty(0), *values_of_all])
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if not np.isfinite(every).any():
        note(axes, "no data")
        return
    positive = every[every > 0]
    log = log and len(positive) > 0 and positive.max() > _LINEAR_UP_TO * positive.min()
    ends, without = [], []
    for i, curve in enumerate(curves, first):
        values = moving_average(curve.y, window)
        if log:
            # An error that vanished has no place on the axis.
            values = np.where(values > 0, values, np.nan)
        style = look(i, len(values))
        if curve.low is not None and curve.high is not None:
            low = np.where(curve.low > 0, curve.low, positive.min()) if log else curve.low
            band = {"color": style["color"], "alpha": 0.15, "linewidth": 0}
            axes.fill_between(curve.x, low, curve.high, **band)
        axes.plot(curve.x, values, label=curve.label, **style)
        seen = np.flatnonzero(np.isfinite(values) & np.isfinite(curve.x))
        if len(seen):
            end = seen[-1]
            place = float(curve.x[end]), float(values[end])
            ends.append(Label(*place, curve.label, style["color"]))
        else:
            without.append(curve.label)
    if without:
        note(axes, f"no data: {', '.join(without)}")
    axes.set_xlim(left=0)
    if log:
        axes.set_yscale("log")
        plain_log_axis(axes.yaxis)
        axes.grid(visible=True, which="minor", axis="y", alpha=0.4)
    if len(curves) > 1 and named:
        name_at_right(axes, ends)


def variance_reduction(
    axes: Axes,
    steps: ArrayLike,
    reduction: ArrayLike,
    by_score: ArrayLike,
    label: str = "",
    threshold: float | None = None,
) -> None:
    """Draws the estimated variance reduction; light where it is hypothetical, as draws are uniform.

    Where examples were drawn by score the axes are shaded.

    Args:
        axes: matplotlib axes.
        steps: `(n,)`.
        reduction: `(n,)`, of draws by score, made or not: the root of the ratio of second
            moments, uniform over drawn; 1.0 until there is an estimate, which is not drawn.
        by_score: `(n,)` bool, whether the step was drawn by score.
        label: str, name of the run.
        threshold: float, above which draws are by score, where there is one.
    """
    steps, by_score = np.asarray(steps), np.asarray(by_score, dtype=bool)
    reduction = np.asarray(reduction, dtype=np.float64)
    share = 100 * by_score.mean() if len(by_score) else 0.0
    title = f"{label}: " if label else ""
    axes.set_title(f"{title}{share:.0f} % of the steps drawn by score")
    axes.set_ylabel("variance reduction τ")
    if not len(steps):
        note(axes, "no data")
        return
    blue = COLOURS[0]
    # Before anything was estimated it is told as 1.0, to the last digit.
    known = np.logical_or.accumulate(reduction != 1.0)
    reduction = np.where(known, reduction, np.nan)
    axes.plot(steps, reduction, "-", color=blue, linewidth=1.4, alpha=LIGHT)
    axes.plot(steps, np.where(by_score, reduction, np.nan), "-", color=blue, linewidth=1.8)
    half = float(np.median(np.diff(steps))) / 2 if len(steps) > 1 else 0.5
    edges = np.flatnonzero(np.diff(np.concatenate([[False], by_score, [False]]).astype(int)))
    for start, end in edges.reshape(-1, 2):
        span = steps[start] - half, steps[end - 1] + half
        axes.axvspan(*span, color=COLOURS[4], alpha=0.2, linewidth=0)
    axes.set_xlim(0, float(steps[-1]) + half)
    # So that no line lies on the frame.
    axes.margins(y=0.08)
    named = []
    if known[-1]:
        named.append(Label(float(steps[-1]), float(reduction[-1]), "τ", blue))
    else:
        note(axes, "no estimate of the variance reduction")
    for level, text, line in ((1.0, "uniform draws", ":"), (threshold, "threshold", "--")):
        if level is not None:
            axes.axhline(level, color="black", linewidth=1, linestyle=line)
            named.append(Label(float(steps[-1]) + half, level, f"{text}: {level:.3g}"))
    said = ["dark and shaded: drawn by score"] if by_score.any() else []
    if (known & ~by_score).any():
        said.append("light: what draws by score would have had")
    axes.set_xlabel("\n".join(["steps", *said]))
    name_at_right(axes, named)
