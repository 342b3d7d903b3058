"""Names beside what they name, in the place of legends over the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb

_SIZE = 9
# Of the height of axes' share of a figure that is left beside titles and labels.
_INSIDE = 0.72
_READABLE = 0.45


class Label(NamedTuple):
    """A name for the point `(x, y)`."""

    x: float
    y: float
    text: str
    color: str = "black"


def name_at_right(axes: Axes, labels: Sequence[Label]) -> None:
    """Writes names at the right of axes, each as high as its point if there is room.

    A fine line leads to the point.

    Args:
        axes: matplotlib axes, whose limits and scales are final.
        labels: the names.
    """
    # Limits that follow from the data are worked out when they are asked for.
    axes.get_xlim(), axes.get_ylim()
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [to_axes.transform((label.x, label.y)) for label in labels]
    for label, height in zip(labels, _apart(places, _gap(axes)), strict=True):
        axes.annotate(
            label.text,
            xy=(label.x, label.y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=_SIZE,
            color=_dark(label.color),
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": label.color,
                "linewidth": 0.8,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 1,
                # From the beginning of the name: not through the names above and below.
                "relpos": (0.0, 0.5),
            },
        )


def _gap(axes: Axes) -> float:
    """The height of a line of text as a share of that of axes, about."""
    place = axes.get_subplotspec()
    rows = 1 if place is None else place.get_gridspec().nrows
    height = axes.figure.bbox.height / axes.figure.dpi / rows
    return 1.25 * _SIZE / 72 / (_INSIDE * height)


def _apart(places: Sequence[Sequence[float]], gap: float) -> list[float]:
    """Heights for names, at least a gap apart, from 0 to 1 as far as there is room.

    They are in the order of their points' heights. Of points about as high, the one furthest to
    the left comes first, so that lines to them do not cross.
    """
    order = sorted(
        range(len(places)),
        key=lambda i: (round(places[i][1] / (2 * gap)), -round(places[i][0], 2), places[i][1]),
    )
    found = [float(height) for _, height in places]
    below = -gap
    for i in order:
        found[i] = below = max(found[i], below + gap)
    above = 1.0 + gap
    for i in reversed(order):
        found[i] = above = min(found[i], above - gap)
    return found


def _dark(color: str) -> str:
    """The colour, dark enough to be read on white."""
    red, green, blue = to_rgb(color)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    share = min(1.0, _READABLE / light) if light else 1.0
    return to_hex((share * red, share * green, share * blue))
