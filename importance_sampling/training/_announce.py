"""What validation tells those who listen to a wrapper's signals."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model_wrappers import ModelWrapper
from ..model_wrappers.signals import is_heard, send
from ._validation import Validation


def announced(
    wrapper: ModelWrapper, validation: Validation, logs: dict[str, Any]
) -> dict[str, Any]:
    """Sends `is.evaluation`, as evaluating with the wrapper does.

    Args:
        wrapper: the wrapped model.
        validation: what was evaluated on.
        logs: Keras' results, named `val_...`.

    Returns:
        The logs; those of a wrapper with its own `evaluate_batch` are the means of what it says.
    """
    if not logs:
        return logs
    names = [f"val_{name}" for name in getattr(wrapper, "metrics_names", ["loss", "score"])[:-1]]
    if validation.means is not None and getattr(wrapper, "evaluates_itself", False):
        logs = logs | dict(zip(names, validation.means.tolist(), strict=False))
    if is_heard("is.evaluation"):
        send("is.evaluation", np.asarray([logs[name] for name in names if name in logs]))
    return logs
