"""The picture of a training report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike

from ._curves import variance_reduction
from ._draws import example_grid
from ._style import COLOURS, style

_SHOWN = 32


class Report(Protocol):
    """What is drawn of a report; `importance_sampling.training.TrainingReport` is one.

    Attributes:
        drawing_seconds: float, the part of `seconds` that drawing took.
    """

    drawing_seconds: float

    @property
    def steps(self) -> Mapping[str, int]:
        """Number of steps of each kind."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Time of the steps of each kind."""

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
    images = x is not None and report.draws is not None and np.ndim(x) == 4
    with style():
        figure = Figure(figsize=(11, 9 if images else 6.5), layout="constrained")
        axes = figure.subplots(3 if images else 2, 2)
        course = report.course()
        by_score = np.array(course["by_score"]) > 0.5
        variance_reduction(axes[0, 0], course["step"], course["variance_reduction"], by_score)
        axes[0, 0].set_ylabel("variance reduction")
        axes[0, 1].plot(course["step"], course["effective_sample_size"], color=COLOURS[0])
        axes[0, 1].set(
            xlabel="steps",
            ylabel="share of the batch",
            title="effective sample size",
            ylim=(0, 1.05),
        )
        _times(axes[1, 0], report)
        _draws(axes[1, 1], report)
        if images:
            for axis, (idxs, draws), word in (
                (axes[2, 0], report.most_drawn(_SHOWN), "most"),
                (axes[2, 1], report.least_drawn(_SHOWN), "least"),
            ):
                title = f"drawn {word} often ({draws.min()} to {draws.max()} times)"
                example_grid(axis, np.asarray(x)[idxs], title)
    return figure


def _times(axes: Axes, report: Report) -> None:
    kinds = list(report.steps)
    each = [1e3 * report.seconds[kind] / report.steps[kind] for kind in kinds]
    bars = axes.barh(range(len(kinds)), each, color=COLOURS[: len(kinds)])
    axes.bar_label(
        bars, [f" {ms:.3g} ms, {report.steps[k]} steps" for k, ms in zip(kinds, each, strict=True)]
    )
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xlim(0, 1.9 * max(each, default=1.0))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    total = sum(report.seconds.values())
    share = report.drawing_seconds / total if total else 0.0
    title = f"{total:.3g} s of training, {share:.0%} of it drawing and scoring"
    axes.set(xlabel="time of a step (ms)", title=title)


def _draws(axes: Axes, report: Report) -> None:
    axes.set_title("how often each example was drawn")
    if report.draws is None:
        axes.text(0.5, 0.5, "a stream's examples have no index", ha="center", va="center")
        axes.set_axis_off()
        return
    ordered = np.sort(report.draws)[::-1]
    share = np.linspace(0, 100, len(ordered))
    axes.plot(share, ordered, color=COLOURS[0], label="drawn")
    axes.axhline(ordered.mean(), color=COLOURS[1], linestyle="--", label="uniform training")
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel="examples, drawn most often first (%)", ylabel="times drawn", xlim=(0, 100))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.legend()
