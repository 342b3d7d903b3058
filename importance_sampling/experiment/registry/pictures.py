"""What `plot` can draw."""

from __future__ import annotations

from dataclasses import dataclass

from .rows import Row, Table


@dataclass(frozen=True)
class PictureRow(Row):
    """A row of `PICTURES`; see `Row`. What draws it stands in `commands/plot.py`.

    Attributes:
        animated: bool, whether it can also be a `.gif` or `.mp4`, over training.
    """

    animated: bool = False


PICTURES = Table(
    "kind of picture",
    PictureRow("curves", "training loss and test error of several runs, over steps and time"),
    PictureRow("scores", "distribution of the test examples' scores over training", animated=True),
    PictureRow("predictions", "scores drawn by against the scores that came out", animated=True),
    PictureRow("variance-reduction", "estimated variance reduction, and when drawing was by score"),
    PictureRow("draws", "where in the plane examples were drawn"),
    PictureRow("examples", "the images drawn most and least often"),
)
"""The first argument of `plot`."""
