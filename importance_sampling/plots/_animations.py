"""Pictures that move over training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .._files import write_whole
from .._requirements import require
from ._scores import limits, predictions
from ._style import COLOURS

_FRAMES_PER_SECOND = 8


def animate_distribution(
    figure: Figure,
    axes: Axes,
    values: Sequence[np.ndarray],
    titles: Sequence[str],
    xlabel: str = "score",
    xlim: Sequence[float] | None = None,
    ylim: Sequence[float] | None = None,
    vline: float | None = None,
) -> FuncAnimation:
    """Makes an animation of histograms.

    Args:
        figure: matplotlib figure.
        axes: its axes.
        values: an array of values for each frame.
        titles: a title for each frame.
        xlabel: str.
        xlim: pair of limits of the values; those of all frames if left out.
        ylim: pair of limits of the density.
        vline: float, a value to mark by a vertical line.

    Returns:
        The animation; keep it until it is saved.
    """
    seaborn = require("seaborn", "plots", "Drawing distributions")
    every = np.concatenate([np.asarray(v, dtype=np.float64) for v in values])
    low, high = xlim if xlim is not None else (float(every.min()), float(every.max()))
    edges = np.linspace(low, high if high > low else low + 1.0, 61)
    # One scale for all frames, or they could not be compared.
    counts = [np.histogram(v, edges)[0] for v in values]
    top = max(c.max() / max(c.sum(), 1) / (edges[1] - edges[0]) for c in counts)

    def update(frame: int) -> None:
        axes.clear()
        seaborn.histplot(
            x=values[frame], bins=edges, stat="density", element="step", color=COLOURS[0], ax=axes
        )
        mean = float(np.mean(values[frame]))
        marks = [(mean, f" mean {mean:.3g}", COLOURS[1], "--", 0.99)]
        if vline is not None:
            marks.append((vline, f" {vline:g}", "black", ":", 0.92))
        for at, text, color, line, height in marks:
            axes.axvline(at, color=color, linestyle=line)
            place = {"transform": axes.get_xaxis_transform(), "va": "top", "fontsize": 9}
            axes.text(at, height, text, color=color, **place)
        axes.set(xlabel=xlabel, ylabel="density", title=titles[frame], xlim=(low, edges[-1]))
        axes.set_ylim(*(ylim if ylim is not None else (0, 1.05 * top or 1.0)))

    return FuncAnimation(figure, update, frames=len(values), interval=100, repeat=False)


def animate_predictions(
    figure: Figure,
    axes: Axes,
    actual: np.ndarray,
    predicted: np.ndarray,
    classes: np.ndarray | None = None,
    windows: Sequence[tuple[int, int]] = (),
    lim: Sequence[float] | None = None,
) -> FuncAnimation:
    """Makes an animation of predicted against actual scores, with a linear fit in each frame.

    Args:
        figure: matplotlib figure.
        axes: its axes.
        actual: `(n,)` scores that came out.
        predicted: `(n,)` scores drawn by.
        classes: `(n,)` int, colours; all alike if left out.
        windows: first and last point (not included) of each frame.
        lim: pair of limits of both axes.

    Returns:
        The animation; keep it until it is saved.
    """
    low, high = lim if lim is not None else limits(actual, predicted)
    predictions(axes, actual, predicted, classes)
    points = axes.collections[0]
    axes.set(xlim=(low, high), ylim=(low, high))
    (fit,) = axes.plot([low, high], [0, 0], color=COLOURS[1], linestyle="-.", label="linear fit")

    def update(frame: int) -> None:
        start, end = windows[frame]
        x, y = actual[start:end], predicted[start:end]
        points.set_offsets(np.column_stack([x, y]))
        if classes is not None:
            points.set_array(classes[start:end])
        slope, intercept = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (0.0, float(np.mean(y)))
        fit.set_ydata([intercept + slope * low, intercept + slope * high])
        axes.set_title(f"draws {start} to {end}; linear fit (dash-dotted): slope {slope:.2f}")

    return FuncAnimation(figure, update, frames=len(windows), interval=100, repeat=False)


def save_animation(animation: FuncAnimation, path: Path) -> None:
    """Writes an animation, whole or not at all.

    Args:
        animation: what one of the functions above returned.
        path: of a `.gif` (needs pillow) or `.mp4` file (needs the program ffmpeg).

    Raises:
        ValueError: if the file is of another kind.
        ImportError: if pillow is not installed.
        RuntimeError: if ffmpeg is not installed.
    """
    if path.suffix == ".gif":
        require("PIL", "images", "Writing a .gif")
        writer: Any = PillowWriter(fps=_FRAMES_PER_SECOND)
    elif path.suffix == ".mp4":
        if shutil.which("ffmpeg") is None:
            raise RuntimeError(
                "Writing a .mp4 needs the program ffmpeg, which is not installed. Write a .gif."
            )
        writer = FFMpegWriter(fps=_FRAMES_PER_SECOND)
    else:
        raise ValueError(f"An animation is a .gif or .mp4 file, got {path.name}.")
    write_whole(path, lambda temporary: animation.save(temporary, writer=writer))
