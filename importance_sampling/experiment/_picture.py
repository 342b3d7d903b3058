"""The demo's picture: learning curves over time, and what was drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure

from .. import plots
from ..datasets import BaseDataset
from ..datasets._canevet import boundary

# Okabe and Ito's colours, told apart by colour-blind readers; line styles serve grey print.
_STYLES = {
    "uniform": ("#0072B2", "-"),
    "random third of each pool": ("#999999", "--"),
    "importance sampling": ("#D55E00", "-."),
}


def _curves(
    axes: Any, results: list[dict[str, Any]], key: str, label: str, scale: float = 1.0
) -> None:
    for result in results:
        colour, line = _STYLES[result["arm"]]
        seconds = [row["seconds"] for row in result["history"]]
        values = [scale * row[key] for row in result["history"]]
        axes.plot(seconds, values, line, color=colour, label=result["arm"], linewidth=1.8)
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
    path: Path,
    name: str,
    dataset: BaseDataset,
    results: list[dict[str, Any]],
    counts: dict[str, np.ndarray],
) -> None:
    """Writes the picture."""
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    axes = figure.subplots(2, 2)
    _curves(axes[0, 0], results, "train_loss", "training loss")
    _curves(axes[0, 1], results, "test_error", "test error (%)", 100.0)
    axes[0, 0].legend(frameon=False)
    axes[0, 0].set_title("training loss over time")
    axes[0, 1].set_title("test error over time")
    by_score = counts["importance sampling"]
    if name == "canevet":
        points = dataset.train_data[:][0]
        _plane(axes[1, 0], points, counts["uniform"], "where uniform training drew")
        title = "where importance sampling drew, while on"
        if not by_score.any():
            title = "importance sampling never switched on"
        image = _plane(axes[1, 1], points, by_score, title)
        plots.frequency_bar(figure, image, axes[1])
    else:
        order = np.argsort(-by_score, kind="stable")
        most, least = order[:32], order[-32:]
        _images(
            axes[1, 0],
            dataset,
            most,
            f"drawn most often ({by_score[most].min()} to {by_score[most].max()} times)",
        )
        _images(
            axes[1, 1],
            dataset,
            least,
            f"drawn least often ({by_score[least].min()} to {by_score[least].max()} times)",
        )
    seconds = results[0]["seconds"]
    figure.suptitle(
        f"{name}: the same network and start, {seconds:.0f} seconds of training for each curve"
    )
    figure.savefig(path, dpi=110)
