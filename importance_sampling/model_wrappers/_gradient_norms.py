"""Gradient norms that the outputs of a pass alone cannot tell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops, tree

from .. import backend
from .._arrays import Nested
from ..backend.base import Tensor
from ..layers.activations import activation_of
from ._hooks import replaced


def sum_per_sample(tensor: Tensor) -> Tensor:
    """Sums everything but the first axis: `(n, ...)` to `(n,)`."""
    axes = tuple(range(1, len(tensor.shape)))
    return ops.sum(tensor, axis=axes) if axes else tensor


def sum_of_squares(tensor: Tensor) -> Tensor:
    """Squared norm of each sample: `(n, ...)` to `(n,)` float32."""
    return sum_per_sample(ops.square(ops.cast(tensor, "float32")))


def layer_norms(layer: keras.Layer, batch_loss: Callable[[], Tensor], summed: bool) -> Tensor:
    """Norm of each sample's gradient at the pre-activation of one layer.

    Args:
        layer: a layer that the forward pass goes through.
        batch_loss: makes a forward pass and returns the batch's loss, a scalar.
        summed: bool, whether that is the sum of the samples' losses rather than their mean.

    Returns:
        `(n,)` float32.
    """

    def tapped_loss(tap: Callable[[Tensor], Tensor]) -> Tensor:
        with _tapped(layer, tap):
            return batch_loss()

    _, gradients = backend.get().tapped_gradient(tapped_loss)
    squares = sum(sum_of_squares(g) for g in gradients)
    n = ops.cast(ops.shape(gradients[0])[0], "float32")
    return ops.sqrt(squares) * (1.0 if summed else n)


def exact_norms(
    sample_loss: Callable[..., Tensor], data: Nested, values: Sequence[Tensor]
) -> Tensor:
    """Norm of each sample's own gradient.

    Args:
        sample_loss: called as `sample_loss(values, *row)`, where `row` holds one sample of each
            part of `data` as a batch of one; returns a scalar.
        data: a tuple of tensors `(n, ...)`, structures of them, or None.
        values: where to take the gradient.

    Returns:
        `(n,)` norms over all `values` together.
    """
    flat = tree.flatten(data)
    present = [leaf is not None for leaf in flat]

    # A vectorised map passes only arrays on, so that None is put back here.
    def row_loss(inner_values: Any, *row: Tensor) -> Tensor:
        rest = iter(row)
        leaves = [ops.expand_dims(next(rest), 0) if is_there else None for is_there in present]
        return sample_loss(inner_values, *tree.pack_sequence_as(data, leaves))

    leaves = [leaf for leaf in flat if leaf is not None]
    return backend.get().sample_gradient_norms(row_loss, leaves, values)


@contextlib.contextmanager
def _tapped(layer: Any, tap: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Lets `tap` see and replace a layer's pre-activation (its output where it has none)."""
    activation = getattr(layer, "activation", None)
    fused = activation_of(layer) is not None and callable(activation)
    inner: Any = activation if fused else layer.call

    def tapped_activation(preactivation: Tensor) -> Tensor:
        return inner(tap(preactivation))

    def tapped_call(*args: Any, **kwargs: Any) -> Tensor:
        return tap(inner(*args, **kwargs))

    name, function = ("activation", tapped_activation) if fused else ("call", tapped_call)
    with replaced(layer, name, function):
        yield
