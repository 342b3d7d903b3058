"""What was drawn: places in the plane, and images."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

from ._style import plain_log_axis

# Colours reach from a tenth to ten times as often as a uniform draw.
_LEAST = 0.1


def frequency_bar(
    figure: Figure | SubFigure, image: AxesImage, axes: Axes | Sequence[Axes] | np.ndarray
) -> None:
    """Adds the colour bar of `draws_in_plane`.

    Args:
        figure: matplotlib figure.
        image: what `draws_in_plane` returned.
        axes: the axes to put it beside, one or several.
    """
    bar = figure.colorbar(image, ax=axes, label="draws, uniform draws = 1", extend="both")
    plain_log_axis(bar.ax.yaxis)


def relative_draws(points: np.ndarray, counts: np.ndarray, bins: int | None = None) -> np.ndarray:
    """How often the examples in each cell of the plane were drawn, the mean of all being 1.

    Args:
        points: `(n, 2)`, the examples.
        counts: `(n,)`, how often each was drawn.
        bins: int, cells along each axis. Defaults to as many as have eight examples each on
            average, 64 at most.

    Returns:
        `(bins, bins)`, the first axis for the first coordinate; NaN where there are no examples.
    """
    if bins is None:
        bins = int(np.clip((len(points) / 8) ** 0.5, 4, 64))
    low, high = points.min(axis=0), points.max(axis=0)
    edges = [np.linspace(low[i], high[i], bins + 1) for i in range(2)]
    drawn, *_ = np.histogram2d(points[:, 0], points[:, 1], bins=edges, weights=counts)
    there, *_ = np.histogram2d(points[:, 0], points[:, 1], bins=edges)
    average = max(counts.sum() / len(counts), 1e-12)
    return np.where(there > 0, drawn / np.maximum(there, 1) / average, np.nan)


def show_relative_draws(
    axes: Axes,
    relative: np.ndarray,
    extent: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0),
    title: str = "",
) -> AxesImage:
    """Draws what `relative_draws` returned.

    Args:
        axes: matplotlib axes.
        relative: `(bins, bins)`.
        extent: limits of the first and of the second coordinate.
        title: str.

    Returns:
        The image, for `frequency_bar`.
    """
    image = axes.imshow(
        np.maximum(relative, _LEAST).T,
        origin="lower",
        extent=extent,
        cmap="cividis",
        norm=matplotlib.colors.LogNorm(vmin=_LEAST, vmax=1 / _LEAST),
        aspect="auto",
    )
    axes.grid(visible=False)
    axes.set(xlabel="x1", ylabel="x2", title=title)
    return image


def draws_in_plane(
    axes: Axes,
    points: np.ndarray,
    counts: np.ndarray,
    title: str = "",
    bins: int | None = None,
) -> AxesImage:
    """Draws how often examples were drawn, relative to a uniform draw.

    Args:
        axes: matplotlib axes.
        points: `(n, 2)`, the examples.
        counts: `(n,)`, how often each was drawn.
        title: str.
        bins: int, cells along each axis; see `relative_draws`.

    Returns:
        The image, for `frequency_bar`.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    return show_relative_draws(axes, relative_draws(points, counts, bins), extent, title)


def most_and_least(draws: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The examples drawn most and least often; of as many draws, some at random.

    Args:
        draws: `(N,)` how often each example was drawn.
        count: int, how many of each.

    Returns:
        Indices, `(count,)` each, those drawn most often first in both; always the same.
    """
    # By their index, the first or last of the data would stand for all that were drawn as often.
    order = np.random.default_rng(0).permutation(len(draws))
    order = order[np.argsort(-np.asarray(draws)[order], kind="stable")]
    return order[:count], order[-count:]


def example_grid(axes: Axes, images: np.ndarray, title: str = "", columns: int = 8) -> None:
    """Draws images as a grid, row by row.

    Args:
        axes: matplotlib axes.
        images: `(n, height, width, channels)`; they are scaled to what the largest and smallest
            values are.
        title: str.
        columns: int, images in a row. Defaults to `8`.
    """
    images = np.asarray(images, dtype=np.float64)
    low, high = images.min(), images.max()
    images = (images - low) / (high - low if high > low else 1.0)
    rows = -(-len(images) // columns)
    n, height, width, channels = images.shape
    grid = np.ones((rows * columns, height + 1, width + 1, channels))
    grid[:n, :height, :width] = images if channels > 1 else 1 - images
    grid = grid.reshape(rows, columns, height + 1, width + 1, channels)
    picture = grid.transpose(0, 2, 1, 3, 4).reshape(rows * (height + 1), -1, channels)
    if channels == 1:
        axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(picture[..., :3])
    axes.set_axis_off()
    axes.set_title(title)
