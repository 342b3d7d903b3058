"""Layers that turn targets and predictions into one number per sample."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

from .. import backend
from .._arrays import Nested
from ..backend.base import Tensor
from .activations import activation_of, preactivation_gradient, safe_output
from .masks import read_mask

Function: TypeAlias = Callable[[Tensor, Tensor], Tensor] | keras.losses.Loss
"""A loss or metric of `(y_true, y_pred)` with values `(n, ...)`, or a loss of Keras."""


def per_sample(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Averages everything but the first axis, over valid steps only: `(n, ...)` to `(n, 1)`.

    Args:
        values: `(n, ...)` losses or metrics.
        mask: None, or booleans whose axes are the first axes of `values`.
    """
    if len(values.shape) > 1:
        extra = len(values.shape) - (1 if mask is None else len(mask.shape))
        if extra > 0:
            axes = tuple(range(len(values.shape) - extra, len(values.shape)))
            values = ops.mean(values, axis=axes)
    if mask is not None:
        valid = ops.cast(mask, values.dtype)
        axes = tuple(range(1, len(values.shape)))
        if not axes:
            return ops.expand_dims(values * valid, -1)
        total = ops.sum(values * valid, axis=axes)
        values = total / ops.maximum(ops.sum(valid, axis=axes), 1.0)
    return ops.expand_dims(values, -1)


def _combine(mask: Nested) -> Tensor | None:
    """One mask that is valid where all of them are."""
    found = [m for m in (mask if isinstance(mask, list | tuple) else [mask]) if m is not None]
    return functools.reduce(ops.logical_and, found) if found else None


def _values(function: Function, y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Unreduced values of a loss or metric function, or of a `keras.losses.Loss`."""
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(y_true, y_pred.dtype)
    if isinstance(function, keras.losses.Loss):
        return function.call(y_true, y_pred)
    return function(y_true, y_pred)


class _PairLayer(keras.layers.Layer):
    """Takes `[y_true, y_pred]` and gives `(n, 1)`; honours masks and ends them."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, inputs: Nested, previous_mask: Nested) -> None:
        """None: there are no steps left to mask.

        Args:
            inputs: what the layer was called with.
            previous_mask: the masks of the inputs.
        """
        return None

    def compute_output_shape(
        self, input_shape: Sequence[Sequence[int | None]]
    ) -> tuple[int | None, int]:
        """One number per sample."""
        return (input_shape[0][0], 1)


@keras.saving.register_keras_serializable("importance_sampling")
class LossLayer(_PairLayer):
    """Loss of each sample, averaged over the valid steps and all other axes.

    Args:
        loss: name, function or `keras.losses.Loss`.

    Call arguments:
        inputs: `[y_true (n, ...), y_pred (n, ...)]`; Keras masks on them are honoured.

    Example:

    ```python
    per_sample = LossLayer("mse")([y_true, model(x)])  # (n, 1)
    ```
    """

    def __init__(self, loss: str | Function, **kwargs: Any):
        super().__init__(**kwargs)
        self.loss = keras.losses.get(loss)

    def call(self, inputs: list[Tensor], mask: Nested = None) -> Tensor:
        """Loss of each sample.

        Args:
            inputs: `[y_true (n, ...), y_pred (n, ...)]`.
            mask: booleans for the inputs' first axes, one for both or one each; None if all counts.

        Returns:
            `(n, 1)`.
        """
        return per_sample(_values(self.loss, *inputs), _combine(mask))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "loss": keras.losses.serialize(self.loss)}


@keras.saving.register_keras_serializable("importance_sampling")
class MetricLayer(_PairLayer):
    """A metric's value for each sample, averaged over the valid steps and all other axes.

    Args:
        metric_func: name or function `(y_true, y_pred) -> values (n, ...)`, for example
            `"categorical_accuracy"`. Metrics that are more than a mean over samples (AUC, say)
            have no value per sample.

    Call arguments:
        inputs: `[y_true (n, ...), y_pred (n, ...)]`; Keras masks on them are honoured.
    """

    def __init__(self, metric_func: str | Function, **kwargs: Any):
        super().__init__(**kwargs)
        self.metric_func = self._function(metric_func)

    @staticmethod
    def _function(metric: Any) -> Any:
        if isinstance(metric, dict):
            metric = keras.saving.deserialize_keras_object(metric)
        if isinstance(metric, str):
            metric = getattr(keras.metrics, metric, None) or keras.metrics.get(metric)
        if isinstance(metric, keras.metrics.MeanMetricWrapper):
            # The function it wraps: as configured, or the one of the same name.
            wrapped = metric.get_config().get("fn")
            if wrapped is None:
                metric = getattr(keras.metrics, _snake(type(metric).__name__), metric)
            else:
                metric = keras.saving.deserialize_keras_object(wrapped)
        if isinstance(metric, keras.metrics.Metric) or not callable(metric):
            raise ValueError(
                f"`metric_func` must be a function of (y_true, y_pred) or its name, got {metric!r}."
            )
        return metric

    def call(self, inputs: list[Tensor], mask: Nested = None) -> Tensor:
        """The metric of each sample.

        Args:
            inputs: `[y_true (n, ...), y_pred (n, ...)]`.
            mask: booleans for the inputs' first axes, one for both or one each; None if all counts.

        Returns:
            `(n, 1)`.
        """
        values = ops.cast(_values(self.metric_func, *inputs), self.compute_dtype)
        return per_sample(values, _combine(mask))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "metric_func": keras.saving.serialize_keras_object(self.metric_func),
        }


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


@keras.saving.register_keras_serializable("importance_sampling")
class GradientNormLayer(_PairLayer):
    r"""Norm of each sample's gradient, at the outputs or exactly.

    With `fast=True` it takes `[y_true, y_pred]` and gives
    $\|\partial l_i / \partial z_i\|_2$ at the pre-activations $z_i$ of the outputs
    ([1803.00942](https://arxiv.org/abs/1803.00942), eq. 20). With `fast=False` it takes
    `[y_true, x]` and gives $\|\nabla_\theta l_i\|_2$ over the trainable weights of
    `parameter_list`, computed for all samples at one time.

    A layer cannot look into the network that made its input, so `parameter_list` is the
    network (or its last layer), not tensors or variables of it.

    Args:
        parameter_list: with `fast=True`, the layer that made `y_pred`, whose activation the
            gradient is taken through, or None to take it at `y_pred` itself; with
            `fast=False`, the model.
        loss: name, function or `keras.losses.Loss`.
        fast: bool, which of the two. Defaults to `False`.

    Call arguments:
        inputs: `[y_true, y_pred]` or `[y_true, x]`, arrays with n rows.
    """

    def __init__(
        self,
        parameter_list: keras.Layer | None,
        loss: str | Function,
        fast: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if parameter_list is not None and not isinstance(parameter_list, keras.layers.Layer):
            raise TypeError(
                "`parameter_list` must be a layer or a model (with fast=True also None), got "
                f"{type(parameter_list).__name__}."
            )
        if not fast and parameter_list is None:
            raise ValueError("With fast=False `parameter_list` must be the model.")
        # In a tuple, so that the network does not become a part of this layer.
        self._network: tuple[keras.Layer] = (parameter_list,)
        self.loss = keras.losses.get(loss)
        self.fast = fast

    @property
    def parameter_list(self) -> keras.Layer | None:
        """The layer or model whose gradient is meant."""
        return self._network[0]

    def call(self, inputs: list[Tensor], mask: Nested = None) -> Tensor:
        """Norm of each sample's gradient.

        Args:
            inputs: `[y_true, y_pred]` with `fast=True`, otherwise `[y_true, x]`, with n rows.
            mask: booleans for the inputs' first axes, one for both or one each; None if all counts.
                With `fast=False` the model makes its own.

        Returns:
            `(n, 1)`.
        """
        norms = self._at_outputs(inputs, _combine(mask)) if self.fast else self._exact(inputs)
        return ops.expand_dims(norms, -1)

    def _at_outputs(self, inputs: list[Tensor], mask: Tensor | None) -> Tensor:
        y_true, y_pred = inputs
        activation = activation_of(self.parameter_list)
        output = safe_output(activation, ops.stop_gradient(y_pred))

        def total(prediction: Tensor) -> Tensor:
            return ops.sum(per_sample(_values(self.loss, y_true, prediction), mask))

        _, (gradient,) = backend.get().gradient(total, [output])
        gradient = preactivation_gradient(activation, output, gradient)
        axes = tuple(range(1, len(gradient.shape)))
        return ops.sqrt(ops.sum(ops.square(gradient), axis=axes))

    def _exact(self, inputs: list[Tensor]) -> Tensor:
        y_true, x = inputs
        (model,) = self._network
        variables = model.trainable_variables

        def sample_loss(values: Sequence[Tensor], target: Tensor, features: Tensor) -> Tensor:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                outputs = model(ops.expand_dims(features, 0))
                mask = read_mask(outputs)
                losses = _values(self.loss, ops.expand_dims(target, 0), outputs)
                return ops.sum(per_sample(losses, mask))

        return backend.get().sample_gradient_norms(
            sample_loss,
            [ops.convert_to_tensor(y_true), ops.convert_to_tensor(x)],
            [ops.convert_to_tensor(v) for v in variables],
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {
            "parameter_list": keras.saving.serialize_keras_object(self.parameter_list),
            "loss": keras.losses.serialize(self.loss),
            "fast": self.fast,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GradientNormLayer:
        """Makes the layer with a network of its own, of the same configuration."""
        network = config.pop("parameter_list")
        return cls(keras.saving.deserialize_keras_object(network), **config)
