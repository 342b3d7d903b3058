"""The demo's picture: learning curves over time, and what was drawn."""

from __future__ import annotations

from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure

from .. import plots
from ..datasets import BaseDataset
from ..datasets.canevet import boundary
from .arms import HISTORY, POOLS, SAME_NOISE, UNIFORM

# Okabe and Ito's colours, told apart by colour-blind readers; line styles serve grey print.
_STYLES = {
    UNIFORM: ("#0072B2", "-"),
    "random third of each pool": ("#999999", "--"),
    POOLS: ("#D55E00", "-."),
    HISTORY: ("#009E73", ":"),
    SAME_NOISE: ("#CC79A7", "-"),
}


def _curves(
    axes: Any, results: list[dict[str, Any]], key: str, label: str, scale: float = 1.0
) -> None:
    for result in results:
        colour, line = _STYLES[result["arm"]]
        seconds = [row["seconds"] for row in result["history"]]
        values = [scale * row[key] for row in result["history"]]
        axes.plot(seconds, values, line, color=colour, label=result["arm"], linewidth=1.8)
        # Where all steps were taken: who is done first.
        axes.plot(seconds[-1:], values[-1:], "o", color=colour, markersize=5)
    axes.set_yscale("log")
    # Plain numbers: powers of ten read badly over less than a decade.
    for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:.2g}"))
    axes.yaxis.set_minor_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 3, 5)))
    axes.set_xlabel("training time (s)")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3, which="both", linewidth=0.5)


def _plane(axes: Any, points: np.ndarray, counts: np.ndarray, title: str) -> Any:
    """What was drawn, with the curve between the classes."""
    image = plots.draws_in_plane(axes, points, counts, title)
    x = np.linspace(0, 1, 500)
    axes.plot(x, boundary(x), color="white", linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return image


def _images(axes: Any, dataset: BaseDataset, idxs: np.ndarray, title: str) -> None:
    plots.example_grid(axes, dataset.train_data[idxs][0], title)


def draw(
    name: str,
    dataset: BaseDataset,
    results: list[dict[str, Any]],
    counts: dict[str, np.ndarray],
) -> Figure:
    """Draws learning curves of all arms, and what two of them drew.

    Args:
        name: str, the data set's.
        dataset: the data set.
        results: of all arms.
        counts: how often each example was drawn, by arm.

    Returns:
        A matplotlib figure.
    """
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    axes = figure.subplots(2, 2)
    _curves(axes[0, 0], results, "train_loss", "training loss")
    _curves(axes[0, 1], results, "test_error", "test error (%)", 100.0)
    axes[0, 0].legend(frameon=False)
    axes[0, 0].set_title("training loss over time")
    axes[0, 1].set_title("test error over time")
    if name == "canevet":
        points = dataset.train_data[:][0]
        for axis, arm in zip(axes[1], (POOLS, SAME_NOISE), strict=True):
            title = f"where {arm} drew"
            if not counts[arm].any():
                title = f"{arm} never switched on"
            image = _plane(axis, points, counts[arm], title)
        plots.frequency_bar(figure, image, axes[1])
    else:
        by_score = counts[HISTORY]
        order = np.argsort(-by_score, kind="stable")
        for axis, shown, word in (
            (axes[1, 0], order[:32], "most"),
            (axes[1, 1], order[-32:], "least"),
        ):
            least, most = by_score[shown].min(), by_score[shown].max()
            title = f"{HISTORY}: drawn {word} often ({least} to {most} times)"
            _images(axis, dataset, shown, title)
    figure.suptitle(
        f"{name}: the same network, start and {results[0]['steps']} steps for each curve"
    )
    return figure
