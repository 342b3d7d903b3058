"""Colours, lines and axes of all pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.style
import matplotlib.ticker
from matplotlib.axis import Axis

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's colours, the most different ones first."""

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 1)))
"""A line style for each colour."""

# Seaborn's white grid, which matplotlib brings along.
_SHEETS = ("seaborn-v0_8-whitegrid", "seaborn-v0_8-notebook")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """A white grid with the colours above, within a `with` block."""
    settings = {
        "axes.prop_cycle": mpl.cycler(color=COLOURS, linestyle=LINES),
        "grid.linewidth": 0.5,
        "axes.titlesize": 12,
        "axes.labelsize": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.framealpha": 0.85,
    }
    with mpl.style.context([*_SHEETS, settings]):
        yield


def plain_log_axis(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis: powers of ten read badly over less than a decade.

    Args:
        axis: the x or y axis of matplotlib axes.
    """
    low, high = axis.get_view_interval()
    narrow = low > 0 and high / low < 30
    formatter = matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_formatter(formatter)
    axis.set_minor_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 3, 5)))
    axis.set_minor_formatter(formatter if narrow else matplotlib.ticker.NullFormatter())
