"""Colours, lines, axes and figures of all pictures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.style
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's colours, the most different ones first."""

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 1)))
"""A line style for each colour."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
"""A marker for each colour."""

MOST_CURVES = 6
"""More of them in one panel are not told apart."""

_DPI = 100

LIGHT = 0.4
"""Opacity of what is hypothetical."""

# Seaborn's white grid, which matplotlib brings along.
_SHEETS = ("seaborn-v0_8-whitegrid", "seaborn-v0_8-notebook")

_SETTINGS: dict[str, Any] = {
    "axes.prop_cycle": mpl.cycler(color=COLOURS, linestyle=LINES),
    "grid.linewidth": 0.5,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.minor.size": 2,
    "ytick.minor.size": 2,
    "legend.fontsize": 9,
    "legend.framealpha": 0.85,
    "figure.titlesize": 12,
    "figure.dpi": 100,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """A white grid with the colours above, within a `with` block."""
    with mpl.style.context([*_SHEETS, _SETTINGS]):
        yield


class Picture(Figure):
    """A figure in no window, which notebooks show though no window was asked for."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """Writes it, as large as pages show it; see `matplotlib.figure.Figure.savefig`.

        Args:
            fname: path or file.
            **options: those of matplotlib.
        """
        super().savefig(fname, **{"dpi": _DPI, **options})

    def _repr_png_(self) -> bytes:
        target = io.BytesIO()
        self.savefig(target, format="png", dpi=100)
        return target.getvalue()


def look(i: int, points: int = 0) -> dict[str, Any]:
    """How the i-th of several curves is drawn: by colour, line and marker at once.

    Args:
        i: int, from 0.
        points: int, of the curve; markers stand at eight of them at most.
    """
    n = len(COLOURS)
    return {
        "color": COLOURS[i % n],
        "linestyle": LINES[i % n],
        "marker": MARKERS[i % n],
        "markersize": 4,
        # Not at the same places as those of other curves.
        "markevery": (i * points // 64, max(1, points // 8)) if points > 16 else None,
        "linewidth": 1.5,
    }


def plain_log_axis(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, between the powers of ten, too.

    Args:
        axis: the x or y axis of matplotlib axes, whose limits are final.
    """
    low, high = axis.get_view_interval()
    decades = float(np.log10(high / low)) if low > 0 else np.inf
    between: tuple[int, ...] = (2, 3, 4, 5, 6, 8) if decades < 0.7 else (2, 3, 5)
    if decades >= 1.6:
        between = (2, 5)
    formatter = matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_formatter(formatter)
    axis.set_minor_locator(matplotlib.ticker.LogLocator(subs=between, numticks=99))
    # Over many decades there is no room for them.
    axis.set_minor_formatter(formatter if decades < 3.2 else matplotlib.ticker.NullFormatter())
    axis.set_tick_params(which="minor", labelsize=8, labelcolor="#555555")


def note(axes: Axes, text: str) -> None:
    """Says in the upper left corner of axes what is missing there.

    Args:
        axes: matplotlib axes.
        text: str.
    """
    axes.text(
        0.02,
        0.98,
        text,
        transform=axes.transAxes,
        va="top",
        fontsize=9,
        style="italic",
        color="#555555",
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.5},
    )
