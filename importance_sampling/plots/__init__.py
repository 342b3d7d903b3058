"""Pictures of runs: functions that draw on matplotlib axes.

They need the extra `plots`; seaborn, which takes a second to load, is imported where it draws.
Colours are Okabe and Ito's, told apart by colour-blind readers; line styles tell curves apart in
grey.

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
from ._draws import draws_in_plane, example_grid, frequency_bar  # noqa: E402
from ._intervals import means_with_intervals  # noqa: E402
from ._report import Report, training_report  # noqa: E402
from ._scores import predictions, score_distribution  # noqa: E402
from ._style import COLOURS, LINES, style  # noqa: E402

__all__ = [
    "COLOURS",
    "LINES",
    "Curve",
    "Report",
    "animate_distribution",
    "animate_predictions",
    "draws_in_plane",
    "example_grid",
    "frequency_bar",
    "means_with_intervals",
    "predictions",
    "save_animation",
    "score_distribution",
    "style",
    "training_curves",
    "training_report",
    "variance_reduction",
]
