"""What validation tells those who listen to a wrapper's signals."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model_wrappers.signals import is_heard, send
from ._validation import Validation


def announced(wrapper: Any, validation: Validation, logs: dict[str, Any]) -> dict[str, Any]:
    """Sends `is.evaluation` and `is.evaluate_batch`, as evaluating with the wrapper does.

    Nothing is computed but for those who listen, or for a wrapper whose own `evaluate_batch`
    says what Keras' evaluation cannot.

    Args:
        wrapper: the wrapped model.
        validation: what was evaluated on.
        logs: Keras' results, named `val_...`.

    Returns:
        The logs; those of a wrapper with its own `evaluate_batch` are the means of what it says.
    """
    if not logs:
        return logs
    own = getattr(wrapper, "evaluates_itself", False)
    names = [f"val_{name}" for name in getattr(wrapper, "metrics_names", ["loss", "score"])[:-1]]
    if own or is_heard("is.evaluate_batch"):
        means = wrapper.evaluate_batches(validation.batches())
        if own:
            logs = logs | dict(zip(names, means.tolist(), strict=False))
    if is_heard("is.evaluation"):
        send("is.evaluation", np.asarray([logs[name] for name in names if name in logs]))
    return logs
