"""Importance weights put into the metrics of a training step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ..backend.base import Tensor
from ..layers.masks import read_mask
from ._hooks import present
from ._weighted_loss import fill, spread


def shape_weights(
    metric: keras.Metric,
    weights: Tensor,
    y_true: Tensor,
    y_pred: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
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


class MetricWeigher:
    """Makes `update_state` of metrics that give them importance weights.

    Args:
        masked: bool, whether the predictions carry masks that metrics honour.
    """

    def __init__(self, masked: bool):
        self._masked = masked
        self._unweighed: set[str] = set()

    def weighed(
        self,
        metric: keras.Metric,
        metric_weights: Tensor,
        factor: Callable[[], Tensor] | None,
    ) -> Callable[..., Any]:
        """A metric's `update_state` with importance weights put in.

        Args:
            metric: the metric.
            metric_weights: `(n,)` importance weights.
            factor: returns `(n,)`, what sample weights that Keras hands to a metric are multiplied
                by; None where importance weights are in them already.
        """
        original = present(metric, "update_state")

        def update_state(y_true: Tensor, y_pred: Tensor, sample_weight: Any = None) -> Any:
            if sample_weight is None:
                sample_weight = metric_weights
            elif factor is not None:
                sample_weight = sample_weight * spread(factor(), len(sample_weight.shape))
            mask = read_mask(y_pred) if self._masked else None
            sample_weight = shape_weights(metric, sample_weight, y_true, y_pred, mask)
            try:
                return original(y_true, y_pred, sample_weight=sample_weight)
            except Exception:  # noqa: BLE001 - each backend has an error of its own for shapes
                # A metric of one value per batch has nothing to weigh. If it is something else
                # that is wrong, it is so without weights, too.
                result = original(y_true, y_pred)
            self._warn_unweighed(metric.name)
            return result

        return update_state

    def _warn_unweighed(self, name: str) -> None:
        if name in self._unweighed:
            return
        self._unweighed.add(name)
        warnings.warn(
            f"The metric {name!r} gives one value per batch and takes no weights: while importance "
            "sampling is on it describes the drawn examples, not the training set.",
            stacklevel=2,
        )
