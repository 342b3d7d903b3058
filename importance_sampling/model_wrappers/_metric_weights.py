"""Weights in the form in which a metric takes them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ._objective import fill, spread


def shape_weights(metric: Any, weights: Any, y_true: Any, y_pred: Any, mask: Any = None) -> Any:
    """Gives weights the number of axes that a metric's `update_state` expects.

    Metrics take `(n,)`, as users have them. Those that are no means of values per sample, and look
    at every step by itself, want an axis for each axis of steps.

    Args:
        metric: a `keras.metrics.Metric`.
        weights: `(n,)` or `(n, 1, ...)`; or the user's own, which differ from step to step.
        y_true: the targets.
        y_pred: the predictions.
        mask: which steps count, or None for all. Keras multiplies it into the weights in place.
    """
    if any(length != 1 for length in weights.shape[1:]):
        return weights if mask is None else fill(weights, mask)
    if mask is not None:
        return fill(spread(weights, len(mask.shape)), mask)
    weights = ops.reshape(weights, (-1,))
    if isinstance(metric, keras.metrics.IoU):
        labels = y_true if metric.sparse_y_true else y_true[..., 0]
        return spread(weights, len(labels.shape)) * ops.ones_like(labels, dtype="float32")
    if isinstance(metric, keras.metrics.Mean) or len(y_pred.shape) <= 2:
        return weights
    return spread(weights, len(y_pred.shape))
