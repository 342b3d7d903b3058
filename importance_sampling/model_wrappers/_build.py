"""Variables that must exist before a step is compiled, and what is told before it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops, tree

from .._arrays import TRIED_ROWS, Nested, map_arrays
from ..backend.array_types import tensor_to_numpy
from ..backend.base import Runtime
from ._outputs import OutputInfo
from .introspection import input_shapes, takes_training


def first_rows(*data: Nested) -> tuple[Nested, ...]:
    """A few rows of everything as tensors, for shapes and types."""
    return map_arrays(lambda a: ops.convert_to_tensor(a[:TRIED_ROWS]), data)


def build_late_weights(model: keras.Model, x: Nested) -> None:
    """Calls a model once where layers inside its layers have no weights yet.

    A symbolic call does not reach them where the outer layer knows the shape of its outputs: an
    activation that is a layer, as `Dense(5, activation=PReLU())` has, is built when it is called.

    Args:
        model: the built model.
        x: inputs, a few rows as tensors.
    """
    if not _has_unbuilt(model, set()):
        return
    sizes = [shape[0] for shape in (input_shapes(model) or {}).values() if shape[0] is not None]
    if sizes:
        x = map_arrays(lambda a: ops.concatenate([a[:1]] * sizes[0], axis=0), x)
    arguments = {"training": False} if takes_training(model.call) else {}
    # What layers keep of a call, as stateful ones do, goes; variables that are made in it stay.
    with keras.StatelessScope():
        model(x, **arguments)


def _has_unbuilt(layer: keras.Layer, seen: set[int]) -> bool:
    """Whether a layer, or one that it holds, is not built yet."""
    if id(layer) in seen:
        return False
    seen.add(id(layer))
    held: list[Any] = []
    for value in vars(layer).values():
        held += value if isinstance(value, list | tuple) else [value]
    if isinstance(layer, keras.Model):
        held += layer.layers
    return not layer.built or any(
        _has_unbuilt(each, seen) for each in held if isinstance(each, keras.Layer)
    )


def build_state(
    model: keras.Model, rows: tuple[Nested, ...], info: OutputInfo, runtime: Runtime
) -> dict[str, Any]:
    """Creates the variables of loss, metrics and optimizer outside any compiled function.

    Args:
        model: the compiled, built model.
        rows: `(x, y, sample_weight)`, a few rows.
        info: what is known of its outputs.
        runtime: the backend's runtime of the model.

    Returns:
        The metrics' results, for their names.
    """
    x, y, sample_weight = rows
    before = [(v, tensor_to_numpy(v.value).copy()) for v in model.metrics_variables]
    zeros = tree.map_structure(lambda s: ops.zeros(s.shape, s.dtype), info.spec)
    arguments = {"training": False} if takes_training(model.compute_loss) else {}
    # Metrics of several replicas are updated in one of them, and nowhere else.
    with runtime.scope() if runtime.replicas > 1 else contextlib.nullcontext():
        model.compute_loss(x=x, y=y, y_pred=zeros, sample_weight=sample_weight, **arguments)
        logs = model.compute_metrics(x, y, zeros, sample_weight)
    model.reset_metrics()
    for variable, value in before:
        variable.assign(value)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return logs


def warn_gradient_fallback(model: keras.Model, info: OutputInfo, losses: list[Any]) -> None:
    """Warns where the gradient at the outputs stands in for that at the pre-activations.

    Args:
        model: the compiled, built model.
        info: what is known of its outputs.
        losses: the compiled loss of each output; one without a loss has no gradient.
    """
    unknown = [
        f"the layer {layer.name!r}" if layer is not None else f"the `call` of {model.name!r}"
        for layer, activation, loss in zip(info.producers, info.activations, losses, strict=True)
        if activation is None and (loss is not None or model.loss is None)
    ]
    if unknown:
        warnings.warn(
            f"score='gnorm': what activation {', '.join(unknown)} ends in is "
            "not known, so the score is the norm of the gradient at the outputs themselves. That "
            "costs no time, but bounds the gradient norm less tightly, so that draws may gain "
            "less. `layer=` names the layer whose pre-activation counts, for a backward pass "
            "through the layers above it in every step; score='loss' needs no gradient at all.",
            stacklevel=6,
        )


@contextlib.contextmanager
def restored_on_refusal(model: keras.Model) -> Iterator[None]:
    """Undoes an eager step of the user's own if it raises `ValueError`, because it is refused."""
    variables = [*model.variables, *model.optimizer.variables]
    before = [(v, tensor_to_numpy(v.value).copy()) for v in variables]
    try:
        yield
    except ValueError:
        for variable, value in before:
            variable.assign(value)
        raise
