"""What one call of a layer tells of the gradients of single samples by the layer's weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from ..backend.base import Tensor
from ._gradient_norms import sum_of_squares

# Names of the weights of each kind of layer that is known here.
_WEIGHTS: dict[type, tuple[str, ...]] = {
    layers.Dense: ("kernel", "bias"),
    layers.Conv2D: ("kernel", "bias"),
    layers.Embedding: ("embeddings",),
    layers.BatchNormalization: ("gamma", "beta"),
}


def is_known(layer: keras.Layer) -> bool:
    """Whether all trainable weights of a layer are those of a kind that is known here.

    Layers with adapters beside their kernel, as `enable_lora` makes them, are not.

    Args:
        layer: a built layer.
    """
    kind = type(layer)
    if kind not in _WEIGHTS or (kind is layers.Conv2D and layer.groups != 1):
        return False
    if kind is layers.BatchNormalization and layer.axis != -1:
        return False
    known = [getattr(layer, name, None) for name in _WEIGHTS[kind]]
    weights = layer.trainable_variables
    return bool(weights) and all(any(v is k for k in known) for v in weights)


@dataclass(eq=False)
class LayerCall:
    """One call of a layer.

    Attributes:
        layer: a layer that `is_known`.
        output_shape: shape of its pre-activations.
        input_shape: shape of its inputs.
    """

    layer: Any
    output_shape: tuple[int | None, ...] = ()
    input_shape: tuple[int | None, ...] = ()

    @property
    def _steps(self) -> int | None:
        """Positions at which the kernel is applied to one sample; None if they vary."""
        inner = self.output_shape[1:-1]
        if type(self.layer) is layers.Conv2D and self.layer.data_format == "channels_first":
            inner = self.output_shape[2:]
        return None if None in inner else math.prod(size or 1 for size in inner)

    @property
    def _sizes(self) -> tuple[int, int]:
        """Inputs and outputs of the kernel at one position."""
        if type(self.layer) is layers.Embedding:
            return self.layer.input_dim, self.layer.output_dim
        if type(self.layer) is layers.BatchNormalization:
            return 1, self.output_shape[-1] or 1
        *inner, outputs = self.layer.kernel.shape
        return math.prod(inner), outputs

    @property
    def _compares_steps(self) -> bool:
        """Whether products of steps take less than the gradient itself."""
        if type(self.layer) is layers.Embedding:
            return True
        inputs, outputs = self._sizes
        return self._steps is not None and self._steps * (inputs + outputs) <= inputs * outputs

    @property
    def bytes_per_sample(self) -> int:
        """Memory for one sample: what is multiplied, and the products."""
        inputs, outputs = self._sizes
        steps = self._steps or 1
        if steps == 1 or type(self.layer) is layers.BatchNormalization:
            return 4
        size = 2 * steps * steps if self._compares_steps else inputs * outputs
        if type(self.layer) is layers.Conv2D:
            size += 2 * steps * inputs
        return 4 * size

    def squares(
        self, x: Tensor, gradient: Tensor, values: Callable[[list[Any]], list[Tensor]]
    ) -> Tensor:
        """Squared norm of each sample's gradient, over the layer's weights.

        Args:
            x: inputs of the layer.
            gradient: at its pre-activations.
            values: gives the present values of variables.
        """
        layer = self.layer
        if type(layer) is layers.BatchNormalization:
            return _of_normalization(layer, x, gradient, values)
        if type(layer) is layers.Conv2D and layer.data_format == "channels_first":
            x, gradient = (ops.transpose(t, (0, 2, 3, 1)) for t in (x, gradient))
        places = tuple(gradient.shape[1:-1])
        n = ops.shape(gradient)[0]
        gradient = ops.reshape(gradient, (n, -1, self._sizes[1]))
        total: Any = 0.0
        if getattr(layer, "bias", None) is not None and layer.bias.trainable:
            total = sum_of_squares(ops.sum(gradient, axis=1))
        weight = layer.embeddings if type(layer) is layers.Embedding else layer.kernel
        if not weight.trainable:
            return total
        if type(layer) is layers.Embedding:
            ids = ops.reshape(x, (n, -1))
            alike = ops.cast(ops.equal(ids[:, :, None], ids[:, None, :]), "float32")
            return total + _sum_of_products(alike, _products(gradient))
        x = ops.cast(x, "float32")
        parts = _seen(layer, x, places) if type(layer) is layers.Conv2D else [x]
        parts = [ops.reshape(part, (n, -1, part.shape[-1])) for part in parts]
        if self._steps == 1:
            squares = sum(sum_of_squares(part) for part in parts)
            return total + squares * sum_of_squares(gradient)
        if self._compares_steps:
            return total + _sum_of_products(sum(map(_products, parts)), _products(gradient))
        return total + sum(
            sum_of_squares(ops.matmul(ops.transpose(part, (0, 2, 1)), gradient)) for part in parts
        )


def _of_normalization(
    layer: Any, x: Tensor, gradient: Tensor, values: Callable[[list[Any]], list[Tensor]]
) -> Tensor:
    """Squared norms for a layer that normalizes by its moving averages."""
    axes = tuple(range(1, len(gradient.shape) - 1))
    total: Any = 0.0
    if layer.beta is not None and layer.beta.trainable:
        total = sum_of_squares(ops.sum(gradient, axis=axes))
    if layer.gamma is None or not layer.gamma.trainable:
        return total
    mean, variance = values([layer.moving_mean, layer.moving_variance])
    normalized = (ops.cast(x, "float32") - mean) * ops.rsqrt(variance + layer.epsilon)
    return total + sum_of_squares(ops.sum(gradient * normalized, axis=axes))


def _seen(layer: Any, x: Tensor, places: tuple[int, ...]) -> list[Tensor]:
    """What each element of a convolution's kernel sees at all places, `(n, rows, columns, c)`.

    Args:
        layer: the convolution.
        x: its inputs, channels last.
        places: rows and columns of its outputs.
    """
    padding, slices = [(0, 0)], []
    for size, stride, dilation, count, kernel in zip(
        x.shape[1:3], layer.strides, layer.dilation_rate, places, layer.kernel_size, strict=True
    ):
        reach = (count - 1) * stride + 1
        missing = max(reach + (kernel - 1) * dilation - size, 0)
        before = missing // 2 if layer.padding == "same" else 0
        padding.append((before, missing - before))
        starts = [i * dilation for i in range(kernel)]
        slices.append([slice(start, start + reach, stride) for start in starts])
    x = ops.pad(x, [*padding, (0, 0)])
    return [x[:, rows, columns] for rows in slices[0] for columns in slices[1]]


def _products(x: Tensor) -> Tensor:
    """Inner products of a sample's steps: `(n, t, d)` to `(n, t, t)`."""
    return ops.matmul(x, ops.transpose(x, (0, 2, 1)))


def _sum_of_products(x: Tensor, y: Tensor) -> Tensor:
    # Rounding may leave a sum of squares just below zero.
    return ops.maximum(ops.sum(x * y, axis=(1, 2)), 0.0)
