"""Gradient norms of the common losses, as p - y for classifiers, in a handful of operations.

Differentiating the compiled loss gives the same, for any loss. That is free where the step is
compiled, but not where every operation is dispatched on its own; there, numpy on the few outputs
of a batch is cheaper than any tensor operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import activations, losses, ops

from ..backend.base import Tensor
from ..layers.activations import Activation
from ._outputs import OutputInfo

ClosedForm: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""`(target, output) -> gradient norms (n,)`; of tensors, or of numpy arrays where both are."""

_Rule: TypeAlias = Callable[[Tensor, Tensor, int], Tensor]
"""`(target, output, values per sample) -> gradient at the pre-activation (n, values)`."""


def _sparse(target: Tensor, output: Tensor, classes: int) -> Tensor:
    if isinstance(output, np.ndarray):
        difference = output.copy()
        difference[np.arange(len(output)), target.reshape(-1).astype(np.int64)] -= 1
        return difference
    if len(target.shape) > 1:
        target = ops.reshape(target, (-1,))
    return output - ops.one_hot(ops.cast(target, "int32"), classes, dtype=output.dtype)


def _dense(target: Tensor, output: Tensor, classes: int) -> Tensor:
    if isinstance(output, np.ndarray):
        return output - target.reshape(-1, classes)
    return output - ops.cast(ops.reshape(target, (-1, classes)), output.dtype)


def _binary(target: Tensor, output: Tensor, classes: int) -> Tensor:
    return _dense(target, output, classes) / classes


def _probabilities(logits: Tensor) -> Tensor:
    xp = np if isinstance(logits, np.ndarray) else ops
    powers = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
    return powers / xp.sum(powers, axis=-1, keepdims=True)


def _sparse_logits(target: Tensor, output: Tensor, classes: int) -> Tensor:
    return _sparse(target, _probabilities(output), classes)


def _dense_logits(target: Tensor, output: Tensor, classes: int) -> Tensor:
    return _dense(target, _probabilities(output), classes)


def _binary_logits(target: Tensor, output: Tensor, classes: int) -> Tensor:
    xp = np if isinstance(output, np.ndarray) else ops
    # The sigmoid, without a power that could overflow.
    return _binary(target, 0.5 + 0.5 * xp.tanh(0.5 * output), classes)


def _squared(target: Tensor, output: Tensor, values: int) -> Tensor:
    return _dense(target, output, values) * (2.0 / values)


def _absolute(target: Tensor, output: Tensor, values: int) -> Tensor:
    xp = np if isinstance(output, np.ndarray) else ops
    return xp.sign(_dense(target, output, values)) / values


_RULES: dict[tuple[Callable[..., Tensor], Activation | None], _Rule] = {
    (losses.sparse_categorical_crossentropy, activations.softmax): _sparse,
    (losses.categorical_crossentropy, activations.softmax): _dense,
    (losses.binary_crossentropy, activations.sigmoid): _binary,
    (losses.sparse_categorical_crossentropy, activations.linear): _sparse_logits,
    (losses.categorical_crossentropy, activations.linear): _dense_logits,
    (losses.binary_crossentropy, activations.linear): _binary_logits,
    (losses.mean_squared_error, activations.linear): _squared,
    (losses.mean_absolute_error, activations.linear): _absolute,
}

_FUNCTIONS = {
    losses.SparseCategoricalCrossentropy: losses.sparse_categorical_crossentropy,
    losses.CategoricalCrossentropy: losses.categorical_crossentropy,
    losses.BinaryCrossentropy: losses.binary_crossentropy,
    losses.MeanSquaredError: losses.mean_squared_error,
    losses.MeanAbsoluteError: losses.mean_absolute_error,
}


def _loss_function(loss: Any) -> Any:
    if isinstance(loss, str):
        try:
            return losses.get(loss)
        except ValueError:
            return None
    return _FUNCTIONS.get(type(loss), loss)


def find_closed_form(model: keras.Model, info: OutputInfo) -> ClosedForm | None:
    """The closed form of the gradient norms under a compiled loss, or None if there is none.

    Whether it really describes the compiled loss (which may be weighted or smoothed) is for the
    caller to check on examples.

    Args:
        model: the compiled, built model, whose class does not override `compute_loss`.
        info: what is known of its outputs.
    """
    spec = info.spec
    if info.nested or info.masked[0] or len(spec.shape) != 2:
        return None
    loss = _loss_function(model.loss)
    if not callable(loss) or isinstance(loss, losses.Loss):
        return None
    rule = _RULES.get((loss, info.activations[0]))
    classes = spec.shape[-1]
    if rule is None or (rule in (_sparse, _sparse_logits) and classes == 1):
        return None

    def norms(target: Tensor, output: Tensor) -> Tensor:
        if isinstance(output, np.ndarray):
            difference = rule(target, output.astype(np.float32, copy=False), classes)
            return np.sqrt(np.einsum("ij,ij->i", difference, difference))
        difference = rule(target, ops.cast(output, "float32"), classes)
        return ops.sqrt(ops.sum(ops.square(difference), axis=-1))

    return norms
