"""The picture of a training report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike

from ._curves import variance_reduction
from ._draws import example_grid
from ._labels import Label, name_at_right
from ._style import COLOURS, LIGHT, Picture, style

_SHOWN = 32


class Report(Protocol):
    """What is drawn of a report; `importance_sampling.training.TrainingReport` is one.

    Attributes:
        drawing_seconds: float, the part of `seconds` that drawing took.
        threshold: float, the variance reduction above which draws are by score; None if none is.
    """

    drawing_seconds: float
    threshold: float | None

    @property
    def steps(self) -> Mapping[str, int]:
        """Number of steps of each kind."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Time of the steps of each kind."""

    @property
    def step_seconds(self) -> Mapping[str, float | None]:
        """What one step of each kind takes, without compiling; None where that is not known."""

    @property
    def draws(self) -> np.ndarray | None:
        """How often each example was drawn, `(N,)`; None for a stream."""

    def course(self) -> Mapping[str, list[float]]:
        """Averages over the course of training, by name, with `"step"` for their places."""

    def most_drawn(self, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Indices and draws of the examples drawn most often."""

    def least_drawn(self, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Indices and draws of the examples drawn least often."""


def training_report(report: Report, x: ArrayLike | None = None) -> Figure:
    """Draws what a run of training did.

    Args:
        report: what `training.report()` returned.
        x: the training inputs; images among them are shown, those drawn most often and least.

    Returns:
        A matplotlib figure.
    """
    course = report.course()
    by_score = np.array(course["by_score"]) > 0.5
    panels: list[Callable[[Axes], None]] = [
        lambda axes: variance_reduction(
            axes,
            course["step"],
            course["possible_variance_reduction"],
            by_score,
            threshold=report.threshold,
        )
    ]
    if by_score.any():
        panels.append(lambda axes: _effective(axes, course, by_score))
    if report.steps:
        panels.append(lambda axes: _times(axes, report))
    drawn = report.draws
    if drawn is not None and drawn.any():
        panels.append(lambda axes: _draws(axes, drawn))
        # Of examples drawn equally often none are those drawn most.
        if x is not None and np.ndim(x) == 4 and drawn.min() < drawn.max():
            shown = np.asarray(x)
            panels.append(lambda axes: _images(axes, shown, report.most_drawn(_SHOWN), "most"))
            panels.append(lambda axes: _images(axes, shown, report.least_drawn(_SHOWN), "least"))
    rows = -(-len(panels) // 2)
    with style():
        figure = Picture(figsize=(9, 0.3 + 2.8 * rows), layout="constrained")
        grid = figure.add_gridspec(rows, 2)
        for i, draw in enumerate(panels):
            # One that has nothing beside it takes the whole width.
            alone = i == len(panels) - 1 and i % 2 == 0
            draw(figure.add_subplot(grid[i // 2, :] if alone else grid[i // 2, i % 2]))
    return figure


def _effective(axes: Axes, course: Mapping[str, list[float]], by_score: np.ndarray) -> None:
    steps, shares = course["step"], np.array(course["effective_sample_size"])
    axes.plot(steps, 100 * shares, "-", color=COLOURS[0], linewidth=1.4, alpha=LIGHT)
    axes.plot(steps, np.where(by_score, 100 * shares, np.nan), "-", color=COLOURS[0], linewidth=1.8)
    axes.axhline(50, color="black", linestyle=":", linewidth=1)
    axes.set(
        xlabel="steps",
        ylabel="share of the batch (%)",
        title="Effective sample size",
        ylim=(0, 105),
        xlim=(0, steps[-1]),
    )
    name_at_right(axes, [Label(steps[-1], 50, "good\nabove")])


def _images(axes: Axes, x: np.ndarray, drawn: tuple[np.ndarray, np.ndarray], word: str) -> None:
    idxs, draws = drawn
    low, high = draws.min(), draws.max()
    times = f"{low}" if low == high else f"{low} to {high}"
    example_grid(axes, x[idxs], f"Drawn {word} often ({times} times)")


def _times(axes: Axes, report: Report) -> None:
    kinds = list(report.steps)
    known = report.step_seconds
    each = [1e3 * (known[k] or report.seconds[k] / report.steps[k]) for k in kinds]
    bars = axes.barh(range(len(kinds)), each, color=COLOURS[: len(kinds)], height=0.6)
    axes.bar_label(
        bars, [f" {ms:.3g} ms, {report.steps[k]} steps" for k, ms in zip(kinds, each, strict=True)]
    )
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xlim(0, 1.9 * max(each, default=1.0))
    axes.set_ylim(max(len(kinds), 2) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    total = sum(report.seconds.values())
    share = report.drawing_seconds / total if total else 0.0
    title = f"Time: {total:.3g} s, {share:.0%} of it drawing and scoring"
    axes.set(xlabel="time of a step (ms)", title=title)


def _draws(axes: Axes, draws: np.ndarray) -> None:
    ordered = np.sort(draws)[::-1]
    share, mean = np.linspace(0, 100, len(ordered)), float(ordered.mean())
    axes.plot(share, ordered, "-", color=COLOURS[0], linewidth=1.8)
    axes.axhline(mean, color=COLOURS[1], linestyle="--")
    # As many times each, or nearly, are told apart by no power of ten.
    logarithmic = ordered[0] >= 10
    if logarithmic:
        axes.set_yscale("symlog", linthresh=1)
    axes.set(
        xlabel="examples, drawn most often first (%)",
        ylabel="times drawn",
        title="How often each example was drawn",
        xlim=(0, 100),
    )
    axes.set_ylim(0, None if logarithmic else 1.2 * ordered[0])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    name_at_right(
        axes,
        [
            Label(100, float(ordered[-1]), "drawn", COLOURS[0]),
            Label(100, mean, f"uniform:\n{mean:.3g}", COLOURS[1]),
        ],
    )
