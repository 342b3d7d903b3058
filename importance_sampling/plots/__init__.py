"""Pictures of runs: functions that draw on matplotlib axes.

They need the extra `plots`; seaborn, which takes a second to load, is imported where it draws.
Colours are Okabe and Ito's, told apart by colour-blind readers; line styles and markers tell curves
apart without colour, and names stand at their ends.

```python
import matplotlib.pyplot as plt

from importance_sampling.plots import Curve, style, training_curves

with style():
    figure, axes = plt.subplots()
    training_curves(axes, [Curve("uniform", steps, errors)], ylabel="test error (%)")
```
"""

from __future__ import annotations

from .._requirements import require

require("matplotlib", "plots", "Drawing")

from ._animations import animate_distribution, animate_predictions, save_animation  # noqa: E402
from ._curves import Curve, training_curves, variance_reduction  # noqa: E402
from ._draws import (  # noqa: E402
    draws_in_plane,
    example_grid,
    frequency_bar,
    most_and_least,
    relative_draws,
    show_relative_draws,
)
from ._intervals import means_with_intervals  # noqa: E402
from ._labels import Label, name_at_right  # noqa: E402
from ._report import Report, training_report  # noqa: E402
from ._scores import predictions, score_distribution  # noqa: E402
from ._style import (  # noqa: E402
    COLOURS,
    LINES,
    MARKERS,
    MOST_CURVES,
    Picture,
    look,
    note,
    plain_log_axis,
    style,
)

__all__ = [
    "COLOURS",
    "LINES",
    "MARKERS",
    "MOST_CURVES",
    "Curve",
    "Label",
    "Picture",
    "Report",
    "animate_distribution",
    "animate_predictions",
    "draws_in_plane",
    "example_grid",
    "frequency_bar",
    "look",
    "means_with_intervals",
    "most_and_least",
    "name_at_right",
    "note",
    "plain_log_axis",
    "predictions",
    "relative_draws",
    "save_animation",
    "score_distribution",
    "show_relative_draws",
    "style",
    "training_curves",
    "training_report",
    "variance_reduction",
]
