r"""Exact norms of single samples' gradients, by the cheaper of two ways for each layer.

Of a dense layer with inputs x_t and gradients d_t at its pre-activations, t going over the steps of
one sample, the gradient of the kernel is G = sum_t x_t d_t^T, so that

    |G|^2 = sum_{t,u} (x_t . x_u) (d_t . d_u)

which for one step is the product of two norms: one backward pass of the batch tells the norms of
all samples. An embedding is a dense layer whose inputs are one-hot, a convolution one whose inputs
are what its kernel sees at each place. Weights of all other layers are differentiated sample by
sample, vectorised.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers, ops

from .. import backend
from ..backend.base import Tensor
from ._gradient_norms import sum_of_squares
from ._hooks import replaced
from .introspection import all_layers, input_shapes, overrides

# Memory for what is held of all samples at one time.
_BYTES = 2**28
_MOST_ROWS = 1024


@dataclass(frozen=True, eq=False)
class NormPlan:
    """Which weights' norms come from inputs and gradients at pre-activations, and which do not.

    Attributes:
        tapped: layers of which one backward pass of the batch tells the norms.
        others: trainable variables of all other layers.
        tapped_bytes: int, memory that the largest of `tapped` needs for one sample.
    """

    tapped: tuple[keras.Layer, ...]
    others: list[Any]
    tapped_bytes: int = 1

    @property
    def rows(self) -> int:
        """Samples whose norms may be computed in one call."""
        return max(1, min(_MOST_ROWS, _BYTES // max(self.tapped_bytes, 1)))


def plan_norms(model: keras.Model, forward: Callable[[], Any]) -> NormPlan:
    """Finds the layers of a model that the product of norms serves.

    These are layers of Keras' own in models of Keras' own, each called once in a forward pass, of
    whose weights nobody else knows.

    Args:
        model: the compiled, built model.
        forward: makes a forward pass on a few rows, to see what the layers are called on.
    """
    sizes = [size for shape in (input_shapes(model) or {}).values() for size in shape[1:]]
    found = [layer for layer in all_layers(model) if _is_known(layer)]
    if None in sizes:
        # Where a kernel is applied must be known when a pass is compiled.
        found = [layer for layer in found if type(layer) is not layers.Conv2D]
    models = [model, *(each for each in all_layers(model) if isinstance(each, keras.Model))]
    own = [each for each in all_layers(model) if not type(each).__module__.startswith("keras.")]
    if not found or own or any(overrides(each, "call") for each in models):
        return NormPlan((), list(model.trainable_variables))
    trace = _Trace()
    with trace.watching(found, lambda tensor: tensor):
        forward()
    shared = _shared_variables(model)
    tapped, size = [], 1
    for layer in found:
        calls = [call for call in trace.calls if call.layer is layer]
        if len(calls) != 1 or any(id(v) in shared for v in layer.trainable_variables):
            continue
        tapped.append(layer)
        size = max(size, calls[0].bytes_per_sample)
    covered = {id(v) for layer in tapped for v in layer.trainable_variables}
    others = [v for v in model.trainable_variables if id(v) not in covered]
    return NormPlan(tuple(tapped), others, size)


def tapped_squares(plan: NormPlan, batch_loss: Callable[[], Tensor], summed: bool) -> Tensor:
    """Squared norms over the weights of the plan's tapped layers, from one backward pass.

    Args:
        plan: the plan.
        batch_loss: makes a forward pass and returns the batch's loss, a scalar.
        summed: bool, whether that is the sum of the samples' losses rather than their mean.

    Returns:
        `(n,)` float32.
    """
    trace = _Trace()

    def tapped_loss(tap: Callable[[Tensor], Tensor]) -> Tensor:
        # Anew, because a backend may go through it more than once.
        trace.calls.clear()
        with trace.watching(plan.tapped, tap):
            return batch_loss()

    tensors, gradients = backend.get().tapped_gradient(tapped_loss)
    inputs, at_outputs = tensors[::2], gradients[1::2]
    n = ops.cast(ops.shape(inputs[0])[0], "float32")
    scale = 1.0 if summed else n * n
    total: Any = 0.0
    for call, x, gradient in zip(trace.calls, inputs, at_outputs, strict=True):
        total = total + call.squares(x, ops.cast(gradient, "float32"))
    return total * scale


def _shared_variables(model: keras.Model) -> set[int]:
    """Variables that more than one layer holds."""
    seen: set[int] = set()
    shared: set[int] = set()
    for layer in all_layers(model):
        if isinstance(layer, keras.Model):
            continue
        for variable in layer.trainable_variables:
            (shared if id(variable) in seen else seen).add(id(variable))
    return shared


def _is_known(layer: keras.Layer) -> bool:
    """Whether all trainable weights of a layer are those of a dense one, an embedding or the like.

    Layers with adapters beside their kernel, as `enable_lora` makes them, are not.
    """
    kind = type(layer)
    if kind not in (layers.Dense, layers.Embedding, layers.Conv2D):
        return False
    if kind is layers.Conv2D and layer.groups != 1:
        return False
    names = ("embeddings",) if kind is layers.Embedding else ("kernel", "bias")
    known = [getattr(layer, name, None) for name in names]
    weights = layer.trainable_variables
    return bool(weights) and all(any(v is k for k in known) for v in weights)


@dataclass(eq=False)
class _Call:
    """One call of a layer, and the shape of its pre-activations."""

    layer: Any
    output_shape: tuple[int | None, ...] = ()

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
        if steps == 1:
            return 4
        size = 2 * steps * steps if self._compares_steps else inputs * outputs
        if type(self.layer) is layers.Conv2D:
            size += 2 * steps * inputs
        return 4 * size

    def squares(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Squared norm of each sample's gradient, over the layer's weights.

        Args:
            x: inputs of the layer.
            gradient: at its pre-activations.
        """
        layer = self.layer
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


@dataclass(eq=False)
class _Trace:
    """Calls of layers in the order in which they are made."""

    calls: list[_Call] = field(default_factory=list)

    @contextlib.contextmanager
    def watching(
        self, watched: Sequence[keras.Layer], tap: Callable[[Tensor], Tensor]
    ) -> Iterator[None]:
        """Lets `tap` see inputs and pre-activations of layers, in turns, and replace these."""
        with contextlib.ExitStack() as hooks:
            for layer in watched:
                hooks.enter_context(self._watching_one(layer, tap))
            yield

    @contextlib.contextmanager
    def _watching_one(self, layer: Any, tap: Callable[[Tensor], Tensor]) -> Iterator[None]:
        activation = None if type(layer) is layers.Embedding else layer.activation
        inner = layer.call

        def note(preactivation: Tensor) -> Tensor:
            self.calls[-1].output_shape = tuple(preactivation.shape)
            return tap(preactivation)

        def call(inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            self.calls.append(_Call(layer))
            if type(layer) is layers.Embedding:
                # Only what can be differentiated is handed to a tap.
                tap(ops.cast(inputs, "float32"))
                return note(inner(inputs, *args, **kwargs))
            inputs = tap(ops.cast(inputs, layer.compute_dtype))
            if activation is None:
                return note(inner(inputs, *args, **kwargs))
            with replaced(layer, "activation", lambda z: activation(note(z))):
                return inner(inputs, *args, **kwargs)

        with replaced(layer, "call", call):
            yield


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
