"""From the gradient at an activation's output to the one at its input.

For the activations that classifiers and regressors end in, the derivative
follows from the output alone, so that no tensor inside the network is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import keras
from keras import activations, ops

from ..backend.base import Tensor

Activation: TypeAlias = Callable[..., Tensor]

_Backward: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""`(output, gradient at the output) -> gradient at the input`."""


def _softmax(output: Tensor, gradient: Tensor) -> Tensor:
    inner = ops.sum(gradient * output, axis=-1, keepdims=True)
    return output * (gradient - inner)


def _log_softmax(output: Tensor, gradient: Tensor) -> Tensor:
    return gradient - ops.exp(output) * ops.sum(gradient, axis=-1, keepdims=True)


# d activation / d input, written with the output y.
_BACKWARD: dict[Activation, _Backward] = {
    activations.linear: lambda y, g: g,
    activations.softmax: _softmax,
    activations.log_softmax: _log_softmax,
    activations.sigmoid: lambda y, g: y * (1.0 - y) * g,
    activations.tanh: lambda y, g: (1.0 - y * y) * g,
    activations.relu: lambda y, g: ops.where(y > 0.0, g, ops.zeros_like(g)),
    activations.softplus: lambda y, g: (1.0 - ops.exp(-y)) * g,
    activations.exponential: lambda y, g: y * g,
}

# Losses on probabilities are clipped by Keras, so that automatic
# differentiation gives the worst examples the gradient zero. Evaluated just
# inside the clipping range, the two derivatives cancel to the exact p - y.
_PROBABILITIES = (activations.softmax, activations.sigmoid)

# Layers whose `activation` is the last thing they do to their output.
_WITH_ACTIVATION = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)

# Layers that only move or combine values: their output is a pre-activation.
_PLAIN = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Rescaling,
    keras.layers.Add,
    keras.layers.Concatenate,
    keras.layers.Average,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Dot,
)


def activation_of(layer: keras.Layer) -> Activation | None:
    """The activation a layer applies last, or None where that is not known."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return activation_of(layer.layer)
    if isinstance(layer, keras.layers.Softmax):
        return activations.softmax if layer.axis == -1 else None
    if isinstance(layer, keras.layers.ReLU):
        return activations.relu
    if isinstance(layer, _PLAIN):
        return activations.linear
    if isinstance(layer, _WITH_ACTIVATION):
        activation = layer.activation or activations.linear
        return activation if activation in _BACKWARD else None
    return None


def safe_output(activation: Activation | None, output: Tensor) -> Tensor:
    """An output in float32, probabilities moved just inside Keras' clipping range.

    Args:
        activation: the activation that made the output; None if that is not known.
        output: tensor `(n, ...)`.
    """
    output = ops.cast(output, "float32") if _is_low_precision(output) else output
    if activation in _PROBABILITIES:
        margin = 2.0 * keras.config.epsilon()
        output = ops.clip(output, margin, 1.0 - margin)
    return output


def _is_low_precision(tensor: Tensor) -> bool:
    return keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16")


def preactivation_gradient(
    activation: Activation | None, output: Tensor, gradient: Tensor
) -> Tensor:
    """The gradient at an activation's input.

    Args:
        activation: the activation; where None, the gradient at its output is returned.
        output: what the activation gave.
        gradient: the gradient at `output`.
    """
    backward = None if activation is None else _BACKWARD.get(activation)
    return gradient if backward is None else backward(output, gradient)
