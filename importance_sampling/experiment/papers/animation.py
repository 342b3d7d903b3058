"""What becomes of an animation."""

from __future__ import annotations

from pathlib import Path

from matplotlib.animation import FuncAnimation

from ... import plots
from ..._files import make_directory


def write_or_show(animation: FuncAnimation, path: Path | None) -> None:
    """Writes an animation, or shows it in a window.

    Args:
        animation: what `plots.animate_distribution` or `animate_predictions` returned.
        path: the file, or None for a window.
    """
    if path is not None:
        make_directory(path.parent)
        plots.save_animation(animation, path)
        print(f"The animation is {path}")
        return
    import matplotlib.pyplot as plt

    plt.show()
