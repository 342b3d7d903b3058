"""The demo's picture: learning curves over time, and what was drawn.

All it shows is in `demo.json`; `python -m importance_sampling.experiment.demo_picture demo.json
demo.png` draws it again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import SubFigure

from .. import plots
from .._files import read_json, write_whole
from ..datasets import MNIST, BaseDataset
from ..datasets.canevet import boundary
from .arm_names import HISTORY, POOLS, SAME_NOISE
from .help_texts import times

MAPS = (POOLS, SAME_NOISE)
"""The arms whose draws in the plane are compared."""

_SHOWN = 32
_TITLES = {"canevet": "Points in the plane", "mnist": "MNIST"}


def what_was_drawn(
    name: str, dataset: BaseDataset, counts: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """What the picture shows of the draws, for JSON.

    Args:
        name: str, the data set's.
        dataset: the data set.
        counts: how often each example was drawn by score, by arm.

    Returns:
        dict: of points in the plane, a map of relative draws for each arm of `MAPS` that drew by
        score; of images, the indices and draws of those drawn most and least often.
    """
    if name == "canevet":
        points = dataset.train_data[:][0]
        maps = {arm: plots.relative_draws(points, counts[arm]) for arm in MAPS if counts[arm].any()}
        # Three digits are more than colours tell; None for a cell without points.
        return {
            arm: [[None if np.isnan(v) else float(f"{v:.3g}") for v in row] for row in relative]
            for arm, relative in maps.items()
        }
    by_score = counts[HISTORY]
    if not by_score.any():
        return {}
    parts = dict(zip(("most", "least"), plots.most_and_least(by_score, _SHOWN), strict=True))
    return {
        word: {"indices": idxs.tolist(), "draws": by_score[idxs].tolist()}
        for word, idxs in parts.items()
    }


def draw(
    settings: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    drawn: Mapping[str, Any],
    dataset: BaseDataset | None = None,
) -> plots.Picture:
    """Draws learning curves of all arms, and what some of them drew by score.

    Args:
        settings: of the demo, `"dataset"` and `"steps"` among them.
        results: of all arms.
        drawn: what `what_was_drawn` returned; without any, the curves stand alone.
        dataset: the data set, whose images are shown; points in the plane do without.

    Returns:
        A matplotlib figure.
    """
    images = settings["dataset"] != "canevet"
    below = bool(drawn) and not (images and dataset is None)
    with plots.style():
        figure = plots.Picture(figsize=(9, 6.6 if below else 3.3), layout="constrained")
        # Each row by itself: the names beside the curves take no room from what is below.
        parts = figure.subfigures(2 if below else 1, 1, squeeze=False)[:, 0]
        curve_axes = parts[0].subplots(1, 2)
        for axis, key, what, scale in (
            (curve_axes[0], "train_loss", "training loss", 1.0),
            (curve_axes[1], "test_error", "test error (%)", 100.0),
        ):
            named = axis is curve_axes[1]
            curves = [
                plots.Curve(
                    _with_error(result) if named else result["arm"],
                    np.array([row["seconds"] for row in result["history"]]),
                    scale * np.array([row[key] for row in result["history"]]),
                )
                for result in results
            ]
            title = f"{what.split(' (')[0].capitalize()} over time"
            plots.training_curves(axis, curves, "training time (s)", what, title=title, named=named)
        if below and images and dataset is not None:
            for axis, word in zip(parts[1].subplots(1, 2), ("most", "least"), strict=True):
                idxs, draws = (np.array(drawn[word][k]) for k in ("indices", "draws"))
                often = times(int(draws.min()), int(draws.max()))
                title = f"{HISTORY}: drawn {word} often ({often})"
                plots.example_grid(axis, dataset.train_data[idxs][0], title)
        elif below:
            _maps(parts[1], drawn)
        figure.suptitle(
            f"{_TITLES[settings['dataset']]}: the same network, start and "
            f"{settings['steps']} steps for each curve"
        )
    return figure


def _with_error(result: Mapping[str, Any]) -> str:
    """The name of an arm with its test error at the end: curves may end close together."""
    return f"{result['arm']}: {100.0 * result['history'][-1]['test_error']:.2f} %"


def _maps(figure: SubFigure, drawn: Mapping[str, Any]) -> None:
    """Where two arms drew by score, with the curve between the classes."""
    x, axes = np.linspace(0, 1, 500), figure.subplots(1, 2, sharey=True)
    for axis, arm in zip(axes, MAPS, strict=True):
        if arm not in drawn:
            plots.note(axis, f"{arm}: never drew by score")
            axis.set_axis_off()
            continue
        relative = np.array(drawn[arm], dtype=np.float64)
        image = plots.show_relative_draws(axis, relative, title=f"Draws by score: {arm}")
        axis.plot(x, boundary(x), "-", color="white", linewidth=0.8)
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="x1 (white: where the classes meet)")
    plots.frequency_bar(figure, image, axes)


def main() -> None:
    """Draws the picture of a `demo.json` again: `demo_picture demo.json demo.png`."""
    if len(sys.argv) != 3:
        raise SystemExit("Give a demo.json and the picture to write.")
    found = read_json(Path(sys.argv[1]))
    settings, drawn = found["settings"], found.get("drawn", {})
    dataset = MNIST() if settings["dataset"] == "mnist" and drawn else None
    figure = draw(settings, found["results"], drawn, dataset)
    write_whole(Path(sys.argv[2]), figure.savefig)


if __name__ == "__main__":
    main()
