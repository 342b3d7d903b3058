"""Gradient norms that the outputs of a pass alone cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras import ops, tree

from .. import backend
from ..layers import _activations

if TYPE_CHECKING:
    from ._objective import Objective


def sum_per_sample(tensor: Any) -> Any:
    """Sums everything but the first axis: `(n, ...)` to `(n,)`."""
    axes = tuple(range(1, len(tensor.shape)))
    return ops.sum(tensor, axis=axes) if axes else tensor


def layer_norms(objective: Objective, x: Any, y: Any, sample_weight: Any) -> Any:
    """Gradient norm at the pre-activation of an explicitly chosen layer."""

    def total(tap: Callable[[Any], Any]) -> Any:
        with objective.runtime.scope(), tapped_layer(objective.layer, tap):
            outputs = objective.forward(x)
            n = ops.shape(tree.flatten(outputs)[0])[0]
            valid = objective.valid(y, objective.masks(outputs))
            weight = objective.weigh(sample_weight, ops.ones((n,), "float32"), valid)
            return objective.loss(x, y, outputs, weight)

    _, gradients = backend.get().tapped_gradient(total)
    squares = sum(sum_per_sample(ops.square(ops.cast(g, "float32"))) for g in gradients)
    n = ops.cast(ops.shape(gradients[0])[0], "float32")
    return ops.sqrt(squares) * (1.0 if objective.summed else n)


def exact_norms(objective: Objective, x: Any, y: Any, sample_weight: Any) -> Any:
    """Exact norm over all trainable weights of each sample's own gradient."""
    variables = objective.model.trainable_variables

    def sample_loss(values: Any, *row: Any) -> Any:
        x1, y1, w1 = tree.map_structure(
            lambda t: None if t is None else ops.expand_dims(t, 0),
            tree.pack_sequence_as(template, list(row)),
        )
        with objective.runtime.scope(list(zip(variables, values, strict=True))):
            outputs = objective.forward(x1)
            # The difference takes regularizers, which belong to no sample, out again.
            valid = objective.valid(y1, objective.masks(outputs))
            one, zero = ops.ones((1,), "float32"), ops.zeros((1,), "float32")
            full = objective.loss(x1, y1, outputs, objective.weigh(w1, one, valid))
            none = objective.loss(x1, y1, outputs, objective.weigh(w1, zero, valid))
            value = full - none
            if objective.counts_tokens:
                value = value * ops.sum(objective.counts(y1, objective.masks(outputs)))
        return value

    template = (x, y, sample_weight)
    flat = tree.flatten(template)
    leaves = [leaf for leaf in flat if leaf is not None]
    norms = backend.get().sample_gradient_norms(
        _skipping_none(sample_loss, flat), leaves, objective.runtime.values(variables)
    )
    if objective.counts_tokens:
        with objective.runtime.scope():
            counts = ops.sum(objective.counts(y, objective.masks(objective.forward(x))), axis=-1)
        norms = ops.divide_no_nan(norms, ops.mean(counts))
    return norms


def _skipping_none(fn: Callable[..., Any], flat: list[Any]) -> Callable[..., Any]:
    """Lets a vectorised map pass only the leaves that are arrays."""
    present = [leaf is not None for leaf in flat]

    def wrapped(values: Any, *row: Any) -> Any:
        rest = iter(row)
        return fn(values, *[next(rest) if p else None for p in present])

    return wrapped


class tapped_layer:
    """Lets `tap` see and replace a layer's pre-activation (its output where it has none)."""

    def __init__(self, layer: Any, tap: Callable[[Any], Any]):
        self.layer = layer
        self.tap = tap
        activation = getattr(layer, "activation", None)
        fused = _activations.of_layer(layer) is not None and callable(activation)
        self.name = "activation" if fused else "call"
        self.inner = getattr(layer, self.name)

    def __enter__(self) -> None:
        if self.name == "activation":
            replaced: Callable[..., Any] = lambda z: self.inner(self.tap(z))  # noqa: E731
        else:

            def replaced(*args: Any, **kwargs: Any) -> Any:
                return self.tap(self.inner(*args, **kwargs))

        self.before = vars(self.layer).get(self.name)
        vars(self.layer)[self.name] = replaced

    def __exit__(self, *error: Any) -> None:
        if self.before is None:
            vars(self.layer).pop(self.name, None)
        else:
            vars(self.layer)[self.name] = self.before
