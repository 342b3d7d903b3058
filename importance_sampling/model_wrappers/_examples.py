"""Losses, scores and metrics of a batch, example by example."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops

from .. import backend
from .._arrays import count_rows
from ..backend.array_types import tensor_to_numpy
from ..layers._masks import read_mask
from ._engine import Engine
from ._metric_names import by_name
from ._objective import fill, spread
from ._step import replaced


class Examples:
    """What a batch's examples contribute to the losses and metrics that Keras evaluates.

    Column by column, the mean over the examples is what `model.test_on_batch` says of the batch.
    A metric that is a weighted mean, as accuracy or the mean absolute error, has the total
    sum_i w_i v_i and the count sum_i w_i c_i; the derivatives by w_i tell v_i and c_i, also
    behind masks. Of others, as the area under a curve, every example is given the batch's value.

    Args:
        engine: the built engine of the model.
    """

    def __init__(self, engine: Engine):
        self.objective = engine.objective
        self._engine = engine
        self._model = engine.model
        self._names = engine.metric_names
        self._measure = engine.runtime.compile_pure(self._step)

    def __call__(self, x: Any, y: Any) -> dict[str, np.ndarray]:
        """Evaluates a batch in inference mode, changing nothing.

        Args:
            x: inputs of the batch.
            y: targets of the batch.

        Returns:
            `losses` (with what regularizers add) and `scores`, `(n, 1)`, and `metrics`, `(n, m)`.
        """
        runtime, data = self._engine.runtime, self._engine.prepare((x, y))
        n = count_rows(data)
        found = self._measure(*keras.tree.map_structure(runtime.to_device, data))
        found = {name: tensor_to_numpy(value) for name, value in found.items()}
        metrics = [np.broadcast_to(found[f"metric {name}"], n) for name in self._names]
        return {
            "losses": found["losses"][:, None],
            "scores": found["scores"].reshape(-1, 1),
            "metrics": np.stack(metrics, 1) if metrics else np.empty((n, 0), np.float32),
        }

    def _step(self, x: Any, y: Any) -> dict[str, Any]:
        objective, seen = self.objective, {}
        with self._engine.runtime.scope(), contextlib.ExitStack() as hooks:
            made = by_name(self._model)
            for metric in self._model.metrics:
                metric.reset_state()
            for name in self._names:
                metric = made.get(name)
                if is_mean(metric):
                    hooks.enter_context(
                        replaced(metric, "update_state", _noting(metric, name, seen))
                    )
            outputs = objective.forward(x)
            total = objective.loss(x, y, outputs, None)
            logs = self._model.compute_metrics(x, y, outputs, None)
        losses, scores = objective.measure(x, y, outputs, None, objective.masks(outputs))
        result = {"losses": losses + (total - ops.mean(losses)), "scores": scores}
        for name in self._names:
            if name in seen:
                result[f"metric {name}"] = _shares(made[name], *seen[name], ops.shape(losses)[0])
            else:
                result[f"metric {name}"] = ops.mean(ops.cast(logs[name], "float32"))
        return result


def is_mean(metric: Any) -> bool:
    """Whether a metric is a total over a count of what its examples are worth."""
    return isinstance(metric, keras.metrics.Mean) and (
        type(metric).result is keras.metrics.Mean.result
    )


def _noting(metric: Any, name: str, seen: dict[str, Any]) -> Any:
    original = metric.update_state

    def update_state(*values: Any, **arguments: Any) -> Any:
        # A tracker of a loss is given its value, not the examples.
        if len(values) + len(arguments) > 1 and len(getattr(values[0], "shape", ())) > 0:
            seen[name] = values[:2]
        return original(*values, **arguments)

    return update_state


def _shares(metric: Any, y_true: Any, y_pred: Any, n: Any) -> Any:
    """The example's part of a mean, times their number."""

    def state(for_total: Any, for_count: Any) -> Any:
        total = _updated(metric, y_true, y_pred, for_total)[0]
        return total + _updated(metric, y_true, y_pred, for_count)[1]

    ones = ops.ones((n,), "float32")
    _, (values, counts) = backend.get().gradient(state, [ones, ones])
    return ops.divide_no_nan(values, ops.mean(counts))


def _updated(metric: Any, y_true: Any, y_pred: Any, weights: Any) -> tuple[Any, Any]:
    mask = read_mask(y_pred)
    if mask is not None:
        # Keras multiplies it into the weights in place.
        weights = fill(spread(weights, len(mask.shape)), mask)
    with keras.StatelessScope():
        metric.reset_state()
        metric.update_state(y_true, y_pred, sample_weight=weights)
        return metric.total.value, metric.count.value
