"""What a batch's examples contribute to the losses and metrics that Keras evaluates.

Column by column, the mean over the examples is what `model.test_on_batch` says of the batch. A
metric that is a weighted mean, as accuracy or the mean absolute error, has the total sum_i w_i v_i
and the count sum_i w_i c_i; the derivatives by w_i tell v_i and c_i, also behind masks. Of others,
as the area under a curve, every example is given the batch's value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from .. import backend
from .._arrays import Nested
from ..backend.array_types import tensor_to_numpy
from ..backend.base import Tensor
from ..layers.masks import read_mask
from ._hooks import replaced
from ._metric_names import by_name
from ._objective import Objective
from ._weighted_loss import fill, spread


class ExampleValues(NamedTuple):
    """Losses, scores and metrics of single examples, in inference mode.

    Attributes:
        losses: `(n,)`, with what regularizers add.
        scores: `(n,)`.
        metrics: for each metric `(n,)`, or `()` where the batch has one value.
    """

    losses: Tensor
    scores: Tensor
    metrics: list[Tensor]


class ExampleColumns(NamedTuple):
    """The same as numpy arrays.

    Attributes:
        losses: `(n, 1)`.
        scores: `(n, 1)`.
        metrics: `(n, m)`, in the order of the metrics' names.
    """

    losses: np.ndarray
    scores: np.ndarray
    metrics: np.ndarray

    def metric_columns(self) -> list[np.ndarray]:
        """The metrics one by one, each `(n, 1)`, as signals carry them."""
        return [self.metrics[:, i : i + 1] for i in range(self.metrics.shape[1])]


def as_columns(values: ExampleValues, n: int) -> ExampleColumns:
    """Fetches the values of a batch from the device.

    Args:
        values: what the compiled function gave.
        n: int, the number of examples.
    """
    metrics = [np.broadcast_to(tensor_to_numpy(metric), n) for metric in values.metrics]
    return ExampleColumns(
        tensor_to_numpy(values.losses)[:, None],
        tensor_to_numpy(values.scores).reshape(-1, 1),
        np.stack(metrics, 1) if metrics else np.empty((n, 0), np.float32),
    )


def join_columns(parts: list[ExampleColumns]) -> ExampleColumns:
    """Joins the batches' rows."""
    return ExampleColumns(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def make_evaluation(objective: Objective, names: tuple[str, ...]) -> Callable[..., ExampleValues]:
    """The function that evaluates a batch example by example, to be compiled.

    Args:
        objective: what the model minimises.
        names: the metrics' names in the logs.

    Returns:
        A function of the inputs and the targets, which changes nothing.
    """
    loss, model = objective.loss, objective.loss.model

    def evaluate(x: Nested, y: Nested) -> ExampleValues:
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        with objective.runtime.scope(), contextlib.ExitStack() as hooks:
            made = by_name(model)
            for metric in model.metrics:
                metric.reset_state()
            for name in names:
                if _is_mean(made.get(name)):
                    noted = _noting(made[name], name, seen)
                    hooks.enter_context(replaced(made[name], "update_state", noted))
            outputs = loss.forward(x)
            total = objective.value(x, y, outputs, None)
            logs = model.compute_metrics(x, y, outputs, None)
        losses, scores = objective.measure(x, y, outputs, None, loss.masks(outputs))
        n = ops.shape(losses)[0]
        metrics = [
            _shares(made[name], seen[name], n)
            if name in seen
            else ops.mean(ops.cast(logs[name], "float32"))
            for name in names
        ]
        return ExampleValues(losses + (total - ops.mean(losses)), scores, metrics)

    return evaluate


def _is_mean(metric: Any) -> bool:
    """Whether a metric is a total over a count of what its examples are worth."""
    return isinstance(metric, keras.metrics.Mean) and (
        type(metric).result is keras.metrics.Mean.result
    )


def _noting(
    metric: keras.Metric, name: str, seen: dict[str, tuple[Tensor, Tensor]]
) -> Callable[..., Any]:
    """The metric's `update_state`, which keeps the targets and predictions in `seen`."""
    original = metric.update_state

    def update_state(*values: Any, **arguments: Any) -> Any:
        # A tracker of a loss is given its value, not the examples.
        if len(values) + len(arguments) > 1 and len(getattr(values[0], "shape", ())) > 0:
            seen[name] = values[0], values[1]
        return original(*values, **arguments)

    return update_state


def _shares(metric: keras.Metric, examples: tuple[Tensor, Tensor], n: Any) -> Tensor:
    """Each example's part of a mean, times the number of examples."""

    def state(for_total: Tensor, for_count: Tensor) -> Tensor:
        total, _ = _updated(metric, *examples, for_total)
        return total + _updated(metric, *examples, for_count)[1]

    ones = ops.ones((n,), "float32")
    _, (values, counts) = backend.get().gradient(state, [ones, ones])
    return ops.divide_no_nan(values, ops.mean(counts))


def _updated(
    metric: keras.Metric, y_true: Tensor, y_pred: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Total and count of a metric that has seen these examples alone."""
    mask = read_mask(y_pred)
    if mask is not None:
        # Keras multiplies it into the weights in place.
        weights = fill(spread(weights, len(mask.shape)), mask)
    with keras.StatelessScope():
        metric.reset_state()
        metric.update_state(y_true, y_pred, sample_weight=weights)
        return metric.total.value, metric.count.value
