r"""Exact norms of single samples' gradients, by the cheaper of two ways for each layer.

Of a dense layer with inputs x_t and gradients d_t at its pre-activations, t going over the steps of
one sample, the gradient of the kernel is G = sum_t x_t d_t^T, so that

    |G|^2 = sum_{t,u} (x_t . x_u) (d_t . d_u)

which for one step is the product of two norms: one backward pass of the batch tells the norms of
all samples. An embedding is a dense layer whose inputs are one-hot, a convolution one whose inputs
are what its kernel sees at each place; of a normalization by moving averages the scale's gradient
is sum_t d_t times the normalized input. Weights of all other layers are differentiated sample by
sample, vectorised.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers, ops

from .. import backend
from ..backend.base import Tensor
from ._hooks import replaced
from ._layer_calls import LayerCall, is_known
from .introspection import all_layers, input_shapes, overrides

# Memory for what is held of all samples at one time.
_BYTES = 2**28
_MOST_ROWS = 1024
# Numbers of rows to see layers called on. An axis of steps may have the length of one, not of both.
_TRIED = (2, 3)


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


def plan_norms(model: keras.Model, forward: Callable[[int], Any]) -> NormPlan:
    """Finds the layers of a model that the product of norms serves.

    These are layers of Keras' own in models of Keras' own, each called once in a forward pass with
    the samples along the first axis, of whose weights nobody else knows.

    Args:
        model: the compiled, built model.
        forward: makes a forward pass on so many rows, to see what the layers are called on.
    """
    sizes = [size for shape in (input_shapes(model) or {}).values() for size in shape[1:]]
    found = [layer for layer in all_layers(model) if is_known(layer)]
    if None in sizes:
        # Where a kernel is applied must be known when a pass is compiled.
        found = [layer for layer in found if type(layer) is not layers.Conv2D]
    models = [model, *(each for each in all_layers(model) if isinstance(each, keras.Model))]
    own = [each for each in all_layers(model) if not type(each).__module__.startswith("keras.")]
    if not found or own or any(overrides(each, "call") for each in models):
        return NormPlan((), list(model.trainable_variables))
    traces = {}
    for rows in _TRIED:
        traces[rows] = _Trace()
        with traces[rows].watching(found, lambda tensor: tensor):
            forward(rows)
    shared = _shared_variables(model)
    tapped, size = [], 1
    for layer in found:
        calls = {rows: trace.calls_of(layer) for rows, trace in traces.items()}
        if any(id(v) in shared for v in layer.trainable_variables):
            continue
        if not _are_by_sample(calls):
            continue
        tapped.append(layer)
        size = max(size, calls[_TRIED[0]][0].bytes_per_sample)
    covered = {id(v) for layer in tapped for v in layer.trainable_variables}
    others = [v for v in model.trainable_variables if id(v) not in covered]
    return NormPlan(tuple(tapped), others, size)


def tapped_squares(
    plan: NormPlan,
    batch_loss: Callable[[], Tensor],
    summed: bool,
    values: Callable[[list[Any]], list[Tensor]],
) -> Tensor:
    """Squared norms over the weights of the plan's tapped layers, from one backward pass.

    Args:
        plan: the plan.
        batch_loss: makes a forward pass and returns the batch's loss, a scalar.
        summed: bool, whether that is the sum of the samples' losses rather than their mean.
        values: gives the present values of variables.

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
        total = total + call.squares(x, ops.cast(gradient, "float32"), values)
    return total * scale


def _are_by_sample(calls: dict[int, list[LayerCall]]) -> bool:
    """Whether a layer is called once, and the number of rows is its first axis, and no other.

    Args:
        calls: its calls, by the number of rows.
    """
    if any(len(made) != 1 for made in calls.values()):
        return False
    shapes = [
        (rows, shape)
        for rows, (call,) in calls.items()
        for shape in (call.input_shape, call.output_shape)
    ]
    inner = {(call.input_shape[1:], call.output_shape[1:]) for (call,) in calls.values()}
    return len(inner) == 1 and all(shape[:1] == (rows,) for rows, shape in shapes)


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


@dataclass(eq=False)
class _Trace:
    """Calls of layers in the order in which they are made."""

    calls: list[LayerCall] = field(default_factory=list)

    def calls_of(self, layer: keras.Layer) -> list[LayerCall]:
        """The calls of one layer."""
        return [call for call in self.calls if call.layer is layer]

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
        activation = getattr(layer, "activation", None)
        inner = layer.call

        def note(preactivation: Tensor) -> Tensor:
            self.calls[-1].output_shape = tuple(preactivation.shape)
            return tap(preactivation)

        def call(inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            self.calls.append(LayerCall(layer, input_shape=tuple(inputs.shape)))
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
